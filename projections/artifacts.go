// Table artifacts: one row a file that a job registered.

package projections

import (
	"context"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// Artifact is a file that a job registered.
type Artifact struct {
	JobID      string
	ID         string
	Tenant     string
	Stage      string
	Attempt    int32
	Output     string // of the stage's node
	Name       string
	Type       string
	MediaType  string
	URI        string
	SHA256     string
	Size       int64 // bytes
	Width      int32 // pixels
	Height     int32
	DurationMS int64
	Engine     string
	Fidelity   string
	CreatedAt  time.Time
}

var artifacts = table[Artifact]{name: "artifacts", key: 2, columns: []column[Artifact]{
	text("job_id", func(a *Artifact) *string { return &a.JobID }),
	text("id", func(a *Artifact) *string { return &a.ID }),
	text("tenant", func(a *Artifact) *string { return &a.Tenant }),
	text("stage", func(a *Artifact) *string { return &a.Stage }),
	count("attempt", "integer[]", func(a *Artifact) *int32 { return &a.Attempt }),
	text("output", func(a *Artifact) *string { return &a.Output }),
	text("name", func(a *Artifact) *string { return &a.Name }),
	text("type", func(a *Artifact) *string { return &a.Type }),
	text("media_type", func(a *Artifact) *string { return &a.MediaType }),
	text("uri", func(a *Artifact) *string { return &a.URI }),
	text("sha256", func(a *Artifact) *string { return &a.SHA256 }),
	number("size", "bigint[]", func(a *Artifact) *int64 { return &a.Size }),
	count("width", "integer[]", func(a *Artifact) *int32 { return &a.Width }),
	count("height", "integer[]", func(a *Artifact) *int32 { return &a.Height }),
	count("duration_ms", "bigint[]", func(a *Artifact) *int64 { return &a.DurationMS }),
	text("engine", func(a *Artifact) *string { return &a.Engine }),
	text("fidelity", func(a *Artifact) *string { return &a.Fidelity }),
	moment("created_at", func(a *Artifact) *time.Time { return &a.CreatedAt }),
}}

// Apply folds one event, which the job's chain has accepted. A file that is
// registered again in its job keeps the last word.
func (a *Artifact) Apply(m *events.Message) {
	d, ok := m.Data.(events.ArtifactRegistered)
	if !ok {
		return
	}
	f := d.Artifact
	*a = Artifact{
		JobID: m.AggregateID, ID: f.ID, Tenant: m.Tenant, Stage: m.Stage, Attempt: int32(m.Attempt), Output: d.Output, //nolint:gosec // attempts are few
		Name: f.Name, Type: f.Type, MediaType: f.MediaType, URI: f.URI, SHA256: f.SHA256, Size: f.Size,
		Width: int32(f.Width), Height: int32(f.Height), DurationMS: f.DurationMS, //nolint:gosec // pixels of a picture
		Engine: d.Engine, Fidelity: d.Fidelity, CreatedAt: micro(m.OccurredAt),
	}
}

// JobArtifacts are the files of one job of the tenant, oldest first.
func (q *Queries) JobArtifacts(ctx context.Context, tenant, jobID string) ([]*Artifact, error) {
	return artifacts.collect(q.tx.Query(ctx, artifacts.query(views, "WHERE job_id = $1 AND tenant = $2 ORDER BY created_at, id"), jobID, tenant))
}

// Artifact is one file of the tenant as its first job registered it, or ErrNotFound.
func (q *Queries) Artifact(ctx context.Context, tenant, id string) (*Artifact, error) {
	return first(artifacts.collect(q.tx.Query(ctx, artifacts.query(views, "WHERE id = $1 AND tenant = $2 ORDER BY created_at, job_id LIMIT 1"), id, tenant)))
}
