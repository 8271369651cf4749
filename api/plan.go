// Planning at the edge: a request is refused with every reason at once, before
// anything is written.

package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
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
	missing, err := sub.resolve(ctx, request.Inputs)
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
		return sub.invalid(faults...)
	}
	sub.graph, sub.profile = graph, b.ProfileID
	if b.Mode == aggregates.ModeTrainAndGenerate {
		sub.profile = events.ProfileIDOfJob(sub.jobID)
	}
	return sub.someWorker(ctx)
}

// invalid refuses the request in the client's own spelling.
func (sub *submitting) invalid(faults ...fault) *refusal {
	if sub.camel {
		faults = sub.written.respelled(faults)
	}
	return invalid(faults...)
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
	in := aggregates.PlanInput{JobID: sub.jobID, Request: request, Limits: sub.server.cfg.Limits}
	if request.ProfileID != "" {
		profile, err := sub.server.known.profile(sub.who.tenant, request.ProfileID)
		if err != nil {
			return events.Graph{}, nil, err
		}
		if in.Barred = profile.Barred(request.Mode); request.Mode == aggregates.ModeGenerateFromProfile {
			in.Profile = profile.Snapshot()
		}
	}
	if can := sub.server.known.capabilities(); can.alive > 0 {
		in.Engines, in.Gaps, in.Rooms = can.engines, can.gaps, can.rooms
	}
	graph, reasons := aggregates.Plan(in)
	return graph, reasons, nil
}

// asPlanned is a job that this process has accepted and no table shows yet, without the texts:
// the plan is made again, which makes the same one.
func (s *Server) asPlanned(id string, known submission) (jobView, bool) {
	request, at, ok := known.request()
	if !ok {
		return jobView{}, false
	}
	in := aggregates.PlanInput{JobID: id, Request: request, Limits: s.cfg.Limits}
	if request.Mode == aggregates.ModeGenerateFromProfile {
		if profile, err := s.known.profile(known.tenant, request.ProfileID); err == nil {
			in.Profile = profile.Snapshot()
		}
	}
	graph, reasons := aggregates.Plan(in)
	if len(reasons) > 0 { // its profile has been erased since: no stage will run
		graph = events.Graph{Workflow: request.Workflow, Mode: request.Mode, Variant: request.Variant}
	}
	view := viewPlan(known.tenant, id, at, graph, &request)
	view.Status = cmp.Or(known.status, view.Status)
	return view, true
}

// someWorker refuses a job that nobody could run.
func (sub *submitting) someWorker(ctx context.Context) error {
	if sub.server.known.capabilities().alive > 0 {
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
		if hint, ok := profileHints[r.Code]; ok {
			r.Detail += "; " + hint
		}
		out = append(out, fault{Pointer: r.Field, Code: r.Code, Detail: r.Detail})
	}
	return out
}

// profileHints say what to do about a profile that a job cannot use.
var profileHints = map[string]string{
	"profile_unknown":    "GET /api/profiles lists those that there are",
	"profile_archived":   "PATCH /api/profiles/{id} with archived false does",
	"profile_incomplete": "PATCH /api/profiles/{id} with a portrait adds one",
	"consent_missing":    "PATCH /api/profiles/{id} with a consent does",
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
func (sub *submitting) resolve(ctx context.Context, inputs map[string]events.Value) (faults []fault, err error) {
	for name, text := range sub.texts() {
		if text != nil && strings.TrimSpace(*text) != "" {
			inputs[name] = events.Value{Text: &events.Sealed{}}
		}
	}
	uses := sub.uses()
	if len(uses) == 0 {
		return nil, nil
	}
	err = inTime(ctx, objectTimeout, func(ctx context.Context) (err error) {
		faults, err = sub.find(ctx, uses, inputs)
		return err
	})
	return faults, err
}

// texts are what the request says in words, by input.
func (sub *submitting) texts() iter.Seq2[string, *string] {
	return func(yield func(string, *string) bool) {
		b := &sub.body
		_ = yield("prompt", b.Prompt) && yield("script", b.Script) && yield("voice_transcript", b.VoiceTranscript)
	}
}

// find looks the uploads up.
func (sub *submitting) find(ctx context.Context, uses []use, inputs map[string]events.Value) ([]fault, error) {
	sub.uploads = map[string]upload{}
	var faults []fault
	for _, use := range uses {
		for i, id := range use.ids {
			u, wrong, err := sub.usable(ctx, use.pointer(i), use, id)
			if err != nil {
				return nil, err
			}
			if wrong != nil {
				faults = append(faults, *wrong)
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

// usable is the file that the request brought along or the upload that it names, or what
// is wrong with naming it there.
func (sub *submitting) usable(ctx context.Context, pointer string, use use, id string) (upload, *fault, error) {
	file := sub.files[strings.ToLower(id)]
	switch {
	case file == nil:
		return sub.server.usable(ctx, sub.who.tenant, pointer, use, id)
	case file.refused != nil:
		return upload{}, &fault{Pointer: pointer, Code: file.refused.code, Detail: spoken(pointer) + ": " + file.refused.detail}, nil
	case file.clean.Type != use.kind:
		return upload{}, &fault{Pointer: pointer, Code: "upload_wrong_type", Detail: fmt.Sprintf("%s needs %s, but the file is %s", use.input, use.kind, file.clean.Type)}, nil
	}
	return file.clean, nil, nil
}

// usable is the tenant's upload, or what is wrong with naming it there.
func (s *Server) usable(ctx context.Context, tenant, pointer string, use use, id string) (upload, *fault, error) {
	u, err := s.findUpload(ctx, tenant, strings.ToLower(id))
	switch {
	case errors.Is(err, objects.ErrMissing):
		unknown := uploadUnknown(pointer, id)
		return u, &unknown, nil
	case err != nil:
		return u, nil, err
	case u.Type != use.kind:
		return u, &fault{Pointer: pointer, Code: "upload_wrong_type", Detail: fmt.Sprintf("%s needs %s, but upload %s is %s", use.input, use.kind, id, u.Type)}, nil
	}
	return u, nil, nil
}

// uploadUnknown is what is wrong with naming an upload that is not there, or not any more.
func uploadUnknown(pointer, id string) fault {
	return fault{Pointer: pointer, Code: "upload_unknown", Detail: "there is no upload " + id + ", or it is kept no longer; post the file to /api/uploads first"}
}

// fileInputs are the inputs that are files; true: maybe several.
var fileInputs = map[string]bool{"images": true, "voice": true, "portrait": false, "music": false, "audio": false}

// use is where a request names uploads.
type use struct {
	input string // of the pipeline
	kind  string // of upload
	as    string // type of the artifact
	ids   []string
	list  bool
}

// pointer is where the body names the use's ith upload.
func (u use) pointer(i int) string {
	if u.list {
		return fmt.Sprintf("/%s/%d", u.input, i)
	}
	return "/" + u.input
}

func (sub *submitting) uses() []use {
	b := sub.body
	var uses []use
	if len(b.Images) > 0 {
		uses = append(uses, use{"images", uploadImage, "image", b.Images, true})
	}
	if len(b.Voice) > 0 {
		uses = append(uses, use{"voice", uploadAudio, "voice", b.Voice, true})
	}
	if b.Portrait != "" {
		uses = append(uses, use{"portrait", uploadImage, "portrait", []string{b.Portrait}, false})
	}
	if b.Music != "" {
		uses = append(uses, use{"music", uploadAudio, "music", []string{b.Music}, false})
	}
	if b.Audio != "" {
		uses = append(uses, use{"audio", uploadAudio, "audio", []string{b.Audio}, false})
	}
	return uses
}
