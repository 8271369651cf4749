// Writing the Job object, which nearly every answer is or holds many of. It gives what
// encoding/json would, byte for byte, for a fraction of the work; a test compares them.

package api

import (
	"fmt"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/myspinbot/myspinbot/events"
)

// jobWriter writes the members of Job objects.
type jobWriter struct{ events.JSONWriter }

// answers are what answers are written in before they are sent.
var answers = sync.Pool{New: func() any { return &jobWriter{events.JSONWriter{B: make([]byte, 0, 8<<10)}} }}

// answerKept bounds what an answer in the pool may hold on to.
const answerKept = 64 << 10

// sendWritten sends what write writes as the answer.
func sendWritten(c *fiber.Ctx, write func(*jobWriter)) error {
	w := answers.Get().(*jobWriter)
	defer func() {
		if cap(w.B) <= answerKept {
			answers.Put(w)
		}
	}()
	w.B, w.Bad = w.B[:0], false
	write(w)
	if w.Bad {
		return fmt.Errorf("cannot write the answer as JSON: it holds a value that JSON does not have")
	}
	c.Response().Header.SetContentType(fiber.MIMEApplicationJSON)
	c.Response().SetBody(w.B)
	return nil
}

// accepted writes the answer to a submission or a command.
func (w *jobWriter) accepted(a *accepted) {
	w.B = append(w.B, '{')
	w.members(&a.jobView)
	w.after(a)
}

// briefly writes what a client wants that knows the rest.
func (w *jobWriter) briefly(a *accepted) {
	w.B = append(w.B, '{')
	w.Must("id", a.ID)
	w.Int("version", a.Version)
	w.Must("status", a.Status)
	w.after(a)
}

// after writes where to go on.
func (w *jobWriter) after(a *accepted) {
	w.Must("position", a.Position)
	w.Text("jobId", a.JobID)
	if a.ProfileID != nil {
		w.Must("profileId", *a.ProfileID)
	}
	w.Text("workflowId", a.WorkflowID)
	w.Text("webhook_secret", a.WebhookSecret)
	w.B = append(w.B, '}')
}

func (w *jobWriter) job(v *jobView) {
	w.B = append(w.B, '{')
	w.members(v)
	w.B = append(w.B, '}')
}

func (w *jobWriter) page(l *listOf[jobView]) {
	w.B = append(w.B, '{')
	objectList(w, "items", l.Items, w.members)
	w.Pointed("next_cursor", l.Next)
	w.B = append(w.B, '}')
}

func (w *jobWriter) members(v *jobView) {
	w.Must("id", v.ID)
	w.Int("version", v.Version)
	w.Must("status", v.Status)
	rare(w, "approval", v.Approval)
	if len(v.Artifacts) > 0 {
		w.Other("artifacts", v.Artifacts)
	}
	w.Truth("cancelling", v.Cancelling)
	w.Must("content", v.Content)
	w.Time("created_at", v.CreatedAt)
	w.Bool("draft", v.Draft)
	rare(w, "error", v.Error)
	rare(w, "eta_range", v.EtaRange)
	whole(w, "eta_seconds", v.EtaSeconds)
	w.maybe("finished_at", v.FinishedAt)
	if v.Graph != nil {
		w.graph(v.Graph)
	}
	w.Texts("labels", v.Labels)
	w.Must("mode", v.Mode)
	w.maybe("not_before", v.NotBefore)
	if len(v.Outputs) > 0 {
		w.Other("outputs", v.Outputs)
	}
	w.Pointed("parent_job_id", v.ParentJobID)
	w.Must("pipeline", v.Pipeline)
	w.Must("priority", v.Priority)
	rare(w, "profile", v.Profile)
	w.Float("progress", v.Progress)
	whole(w, "queue_position", v.QueuePosition)
	if len(v.RecentEvents) > 0 {
		w.Other("recent_events", v.RecentEvents)
	}
	if v.Request != nil {
		w.request(v.Request)
	}
	w.stages(v.Stages)
	w.maybe("started_at", v.StartedAt)
	w.Must("tenant", v.Tenant)
	w.Must("variant", v.Variant)
}

func (w *jobWriter) graph(g *graphView) {
	w.Key("graph")
	w.B = append(w.B, '{')
	objectList(w, "edges", g.Edges, func(e *events.Edge) {
		w.Must("from", e.From)
		w.Must("to", e.To)
	})
	objectList(w, "nodes", g.Nodes, func(n *nodeView) {
		w.Must("id", n.ID)
		w.Pointed("lane", n.Lane)
		w.Params("params", n.Params)
		w.Must("plane", n.Plane)
		w.Pointed("skip", n.Skip)
		w.Must("task", n.Task)
		w.Float("weight", n.Weight)
	})
	w.B = append(w.B, '}')
}

func (w *jobWriter) request(r *requestView) {
	w.Key("request")
	w.B = append(w.B, '{')
	w.Truth("approval", r.Approval)
	w.Truth("audio", r.Audio)
	w.Truth("consent", r.Consent)
	w.Pointed("edited_script", r.EditedScript)
	w.Must("engines", r.Engines)
	w.Int("images", int64(r.Images))
	w.Truth("music", r.Music)
	w.Params("options", r.Options)
	w.Truth("portrait", r.Portrait)
	w.Pointed("prompt", r.Prompt)
	w.Pointed("script", r.Script)
	w.Int("voice", int64(r.Voice))
	w.Pointed("voice_transcript", r.VoiceTranscript)
	rare(w, "webhook", r.Webhook)
	w.B = append(w.B, '}')
}

func (w *jobWriter) stages(stages []stageView) {
	objectList(w, "stages", stages, func(st *stageView) {
		w.Must("id", st.ID)
		w.Must("status", st.Status)
		whole(w, "attempt", st.Attempt)
		whole(w, "duration_ms", st.DurationMS)
		w.Pointed("engine", st.Engine)
		rare(w, "error", st.Error)
		w.Pointed("fidelity", st.Fidelity)
		w.maybe("finished_at", st.FinishedAt)
		w.Pointed("lane", st.Lane)
		w.Pointed("message", st.Message)
		w.Pointed("model", st.Model)
		w.Texts("notes", st.Notes)
		w.Must("plane", st.Plane)
		w.Float("progress", st.Progress)
		rare(w, "reused_from", st.ReusedFrom)
		w.maybe("scheduled_at", st.ScheduledAt)
		w.maybe("started_at", st.StartedAt)
		w.Must("task", st.Task)
		w.Pointed("worker", st.Worker)
	})
}

// objectList writes a list of objects with their members; nil is null.
func objectList[T any](w *jobWriter, k string, items []T, members func(*T)) {
	if items == nil {
		w.Null(k)
		return
	}
	w.Key(k)
	w.B = append(w.B, '[')
	for i := range items {
		w.Comma()
		w.B = append(w.B, '{')
		members(&items[i])
		w.B = append(w.B, '}')
	}
	w.B = append(w.B, ']')
}

func (w *jobWriter) maybe(k string, t *time.Time) {
	if t == nil {
		w.Null(k)
		return
	}
	w.Time(k, *t)
}

// whole writes a number that may not be known.
func whole[N int | int64](w *jobWriter, k string, v *N) {
	if v == nil {
		w.Null(k)
		return
	}
	w.Int(k, int64(*v))
}

// rare leaves to encoding/json what most jobs do not have.
func rare[T any](w *jobWriter, k string, v *T) {
	if v == nil {
		w.Null(k)
		return
	}
	w.Other(k, v)
}
