// Reading profiles.

package api

import (
	"context"
	"errors"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/projections"
)

func viewProfile(o *opener, p *projections.Profile) profileView {
	v := profileView{
		ID: p.ID, Version: p.Version, Status: p.Status, Label: o.text(p.Name), Portrait: viewAttachment(p.Portrait), Voice: viewAttachment(p.Voice),
		Lora: viewAttachment(p.Lora), Transcript: o.text(p.Transcript), CreatedAt: p.CreatedAt, UpdatedAt: p.UpdatedAt,
		ConsentWithdrawnAt: optTime(p.ConsentWithdrawnAt), ArchivedAt: optTime(p.ArchivedAt), ErasedAt: optTime(p.ErasedAt), ErasureCompletedAt: optTime(p.ErasureCompletedAt),
	}
	if p.Consent != nil {
		v.Consent = &consentView{By: o.text(&p.Consent.By), Statement: o.text(&p.Consent.Statement)}
	}
	if v.Content = o.content; !p.ErasedAt.IsZero() {
		v.Content = contentErased
	}
	return v
}

func viewAttachment(a *events.Attachment) *attachmentView {
	if a == nil {
		return nil
	}
	f := a.Artifact
	return &attachmentView{ArtifactID: f.ID, MediaType: f.MediaType, SHA256: f.SHA256, Size: f.Size, Width: opt(f.Width), Height: opt(f.Height),
		DurationMS: opt(f.DurationMS), Fidelity: opt(a.Fidelity), Engine: opt(a.Engine), FromJob: opt(a.FromJob)}
}

func (s *Server) listProfiles(c *fiber.Ctx) error {
	if err := checkQuery(c, "status", "limit", "cursor"); err != nil {
		return err
	}
	statuses := []string{events.ProfileStatusActive}
	if list := copied(c, "status"); list != "" {
		statuses = strings.Split(list, ",") // the contract knows the words
	}
	after, limit, err := pageOf(c)
	if err != nil {
		return err
	}
	var rows projections.Page[projections.Profile]
	err = s.read(c.UserContext(), func(ctx context.Context, q *projections.Queries) (err error) {
		rows, err = q.Profiles(ctx, callerOf(c).tenant, statuses, after, limit)
		return err
	})
	if err != nil {
		return err
	}
	out := listOf[profileView]{Items: make([]profileView, len(rows.Rows)), Next: cursorText(rows.Next)}
	texts := s.answering(c.UserContext())
	for i, p := range rows.Rows {
		out.Items[i] = viewProfile(texts.item(), p)
	}
	return c.JSON(out)
}

func (s *Server) getProfile(c *fiber.Ctx) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	if err := checkQuery(c); err != nil {
		return err
	}
	var p *projections.Profile
	err = s.read(c.UserContext(), func(ctx context.Context, q *projections.Queries) (err error) {
		p, err = q.Profile(ctx, callerOf(c).tenant, id)
		return err
	})
	if errors.Is(err, projections.ErrNotFound) {
		return noProfile(id)
	}
	if err != nil {
		return err
	}
	return c.JSON(viewProfile(s.opener(c.UserContext()), p))
}
