// Planning at the edge: a request is refused with every reason at once, before
// anything is written.

package api

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/objects"
)

// plan refuses what no pipeline can do, with every reason at once.
func (sub *submitting) plan(ctx context.Context, faults []fault) error {
	if sub.again != nil {
		return sub.planAgain(ctx, faults)
	}
	b := &sub.body
	if b.Mode == "" {
		b.Mode = sub.mode
	}
	if b.Mode == aggregates.ModeDiagnostic && b.Variant == "" {
		b.Variant = aggregates.VariantNoop
	}
	request := sub.server.cfg.Catalogue.Defaults(events.Request{Workflow: b.Pipeline, Mode: b.Mode, Variant: b.Variant, ProfileID: b.ProfileID,
		Options: plainNumbers(b.Options), Inputs: map[string]events.Value{}})
	b.Mode, b.Variant, b.Pipeline, b.Options = request.Mode, request.Variant, request.Workflow, request.Options
	faults = append(faults, sub.modeFaults()...)
	var missing []fault
	err := inTime(ctx, objectTimeout, func(ctx context.Context) (err error) {
		missing, err = sub.resolve(ctx, request.Inputs)
		return err
	})
	if err != nil {
		return err
	}
	faults = append(faults, missing...)
	request.Approval, request.Priority, request.NotBeforeMS = b.Approval, b.Priority, sub.notBefore
	request.Engines = sub.server.engines(b.Engines, b.Mode)
	sub.labels = labelsOf(b.Labels)
	sub.engines, sub.definition = request.Engines, request.Definition
	graph, reasons, err := sub.planned(request)
	if err != nil {
		return err
	}
	faults = append(faults, fresh(reasons, faults)...)
	if len(faults) > 0 {
		if sub.camel {
			faults = sub.written.respelled(faults)
		}
		return invalid(faults...)
	}
	sub.graph, sub.profile = graph, b.ProfileID
	if b.Mode == aggregates.ModeTrainAndGenerate {
		sub.profile = events.ProfileIDOfJob(sub.jobID)
	}
	return sub.someWorker(ctx)
}

// engines is the choice as it lies on the log, where the usual one is left out. What the
// operator has set is no matter of jobs that make nothing.
func (s *Server) engines(asked, mode string) string {
	if asked == "" && mode != aggregates.ModeDiagnostic {
		asked = s.cfg.Engines
	}
	if asked == events.EnginesAuto {
		return ""
	}
	return asked
}

// planned is what the job handler will make of the request, as far as is known here.
func (sub *submitting) planned(request events.Request) (events.Graph, []events.Reason, error) {
	s := sub.server
	var profile *events.ProfileSnapshot
	if request.Mode == aggregates.ModeGenerateFromProfile && request.ProfileID != "" {
		var err error
		if profile, err = s.known.profile(tenant, request.ProfileID); err != nil {
			return events.Graph{}, nil, err
		}
	}
	in := aggregates.PlanInput{JobID: sub.jobID, Request: request, Profile: profile, Limits: s.cfg.Limits}
	if engines, gaps, alive := s.known.capabilities(); alive > 0 {
		in.Engines, in.Gaps, in.Rooms = engines, gaps, s.known.rooms()
	}
	graph, reasons := aggregates.Plan(in)
	return graph, reasons, nil
}

// someWorker refuses a job that nobody could run.
func (sub *submitting) someWorker(ctx context.Context) error {
	if _, _, alive := sub.server.known.capabilities(); alive > 0 {
		return nil
	}
	if err := sub.server.cfg.Log.Ping(ctx); err != nil {
		return err
	}
	return &refusal{code: codeNoWorkers}
}

// modeFaults are fields that do not fit the mode or the route.
func (sub *submitting) modeFaults() []fault {
	var faults []fault
	b := sub.body
	if sub.route == "/api/generate" && b.Mode != aggregates.ModeGenerateFromProfile {
		faults = append(faults, fault{Pointer: "/mode", Code: "mode_mismatch", Detail: "/api/generate runs " + aggregates.ModeGenerateFromProfile + " alone; use /api/jobs for other modes"})
	}
	if b.Mode == aggregates.ModeDiagnostic {
		return append(faults, sub.diagnosticFaults()...)
	}
	if b.Mode == aggregates.ModeTrainAndGenerate && b.ProfileID != "" {
		faults = append(faults, fault{Pointer: "/profile_id", Code: "input_unused",
			Detail: aggregates.ModeTrainAndGenerate + " makes a new profile; leave profile_id out, or set mode to " + aggregates.ModeGenerateFromProfile})
	}
	if b.Mode == aggregates.ModeGenerateFromProfile && b.ProfileName != nil {
		faults = append(faults, fault{Pointer: "/profile_name", Code: "input_unused", Detail: "profile_name names a new profile; " + aggregates.ModeGenerateFromProfile + " uses an existing one"})
	}
	return faults
}

