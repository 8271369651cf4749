// What goes into an attempt and what comes out: clear text and local files on the
// engine's side, sealed text and verified objects on the log's.

package gpu

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/objects"
)

// lateInputs are brought when an engine asks for them: hundreds of megabytes of which most
// engines make no use, and those that do keep their own copy.
var lateInputs = map[string]bool{"voice_weights": true}

// openInputs gives the attempt its texts in clear and its files in dir/in.
func (r *run) openInputs(ctx context.Context, a *Attempt, dir string) error {
	in := filepath.Join(dir, "in")
	if err := os.Mkdir(in, 0o700); err != nil {
		return fmt.Errorf("cannot make the folder of the inputs: %w", err)
	}
	a.Texts, a.Files, a.Fetch = map[string]string{}, map[string][]File{}, r.fetch
	for _, name := range slices.Sorted(maps.Keys(r.task.Inputs)) {
		v := r.task.Inputs[name]
		if v.Text != nil {
			err := r.patiently(ctx, func() (err error) {
				a.Texts[name], err = r.worker.cfg.Keyring.Open(ctx, *v.Text)
				return err
			})
			if err != nil {
				return storeError(err, "the text of input "+name)
			}
		}
		for i, artifact := range v.Artifacts {
			if lateInputs[name] {
				a.Files[name] = append(a.Files[name], File{Artifact: artifact})
				continue
			}
			// Names of our own making: artifacts' names come over the log.
			file := filepath.Join(in, fmt.Sprintf("%d-%d%s", len(a.Files), i, path.Ext(artifact.URI)))
			if err := r.fetch(ctx, artifact, file); err != nil {
				return err
			}
			a.Files[name] = append(a.Files[name], File{Path: file, Artifact: artifact})
		}
	}
	return nil
}

// fetch brings an input's file to a new file at path.
func (r *run) fetch(ctx context.Context, f events.Artifact, path string) error {
	err := r.patiently(ctx, func() error { return r.worker.cfg.Objects.Fetch(ctx, f, path) })
	if err != nil {
		return storeError(err, "the input's file "+f.Name)
	}
	return nil
}

// keepOutputs uploads and seals what the engine made; afterwards every artifact
// that is returned exists and is verified.
func (r *run) keepOutputs(ctx context.Context, dir string, out *Output) (map[string]events.Value, error) {
	kept := make(map[string]events.Value, len(out.Texts)+len(out.Files))
	for _, name := range slices.Sorted(maps.Keys(out.Texts)) {
		err := r.patiently(ctx, func() (err error) {
			kept[name], err = r.sealed(ctx, out.Texts[name])
			return err
		})
		if err != nil {
			return nil, storeError(err, "the text of output "+name)
		}
	}
	names := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(out.Files)) {
		v := kept[name]
		for _, f := range out.Files[name] {
			a, err := r.keepFile(ctx, dir, f)
			if err != nil {
				return nil, err
			}
			if names[a.Name] {
				return nil, fmt.Errorf("the engine gave two files the name %q", a.Name)
			}
			names[a.Name] = true
			v.Artifacts = append(v.Artifacts, a)
		}
		kept[name] = v
	}
	return kept, nil
}

func (r *run) keepFile(ctx context.Context, dir string, f File) (events.Artifact, error) {
	a := f.Artifact
	if a.Name == "" {
		a.Name = filepath.Base(f.Path)
	}
	info, err := os.Lstat(f.Path)
	switch inside, relErr := filepath.Rel(dir, f.Path); {
	case relErr != nil || !filepath.IsLocal(inside):
		return a, fmt.Errorf("the engine's file %q lies outside its folder", a.Name)
	case err != nil:
		return a, fmt.Errorf("the engine's file %q is not there: %w", a.Name, err)
	case !info.Mode().IsRegular() || info.Size() == 0:
		return a, fmt.Errorf("the engine's file %q is empty or no plain file", a.Name)
	}
	ext := strings.ToLower(strings.TrimPrefix(filepath.Ext(f.Path), "."))
	var stored events.Artifact
	err = r.patiently(ctx, func() (err error) {
		stored, err = r.worker.cfg.Objects.PutFile(ctx, r.task.Subject, ext, a.MediaType, f.Path)
		return err
	})
	if err != nil {
		return a, storeError(err, "the file "+a.Name)
	}
	a.ID = events.ArtifactID(r.cmd.JobID, r.cmd.Stage, r.cmd.Attempt, a.Name)
	a.URI, a.SHA256, a.Size = stored.URI, stored.SHA256, stored.Size
	return a, nil
}

// patiently repeats f while the object store is away, for pace.store: minutes of
// GPU work are not thrown away over a restart of the store.
func (r *run) patiently(ctx context.Context, f func() error) error {
	give := time.NewTimer(r.worker.pace.store)
	defer give.Stop()
	for wait := 200 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := f()
		if !errors.Is(err, objects.ErrUnavailable) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-give.C:
			return err
		case <-time.After(wait):
		}
	}
}

// storeError gives a failure of the store its class; what is "the file x" and the like.
func storeError(err error, what string) error {
	e := &TaskError{Err: err}
	switch {
	case errors.Is(err, context.DeadlineExceeded): // the attempt's, not the store's fault
		return fmt.Errorf("cannot handle %s: %w", what, err)
	case errors.Is(err, objects.ErrErased):
		e.Class, e.Message = events.ClassArtifactMissing, what+" cannot be read: the job's content was erased"
	case errors.Is(err, objects.ErrMissing):
		e.Class, e.Message, e.Hint = events.ClassArtifactMissing, what+" is not in the object store", "upload it again, or run the stage that makes it again"
	case errors.Is(err, objects.ErrCorrupt):
		e.Class, e.Message, e.Hint = events.ClassArtifactMissing, what+" is damaged in the object store", "upload it again, or run the stage that makes it again"
	case errors.Is(err, objects.ErrForeign), errors.Is(err, events.ErrSealBroken):
		e.Class, e.Message, e.Hint = events.ClassInvalidInput, what+" does not belong to this system", "do the worker and the API share bucket and master key?"
	case errors.Is(err, objects.ErrUnavailable):
		e.Class, e.Message, e.Hint = events.ClassEngineUnavailable, what+" cannot be read or written: the object store does not answer", "look after the object store"
	default:
		return fmt.Errorf("cannot handle %s: %w", what, err)
	}
	return e
}
