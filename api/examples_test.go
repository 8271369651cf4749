// The contract's examples are requests that work: each is sent to a running server in
// which the things that they name are there.

package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/access"
	"github.com/myspinbot/myspinbot/internal/objects"
)

// What the examples of the contract name.
const (
	exampleProfile  = "2f0d6f0e-3a4b-5c6d-8e9f-0a1b2c3d4e5f"
	examplePortrait = "01919b2e-6a2c-7c3e-9a44-6d6f1f0c7a11"
	exampleChanged  = "4b1c8a52-0c3d-5e6f-8a7b-1c2d3e4f5a6b"
	exampleErased   = "5c2d9b63-1d4e-5f70-9b8c-2d3e4f5a6b7c"
)

// exampleWorld holds what the examples name: a portrait, a profile, a job that has
// ended with its video, and one job each to approve, to deny and to cancel.
func exampleWorld(t *testing.T, o options) *world {
	t.Helper()
	w := newWorld(t, o)
	for id, name := range map[string]string{exampleProfile: "Ada", exampleChanged: "Grace", exampleErased: "Nobody"} {
		w.makeProfile(id, tenant, name)
	}
	w.storeExamplePortrait()
	request := map[string]any{"mode": "generate_from_profile", "profile_id": exampleProfile, "script": "Good morning!"}
	if o.notified {
		w.notified()
		request["webhook"] = map[string]any{"url": w.receiver("").URL}
	}
	body := jsonBody(t, request)
	gated := jsonBody(t, map[string]any{"mode": "generate_from_profile", "profile_id": exampleProfile, "prompt": "A greeting", "approval": true})
	for _, key := range []string{"approve", "deny", "cancel"} {
		w.submit(gated, "Idempotency-Key", "example-"+key)
	}
	job := w.submit(body, "Idempotency-Key", "example")
	eventually(t, "the example's video is there", func() bool {
		var got jobView
		w.get("/api/jobs/"+job.ID).decode(t, &got)
		return got.Status == "succeeded" && len(got.Artifacts) > 0
	})
	if o.notified {
		eventually(t, "its webhook is told", func() bool { return len(w.deliveriesOf(job.ID).Items) > 0 })
	}
	eventually(t, "the others wait for approval", func() bool {
		var page struct{ Items []jobView }
		w.get("/api/jobs?status=waiting_approval").decode(t, &page)
		return len(page.Items) == 3
	})
	return w
}

func (w *world) storeExamplePortrait() {
	w.t.Helper()
	file := pngFile(w.t, 80, 64)
	subject, err := objects.Subject(tenant, objects.NoProfile, examplePortrait)
	ok(w.t, err)
	a, err := w.objects.Put(w.t.Context(), subject, "png", "image/png", bytes.NewReader(file))
	ok(w.t, err)
	u := upload{ID: examplePortrait, Type: uploadImage, MediaType: "image/png", Size: a.Size, SHA256: a.SHA256, Width: 80, Height: 64, URI: a.URI,
		CreatedAt: time.Now().UTC().Truncate(time.Millisecond)}
	_, err = w.objects.Put(w.t.Context(), subject, "json", "application/json", strings.NewReader(jsonBody(w.t, u)))
	ok(w.t, err)
}

// example is a request that the contract shows.
type example struct {
	operation, method, path string
	header                  map[string]string
	body                    []byte
}

// examples are those of every operation, put together as the page at /docs does.
func (k *contract) examples(t *testing.T) (out []example) {
	t.Helper()
	for _, path := range slices.Sorted(maps.Keys(asSchema(k.checker.doc["paths"]))) {
		for method, v := range asSchema(asSchema(k.checker.doc["paths"])[path]) {
			operation := asSchema(v)
			if asSchema(operation["responses"])["101"] != nil {
				continue // what is said over it has tests of its own
			}
			e := example{operation: fmt.Sprint(operation["operationId"]), method: strings.ToUpper(method), path: path, header: map[string]string{}}
			query := url.Values{}
			for _, p := range list(operation["parameters"]) {
				p := k.resolved(p)
				name, value := fmt.Sprint(p["name"]), p["example"]
				switch {
				case value == nil && p["required"] == true:
					t.Errorf("%s: there is no example of %s", e.operation, name)
				case value == nil:
				case p["in"] == "path":
					e.path = strings.ReplaceAll(e.path, "{"+name+"}", fmt.Sprint(value))
				case p["in"] == "query":
					query.Set(name, fmt.Sprint(value))
				default:
					e.header[name] = fmt.Sprint(value)
				}
			}
			if answers := asSchema(asSchema(asSchema(operation["responses"])["200"])["content"]); len(answers) == 1 && answers["text/event-stream"] != nil {
				e.method, e.header["Accept"] = http.MethodHead, "text/event-stream" // a stream has no end
			}
			if len(query) > 0 {
				e.path += "?" + query.Encode()
			}
			bodies := asSchema(k.resolved(operation["requestBody"])["content"])
			if len(bodies) == 0 {
				out = append(out, e)
			}
			for media, content := range bodies {
				body := asSchema(content)["example"]
				if body == nil {
					t.Errorf("%s: there is no example of its body as %s", e.operation, media)
					continue
				}
				with := e
				with.header = maps.Clone(e.header)
				with.header["Content-Type"], with.body = media, []byte(jsonBody(t, body))
				if key := e.header["Idempotency-Key"]; key != "" {
					with.header["Idempotency-Key"] = key + "-" + media // another body
				}
				out = append(out, with)
			}
		}
	}
	return out
}

