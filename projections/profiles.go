// Table profiles: one row a profile.

package projections

import (
	"context"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// Profile is a person's profile as of its last event. Name, consent and transcript are sealed.
type Profile struct {
	ID          string
	Tenant      string
	Version     int64
	LastEventID string
	Name        *events.Sealed
	Consent     *events.Consent
	Portrait    *events.Attachment
	Voice       *events.Attachment
	Lora        *events.Attachment
	Transcript  *events.Sealed // of the voice
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

var profiles = table[Profile]{name: "profiles", key: 1, columns: []column[Profile]{
	text("id", func(p *Profile) *string { return &p.ID }),
	text("tenant", func(p *Profile) *string { return &p.Tenant }),
	number("version", "bigint[]", func(p *Profile) *int64 { return &p.Version }),
	text("last_event_id", func(p *Profile) *string { return &p.LastEventID }),
	document("name", func(p *Profile) **events.Sealed { return &p.Name }),
	document("consent", func(p *Profile) **events.Consent { return &p.Consent }),
	document("portrait", func(p *Profile) **events.Attachment { return &p.Portrait }),
	document("voice", func(p *Profile) **events.Attachment { return &p.Voice }),
	document("lora", func(p *Profile) **events.Attachment { return &p.Lora }),
	document("transcript", func(p *Profile) **events.Sealed { return &p.Transcript }),
	moment("created_at", func(p *Profile) *time.Time { return &p.CreatedAt }),
	moment("updated_at", func(p *Profile) *time.Time { return &p.UpdatedAt }),
}}

// Chain is where the profile's fold stands.
func (p *Profile) Chain() events.Chain {
	return events.Chain{Version: p.Version, LastID: p.LastEventID}
}

// Apply folds one event, which continues the profile's chain.
func (p *Profile) Apply(m *events.Message) {
	at := micro(m.OccurredAt)
	if p.Version == 0 {
		p.ID, p.Tenant, p.CreatedAt = m.AggregateID, m.Tenant, at
	}
	p.Version, p.LastEventID, p.UpdatedAt = m.Version, m.ID, at
	switch d := m.Data.(type) {
	case events.ProfileCreated:
		p.Name = &d.Name
	case events.ProfileConsentRecorded:
		p.Consent = &d.Consent
	case events.ProfilePortraitAttached:
		p.Portrait = &d.Attachment
	case events.ProfileVoiceAttached:
		p.Voice, p.Transcript = &d.Attachment, d.Transcript
	case events.ProfileLoraAttached:
		p.Lora = &d.Attachment
	default: // facts of jobs
	}
}

// Profile is one profile of the tenant, or ErrNotFound.
func (q *Queries) Profile(ctx context.Context, tenant, id string) (*Profile, error) {
	return first(profiles.collect(q.tx.Query(ctx, profiles.query(views, "WHERE id = $1 AND tenant = $2"), id, tenant)))
}

// Profiles is a page of the tenant's profiles, newest first. After is the Next of the page before, or nil.
func (q *Queries) Profiles(ctx context.Context, tenant string, after *Cursor, limit int) (Page[Profile], error) {
	w := where{"tenant = $1", []any{tenant}}
	rest := w.page(after, limit)
	rows, err := profiles.collect(q.tx.Query(ctx, profiles.query(views, rest), w.args...))
	return page(rows, err, limit, func(p *Profile) Cursor { return Cursor{p.CreatedAt, p.ID} })
}
