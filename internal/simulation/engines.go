// What workers make: outcomes, outputs, objects, and results to be reused.

package simulation

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/invariants"
)

// store is the object store: what lies at a URI, and the results to be reused.
type store struct {
	objects map[string]invariants.Object
	results map[string]manifest // by tenant and input hash
}

type manifest struct {
	result events.Result
	from   events.ReusedFrom
}

func newStore() *store {
	return &store{objects: map[string]invariants.Object{}, results: map[string]manifest{}}
}

// put stores bytes and gives the artifact that refers to them.
func (s *store) put(folder, name string, content string) events.Artifact {
	sum := sha256.Sum256([]byte(content))
	d := hex.EncodeToString(sum[:])
	uri := "s3://bucket/" + folder + "/" + d
	s.objects[uri] = invariants.Object{Size: int64(len(content)), SHA256: d}
	return events.Artifact{ID: events.NameID(folder, name), Name: name, Type: "video", MediaType: "video/mp4", URI: uri, SHA256: d, Size: int64(len(content))}
}

func (s *store) has(r events.Result) bool {
	for _, v := range r.Outputs {
		for _, a := range v.Artifacts {
			if _, ok := s.objects[a.URI]; !ok {
				return false
			}
		}
	}
	return true
}

// failures are the classes that engines fail with, from passing to final.
var failures = []string{events.ClassOOM, events.ClassTimeout, events.ClassStalled, events.ClassEngineUnavailable, events.ClassEngineUnavailable, events.ClassInternal,
	events.ClassEngineRejected, events.ClassInvalidInput, events.ClassArtifactMissing}

// outcome is how a run ends, and its class if it ends badly.
func (k *worker) outcome(r *run) (events.Payload, string) {
	w := k.w
	if r.stopped && w.chance(80) {
		return events.TaskCancelled{}, ""
	}
	if n, ok := r.task.Params["fail_attempts"].(float64); ok && r.cmd.Attempt <= int(n) {
		return events.TaskFailed{Message: "asked to fail"}, events.ClassEngineUnavailable
	}
	if w.fault(w.chances.worker) {
		class := pick(w, failures)
		w.saw("a stage fails: " + class)
		return events.TaskFailed{Message: "it failed"}, class
	}
	key := r.cmd.Tenant + "/" + r.task.InputHash
	if m, ok := w.store.results[key]; ok && r.task.Share && w.store.has(m.result) {
		w.saw("a worker finds the result of another job")
		return events.TaskSucceeded{Result: m.result, ReusedFrom: &m.from}, ""
	}
	result := k.make(r)
	if r.task.InputHash != "" && r.task.Share {
		w.store.results[key] = manifest{result: result, from: events.ReusedFrom{JobID: r.cmd.JobID, Stage: r.cmd.Stage, InputHash: r.task.InputHash}}
	}
	return events.TaskSucceeded{Result: result}, ""
}

// outputsOf maps a task to the names of its outputs.
var outputsOf = func() map[string][]string {
	out := map[string][]string{}
	for _, p := range aggregates.Pipelines() {
		for _, n := range p.Nodes {
			out[n.Task] = slices.Sorted(maps.Keys(n.Out))
		}
	}
	return out
}()

func (k *worker) make(r *run) events.Result {
	w := k.w
	result := events.Result{Fidelity: events.FidelitySimulated, Engine: "model"}
	if names := outputsOf[r.cmd.Task]; len(names) > 0 {
		result.Outputs = map[string]events.Value{}
		for _, name := range names {
			content := fmt.Sprint(r.cmd.Task, r.task.InputHash, name)
			if r.task.InputHash == "" {
				content += r.cmd.ID
			}
			if name == "narration" || name == "scene" {
				result.Outputs[name] = w.text(r.cmd.Tenant, content)
			} else {
				result.Outputs[name] = events.Value{Artifacts: []events.Artifact{w.store.put(r.task.Subject, name, content)}}
			}
		}
	}
	if r.cmd.Task == aggregates.TaskSafety || r.cmd.Task == aggregates.TaskCheck {
		result.Verdict = &events.Verdict{Allowed: true}
		if w.chance(w.chances.worker / 3) { // no fault: it may come at any time
			w.saw("a verdict forbids: " + r.cmd.Task)
			result.Verdict = &events.Verdict{Reasons: []events.Reason{{Code: "policy", Detail: "not allowed"}}}
		}
	}
	return result
}

// text is sealed text with its digest. The seal is no real one: it only has to hide
// the text and to differ each time.
func (w *world) text(tenant, content string) events.Value {
	content += " " + canary
	sealed := make([]byte, 12, 12+len(content))
	for i := range sealed {
		sealed[i] = byte(w.rng.Uint32()) //nolint:gosec // its low bits are meant
	}
	for i, c := range []byte(content) {
		sealed = append(sealed, c^sealed[i%12]^0x80)
	}
	return events.Value{Text: &events.Sealed{Bytes: sealed, Key: "keys/" + tenant + "/-/job"}, Digest: events.Digest([]byte(tenant), content)}
}
