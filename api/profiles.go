// Reading profiles.

package api

import (
	"context"
	"errors"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/projections"
)

// profileView is a person's profile as clients see it.
type profileView struct {
	ID         string          `json:"id"`
	Version    int64           `json:"version"`
	Label      *string         `json:"label"`
	Content    string          `json:"content"` // whether the texts could be opened
	Consent    *consentView    `json:"consent"`
	Portrait   *attachmentView `json:"portrait"`
	Voice      *attachmentView `json:"voice"`
	Lora       *attachmentView `json:"lora"`
	Transcript *string         `json:"transcript"` // of the voice
	CreatedAt  time.Time       `json:"created_at"`
	UpdatedAt  time.Time       `json:"updated_at"`
}

type consentView struct {
	By        *string `json:"by"`
	Statement *string `json:"statement"`
}

type attachmentView struct {
	ArtifactID string  `json:"artifact_id"`
	MediaType  string  `json:"media_type"`
	SHA256     string  `json:"sha256"`
	Size       int64   `json:"size"`
	Width      *int    `json:"width"`
	Height     *int    `json:"height"`
	DurationMS *int64  `json:"duration_ms"`
	Fidelity   *string `json:"fidelity"`
	Engine     *string `json:"engine"`
	FromJob    *string `json:"from_job"`
}

func viewProfile(o *opener, p *projections.Profile) profileView {
	v := profileView{
		ID: p.ID, Version: p.Version, Label: o.text(p.Name), Portrait: viewAttachment(p.Portrait), Voice: viewAttachment(p.Voice),
		Lora: viewAttachment(p.Lora), Transcript: o.text(p.Transcript), CreatedAt: p.CreatedAt, UpdatedAt: p.UpdatedAt,
	}
	if p.Consent != nil {
		v.Consent = &consentView{By: o.text(&p.Consent.By), Statement: o.text(&p.Consent.Statement)}
	}
	v.Content = o.content
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
	if err := checkQuery(c, "limit", "cursor"); err != nil {
		return err
	}
	after, limit, err := pageOf(c)
	if err != nil {
		return err
	}
	var rows projections.Page[projections.Profile]
	err = s.read(c.UserContext(), func(ctx context.Context, q *projections.Queries) (err error) {
		rows, err = q.Profiles(ctx, tenant, after, limit)
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
		p, err = q.Profile(ctx, tenant, id)
		return err
	})
	if errors.Is(err, projections.ErrNotFound) {
		return refuse(codeNotFound, "there is no profile %s", id)
	}
	if err != nil {
		return err
	}
	return c.JSON(viewProfile(s.opener(c.UserContext()), p))
}
