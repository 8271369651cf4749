// Results that exist already: a stage's input hash names what it makes, so that the
// work of one job can stand in for another's.

package gpu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/objects"
)

// madeResult is a manifest: what an attempt made of the inputs that the hash names.
// Its files and texts stay the job's that made them.
type madeResult struct {
	JobID     string        `json:"job_id"`
	Stage     string        `json:"stage"`
	Attempt   int           `json:"attempt"`
	InputHash string        `json:"input_hash"`
	Model     string        `json:"model,omitempty"`
	Result    events.Result `json:"result"`
	MadeAt    time.Time     `json:"made_at"`
}

// shares says whether the command's result may be another job's, and another's its.
func (r *run) shares() bool {
	return r.task.Share && r.task.InputHash != "" && r.light == nil
}

// profile is the id of the job's profile, or empty.
func (r *run) profile() string {
	parts := strings.Split(r.task.Subject, "/") // newRun has checked it
	if len(parts) < 3 || parts[1] == objects.NoProfile {
		return ""
	}
	return parts[1]
}

// asPlanned says whether the result is what its name supposes: made by that very
// engine, and as large as it was asked for.
func (r *run) asPlanned() bool {
	return r.task.Engine == r.can.Engine+"/"+r.can.Version+"/"+r.can.Model && r.task.Reduce == 0
}

// tenant is whose folder the job's objects lie in.
func (r *run) tenant() string {
	tenant, _, _ := strings.Cut(r.task.Subject, "/")
	return tenant
}

// reuse finds a result of the command's name and makes this job its own copy of it;
// nil when there is none that can be used.
func (r *run) reuse(ctx context.Context) *madeResult {
	made, err := r.findMade(ctx)
	if err == nil {
		made.Result.Outputs, err = r.adopt(ctx, made.Result.Outputs)
	}
	if err == nil {
		return made
	}
	if errors.Is(err, objects.ErrMissing) && made == nil {
		return nil // nobody has made it
	}
	// A manifest of no use makes way for the next; an outage says nothing about it.
	r.madeAgain = !errors.Is(err, objects.ErrUnavailable) && ctx.Err() == nil
	r.tell(slog.LevelInfo, "a result of this name cannot be used and is made again", "inputHash", r.task.InputHash, "reason", err)
	return nil
}

func (r *run) findMade(ctx context.Context) (*madeResult, error) {
	text, err := r.worker.cfg.Objects.Manifest(ctx, r.tenant(), r.task.InputHash)
	if err != nil {
		return nil, err
	}
	made := new(madeResult)
	if err := json.Unmarshal(text, made); err != nil {
		return made, fmt.Errorf("its manifest is malformed: %w", err)
	}
	if made.InputHash != r.task.InputHash || made.JobID == "" || made.Stage == "" || made.Result.Engine == "" {
		return made, errors.New("its manifest is another's")
	}
	if r.task.Engines == events.EnginesReal && !events.IsReal(made.Result.Fidelity) {
		return made, errors.New("it is a preview, and the job takes none")
	}
	return made, nil
}

// adopt copies the values into this job: files into its folder, texts under its key,
// so that erasing either job leaves the other's.
func (r *run) adopt(ctx context.Context, values map[string]events.Value) (map[string]events.Value, error) {
	own := make(map[string]events.Value, len(values))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		var v events.Value
		if text := values[name].Text; text != nil {
			if !strings.HasPrefix(text.Key, objects.KeyID(r.tenant())+"/") {
				return nil, fmt.Errorf("the text of output %s is another tenant's", name)
			}
			clear, err := r.worker.cfg.Keyring.Open(ctx, *text)
			if err != nil {
				return nil, fmt.Errorf("the text of output %s cannot be read: %w", name, err)
			}
			if v, err = r.sealed(ctx, clear); err != nil {
				return nil, fmt.Errorf("the text of output %s cannot be sealed: %w", name, err)
			}
			if d := values[name].Digest; d != "" && d != v.Digest {
				return nil, fmt.Errorf("the text of output %s is not the one that was made", name)
			}
		}
		for _, a := range values[name].Artifacts {
			if owner := strings.SplitN(a.URI, "/", 5); len(owner) < 5 || owner[3] != r.tenant() || a.Name == "" {
				return nil, fmt.Errorf("a file of output %s is another tenant's", name)
			}
			a, err := r.worker.cfg.Objects.Copy(ctx, a, r.task.Subject)
			if err != nil {
				return nil, fmt.Errorf("a file of output %s: %w", name, err)
			}
			a.ID = events.ArtifactID(r.cmd.JobID, r.cmd.Stage, r.cmd.Attempt, a.Name)
			v.Artifacts = append(v.Artifacts, a)
		}
		own[name] = v
	}
	return own, nil
}

// sealed is a text of this job, with the digest by which equal texts are known.
func (r *run) sealed(ctx context.Context, text string) (events.Value, error) {
	s, err := r.worker.cfg.Keyring.Seal(ctx, objects.KeyID(r.task.Subject), text)
	if err != nil {
		return events.Value{}, err
	}
	return events.Value{Text: &s, Digest: r.worker.cfg.Keyring.Digest(r.tenant(), text)}, nil
}

// manifestTime bounds writing a manifest, which is worth no more.
const manifestTime = 5 * time.Second

// offer writes down what was made, for the next who asks for it.
func (r *run) offer(ctx context.Context, result events.Result, model string) {
	ctx, cancel := context.WithTimeout(ctx, manifestTime)
	defer cancel()
	text, err := json.Marshal(madeResult{
		JobID: r.cmd.JobID, Stage: r.cmd.Stage, Attempt: r.cmd.Attempt, InputHash: r.task.InputHash,
		Model: model, Result: result, MadeAt: time.Now().UTC(),
	})
	if err == nil {
		_, err = r.worker.cfg.Objects.PutManifest(ctx, r.tenant(), r.task.InputHash, text, r.madeAgain)
	}
	if err != nil {
		r.tell(slog.LevelWarn, "a result is not offered to other jobs", "inputHash", r.task.InputHash, "error", err)
	}
}
