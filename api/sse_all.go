// The live stream of all jobs (server-sent events), resumed by the offsets of all
// partitions: from the ring where it reaches back far enough, else from the log.

package api

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/projections"
)

const (
	eventsAtOnce    = 64 // written together
	catchUpsAtOnce  = 4  // streams that read the log at the same time; each is a client of it
	maxFilterValues = 100
	typeProgress    = "progress" // of a filter: beats, which are no events
)

var errStopping = errors.New("the server stops")

// eventFilter narrows a stream of all jobs of a tenant; empty lists do not.
type eventFilter struct {
	tenant                string // whose events they are
	types, jobs, variants []string
}

func (f eventFilter) event(e *eventView) bool {
	return e.tenant == f.tenant && within(f.types, e.Type) && within(f.jobs, e.JobID) && (len(f.variants) == 0 || e.Variant != nil && within(f.variants, *e.Variant))
}

// beat says whether a beat passes. It has no variant, so that a filter of variants stops all.
func (f eventFilter) beat(p *progressView) bool {
	return p.tenant == f.tenant && within(f.types, typeProgress) && within(f.jobs, p.JobID) && len(f.variants) == 0
}

func within(list []string, value string) bool { return len(list) == 0 || slices.Contains(list, value) }

// allEvents is one client's place in the events of all jobs.
type allEvents struct {
	stream
	filter eventFilter
	next   []int64 // by partition: the first offset that the client has not seen
}

// streamEvents answers with the events of all jobs from the client's position on,
// or from where the tables are.
func (s *Server) streamEvents(c *fiber.Ctx) error {
	filter, err := eventFilterOf(c)
	if err != nil {
		return err
	}
	if !strings.Contains(c.Get(fiber.HeaderAccept), "text/event-stream") {
		return &refusal{code: codeNotAcceptable}
	}
	ctx, cancel := context.WithTimeout(c.UserContext(), readTimeout)
	defer cancel()
	next, err := s.startOf(ctx, strings.Clone(c.Get("Last-Event-ID")))
	if err != nil {
		return err
	}
	if err := s.takeStream(); err != nil {
		return err
	}
	all, err := s.feed.follow()
	if err != nil {
		s.releaseStream()
		return err
	}
	st := &allEvents{stream: stream{server: s, tenant: filter.tenant, conn: c.Context().Conn()}, filter: filter, next: next}
	who := callerOf(c)
	if !s.answerStream(c, func(w *bufio.Writer) {
		defer s.feed.leave(all)
		st.while(who, w, func() error { return st.run(w, all) })
	}) {
		s.feed.leave(all)
	}
	return nil
}

func eventFilterOf(c *fiber.Ctx) (f eventFilter, err error) {
	if err := checkQuery(c, "type", "job_id", "variant"); err != nil {
		return f, err
	}
	f.tenant = callerOf(c).tenant
	for name, list := range map[string]*[]string{"type": &f.types, "job_id": &f.jobs, "variant": &f.variants} {
		text := copied(c, name)
		if text == "" {
			continue
		}
		*list = strings.Split(text, ",")
		if len(*list) > maxFilterValues || slices.Contains(*list, "") {
			return f, badParameter(name, "%s is a list of 1 to %d values with commas", name, maxFilterValues)
		}
	}
	for i, id := range f.jobs {
		if f.jobs[i] = strings.ToLower(id); !isID(id) {
			return f, badParameter("job_id", "job_id is a list of UUIDs with commas")
		}
	}
	for _, name := range f.types {
		if name == typeProgress {
			continue
		}
		if _, err := events.Zero(name); err != nil {
			return f, badParameter("type", "there is no event %q; type is a list with commas of events, such as job.succeeded, and progress", shortened(name))
		}
	}
	return f, nil
}

// startOf is where a stream begins: behind the id, or where the tables are, so that
// whoever opens the stream and then reads a list misses nothing.
func (s *Server) startOf(ctx context.Context, id string) ([]int64, error) {
	n := s.cfg.Log.Partitions(events.TopicJobEvents)
	next := make([]int64, n)
	if id == "" {
		err := s.read(ctx, func(ctx context.Context, q *projections.Queries) error {
			at, err := q.Checkpoints(ctx, events.TopicJobEvents)
			for tp, offset := range at {
				next[tp.Partition] = offset
			}
			return err
		})
		return next, err
	}
	next, ok := parsePlace(id, n)
	if !ok {
		return nil, badPlace("Last-Event-ID must be an id of this stream: give the last one, or leave it out")
	}
	if ahead := s.feed.ahead(next); len(ahead) > 0 {
		ranges, err := s.cfg.Log.Ranges(ctx, events.TopicJobEvents)
		if err != nil {
			return nil, err
		}
		for _, p := range ahead {
			if next[p] > ranges[eventlog.TopicPartition{Topic: events.TopicJobEvents, Partition: p}].End {
				return nil, badPlace("Last-Event-ID lies beyond the end of the log, so that it is another log's; leave it out")
			}
		}
	}
	return next, nil
}

func badPlace(detail string) *refusal { return badParameter("Last-Event-ID", "%s", detail) }

