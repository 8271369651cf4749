// What a submission writes before its command: the content key, the sealed texts,
// and copies of the uploads in the job's own folder, so that two subjects never
// share an object.

package api

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/objects"
)

const copiesAtOnce = 4

// sealed is the request as the command carries it. What it names exists.
func (sub *submitting) sealed(ctx context.Context) (events.Request, error) {
	s, b := sub.server, sub.body
	var keyID string
	var key []byte
	if b.Mode != aggregates.ModeDiagnostic || b.Webhook != nil { // otherwise it has no text
		err := inTime(ctx, objectTimeout, func(ctx context.Context) (err error) {
			keyID, key, err = sub.contentKey(ctx)
			return err
		})
		if err != nil {
			return events.Request{}, fmt.Errorf("cannot make the job's content key: %w", err)
		}
	}
	var failed error
	seal := func(text string) *events.Sealed {
		sealed, err := events.Seal(key, keyID, text)
		failed = errors.Join(failed, err)
		return &sealed
	}
	r := events.Request{
		Workflow: b.Pipeline, Mode: b.Mode, Variant: b.Variant, Options: sub.graph.Options, ProfileID: sub.profile,
		Inputs: map[string]events.Value{}, BodyDigest: sub.digest, Approval: b.Approval, Priority: b.Priority, NotBeforeMS: sub.notBefore,
		Engines: sub.engines, Definition: sub.definition, Labels: sub.labels,
	}
	for name, text := range sub.texts() {
		if text != nil && strings.TrimSpace(*text) != "" {
			said := strings.TrimSpace(*text)
			r.Inputs[name] = events.Value{Text: seal(said), Digest: s.textDigest(sub.who.tenant, said)}
		}
	}
	if b.Mode == aggregates.ModeTrainAndGenerate {
		r.ProfileName = seal(sub.profileLabel())
	}
	if b.Consent != nil {
		r.Consent = &events.Consent{By: *seal(b.Consent.By), Statement: *seal(b.Consent.Statement)}
	}
	if sub.keyed {
		r.KeyDigest = s.textDigest(sub.who.tenant, sub.key)
	}
	if b.Webhook != nil {
		r.Webhook = sub.sealedHook(seal)
	}
	if failed != nil {
		return events.Request{}, fmt.Errorf("cannot seal the request: %w", failed)
	}
	if len(sub.uploads) == 0 {
		return r, nil
	}
	return r, inTime(ctx, objectTimeout+sub.copying, func(ctx context.Context) error { return sub.copyUploads(ctx, r.Inputs) })
}

// textDigest lets equal texts of the tenant compare equal, sealed as they are.
func (s *Server) textDigest(tenant, text string) string {
	return s.keyring.Digest(tenant, text)
}

// profileLabel is the new profile's name.
func (sub *submitting) profileLabel() string {
	if n := sub.body.ProfileName; n != nil && strings.TrimSpace(*n) != "" {
		return strings.TrimSpace(*n)
	}
	return "Profile " + sub.profile[:8]
}

// copyUploads puts the uploads' bytes into the job's folder and names them in inputs.
func (sub *submitting) copyUploads(ctx context.Context, inputs map[string]events.Value) error {
	subject, err := objects.Subject(sub.who.tenant, sub.profile, sub.jobID)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(copiesAtOnce)
	for _, use := range sub.uses() {
		artifacts := make([]events.Artifact, len(use.ids))
		for i, id := range use.ids {
			u := sub.uploads[id]
			name := use.input + u.ext()
			if use.list {
				name = fmt.Sprintf("%s-%02d%s", use.input, i+1, u.ext())
			}
			group.Go(func() error {
				a, err := sub.server.putInput(ctx, u, subject)
				if errors.Is(err, errSwept) {
					return sub.invalid(uploadUnknown(use.pointer(i), u.ID))
				}
				if err != nil {
					return fmt.Errorf("cannot put file %s into the job's folder: %w", u.ID, err)
				}
				a.ID, a.Name, a.Type = events.ArtifactID(sub.jobID, "input", 0, name), name, use.as
				a.Width, a.Height, a.DurationMS = u.Width, u.Height, u.DurationMS
				artifacts[i] = a
				return nil
			})
		}
		if len(artifacts) > 0 {
			inputs[use.input] = events.Value{Artifacts: artifacts}
		}
	}
	return group.Wait()
}

// bytes is how much is to be copied.
func (sub *submitting) bytes() int64 {
	n := int64(0)
	for _, u := range sub.uploads {
		n += u.Size
	}
	return n
}

// putInput puts a file that came with the job, or a copy of an upload.
func (s *Server) putInput(ctx context.Context, u upload, subject string) (events.Artifact, error) {
	if u.unstored.path == "" {
		return s.copyObject(ctx, u, subject)
	}
	if err := begin(ctx, s.storing); err != nil {
		return events.Artifact{}, err
	}
	defer func() { <-s.storing }()
	return s.cfg.Objects.PutFile(ctx, subject, u.unstored.ext, u.MediaType, u.unstored.path)
}

// errSwept says that an upload was deleted after it was found.
var errSwept = errors.New("the upload is kept no longer")

// copyObject puts a copy of the upload into the subject's folder, or says errSwept.
func (s *Server) copyObject(ctx context.Context, u upload, subject string) (a events.Artifact, err error) {
	r, err := s.cfg.Objects.Open(ctx, u.URI)
	if errors.Is(err, objects.ErrMissing) {
		return a, errSwept
	}
	if err != nil {
		return a, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	a, err = s.cfg.Objects.Put(ctx, subject, strings.TrimPrefix(path.Ext(u.URI), "."), u.MediaType, r)
	switch {
	case err == nil && a.SHA256 != u.SHA256:
		return a, fmt.Errorf("upload %s was read as something else: %w", u.ID, objects.ErrCorrupt)
	case errors.Is(err, objects.ErrMissing): // the upload, while it was read, or the copy?
		if _, gone := s.cfg.Objects.Stat(ctx, u.URI); errors.Is(gone, objects.ErrMissing) {
			return a, errSwept
		}
	}
	return a, err
}
