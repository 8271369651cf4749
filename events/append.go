// Writing the data of the records that every job makes many of. Each function gives
// what encoding/json would, byte for byte; a test compares them.

package events

import (
	"encoding/base64"
)

// appendData appends the payload, or says that it leaves it to encoding/json.
func appendData(b []byte, p Payload) ([]byte, bool) { //nolint:gochecksumtype // the frequent ones alone
	w := dataWriter{JSONWriter{B: append(b, '{')}}
	switch d := p.(type) {
	case JobSubmit:
		w.submitted(d.Request, d.Parent)
	case JobSubmitted:
		w.submitted(d.Request, d.Parent)
	case JobPlanned:
		w.planned(d)
	case JobSucceeded:
		w.Key("outputs")
		w.values(d.Outputs)
	case StageScheduled:
		w.Int("partition", int64(d.Partition))
		w.Text("input_hash", d.InputHash)
		w.Text("engine", d.Engine)
		w.Int("timeout_ms", d.TimeoutMS)
		w.Bool("batch", d.Batch)
		w.OptInt("reduce", int64(d.Reduce))
	case StageStarted:
		w.Text("gpu", d.GPU)
		w.Int("deadline_ms", d.DeadlineMS)
		w.OptInt("lease_ms", d.LeaseMS)
	case StageSucceeded:
		w.result(d.Result)
	case TaskSucceeded:
		w.result(d.Result)
		if d.ReusedFrom != nil {
			return b, false
		}
	case TaskAccepted:
		w.Int("lease_ms", d.LeaseMS)
		w.Text("gpu", d.GPU)
	case TaskRun:
		w.run(d)
	case CommandReplied:
		w.Must("outcome", d.Outcome)
		w.Text("code", d.Code)
		w.Text("detail", d.Detail)
		w.Int("version", d.Version)
		w.Text("status", d.Status)
	default:
		return b, false
	}
	if w.Bad {
		return b, false
	}
	return append(w.B, '}'), true
}

// dataWriter writes the payloads' members.
type dataWriter struct{ JSONWriter }

func (w *dataWriter) submitted(r Request, parent *Parent) {
	if parent != nil || r.Edit != nil || r.Webhook != nil || len(r.Labels) > 0 {
		w.Bad = true
		return
	}
	w.Key("request")
	w.B = append(w.B, '{')
	w.Must("workflow_id", r.Workflow)
	w.Must("mode", r.Mode)
	w.Must("variant", r.Variant)
	w.optParams("options", r.Options)
	w.optValues("inputs", r.Inputs)
	w.Text("profile_id", r.ProfileID)
	w.optSealed("profile_name", r.ProfileName)
	if c := r.Consent; c != nil {
		w.Key("consent")
		w.B = append(w.B, '{')
		w.optSealed("by", &c.By)
		w.optSealed("statement", &c.Statement)
		w.B = append(w.B, '}')
	}
	w.Text("key_digest", r.KeyDigest)
	w.Text("body_digest", r.BodyDigest)
	w.Bool("approval", r.Approval)
	w.OptInt("not_before_ms", r.NotBeforeMS)
	w.Text("priority", r.Priority)
	w.Text("parent_job_id", r.ParentJobID)
	w.Text("engines", r.Engines)
	w.Text("definition", r.Definition)
	w.B = append(w.B, '}')
}

func (w *dataWriter) planned(d JobPlanned) {
	g := d.Graph
	if d.Profile != nil || g.Nodes == nil || g.Edges == nil {
		w.Bad = true
		return
	}
	w.Key("graph")
	w.B = append(w.B, '{')
	w.Must("workflow_id", g.Workflow)
	w.Must("variant", g.Variant)
	w.Must("mode", g.Mode)
	w.Text("profile_id", g.ProfileID)
	w.optParams("options", g.Options)
	w.Key("nodes")
	w.B = append(w.B, '[')
	for i, n := range g.Nodes {
		if i > 0 {
			w.B = append(w.B, ',')
		}
		w.node(n)
	}
	w.B = append(w.B, ']')
	w.Key("edges")
	w.B = append(w.B, '[')
	for i, e := range g.Edges {
		if i > 0 {
			w.B = append(w.B, ',')
		}
		w.B = append(w.B, '{')
		w.Must("from", e.From)
		w.Must("to", e.To)
		w.B = append(w.B, '}')
	}
	w.B = append(w.B, ']', '}')
	w.Int("deadline_ms", d.DeadlineMS)
	w.optTexts("tasks", d.Tasks)
}

