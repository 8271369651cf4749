// Writing the data of the records that every job makes many of. Each function gives
// what encoding/json would, byte for byte; a test compares them.

package events

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

// appendData appends the payload, or says that it leaves it to encoding/json.
func appendData(b []byte, p Payload) ([]byte, bool) { //nolint:gochecksumtype // the frequent ones alone
	w := dataWriter{b: append(b, '{')}
	switch d := p.(type) {
	case JobSubmit:
		w.submitted(d.Request, d.Parent)
	case JobSubmitted:
		w.submitted(d.Request, d.Parent)
	case JobPlanned:
		w.planned(d)
	case JobSucceeded:
		w.key("outputs")
		w.values(d.Outputs)
	case StageScheduled:
		w.int("partition", int64(d.Partition))
		w.text("input_hash", d.InputHash)
		w.text("engine", d.Engine)
		w.int("timeout_ms", d.TimeoutMS)
		w.bool("batch", d.Batch)
		w.optInt("reduce", int64(d.Reduce))
	case StageStarted:
		w.text("gpu", d.GPU)
		w.int("deadline_ms", d.DeadlineMS)
		w.optInt("lease_ms", d.LeaseMS)
	case StageSucceeded:
		w.result(d.Result)
	case TaskSucceeded:
		w.result(d.Result)
		if d.ReusedFrom != nil {
			return b, false
		}
	case TaskAccepted:
		w.int("lease_ms", d.LeaseMS)
		w.text("gpu", d.GPU)
	case TaskRun:
		w.run(d)
	case CommandReplied:
		w.must("outcome", d.Outcome)
		w.text("code", d.Code)
		w.text("detail", d.Detail)
		w.int("version", d.Version)
		w.text("status", d.Status)
	default:
		return b, false
	}
	if w.bad {
		return b, false
	}
	return append(w.b, '}'), true
}

// dataWriter appends members of the object it is in. bad says that something was met
// that it does not write.
type dataWriter struct {
	b   []byte
	bad bool
}

func (w *dataWriter) key(k string) {
	if w.b[len(w.b)-1] != '{' {
		w.b = append(w.b, ',')
	}
	w.b = append(w.b, '"')
	w.b = append(w.b, k...)
	w.b = append(w.b, '"', ':')
}

// must writes a string that is never left out, text one that is when empty.
func (w *dataWriter) must(k, v string) {
	w.key(k)
	w.b = appendText(w.b, v)
}

func (w *dataWriter) text(k, v string) {
	if v != "" {
		w.must(k, v)
	}
}

func (w *dataWriter) int(k string, v int64) {
	w.key(k)
	w.b = strconv.AppendInt(w.b, v, 10)
}

func (w *dataWriter) optInt(k string, v int64) {
	if v != 0 {
		w.int(k, v)
	}
}

// bool writes a truth that is left out when false.
func (w *dataWriter) bool(k string, v bool) {
	if v {
		w.key(k)
		w.b = append(w.b, "true"...)
	}
}

func (w *dataWriter) submitted(r Request, parent *Parent) {
	if parent != nil || r.Edit != nil || r.Webhook != nil || len(r.Labels) > 0 {
		w.bad = true
		return
	}
	w.key("request")
	w.b = append(w.b, '{')
	w.must("workflow_id", r.Workflow)
	w.must("mode", r.Mode)
	w.must("variant", r.Variant)
	w.optParams("options", r.Options)
	w.optValues("inputs", r.Inputs)
	w.text("profile_id", r.ProfileID)
	w.optSealed("profile_name", r.ProfileName)
	if c := r.Consent; c != nil {
		w.key("consent")
		w.b = append(w.b, '{')
		w.optSealed("by", &c.By)
		w.optSealed("statement", &c.Statement)
		w.b = append(w.b, '}')
	}
	w.text("key_digest", r.KeyDigest)
	w.text("body_digest", r.BodyDigest)
	w.bool("approval", r.Approval)
	w.optInt("not_before_ms", r.NotBeforeMS)
	w.text("priority", r.Priority)
	w.text("parent_job_id", r.ParentJobID)
	w.text("engines", r.Engines)
	w.text("definition", r.Definition)
	w.b = append(w.b, '}')
}

func (w *dataWriter) planned(d JobPlanned) {
	g := d.Graph
	if d.Profile != nil || g.Nodes == nil || g.Edges == nil {
		w.bad = true
		return
	}
	w.key("graph")
	w.b = append(w.b, '{')
	w.must("workflow_id", g.Workflow)
	w.must("variant", g.Variant)
	w.must("mode", g.Mode)
	w.text("profile_id", g.ProfileID)
	w.optParams("options", g.Options)
	w.key("nodes")
	w.b = append(w.b, '[')
	for i, n := range g.Nodes {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.node(n)
	}
	w.b = append(w.b, ']')
	w.key("edges")
	w.b = append(w.b, '[')
	for i, e := range g.Edges {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.b = append(w.b, '{')
		w.must("from", e.From)
		w.must("to", e.To)
		w.b = append(w.b, '}')
	}
	w.b = append(w.b, ']', '}')
	w.int("deadline_ms", d.DeadlineMS)
	w.optTexts("tasks", d.Tasks)
}

