// Two tenants do whatever they like, with the same keys and labels and with each other's
// ids: nothing that one is ever told holds an id or a word of the other, or counts its jobs.

package api

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"pgregory.net/rapid"

	"github.com/myspinbot/myspinbot/events"
)

// party is a tenant. Its name stands in everything that it writes, in the folders of its
// files and in who did something, so that it is the word to search for.
type party struct {
	*world
	other    *party
	portrait string
	jobs     []string // ids that its answers held
	profiles []string
	files    []string
	socket   *websocket.Conn
	answers  []told // since the last look

	mu    sync.Mutex
	heard strings.Builder // over streams and the socket since the last look
	named map[string]bool // ids that it asked for over the socket, which repeats them
}

func newParty(w *world, name string) *party {
	p := &party{world: w.of(name), named: map[string]bool{}}
	p.portrait = p.uploaded(pngFile(w.t, 80+8*len(name), 64))
	p.listen("/api/events", "-")
	return p
}

// follow asks for a job over the socket, over a new one where the server has closed the last.
func (p *party) follow(job string) {
	p.t.Helper()
	p.mu.Lock()
	p.named[job] = true
	p.mu.Unlock()
	text := []byte(`{"action":"subscribe","jobId":"` + job + `"}`)
	if p.socket != nil && p.socket.Write(p.t.Context(), websocket.MessageText, text) == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	ws, res, err := websocket.Dial(ctx, "ws://"+p.server.Addr()+"/ws", &websocket.DialOptions{HTTPHeader: http.Header{testTenant: {p.tenant}}})
	ok(p.t, err)
	if res.Body != nil {
		_ = res.Body.Close()
	}
	p.socket = ws
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			_, text, err := ws.Read(ctx)
			if err != nil {
				return
			}
			p.hear(string(text))
		}
	}()
	p.t.Cleanup(func() { cancel(); _ = ws.CloseNow(); <-done })
	ok(p.t, ws.Write(p.t.Context(), websocket.MessageText, text))
}

func (p *party) hear(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard.WriteString(text)
}

// listen reads a stream to its end, or to the test's. A refusal repeats the id that it is
// about.
func (p *party) listen(path, id string) {
	p.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.server.Addr()+path, nil)
	ok(p.t, err)
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set(testTenant, p.tenant)
	res, err := http.DefaultClient.Do(req)
	ok(p.t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer res.Body.Close()
		b := make([]byte, 32<<10)
		for {
			n, err := res.Body.Read(b)
			if text := string(b[:n]); res.StatusCode == http.StatusOK {
				p.hear(text)
			} else {
				p.hear(strings.ReplaceAll(text, id, ""))
			}
			if err != nil {
				return
			}
		}
	}()
	p.t.Cleanup(func() { cancel(); <-done })
}

// secrets are what the other may not be told: every id on the log that is the tenant's, the
// ids of its files, and its name.
func (p *party) secrets() []string {
	found := map[string]bool{p.portrait: true}
	for _, id := range p.files {
		found[id] = true
	}
	for _, topic := range []string{events.TopicJobEvents, events.TopicProfileEvents} {
		for _, r := range p.records(topic) {
			if m, err := events.Decode(r.Value); err == nil && m.Tenant == p.tenant {
				for _, id := range uuids.FindAllString(string(r.Value), -1) {
					found[id] = true
				}
			}
		}
	}
	return append(slices.Collect(maps.Keys(found)), p.tenant)
}

// told is an answer, and what was asked.
type told struct{ asked, answer string }

// request sends a request and keeps its answer until the next look.
func (p *party) request(method, path, body string, header map[string]string) answer {
	if body != "" && header["Content-Type"] == "" {
		header = maps.Clone(header)
		if header == nil {
			header = map[string]string{}
		}
		header["Content-Type"] = "application/json"
	}
	a := p.do(method, path, header, strings.NewReader(body))
	p.answers = append(p.answers, told{fmt.Sprint(method, " ", path, " ", body, header), fmt.Sprint(a.status, " ", a.header, string(a.body))})
	return a
}

