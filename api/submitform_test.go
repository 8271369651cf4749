// Tests of submissions that bring their files along: what comes of them, that the same form
// is the same job, and that nothing is left of one that is refused.

package api

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/myspinbot/myspinbot/events"
)

// part is one of a form; with a filename it is a file.
type part struct {
	name, filename string
	text           []byte
}

// textPart and filePart are the usual ones.
func textPart(name, text string) part        { return part{name, "", []byte(text)} }
func filePart(name string, data []byte) part { return part{name, "any.bin", data} }

func (p part) write(b *bytes.Buffer, boundary string) {
	fmt.Fprintf(b, "--%s\r\nContent-Disposition: form-data; name=%q", boundary, p.name)
	if p.filename != "" {
		fmt.Fprintf(b, "; filename=%q\r\nContent-Type: application/octet-stream", p.filename)
	}
	fmt.Fprintf(b, "\r\n\r\n%s\r\n", p.text)
}

// postForm sends a form whose parts lie between boundaries of that name.
func (w *world) postForm(path, boundary, key string, parts ...part) answer {
	w.t.Helper()
	var b bytes.Buffer
	for _, p := range parts {
		p.write(&b, boundary)
	}
	fmt.Fprintf(&b, "--%s--\r\n", boundary)
	header := map[string]string{"Content-Type": "multipart/form-data; boundary=" + boundary}
	if key != "" {
		header["Idempotency-Key"] = key
	}
	return w.do(http.MethodPost, path, header, &b)
}

func TestAFormBringsItsFilesAlong(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	picture, voice := jpegFile(t, 96, 64, 6), wavFile(2)
	a := w.want(http.StatusAccepted, w.postForm("/api/jobs", "x", "", filePart("portrait", picture), textPart("script", canaryScript), filePart("voice", voice),
		textPart("voice", w.uploaded(wavFile(1))), filePart("images", picture), textPart("variant", "svd_wav2lip"), textPart("approval", "true"),
		textPart("options", `{"fps":30}`), textPart("labels", "spring"), textPart("labels", "autumn"), textPart("consent", `{"by":"canary-by","statement":"canary-statement"}`)))
	var job accepted
	a.decode(t, &job)
	r := w.commanded(job.ID)
	if r.Options["fps"] != 30.0 || !r.Approval || !slices.Equal(r.Labels, []string{"autumn", "spring"}) || r.Consent == nil || r.Variant != "svd_wav2lip" {
		t.Errorf("request %+v", r)
	}
	if text, err := w.keyring.Open(t.Context(), *r.Inputs["script"].Text); err != nil || text != canaryScript {
		t.Errorf("script %q, %v", text, err)
	}
	// The same as uploaded first: turned upright, without metadata, in the job's own folder.
	uploads := map[string]string{"portrait": w.uploaded(picture), "voice": w.uploaded(voice), "images": w.uploaded(picture)}
	folder := "/default/" + events.ProfileIDOfJob(job.ID) + "/" + job.ID + "/"
	for name, id := range uploads {
		got := r.Inputs[name].Artifacts[0]
		want, err := w.server.findUpload(t.Context(), tenant, id)
		ok(t, err)
		if got.SHA256 != want.SHA256 || got.Size != want.Size || got.MediaType != want.MediaType || got.Width != want.Width || got.DurationMS != want.DurationMS || !strings.Contains(got.URI, folder) {
			t.Errorf("%s: %+v, want as the upload %+v in %s", name, got, want, folder)
		}
		if info, err := w.objects.Stat(t.Context(), got.URI); err != nil || info.SHA256 != got.SHA256 {
			t.Errorf("the object of %s: %+v, %v", name, info, err)
		}
	}
	if n := len(r.Inputs["voice"].Artifacts); n != 2 {
		t.Errorf("%d voices, want the file and the upload", n)
	}
	eventually(t, "the job is in the tables", func() bool { return w.get("/api/jobs/"+job.ID+"?position="+job.Position).status == http.StatusOK })
	w.noCanary()
	w.emptyFolder()
}