// placeText is an id of the stream of all jobs: base64url of the offset of each
// partition in turn, as varints.
func placeText(next []int64) string {
	var b []byte
	for _, n := range next {
		b = binary.AppendUvarint(b, uint64(n)) //nolint:gosec // offsets are not negative
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func parsePlace(text string, partitions int) ([]int64, bool) {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, false
	}
	next := make([]int64, partitions)
	for i := range next {
		v, n := binary.Uvarint(b)
		if n <= 0 || v > 1<<62 {
			return nil, false
		}
		next[i], b = int64(v), b[n:] //nolint:gosec // checked
	}
	return next, len(b) == 0
}

// run writes events until the client is gone or the server stops.
func (st *allEvents) run(w *bufio.Writer, all *follower) error {
	if err := st.write(w, reconnectAfter+"id: "+placeText(st.next)+"\n\n"); err != nil {
		return err
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		place, covered := st.server.feed.cover(st.next)
		if !covered {
			if err := st.catchUp(w); err != nil {
				return err
			}
			continue
		}
		for covered {
			var batch []*eventView
			batch, place, covered = st.server.feed.read(place, eventsAtOnce)
			if err := st.events(w, batch); err != nil {
				return err
			}
			if covered && len(batch) == 0 {
				if err := st.wait(w, all, beat.C); err != nil {
					return err
				}
			}
		}
	}
}

// wait waits for more, and passes on beats meanwhile.
func (st *allEvents) wait(w *bufio.Writer, all *follower, beat <-chan time.Time) error {
	select {
	case <-st.server.stopping:
		return errStopping
	case <-st.texts.ctx.Done():
		return st.texts.ctx.Err()
	case <-all.wake:
		return nil
	case p := <-all.beats:
		if !st.filter.beat(p) {
			return nil
		}
		return st.progress(w, p)
	case <-beat: // an id without data moves the client's place past what it does not want to see
		return st.write(w, ": still here\nid: "+placeText(st.next)+"\n\n")
	}
}

// events sends those that the client has not seen and wants.
func (st *allEvents) events(w *bufio.Writer, batch []*eventView) error {
	var text strings.Builder
	for _, e := range batch {
		if e.at.offset < st.next[e.at.partition] {
			continue
		}
		st.next[e.at.partition] = e.at.offset + 1
		if !st.filter.event(e) {
			continue
		}
		body, err := json.Marshal(st.opener().event(e))
		if err != nil {
			return err
		}
		text.WriteString("id: " + placeText(st.next) + "\nevent: event\ndata: ")
		text.Write(body)
		text.WriteString("\n\n")
	}
	if text.Len() == 0 {
		return nil
	}
	return st.write(w, text.String())
}

// catchUp sends what the log holds up to now.
func (st *allEvents) catchUp(w *bufio.Writer) error {
	s := st.server
	select {
	case s.catchingUp <- struct{}{}:
		defer func() { <-s.catchingUp }()
	case <-s.stopping:
		return errStopping
	case <-st.texts.ctx.Done():
		return st.texts.ctx.Err()
	}
	ctx, cancel := s.untilStopping(st.texts.ctx, 0)
	defer cancel()
	from := eventlog.Offsets{}
	for p, n := range st.next {
		from[eventlog.TopicPartition{Topic: events.TopicJobEvents, Partition: int32(p)}] = n //nolint:gosec // partitions are few
	}
	reached, err := s.cfg.Log.ReadBare(ctx, from, func(records []eventlog.Record) error {
		for part := range slices.Chunk(records, eventsAtOnce) {
			batch := make([]*eventView, 0, len(part))
			for _, r := range part {
				e, err := readEvent(r)
				if err != nil {
					s.log.Error("an event of a job cannot be read and is not streamed", "partition", r.Partition, "offset", r.Offset, "error", err)
					continue
				}
				batch = append(batch, e)
			}
			if err := st.events(w, batch); err != nil {
				return err
			}
		}
		return nil
	})
	for tp, n := range reached {
		st.next[tp.Partition] = max(st.next[tp.Partition], n)
	}
	return err
}

// untilStopping is a context that ends some time after the server began to stop.
func (s *Server) untilStopping(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-s.stopping:
			time.AfterFunc(grace, cancel)
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// takeStream takes one of the places for live streams.
func (s *Server) takeStream() error {
	select {
	case s.streams <- struct{}{}:
		return nil
	default:
		return refuse(codeBusy, "%d streams are open, which is this server's limit", s.cfg.MaxStreams)
	}
}

func (s *Server) releaseStream() { <-s.streams }

// answerStream begins a stream that has its place, which it gives back at its end. It
// is false for a HEAD, which has none.
func (s *Server) answerStream(c *fiber.Ctx, run func(w *bufio.Writer)) bool {
	c.Set(fiber.HeaderContentType, "text/event-stream")
	c.Set(fiber.HeaderCacheControl, "no-store")
	c.Set("X-Accel-Buffering", "no")
	if c.Method() == fiber.MethodHead {
		s.releaseStream()
		return false
	}
	s.metrics.streams.Inc()
	c.Context().SetBodyStreamWriter(func(w *bufio.Writer) {
		defer s.releaseStream()
		defer s.metrics.streams.Dec()
		run(w)
	})
	return true
}