// act does one thing.
func (p *party) act(rt *rapid.T) {
	keys := rapid.SampledFrom([]string{"", "one", "two", "three"})
	anyOf := func(what string, own, others []string) string {
		all := slices.Concat(own, own, others)
		if len(all) == 0 {
			return "00000000-0000-4000-8000-000000000000"
		}
		return rapid.SampledFrom(all).Draw(rt, what)
	}
	job := anyOf("job", p.jobs, p.other.jobs)
	profile := anyOf("profile", p.profiles, p.other.profiles)
	header := map[string]string{}
	if key := keys.Draw(rt, "key"); key != "" {
		header["Idempotency-Key"] = key
	}
	words := "words of " + p.tenant + " " + fmt.Sprint(len(p.jobs)%3)
	switch do := rapid.SampledFrom([]string{"noop", "speak", "speak", "generate", "profile", "rename", "command", "again", "label", "read", "list", "bulk", "stream", "socket"}).Draw(rt, "does"); do {
	case "noop":
		p.made(p.request(http.MethodPost, "/api/jobs", `{"mode":"diagnostic","labels":["shared"]}`, header))
	case "speak":
		portrait := rapid.SampledFrom([]string{p.portrait, p.portrait, p.other.portrait}).Draw(rt, "portrait")
		p.made(p.request(http.MethodPost, "/api/jobs", jsonBody(p.t, map[string]any{"variant": "sadtalker", "prompt": words, "portrait": portrait,
			"labels": []string{"shared"}, "profile_name": "name of " + p.tenant, "approval": rapid.Bool().Draw(rt, "gated"), "consent": map[string]string{"by": words, "statement": words}}), header))
	case "generate":
		p.made(p.request(http.MethodPost, "/api/generate", jsonBody(p.t, map[string]any{"profileId": profile, "script": words, "variant": "sadtalker"}), header))
	case "profile":
		if a := p.request(http.MethodPost, "/api/profiles", jsonBody(p.t, map[string]any{"label": words, "portrait": p.portrait, "consent": map[string]string{"by": words, "statement": words}}), header); a.status == http.StatusCreated {
			var v profileView
			a.decode(p.t, &v)
			p.profiles = append(p.profiles, v.ID)
		}
	case "rename":
		p.request(http.MethodPatch, "/api/profiles/"+profile, jsonBody(p.t, map[string]any{"label": "renamed by " + p.tenant}), header)
	case "command":
		verb := rapid.SampledFrom([]string{"cancel", "approve", "deny"}).Draw(rt, "verb")
		body := map[string]string{"cancel": `{}`, "approve": `{"script":"edited by ` + p.tenant + `"}`, "deny": `{"reason":"denied by ` + p.tenant + `"}`}[verb]
		p.request(http.MethodPost, "/api/jobs/"+job+"/"+verb, body, header)
	case "again":
		p.made(p.request(http.MethodPost, "/api/jobs/"+job+"/"+rapid.SampledFrom([]string{"retry", "rerun"}).Draw(rt, "verb"), `{}`, header))
	case "label":
		p.request(http.MethodPatch, "/api/jobs/"+job, `{"labels":["shared","more"]}`, header)
	case "read":
		p.read(rt, job, profile)
	case "list":
		p.request(http.MethodGet, rapid.SampledFrom([]string{"/api/jobs", "/api/jobs?label=shared", "/api/jobs?status=queued,running,waiting_approval", "/api/jobs?parent_job_id=" + job,
			"/api/jobs?profile_id=" + profile, "/api/jobs?position=" + job + ":1", "/api/profiles", "/api/profiles?status=active,archived,erased"}).Draw(rt, "list"), "", nil)
	case "bulk":
		p.bulkOver(rt)
	case "stream":
		p.listen("/api/jobs/"+job+"/events", job)
	case "socket":
		p.follow(job)
	}
}

// made notes a job that came about.
func (p *party) made(a answer) {
	if a.status != http.StatusAccepted && a.status != http.StatusOK {
		return
	}
	var v jobView
	a.decode(p.t, &v)
	if !slices.Contains(p.jobs, v.ID) {
		p.jobs = append(p.jobs, v.ID)
	}
}