// diagnosticFaults are fields of a job that makes nothing.
func (sub *submitting) diagnosticFaults() []fault {
	var faults []fault
	if sub.route == "/api/train" {
		faults = append(faults, fault{Pointer: "/mode", Code: "mode_mismatch", Detail: "/api/train makes videos; use /api/jobs for mode " + aggregates.ModeDiagnostic})
	}
	b := sub.body
	for _, f := range []struct {
		name  string
		given bool
	}{{"profile_id", b.ProfileID != ""}, {"profile_name", b.ProfileName != nil}, {"consent", b.Consent != nil}} {
		if f.given {
			faults = append(faults, fault{Pointer: "/" + f.name, Code: "input_unused", Detail: "mode " + aggregates.ModeDiagnostic + " takes no " + f.name})
		}
	}
	return faults
}

// fresh are the planner's reasons about fields that have no fault yet.
func fresh(reasons []events.Reason, faults []fault) []fault {
	bad := map[string]bool{}
	for _, f := range faults {
		bad[topField(f.Pointer)] = true
	}
	var out []fault
	for _, r := range reasons {
		field := topField(r.Field)
		text := field == "prompt" && (bad["script"] || bad["prompt"])
		if text || bad[field] && (r.Code == "input_missing" || r.Code == "input_unused") {
			continue
		}
		if r.Code == "profile_unknown" {
			r.Detail += "; GET /api/profiles lists those that there are"
		}
		out = append(out, fault{Pointer: r.Field, Code: r.Code, Detail: r.Detail})
	}
	return out
}

// plainNumbers gives options the types that a fact read back from the log holds.
func plainNumbers(options map[string]any) map[string]any {
	out := map[string]any{}
	for name, v := range options {
		if f, ok := number(v); ok {
			v = f
		}
		out[name] = v
	}
	return out
}

// resolve puts placeholders for the texts and the uploads' artifacts into inputs,
// and lists uploads that the tenant does not have or that are of the wrong kind.
func (sub *submitting) resolve(ctx context.Context, inputs map[string]events.Value) ([]fault, error) {
	b := sub.body
	for name, text := range map[string]*string{"prompt": b.Prompt, "script": b.Script, "voice_transcript": b.VoiceTranscript} {
		if text != nil && strings.TrimSpace(*text) != "" {
			inputs[name] = events.Value{Text: &events.Sealed{}}
		}
	}
	sub.uploads = map[string]upload{}
	var faults []fault
	for _, use := range sub.uses() {
		for i, id := range use.ids {
			pointer := "/" + use.input
			if use.list {
				pointer += fmt.Sprintf("/%d", i)
			}
			u, err := sub.findFile(ctx, strings.ToLower(id))
			var r *refusal
			switch {
			case errors.As(err, &r):
				faults = append(faults, fault{Pointer: pointer, Code: r.code, Detail: spoken(pointer) + ": " + r.detail})
				continue
			case errors.Is(err, objects.ErrMissing):
				faults = append(faults, fault{Pointer: pointer, Code: "upload_unknown", Detail: "there is no upload " + id + "; post the file to /api/uploads first"})
				continue
			case err != nil:
				return nil, err
			case u.Type != use.kind:
				given := "upload " + id
				if u.unstored.path != "" {
					given = "the file"
				}
				faults = append(faults, fault{Pointer: pointer, Code: "upload_wrong_type", Detail: fmt.Sprintf("%s needs %s, but %s is %s", use.input, use.kind, given, u.Type)})
				continue
			}
			sub.uploads[id] = u
			v := inputs[use.input]
			v.Artifacts = append(v.Artifacts, u.artifact())
			inputs[use.input] = v
		}
	}
	return faults, nil
}

// findFile is the file that a request names: one that came with it, or an upload.
func (sub *submitting) findFile(ctx context.Context, id string) (upload, error) {
	if file := sub.files[id]; file != nil {
		if file.refused != nil {
			return upload{}, file.refused
		}
		return file.clean, nil
	}
	return sub.server.findUpload(ctx, tenant, id)
}

// fileInputs are the inputs that are files; true: maybe several.
var fileInputs = map[string]bool{"images": true, "voice": true, "portrait": false, "music": false}

// use is where a request names uploads.
type use struct {
	input string // of the pipeline
	kind  string // of upload
	as    string // type of the artifact
	ids   []string
	list  bool
}

func (sub *submitting) uses() []use {
	b := sub.body
	uses := []use{{"images", uploadImage, "image", b.Images, true}, {"voice", uploadAudio, "voice", b.Voice, true}}
	if b.Portrait != "" {
		uses = append(uses, use{"portrait", uploadImage, "portrait", []string{b.Portrait}, false})
	}
	if b.Music != "" {
		uses = append(uses, use{"music", uploadAudio, "music", []string{b.Music}, false})
	}
	return uses
}