func (w *dataWriter) node(n Node) {
	w.B = append(w.B, '{')
	w.Must("id", n.ID)
	w.Must("task", n.Task)
	w.Must("plane", n.Plane)
	w.Text("lane", n.Lane)
	w.optParams("params", n.Params)
	w.OptNames("in", n.In)
	w.OptNames("out", n.Out)
	w.OptNames("pass", n.Pass)
	w.Float("weight", n.Weight)
	w.OptInt("timeout_ms", n.TimeoutMS)
	w.Text("skip", n.Skip)
	w.Text("engine", n.Engine)
	w.B = append(w.B, '}')
}

func (w *dataWriter) result(r Result) {
	if r.Verdict != nil {
		w.Bad = true
		return
	}
	w.optValues("outputs", r.Outputs)
	w.Text("fidelity", r.Fidelity)
	w.Text("engine", r.Engine)
	w.Text("version", r.Version)
	w.optTexts("notes", r.Notes)
}

func (w *dataWriter) run(d TaskRun) {
	w.optParams("params", d.Params)
	w.optValues("inputs", d.Inputs)
	w.Must("plane", d.Plane)
	w.Must("mode", d.Mode)
	w.Must("workflow_id", d.Workflow)
	w.Text("profile_id", d.ProfileID)
	w.Must("subject", d.Subject)
	w.Int("timeout_ms", d.TimeoutMS)
	w.Text("input_hash", d.InputHash)
	w.Text("engine", d.Engine)
	w.Bool("share", d.Share)
	w.OptInt("reduce", int64(d.Reduce))
	w.Text("engines", d.Engines)
	w.Text("wants", d.Wants)
}

func (w *dataWriter) optValues(k string, m map[string]Value) {
	if len(m) > 0 {
		w.Key(k)
		w.values(m)
	}
}

func (w *dataWriter) values(m map[string]Value) {
	if m == nil {
		w.B = append(w.B, "null"...)
		return
	}
	w.B = append(w.B, '{')
	var few [8]string
	for _, name := range sorted(m, few[:0]) {
		v := m[name]
		w.Name(name)
		w.B = append(w.B, '{')
		w.optSealed("text", v.Text)
		w.Text("digest", v.Digest)
		if len(v.Artifacts) > 0 {
			w.Key("artifacts")
			w.B = append(w.B, '[')
			for i, a := range v.Artifacts {
				if i > 0 {
					w.B = append(w.B, ',')
				}
				w.artifact(a)
			}
			w.B = append(w.B, ']')
		}
		w.B = append(w.B, '}')
	}
	w.B = append(w.B, '}')
}

func (w *dataWriter) artifact(a Artifact) {
	w.B = append(w.B, '{')
	w.Must("id", a.ID)
	w.Must("name", a.Name)
	w.Must("type", a.Type)
	w.Must("media_type", a.MediaType)
	w.Must("uri", a.URI)
	w.Must("sha256", a.SHA256)
	w.Int("size", a.Size)
	w.OptInt("width", int64(a.Width))
	w.OptInt("height", int64(a.Height))
	w.OptInt("duration_ms", a.DurationMS)
	w.B = append(w.B, '}')
}

func (w *dataWriter) optSealed(k string, s *Sealed) {
	if s == nil {
		return
	}
	w.Key(k)
	w.B = append(w.B, `{"sealed":`...)
	if s.Bytes == nil {
		w.B = append(w.B, "null"...)
	} else {
		w.B = append(w.B, '"')
		w.B = base64.StdEncoding.AppendEncode(w.B, s.Bytes)
		w.B = append(w.B, '"')
	}
	w.Must("key", s.Key)
	w.B = append(w.B, '}')
}

func (w *dataWriter) optTexts(k string, vs []string) {
	if len(vs) > 0 {
		w.Texts(k, vs)
	}
}

// optParams leaves values that are neither text, number nor truth to encoding/json.
func (w *dataWriter) optParams(k string, m map[string]any) {
	if len(m) > 0 {
		w.Params(k, m)
	}
}