// read looks at a job, a profile or a file, its own or the other's.
func (p *party) read(rt *rapid.T, job, profile string) {
	path := rapid.SampledFrom([]string{"/api/jobs/" + job, "/api/jobs/" + job + "?at=2", "/api/jobs/" + job + "/events", "/api/jobs/" + job + "/deliveries", "/api/profiles/" + profile, "files"}).Draw(rt, "what")
	if path != "files" {
		a := p.request(http.MethodGet, path, "", nil)
		if a.status == http.StatusOK && path == "/api/jobs/"+job {
			var v jobView
			a.decode(p.t, &v)
			for _, f := range v.Artifacts {
				p.files = append(p.files, f.ID)
			}
		}
		return
	}
	for _, id := range slices.Concat(p.files[max(0, len(p.files)-2):], p.other.files[max(0, len(p.other.files)-2):]) {
		for _, of := range []string{"", "/content"} {
			if a := p.request(http.MethodGet, "/api/artifacts/"+id+of, "", nil); (a.status == http.StatusOK) != slices.Contains(p.files, id) {
				rt.Fatalf("%s asks for file %s: %d", p.tenant, id, a.status)
			}
		}
	}
}

// bulkOver counts the open jobs of a label that both use, and mostly cancels them.
func (p *party) bulkOver(rt *rapid.T) {
	filter := map[string]any{"label": "shared"}
	var dry Bulk
	p.request(http.MethodPost, "/api/jobs/bulk", jsonBody(p.t, map[string]any{"action": "cancel", "filter": filter}), nil).decode(p.t, &dry)
	if dry.Total > len(p.jobs) {
		rt.Fatalf("%s is told of %d open jobs, and has %d in all", p.tenant, dry.Total, len(p.jobs))
	}
	if rapid.Bool().Draw(rt, "for real") {
		p.request(http.MethodPost, "/api/jobs/bulk", jsonBody(p.t, map[string]any{"action": "cancel", "filter": dry.Filter, "confirm": dry.Confirm}), nil)
	}
}

// look searches what came since the last look for what is the other's, but what an answer
// repeats of its own request.
func (p *party) look(rt *rapid.T) {
	p.mu.Lock()
	defer p.mu.Unlock()
	text, answers := p.heard.String(), p.answers
	p.heard.Reset()
	p.answers = nil
	for _, word := range p.other.secrets() {
		for _, a := range answers {
			if strings.Contains(a.answer, word) && !strings.Contains(a.asked, word) {
				rt.Fatalf("%s asks %s and is told of %s: %s", p.tenant, a.asked, word, a.answer)
			}
		}
		if i := strings.Index(text, word); i >= 0 && !p.named[word] {
			rt.Fatalf("%s hears of %s: %s", p.tenant, word, text[max(0, i-300):min(len(text), i+300)])
		}
	}
}

// counted compares what the tables show a tenant with its jobs on the log.
func (p *party) counted() bool {
	want := map[string]bool{}
	for _, r := range p.records(events.TopicJobEvents) {
		if m, err := events.Decode(r.Value); err == nil && m.Tenant == p.tenant {
			want[m.AggregateID] = true
		}
	}
	got, cursor := map[string]bool{}, ""
	for {
		var page listOf[jobView]
		p.want(http.StatusOK, p.get("/api/jobs?limit=200"+cursor)).decode(p.t, &page)
		for _, v := range page.Items {
			got[v.ID] = true
		}
		if page.Next == nil {
			return maps.Equal(got, want)
		}
		cursor = "&cursor=" + *page.Next
	}
}

func TestNothingOfOneTenantReachesTheOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	w.server.positions = 20 * time.Millisecond
	x, y := newParty(w, "xanadu"), newParty(w, "yonder")
	x.other, y.other = y, x
	rapid.Check(t, func(rt *rapid.T) {
		w.works()
		for range rapid.IntRange(1, 8).Draw(rt, "steps") {
			p := x
			if rapid.Bool().Draw(rt, "yonder") {
				p = y
			}
			p.act(rt)
		}
		x.look(rt)
		y.look(rt)
	})
	for _, p := range []*party{x, y} {
		eventually(t, "the tables show each tenant its own jobs, and all of them", p.counted)
		if len(p.jobs) < 5 || len(p.profiles) == 0 {
			t.Errorf("%s has %d jobs and %d profiles: nothing was tried", p.tenant, len(p.jobs), len(p.profiles))
		}
	}
}
