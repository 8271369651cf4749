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
	Status      string
	Name        *events.Sealed
	Consent     *events.Consent // in force
	Portrait    *events.Attachment
	Voice       *events.Attachment
	Lora        *events.Attachment
	Transcript  *events.Sealed // of the voice
	CreatedAt   time.Time
	UpdatedAt   time.Time

	ConsentWithdrawnAt time.Time // zero: it was not, or another one was recorded since
	ArchivedAt         time.Time
	ErasedAt           time.Time // when it was asked for
	ErasureCompletedAt time.Time // when nothing of it was left
}

var profiles = table[Profile]{name: "profiles", key: 1, columns: []column[Profile]{
	text("id", func(p *Profile) *string { return &p.ID }),
	text("tenant", func(p *Profile) *string { return &p.Tenant }),
	number("version", "bigint[]", func(p *Profile) *int64 { return &p.Version }),
	text("last_event_id", func(p *Profile) *string { return &p.LastEventID }),
	text("status", func(p *Profile) *string { return &p.Status }),
	document("name", func(p *Profile) **events.Sealed { return &p.Name }),
	document("consent", func(p *Profile) **events.Consent { return &p.Consent }),
	document("portrait", func(p *Profile) **events.Attachment { return &p.Portrait }),
	document("voice", func(p *Profile) **events.Attachment { return &p.Voice }),
	document("lora", func(p *Profile) **events.Attachment { return &p.Lora }),
	document("transcript", func(p *Profile) **events.Sealed { return &p.Transcript }),
	moment("created_at", func(p *Profile) *time.Time { return &p.CreatedAt }),
	moment("updated_at", func(p *Profile) *time.Time { return &p.UpdatedAt }),
	moment("consent_withdrawn_at", func(p *Profile) *time.Time { return &p.ConsentWithdrawnAt }),
	moment("archived_at", func(p *Profile) *time.Time { return &p.ArchivedAt }),
	moment("erased_at", func(p *Profile) *time.Time { return &p.ErasedAt }),
	moment("erasure_completed_at", func(p *Profile) *time.Time { return &p.ErasureCompletedAt }),
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
		p.Name, p.Status = &d.Name, events.ProfileStatusActive
	case events.ProfileRenamed:
		p.Name = &d.Name
	case events.ProfileConsentRecorded:
		p.Consent, p.ConsentWithdrawnAt = &d.Consent, time.Time{}
	case events.ProfileConsentWithdrawn:
		p.Consent, p.ConsentWithdrawnAt = nil, at
	case events.ProfilePortraitAttached:
		p.Portrait = &d.Attachment
	case events.ProfileVoiceAttached:
		p.Voice, p.Transcript = &d.Attachment, d.Transcript
	case events.ProfileLoraAttached:
		p.Lora = &d.Attachment
	case events.ProfileArchived:
		p.Status, p.ArchivedAt = events.ProfileStatusArchived, at
	case events.ProfileRestored:
		p.Status, p.ArchivedAt = events.ProfileStatusActive, time.Time{}
	case events.ProfileErased:
		p.Status, p.ErasedAt = events.ProfileStatusErasing, at
		p.Name, p.Consent, p.Portrait, p.Voice, p.Lora, p.Transcript = nil, nil, nil, nil, nil, nil
	case events.ProfileErasureCompleted:
		p.Status, p.ErasureCompletedAt = events.ProfileStatusErased, at
	default: // facts of jobs
	}
}

// Profile is one profile of the tenant, or ErrNotFound.
func (q *Queries) Profile(ctx context.Context, tenant, id string) (*Profile, error) {
	return first(profiles.collect(q.tx.Query(ctx, profiles.query(views, "WHERE id = $1 AND tenant = $2"), id, tenant)))
}

// Profiles is a page of the tenant's profiles of the given statuses, newest first. After is
// the Next of the page before, or nil.
func (q *Queries) Profiles(ctx context.Context, tenant string, statuses []string, after *Cursor, limit int) (Page[Profile], error) {
	w := where{"tenant = $1 AND status = ANY($2)", []any{tenant, statuses}}
	rest := w.page(after, limit)
	rows, err := profiles.collect(q.tx.Query(ctx, profiles.query(views, rest), w.args...))
	return page(rows, err, limit, func(p *Profile) Cursor { return Cursor{p.CreatedAt, p.ID} })
}