// commanded is the request that lies on the log for a job.
func (w *world) commanded(job string) events.Request {
	w.t.Helper()
	for _, r := range w.records(events.TopicJobCommands) {
		m, err := events.Decode(r.Value)
		ok(w.t, err)
		if submit, is := m.Data.(events.JobSubmit); is && r.Key == job {
			return submit.Request
		}
	}
	w.t.Fatalf("no command of job %s", job)
	return events.Request{}
}

func TestTheSpecificationsRoutesTakeForms(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	var trained accepted
	w.want(http.StatusAccepted, w.postForm("/api/train", "x", "", filePart("portrait", pngFile(t, 80, 64)), textPart("prompt", "a shop"), textPart("profileName", "Ada"),
		textPart("options", `{"durationSeconds":8}`))).decode(t, &trained)
	if trained.JobID != trained.ID || trained.WorkflowID != "train_and_generate_v1" || w.commanded(trained.ID).Options["duration_seconds"] != 8.0 {
		t.Errorf("trained %+v", trained)
	}
	w.makeProfile(exampleProfile, tenant, "Ada")
	var made accepted
	w.want(http.StatusAccepted, w.postForm("/api/generate", "x", "", textPart("profileId", exampleProfile), textPart("script", "Hello"), filePart("music", wavFile(3)))).decode(t, &made)
	if music := w.commanded(made.ID).Inputs["music"].Artifacts; len(music) != 1 || made.WorkflowID != "generate_from_profile_v1" {
		t.Errorf("made %+v with music %+v", made, music)
	}
}

func TestTheSameFormIsTheSameJob(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	picture, other := pngFile(t, 80, 64), pngFile(t, 80, 72)
	send := func(w *world, boundary string, parts ...part) answer {
		return w.postForm("/api/jobs", boundary, "once", parts...)
	}
	var first accepted
	w.want(http.StatusAccepted, send(w, "x", filePart("portrait", picture), textPart("script", "a"), textPart("options", `{"fps":30}`))).decode(t, &first)
	second := w.another()
	for name, again := range map[string]func() answer{
		"another boundary and order": func() answer {
			return send(w, "----WebKitFormBoundaryABC", textPart("options", `{ "fps": 30 }`), textPart("script", "a"), filePart("portrait", picture))
		},
		"as JSON in one part": func() answer {
			return send(w, "x", part{"job", "job.json", []byte(`{"script":"a","options":{"fps":30}}`)}, filePart("portrait", picture))
		},
		"another process": func() answer {
			return send(second, "y", filePart("portrait", picture), textPart("script", "a"), textPart("options", `{"fps":30}`))
		},
	} {
		var job accepted
		w.want(http.StatusAccepted, again()).decode(t, &job)
		if job.ID != first.ID {
			t.Errorf("%s: job %s, want %s", name, job.ID, first.ID)
		}
	}
	for name, parts := range map[string][]part{
		"another file":          {filePart("portrait", other), textPart("script", "a"), textPart("options", `{"fps":30}`)},
		"another text":          {filePart("portrait", picture), textPart("script", "b"), textPart("options", `{"fps":30}`)},
		"the file as something": {filePart("portrait", picture), filePart("images", picture), textPart("script", "a"), textPart("options", `{"fps":30}`)},
	} {
		for _, at := range []*world{w, second} {
			if p := w.problemOf(http.StatusUnprocessableEntity, send(at, "x", parts...)); p.Code != codeKeyConflict {
				t.Errorf("%s: %+v", name, p)
			}
		}
	}
	if n := w.submissions(); n != 1 {
		t.Errorf("%d jobs were submitted", n)
	}
}

// problemOf is the problem that the answer tells.
func (w *world) problemOf(status int, a answer) (p problem) {
	w.t.Helper()
	w.want(status, a).decode(w.t, &p)
	return p
}

// formRefusal is a form that must be refused.
type formRefusal struct {
	name   string
	parts  []part
	status int
	at     string // pointer of a fault; empty: any
	says   string
}