func (w *dataWriter) node(n Node) {
	w.b = append(w.b, '{')
	w.must("id", n.ID)
	w.must("task", n.Task)
	w.must("plane", n.Plane)
	w.text("lane", n.Lane)
	w.optParams("params", n.Params)
	w.optNames("in", n.In)
	w.optNames("out", n.Out)
	w.optNames("pass", n.Pass)
	w.key("weight")
	w.float(n.Weight)
	w.optInt("timeout_ms", n.TimeoutMS)
	w.text("skip", n.Skip)
	w.text("engine", n.Engine)
	w.b = append(w.b, '}')
}

func (w *dataWriter) result(r Result) {
	if r.Verdict != nil {
		w.bad = true
		return
	}
	w.optValues("outputs", r.Outputs)
	w.text("fidelity", r.Fidelity)
	w.text("engine", r.Engine)
	w.text("version", r.Version)
	w.optTexts("notes", r.Notes)
}

func (w *dataWriter) run(d TaskRun) {
	w.optParams("params", d.Params)
	w.optValues("inputs", d.Inputs)
	w.must("plane", d.Plane)
	w.must("mode", d.Mode)
	w.must("workflow_id", d.Workflow)
	w.text("profile_id", d.ProfileID)
	w.must("subject", d.Subject)
	w.int("timeout_ms", d.TimeoutMS)
	w.text("input_hash", d.InputHash)
	w.text("engine", d.Engine)
	w.bool("share", d.Share)
	w.optInt("reduce", int64(d.Reduce))
	w.text("engines", d.Engines)
	w.text("wants", d.Wants)
}

func (w *dataWriter) optTexts(k string, vs []string) {
	if len(vs) == 0 {
		return
	}
	w.key(k)
	w.b = append(w.b, '[')
	for i, v := range vs {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.b = appendText(w.b, v)
	}
	w.b = append(w.b, ']')
}

// sorted are a map's keys in order; few need no memory of their own.
func sorted[V any](m map[string]V, keys []string) []string {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (w *dataWriter) optNames(k string, m map[string]string) {
	if len(m) == 0 {
		return
	}
	w.key(k)
	w.b = append(w.b, '{')
	var few [8]string
	for _, name := range sorted(m, few[:0]) {
		w.name(name)
		w.b = appendText(w.b, m[name])
	}
	w.b = append(w.b, '}')
}

// name is key for a name that may hold anything.
func (w *dataWriter) name(k string) {
	if w.b[len(w.b)-1] != '{' {
		w.b = append(w.b, ',')
	}
	w.b = append(appendText(w.b, k), ':')
}

func (w *dataWriter) optParams(k string, m map[string]any) {
	if len(m) == 0 {
		return
	}
	w.key(k)
	w.b = append(w.b, '{')
	var few [8]string
	for _, name := range sorted(m, few[:0]) {
		w.name(name)
		switch v := m[name].(type) {
		case string:
			w.b = appendText(w.b, v)
		case float64:
			w.float(v)
		case bool:
			w.b = strconv.AppendBool(w.b, v)
		default:
			w.bad = true
		}
	}
	w.b = append(w.b, '}')
}

// float writes whole numbers itself.
func (w *dataWriter) float(f float64) {
	if f == math.Trunc(f) && math.Abs(f) < 1e15 && (f != 0 || !math.Signbit(f)) {
		w.b = strconv.AppendInt(w.b, int64(f), 10)
		return
	}
	text, err := json.Marshal(f)
	w.bad = w.bad || err != nil
	w.b = append(w.b, text...)
}

func (w *dataWriter) optValues(k string, m map[string]Value) {
	if len(m) > 0 {
		w.key(k)
		w.values(m)
	}
}

func (w *dataWriter) values(m map[string]Value) {
	if m == nil {
		w.b = append(w.b, "null"...)
		return
	}
	w.b = append(w.b, '{')
	var few [8]string
	for _, name := range sorted(m, few[:0]) {
		v := m[name]
		w.name(name)
		w.b = append(w.b, '{')
		w.optSealed("text", v.Text)
		w.text("digest", v.Digest)
		if len(v.Artifacts) > 0 {
			w.key("artifacts")
			w.b = append(w.b, '[')
			for i, a := range v.Artifacts {
				if i > 0 {
					w.b = append(w.b, ',')
				}
				w.artifact(a)
			}
			w.b = append(w.b, ']')
		}
		w.b = append(w.b, '}')
	}
	w.b = append(w.b, '}')
}

func (w *dataWriter) artifact(a Artifact) {
	w.b = append(w.b, '{')
	w.must("id", a.ID)
	w.must("name", a.Name)
	w.must("type", a.Type)
	w.must("media_type", a.MediaType)
	w.must("uri", a.URI)
	w.must("sha256", a.SHA256)
	w.int("size", a.Size)
	w.optInt("width", int64(a.Width))
	w.optInt("height", int64(a.Height))
	w.optInt("duration_ms", a.DurationMS)
	w.b = append(w.b, '}')
}

func (w *dataWriter) optSealed(k string, s *Sealed) {
	if s == nil {
		return
	}
	w.key(k)
	w.b = append(w.b, `{"sealed":`...)
	if s.Bytes == nil {
		w.b = append(w.b, "null"...)
	} else {
		w.b = append(w.b, '"')
		w.b = base64.StdEncoding.AppendEncode(w.b, s.Bytes)
		w.b = append(w.b, '"')
	}
	w.must("key", s.Key)
	w.b = append(w.b, '}')
}

// appendText is a string as encoding/json writes it, which escapes HTML as well.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' || c >= utf8.RuneSelf {
			quoted, _ := json.Marshal(s) // a string always encodes; invalid UTF-8 becomes U+FFFD
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
