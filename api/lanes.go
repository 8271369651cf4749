// The lanes: what waits and runs on each, and pausing them.

package api

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/projections"
)

func (s *Server) listLanes(c *fiber.Ctx) error {
	if err := checkQuery(c); err != nil {
		return err
	}
	queued, err := s.queued(c.UserContext())
	if err != nil {
		return err
	}
	out := listOf[laneView]{Items: []laneView{}}
	for _, lane := range events.Lanes() {
		out.Items = append(out.Items, s.viewLane(lane, queued))
	}
	return c.JSON(out)
}

// queued counts the stages of all tenants that wait, by lane; nil while the tables are away.
func (s *Server) queued(ctx context.Context) (queued map[string]int, err error) {
	err = s.read(ctx, func(ctx context.Context, q *projections.Queries) (err error) {
		queued, err = q.Queued(ctx)
		return err
	})
	if errors.Is(err, projections.ErrUnavailable) || asRefusal(err).code == codeTablesDown {
		return nil, nil
	}
	return queued, err
}

// viewLane is the lane as it is known here.
func (s *Server) viewLane(lane string, queued map[string]int) laneView {
	v := laneView{Lane: lane, Paused: s.known.paused(lane), Bound: s.cfg.Log.Partitions(events.LaneTopic(lane))}
	if queued != nil {
		n := queued[lane]
		v.Queued = &n
	}
	for _, w := range s.known.list() {
		if s.known.alive(w) {
			v.Slots += w.manifest.Slots[lane]
			v.Running += w.manifest.Running[lane]
		}
	}
	return v
}

func (s *Server) pauseLane(c *fiber.Ctx) error { return s.setLane(c, events.LanePaused{}, true) }

func (s *Server) resumeLane(c *fiber.Ctx) error { return s.setLane(c, events.LaneResumed{}, false) }

// setLane writes what holds of the lane from now on. Once it is on the log every worker
// obeys it, those that start later as well.
func (s *Server) setLane(c *fiber.Ctx, data events.Payload, paused bool) error {
	if err := checkQuery(c); err != nil {
		return err
	}
	lane := strings.Clone(c.Params("lane"))
	if !slices.Contains(events.Lanes(), lane) {
		return refuse(codeNotFound, "there is no lane %q; lanes are %s", shortened(lane), strings.Join(events.Lanes(), ", "))
	}
	object, err := readObject(c)
	if err != nil {
		return err
	}
	var nothing struct{}
	if faults, err := s.contract.take("Nothing", object, &nothing); err != nil || len(faults) > 0 {
		return errors.Join(err, invalid(faults...))
	}
	ctx, cancel := context.WithTimeout(c.UserContext(), s.cfg.SubmitTimeout)
	defer cancel()
	id, err := newID()
	if err != nil {
		return err
	}
	who := callerOf(c)
	m := events.Message{ID: id, AggregateType: events.AggregateLane, AggregateID: lane, OccurredAt: s.now().UTC(), CommandID: id, CausationID: id, CorrelationID: id,
		Tenant: who.tenant, Actor: who.actor, Columns: events.Columns{Lane: lane}, Data: data}
	if err := s.sendAs(ctx, events.TopicSettings, events.LaneKey(lane), m, traceID(c)); err != nil {
		return err
	}
	queued, err := s.queued(ctx)
	if err != nil {
		return err
	}
	v := s.viewLane(lane, queued)
	v.Paused = paused // which the tail may not have brought back yet
	return c.JSON(v)
}