// form makes a form of an example whose values name files as curl does, @portrait.png.
func (e *example) form(t *testing.T) {
	t.Helper()
	var fields map[string]any
	ok(t, json.Unmarshal(e.body, &fields))
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for name, value := range fields {
		text, isText := value.(string)
		if !isText {
			text = jsonBody(t, value)
		}
		file, isFile := strings.CutPrefix(text, "@")
		if !isFile {
			ok(t, form.WriteField(name, text))
			continue
		}
		data := wavFile(2)
		if file != "audio.wav" {
			var err error
			data, err = os.ReadFile("../deploy/demo/" + file)
			ok(t, err)
		}
		part, err := form.CreateFormFile(name, file)
		ok(t, err)
		_, err = part.Write(data)
		ok(t, err)
	}
	ok(t, form.Close())
	e.header["Content-Type"], e.body = form.FormDataContentType(), body.Bytes()
}

func TestEveryExampleOfTheContractWorks(t *testing.T) {
	t.Parallel()
	for name, keys := range map[string]bool{"open": false, "keys": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			everyExampleWorks(t, options{config: allowInside, notified: true, keys: keys})
		})
	}
}

func everyExampleWorks(t *testing.T, o options) {
	w := exampleWorld(t, o)
	if o.keys {
		var signIn SessionRequest
		body := asSchema(w.server.contract.operation("POST", "/api/session")["requestBody"])
		ok(t, json.Unmarshal([]byte(jsonBody(t, asSchema(asSchema(body["content"])["application/json"])["example"])), &signIn))
		w.issueAs(signIn.Key, access.Order{Name: "example", Scopes: access.Read})
	}
	for _, e := range w.server.contract.examples(t) {
		if e.header["Content-Type"] == "multipart/form-data" {
			e.form(t)
		}
		var body io.Reader
		if e.body != nil {
			body = bytes.NewReader(e.body)
		}
		a := w.do(e.method, e.path, e.header, body)
		if a.status < 200 || a.status > 399 || !w.declared(e.method, strings.Split(e.path, "?")[0], a.status) {
			t.Errorf("%s: %s %s: %d %s", e.operation, e.method, e.path, a.status, a.body)
		}
	}
}

func TestTheExampleIDsAreThoseOfTheirKeys(t *testing.T) {
	t.Parallel()
	k, err := loadContract()
	ok(t, err)
	document := string(k.json)
	for _, key := range []string{"example", "example-approve", "example-deny", "example-cancel"} {
		if id := events.JobID(tenant, "/api/jobs", key); !strings.Contains(document, id) {
			t.Errorf("no example names %s, the job of the key %s", id, key)
		}
	}
}

// TestEveryAnswerIsNamed keeps a catch-all out of the contract, behind which anything could hide.
func TestEveryAnswerIsNamed(t *testing.T) {
	t.Parallel()
	k, err := loadContract()
	ok(t, err)
	for path, operations := range asSchema(k.checker.doc["paths"]) {
		for method, v := range asSchema(operations) {
			answers := asSchema(asSchema(v)["responses"])
			if _, any := answers["default"]; any || len(answers) < 2 {
				t.Errorf("%s %s: name every answer; x-answers at the top of the contract has those that routes share", strings.ToUpper(method), path)
			}
			for status, answer := range answers {
				a := k.resolved(answer)
				if _, waits := asSchema(a["headers"])["Retry-After"]; (status == fmt.Sprint(http.StatusTooManyRequests) || status == fmt.Sprint(http.StatusServiceUnavailable)) && !waits {
					t.Errorf("%s %s: %s does not promise Retry-After", strings.ToUpper(method), path, status)
				}
			}
		}
	}
}
