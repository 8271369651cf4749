// Tests of tenants: what belongs to another one is answered like what never was, by every
// operation of the contract, and two tenants share nothing.

package api

import (
	"bytes"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

var uuids = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

// stranger asks for what is another tenant's, and for what never was.
type stranger struct {
	*world
	never map[string]string // ids that never were, by the ids that they stand in for
}

// instead is an id that never was in place of one. A job's lies in the same partition, where
// positions on the log are as right or wrong as they were.
func (s *stranger) instead(id string) string {
	if s.never[id] == "" {
		never := uuid.NewString()
		for n := s.log.Partitions(events.TopicJobEvents); eventlog.PartitionFor(never, n) != eventlog.PartitionFor(id, n); {
			never = uuid.NewString()
		}
		s.never[id] = never
	}
	return s.never[id]
}

func (s *stranger) neverWas(text string) string { return uuids.ReplaceAllStringFunc(text, s.instead) }

// plain is an answer without what differs each time: its trace, and which of the two ids it
// repeats.
func (s *stranger) plain(a answer) string {
	text := string(a.body)
	for id, never := range s.never {
		text = strings.ReplaceAll(text, never, id)
	}
	header := a.header.Clone()
	trace := header.Get("X-Trace-Id")
	for _, name := range []string{"X-Trace-Id", "Date", "Content-Length"} {
		header.Del(name)
	}
	return fmt.Sprint(a.status, " ", header, " ", strings.ReplaceAll(text, trace, "TRACE"))
}

// asks sends a request with what is another tenant's, and again with what never was in its
// place. It returns the first answer.
func (s *stranger) asks(e example) answer {
	s.t.Helper()
	send := func(change func(string) string) answer {
		header := map[string]string{}
		for name, value := range e.header {
			header[name] = change(value)
		}
		var body *bytes.Reader
		if e.body == nil {
			return s.do(e.method, change(e.path), header, nil)
		}
		body = bytes.NewReader([]byte(change(string(e.body))))
		return s.do(e.method, change(e.path), header, body)
	}
	got := send(func(text string) string { return text })
	want := send(s.neverWas)
	if !uuids.MatchString(e.path + fmt.Sprint(e.header) + string(e.body)) {
		return got // it names nothing
	}
	if s.plain(got) != s.plain(want) {
		s.t.Errorf("%s: %s %s\nof another tenant  %s\nof what never was  %s", e.operation, e.method, e.path, s.plain(got), s.plain(want))
	}
	return got
}

// belongings are the ids and words of the tenant's that no other may see: every id that it
// was ever told.
func (w *world) belongings() []string {
	w.t.Helper()
	found := map[string]bool{}
	for _, topic := range []string{events.TopicJobEvents, events.TopicProfileEvents, events.TopicJobCommands} {
		for _, r := range w.records(topic) {
			m, err := events.Decode(r.Value)
			ok(w.t, err)
			if m.Tenant != tenant {
				continue
			}
			for _, id := range uuids.FindAllString(string(r.Value), -1) {
				found[id] = true
			}
		}
	}
	out := []string{"Good morning", "A greeting", "Ada", "Grace"}
	for id := range found {
		out = append(out, id)
	}
	return out
}

// facts counts the facts of a tenant.
func (w *world) facts(tenant string) (n int) {
	w.t.Helper()
	for _, topic := range []string{events.TopicJobEvents, events.TopicProfileEvents} {
		for _, r := range w.records(topic) {
			if m, err := events.Decode(r.Value); err == nil && m.Tenant == tenant {
				n++
			}
		}
	}
	return n
}

// TestAnothersThingsAreAnsweredLikeWhatNeverWas sends every example of the contract, and
// more, as a tenant to whom nothing of what they name belongs.
func TestAnothersThingsAreAnsweredLikeWhatNeverWas(t *testing.T) {
	t.Parallel()
	w := exampleWorld(t, options{config: allowInside, notified: true})
	w.server.positions = 50 * time.Millisecond
	s := &stranger{w.of("other"), map[string]string{}}
	job := events.JobID(tenant, "/api/jobs", "example")
	gate := events.JobID(tenant, "/api/jobs", "example-approve")
	var told []*eventView
	for _, id := range []string{job, gate} {
		told = append(told, w.server.feed.lately(tenant, id)...)
	}
	requests := w.server.contract.examples(t)
	operations := map[string]bool{}
	for i := range requests {
		operations[requests[i].operation] = true
		if requests[i].header["Content-Type"] == "multipart/form-data" {
			requests[i].form(t)
		}
	}
	requests = append(requests, w.oddRequests(job, gate, told)...)
	before, mine := w.facts(tenant), w.belongings()
	for range 2 { // the second time with everything that was said before
		for _, e := range requests {
			if e.operation == "getContract" || e.operation == "getDocs" {
				continue // its examples are these very things
			}
			a := s.asks(e)
			named := e.path + fmt.Sprint(e.header) + string(e.body)
			for _, word := range mine {
				if strings.Contains(string(a.body)+fmt.Sprint(a.header), word) && !strings.Contains(named, word) {
					t.Errorf("%s: %s %s tells another tenant %q: %s", e.operation, e.method, e.path, word, a.body)
				}
			}
		}
		// And without the tables, when what was seen lately is all that is known.
		w.tableNet.Cut()
	}
	w.tableNet.Mend()
	if n := w.facts(tenant); n != before {
		t.Errorf("another tenant has led to %d facts", n-before)
	}
	w.works()
	s.listensInVain(job, gate)
	if len(operations) < 30 {
		t.Errorf("%d operations were tried", len(operations))
	}
}

// works has the worker say again that it is there, where a test takes longer than it may be silent.
func (w *world) works() {
	w.t.Helper()
	w.announce(allTasks())
	eventually(w.t, "the worker is known", func() bool { return w.server.known.capabilities().alive > 0 })
}

// oddRequests are those that the contract has no example of.
func (w *world) oddRequests(job, gate string, told []*eventView) (out []example) {
	last := map[string]string{job: "0:0", gate: "0:0"}
	for _, e := range told {
		last[e.JobID] = e.Position
	}
	for _, id := range []string{job, gate} {
		path := "/api/jobs/" + id
		for _, query := range []string{"", "?at=1", "?at=3", "?at=999", "?at=" + last[id], "?at=0:0", "?at=1:0", "?at=2020-01-01T00:00:00Z", "?at=" + time.Now().UTC().Add(time.Hour).Format(time.RFC3339), "?position=" + id + ":1"} {
			out = append(out, example{operation: "getJob", method: http.MethodGet, path: path + query})
		}
		stream := map[string]string{"Accept": "text/event-stream"}
		out = append(out,
			example{operation: "getJobEvents", method: http.MethodGet, path: path + "/events?after=0"},
			example{operation: "getJobEvents", method: http.MethodGet, path: path + "/events", header: stream},
			example{operation: "getJobEvents", method: http.MethodHead, path: path + "/events", header: map[string]string{"Accept": "text/event-stream", "Last-Event-ID": last[id]}},
			example{operation: "listJobs", method: http.MethodGet, path: "/api/jobs?parent_job_id=" + id},
			example{operation: "listJobs", method: http.MethodGet, path: "/api/jobs?position=" + id + ":1"},
			example{operation: "streamEvents", method: http.MethodHead, path: "/api/events?job_id=" + id, header: stream},
		)
		for verb, body := range map[string]string{"cancel": `{}`, "approve": `{"script":"Other words"}`, "deny": `{"reason":"No"}`, "retry": `{}`, "rerun": `{"from":"script"}`, "redeliver": `{}`} {
			for _, key := range []string{"", "example", "one"} {
				header := map[string]string{"Content-Type": "application/json"}
				if key != "" {
					header["Idempotency-Key"] = key
				}
				out = append(out, example{operation: verb, method: http.MethodPost, path: path + "/" + verb, header: header, body: []byte(body)})
			}
		}
	}
	return append(out, example{operation: "listProfiles", method: http.MethodGet, path: "/api/profiles?status=active,archived,erasing,erased"},
		example{operation: "listJobs", method: http.MethodGet, path: "/api/jobs?profile_id=" + exampleProfile})
}

// listensInVain follows the jobs over the WebSocket and over the stream of all events, while
// something happens to one of them.
func (s *stranger) listensInVain(ended, waits string) {
	s.t.Helper()
	socket, all := s.openSocket(), s.openEvents("", "")
	all.first()
	for _, id := range []string{ended, waits} {
		for _, asked := range []string{id, s.instead(id)} {
			socket.send(`{"action":"subscribe","jobId":"` + asked + `"}`)
			m := socket.next()
			if m.Type != "error" || m.Code != codeNotFound || m.Message != "there is no job "+asked {
				s.t.Errorf("the socket says %+v", m)
			}
		}
	}
	owner := (&world{t: s.t, server: s.server, log: s.log, decider: s.decider})
	owner.ask(waits, "deny", `{"reason":"No"}`)
	own := s.submit(`{"mode":"diagnostic"}`)
	for {
		f, open := all.next()
		if !open {
			s.t.Fatal("the stream has ended")
		}
		if id := f.event.JobID + f.progress.JobID; id != own.ID {
			s.t.Errorf("the stream tells of job %s", id)
		}
		if f.event.Type == "job.succeeded" {
			break
		}
	}
	socket.send(`{"action":"subscribe","jobId":"` + own.ID + `"}`)
	if m := socket.next(); m.JobID != own.ID {
		s.t.Errorf("the socket goes on with %+v", m)
	}
}

func TestTwoTenantsWithOneKeyHaveTwoOfEverything(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	jobs, profiles := map[string]string{}, map[string]string{}
	for range 2 { // each repeats itself
		for _, tenant := range []string{"x", "y"} {
			of := w.of(tenant)
			job := of.submit(`{"mode":"diagnostic"}`, "Idempotency-Key", "one")
			if known := jobs[tenant]; known != "" && known != job.ID || job.Tenant != tenant {
				t.Errorf("%s has job %s of %s, and had %s", tenant, job.ID, job.Tenant, known)
			}
			var p profileView
			of.want(http.StatusCreated, of.post("/api/profiles", `{"label":"Ada"}`, "Idempotency-Key", "one")).decode(t, &p)
			if known := profiles[tenant]; known != "" && known != p.ID {
				t.Errorf("%s has profile %s, and had %s", tenant, p.ID, known)
			}
			jobs[tenant], profiles[tenant] = job.ID, p.ID
		}
	}
	if jobs["x"] == jobs["y"] || profiles["x"] == profiles["y"] || w.submissions() < 2 {
		t.Errorf("jobs %v, profiles %v", jobs, profiles)
	}
	for tenant, id := range jobs {
		eventually(t, "each sees its own job", func() bool { return slices.Equal(w.of(tenant).listed(""), []string{id}) })
		eventually(t, "and its own profile", func() bool { return slices.Equal(w.of(tenant).profilesListed(""), []string{profiles[tenant]}) })
	}
}

// TestNoTenantTakesAllPlaces has one tenant fill its own bound, and then all together theirs.
func TestNoTenantTakesAllPlaces(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true, config: func(c *Config) { c.MaxOpenJobs, c.MaxOpenJobsPerTenant = 4, 2 }})
	post := func(tenant string, want int, says string) {
		t.Helper()
		a := w.of(tenant).want(want, w.of(tenant).post("/api/jobs", `{"mode":"diagnostic"}`))
		if want == http.StatusTooManyRequests && (a.header.Get("Retry-After") == "" || !strings.Contains(string(a.body), says)) {
			t.Errorf("%s is told %v %s", tenant, a.header, a.body)
		}
	}
	const own, all = "2 of your jobs are open", "as many jobs are open as this server takes"
	for _, tenant := range []string{"x", "x", "y"} {
		post(tenant, http.StatusAccepted, "")
	}
	post("x", http.StatusTooManyRequests, own)
	post("z", http.StatusAccepted, "")
	post("y", http.StatusTooManyRequests, all)
	if a := w.of("z").post("/api/jobs", `{"mode":"diagnostic"}`); strings.ContainsAny(strings.Split(strings.Split(string(a.body), `"detail":"`)[1], `"`)[0], "0123456789") {
		t.Errorf("the refusal tells a number, which is others': %s", a.body)
	}
	// A process that comes later counts them as well.
	other := w.another()
	eventually(t, "the second process has counted", func() bool {
		return strings.Contains(string(other.of("x").post("/api/jobs", `{"mode":"diagnostic"}`).body), own)
	})
}
