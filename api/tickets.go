// Tickets: large files go from the client to the store itself, under a policy that
// bounds their size and time, and are checked here afterwards exactly like the others.
// A ticket is remembered nowhere: its id says when it was made, the policy is signed.

package api

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"

	"github.com/myspinbot/myspinbot/internal/objects"
)

const (
	ticketTime  = time.Hour // within which the post must begin
	ticketGrace = time.Hour // after that, for a post that takes long and for completing it
)

func (s *Server) takeTicket(c *fiber.Ctx) error {
	if err := checkQuery(c); err != nil {
		return err
	}
	if err := s.noFields(c); err != nil {
		return err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("cannot make a ticket's id: %w", err)
	}
	t := Ticket{ID: id.String(), MaxSize: s.cfg.Uploads.TicketBytes, ExpiresAt: madeAt(id).Add(ticketTime).UTC(),
		CompleteURL: "/api/uploads/tickets/" + id.String() + "/complete"}
	if t.URL, t.Fields, err = s.cfg.Objects.PostPolicy(c.UserContext(), callerOf(c).tenant, t.ID, t.MaxSize, t.ExpiresAt); err != nil {
		return fmt.Errorf("cannot make a ticket: %w", err)
	}
	c.Set(fiber.HeaderCacheControl, "no-store")
	return c.Status(fiber.StatusCreated).JSON(t)
}

// noFields refuses a body that says anything.
func (s *Server) noFields(c *fiber.Ctx) error {
	object, err := readObject(c)
	if err != nil {
		return err
	}
	faults, err := s.contract.take("Nothing", object, &struct{}{})
	if err == nil && len(faults) > 0 {
		err = invalid(faults...)
	}
	return err
}

// madeAt is the time within a version 7 UUID (RFC 9562, section 5.7), to the millisecond.
func madeAt(id uuid.UUID) time.Time {
	seconds, nanos := id.Time().UnixTime()
	return time.Unix(seconds, nanos)
}

// completeTicket makes an upload of what was posted. Asked again, it gives the
// same upload. What cannot be used is deleted; the ticket stays good until its end.
func (s *Server) completeTicket(c *fiber.Ctx) (err error) {
	if err := checkQuery(c); err != nil {
		return err
	}
	id, err := pathID(c)
	if err != nil {
		return err
	}
	if err := s.noFields(c); err != nil {
		return err
	}
	outcome := "refused"
	defer func() { s.metrics.uploads.WithLabelValues(outcome).Inc() }()
	ctx, cancel := context.WithTimeout(c.UserContext(), uploadTimeout)
	defer cancel()
	u, err := s.complete(ctx, callerOf(c).tenant, id)
	if err != nil {
		return err
	}
	outcome = "stored"
	return c.Status(fiber.StatusCreated).JSON(s.viewUpload(u))
}

func (s *Server) complete(ctx context.Context, tenant, id string) (u upload, err error) {
	if err := begin(ctx, s.completing); err != nil {
		return u, err
	}
	defer func() { <-s.completing }()
	var posted objects.Incoming
	err = inTime(ctx, objectTimeout, func(ctx context.Context) error {
		if u, err = s.findUpload(ctx, tenant, id); !errors.Is(err, objects.ErrMissing) {
			return err
		}
		posted, err = s.cfg.Objects.StatIncoming(ctx, tenant, id)
		return err
	})
	switch {
	case errors.Is(err, objects.ErrMissing):
		return u, refuse(codeNotFound, "nothing lies under ticket %s; post the file to the ticket's url before it expires, and complete it then, or take a new ticket", id)
	case err != nil || u.ID != "":
		return u, err
	}
	u, err = s.takePosted(ctx, posted)
	if err == nil || kinds[asRefusal(err).code].status < fiber.StatusInternalServerError {
		s.dropPosted(ctx, tenant, id) // otherwise it was not the file's fault, and it can be completed again
	}
	return u, err
}

// takePosted checks and stores the posted file. Its time is the store's, so that two
// clients who complete one ticket at once write the same record.
func (s *Server) takePosted(ctx context.Context, posted objects.Incoming) (u upload, err error) {
	most := s.cfg.Uploads.TicketBytes
	if posted.Size > most { // the limit was lowered, or the store does not keep to policies
		return u, refuse(codeTooLarge, "a file posted under a ticket may have at most %s; send a smaller one", mebibytes(most))
	}
	dir, err := os.MkdirTemp(s.cfg.TempDir, "myspinbot-upload-")
	if err != nil {
		return u, fmt.Errorf("cannot make a folder for an upload: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "upload")
	err = inTime(ctx, objectTimeout+copyTime(posted.Size), func(ctx context.Context) error {
		n, err := s.cfg.Objects.FetchIncoming(ctx, posted.Tenant, posted.ID, path, most)
		if err == nil && n == 0 {
			return refuseFile("the file is empty; post one with a picture or a sound in it")
		}
		return err
	})
	if err != nil {
		return u, err
	}
	return s.take(ctx, posted.Tenant, dir, path, posted.ID, posted.Modified)
}

// dropPosted deletes a posted file that is not needed any more, also when the
// request's time is over. What stays is swept later.
func (s *Server) dropPosted(ctx context.Context, tenant, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), objectTimeout)
	defer cancel()
	if err := s.cfg.Objects.RemoveIncoming(ctx, tenant, id); err != nil {
		s.log.Warn("a posted file could not be deleted; it is swept when its ticket has expired", "id", id, "error", err)
	}
}

// sweepPosted deletes posted files whose ticket is over.
func (s *Server) sweepPosted(ctx context.Context, now time.Time) error {
	files, err := s.cfg.Objects.ListIncoming(ctx)
	for _, f := range files {
		over := f.Modified.Add(ticketTime + ticketGrace)
		if id, bad := uuid.Parse(f.ID); bad == nil && id.Version() == 7 {
			over = madeAt(id).Add(ticketTime + ticketGrace)
		}
		if now.After(over) {
			err = errors.Join(err, s.cfg.Objects.RemoveIncoming(ctx, f.Tenant, f.ID))
		}
	}
	return err
}