func refusedForms(t *testing.T) []formRefusal {
	t.Helper()
	picture := pngFile(t, 80, 64)
	portrait, script := filePart("portrait", picture), textPart("script", "a")
	out := []formRefusal{
		{"no part", nil, 422, "/portrait", "portrait"},
		{"no name", []part{portrait, script, textPart("", "a")}, 400, "", "part 3 of the form has no name"},
		{"two portraits", []part{portrait, script, portrait}, 422, "/portrait", "portrait is given twice"},
		{"two scripts", []part{portrait, script, script}, 422, "/script", "script is given twice"},
		{"a file where text belongs", []part{portrait, filePart("script", []byte("a"))}, 422, "/script", "script is a text: send it without a filename"},
		{"text where a file belongs", []part{textPart("portrait", "me.png"), script}, 422, "/portrait", "portrait must be an id"},
		{"a picture without a filename", []part{{"portrait", "", picture}, script}, 400, "", "portrait is not valid UTF-8; a file needs a filename"},
		{"an unknown field", []part{portrait, script, textPart("colour", "red")}, 422, "/colour", "there is no field"},
		{"an unknown file", []part{portrait, script, filePart("film", wavFile(1))}, 422, "/film", "files are audio, images, music, portrait, voice"},
		{"a page as audio", []part{portrait, script, filePart("audio", []byte("<!DOCTYPE html><title>It works!</title>"))}, 422, "/audio", "audio: "},
		{"a picture as audio", []part{portrait, script, filePart("audio", picture)}, 422, "/audio", "audio needs audio, but the file is image"},
		{"audio of a minute and more", []part{portrait, script, filePart("audio", wavFile(61))}, 422, "/audio", "audio lasts 61.0 s"},
		{"an upload that is not there", []part{textPart("portrait", examplePortrait), script}, 422, "/portrait", "there is no upload"},
		{"a text of 10 MB", []part{portrait, textPart("script", strings.Repeat("a", 10<<20))}, 413, "", "at most 256 KiB"},
		{"a long text", []part{portrait, textPart("script", strings.Repeat("a", 5_001))}, 422, "/script", "at most 5000 characters"},
		{"too many parts", append([]part{portrait, script}, slices.Repeat([]part{textPart("labels", "a")}, formParts)...), 413, "", "at most 200 parts"},
		{"too many labels", append([]part{portrait, script}, slices.Repeat([]part{textPart("labels", "a")}, 11)...), 422, "/labels", "at most 10 items"},
		{"approval in words", []part{portrait, script, textPart("approval", "yes")}, 422, "/approval", "boolean"},
		{"options that are no JSON", []part{portrait, script, textPart("options", "fps=30")}, 400, "", "the JSON of options"},
		{"an option out of range", []part{portrait, script, textPart("options", `{"fps":500}`)}, 422, "/options/fps", "from 10 to 60"},
		{"an option twice", []part{portrait, script, textPart("options", `{"fps":30,"fps":31}`)}, 422, "/options/fps", "twice"},
		{"a job that is no object", []part{portrait, textPart("job", `[]`)}, 400, "", "the part job must be a JSON object"},
		{"a field beside the job", []part{portrait, textPart("job", `{"script":"a"}`), textPart("variant", "sadtalker")}, 422, "/variant", "write variant into it"},
		{"a portrait beside the job's", []part{portrait, textPart("job", `{"script":"a","portrait":"`+examplePortrait+`"}`)}, 422, "/portrait", "also in the part job"},
		{"sound as portrait", []part{filePart("portrait", wavFile(1)), script}, 422, "/portrait", "portrait needs image, but the file is audio"},
		{"a file that the mode does not take", []part{textPart("mode", "diagnostic"), portrait}, 422, "/portrait", "takes no portrait"},
		{"a good file beside a bad one", []part{portrait, script, filePart("voice", wavFile(1)), filePart("voice", wavFile(1)[:100])}, 422, "/voice/1", "voice.1: the file ends too early"},
		{"a bad file and a bad field", []part{filePart("portrait", picture[:50]), script, textPart("variant", "hologram")}, 422, "/variant", "svd_wav2lip"},
	}
	for _, h := range append(hostileFiles(t), disguisedFiles(t)...) {
		out = append(out, formRefusal{h.name, []part{filePart("portrait", h.file), script}, 422, "/portrait", h.says},
			formRefusal{h.name + ", as audio", []part{portrait, script, filePart("audio", h.file)}, 422, "/audio", h.says})
	}
	return out
}

func TestRefusedFormsLeaveNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true, manual: true})
	for _, c := range refusedForms(t) {
		a := w.postForm("/api/jobs", "x", "", c.parts...)
		var p problem
		a.decode(t, &p)
		found := c.at == "" || slices.ContainsFunc(p.Errors, func(f fault) bool { return f.Pointer == c.at })
		if a.status != c.status || !strings.Contains(p.Detail, c.says) || !found {
			t.Errorf("%s: %d %s; want %d at %q with %q", c.name, a.status, a.body, c.status, c.at, c.says)
		}
	}
	w.nothingHappened(0)
	w.leavesNothing()
}

// A form may end right behind its last boundary, and something may follow.
func TestFormsEndAtTheirLastBoundary(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true, manual: true})
	for _, end := range []string{"--x--", "--x--\r\n", "--x--\r\nan epilogue\r\n", "--x-- \t\r\n"} {
		body := "a preamble\r\n--x\r\nContent-Disposition: form-data; name=mode\r\n\r\ndiagnostic\r\n" + end
		w.want(http.StatusAccepted, w.do(http.MethodPost, "/api/jobs", map[string]string{"Content-Type": "multipart/form-data; boundary=x"}, strings.NewReader(body)))
	}
}

func TestFormsThatBreakOffLeaveNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true, manual: true, config: func(c *Config) { c.Uploads.Bytes = 1 << 20 }})
	head := func(name string) string {
		return "--x\r\nContent-Disposition: form-data; name=\"" + name + "\"; filename=\"a\"\r\n"
	}
	whole := "--x\r\nContent-Disposition: form-data; name=\"script\"\r\n\r\na\r\n" + head("portrait") + "\r\n" + string(pngFile(t, 80, 64)) + "\r\n"
	for _, c := range []struct {
		name, body string
		status     int
		says       string
	}{
		{"in a file", whole[:len(whole)-20], 400, "broke off"},
		{"in a text", "--x\r\nContent-Disposition: form-data; name=\"script\"\r\n\r\nabc", 400, "broke off within script"},
		{"in a head", whole + head("voice")[:30], 400, "broke off or is not multipart/form-data"},
		{"before its end", whole, 400, "portrait: the upload broke off"},
		{"a head of 1 MB", whole + "--x\r\nX-Long: " + strings.Repeat("a", 1<<20) + "\r\n\r\n\r\n--x--\r\n", 400, "the head of a part may have at most 16 KiB"},
		{"1 MB before the form", strings.Repeat("a\r\n", 1<<18) + whole + "--x--\r\n", 400, "may have at most 16 KiB"},
		{"a file too large", head("portrait") + "\r\n" + strings.Repeat("a", 1<<20+1) + "\r\n--x--\r\n", 413, "portrait: a file sent here may have at most 1 MiB"},
		{"files too large together", strings.Repeat(head("voice")+"\r\n"+strings.Repeat("a", 1<<20)+"\r\n", 5) + "--x--\r\n", 413, "may have 4 MiB together"},
		{"no form at all", "nothing of a form", 400, "not multipart/form-data"},
	} {
		// As a reader alone, so that the length is not announced.
		a := w.do(http.MethodPost, "/api/jobs", map[string]string{"Content-Type": "multipart/form-data; boundary=x"}, io.MultiReader(strings.NewReader(c.body)))
		if a.status != c.status || !strings.Contains(string(a.body), c.says) {
			t.Errorf("%s: %d %s; want %d with %q", c.name, a.status, a.body, c.status, c.says)
		}
	}
	for path, media := range map[string]string{"/api/jobs": "multipart/form-data", "/api/train": "multipart/mixed; boundary=x"} {
		w.want(http.StatusUnsupportedMediaType, w.do(http.MethodPost, path, map[string]string{"Content-Type": media}, strings.NewReader(whole+"--x--\r\n")))
	}
	w.nothingHappened(0)
	w.leavesNothing()
}
