// Histories of many clients and two processes, with faults in between, held against
// what one job at a time would do.

package api

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/myspinbot/myspinbot/events"
)

// Where a job stands, as far as these histories go.
const (
	jobAbsent = iota
	jobOpen
	jobClosed // cancelled, or about to be
	jobThere  // seen alone: open or closed
)

// jobCall is one request to a job.
type jobCall struct {
	job  int
	verb string // submit, cancel or get
}

// jobSeen is what the client was told; unknown: it may have happened, or will.
type jobSeen struct {
	unknown bool
	state   int
}

// jobModel says after which states an answer may come, and what the state is then. A job
// is cancelled for good, and submitting it again under its key changes nothing.
var jobModel = porcupine.NondeterministicModel{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byJob := map[int][]porcupine.Operation{}
		for _, o := range history {
			byJob[o.Input.(jobCall).job] = append(byJob[o.Input.(jobCall).job], o)
		}
		var parts [][]porcupine.Operation
		for _, part := range byJob {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() []any { return []any{jobAbsent} },
	Step: func(state, input, output any) []any {
		now, call, seen := state.(int), input.(jobCall), output.(jobSeen)
		after := now
		switch {
		case call.verb == "submit" && now == jobAbsent:
			after = jobOpen
		case call.verb == "cancel" && now == jobOpen:
			after = jobClosed
		}
		switch {
		case seen.unknown:
			return []any{now, after}
		case seen.state == after, seen.state == jobThere && after != jobAbsent:
			return []any{after}
		}
		return nil
	},
	Equal: func(a, b any) bool { return a == b },
}

// historian writes down what clients ask and are told.
type historian struct {
	asked   atomic.Int64
	mu      sync.Mutex
	begin   time.Time
	history []porcupine.Operation
	known   map[string]int64 // by job: the highest version that any client was told
}

// ask sends one request. A get carries the highest version that anybody was told, as
// the contract offers to those who must not see less.
func (h *historian) ask(w *world, client int, call jobCall) {
	key := fmt.Sprint("linear-", call.job)
	id := events.JobID(tenant, "/api/jobs", key)
	h.mu.Lock()
	version := h.known[id]
	h.mu.Unlock()
	begin := time.Since(h.begin)
	var a answer
	switch call.verb {
	case "submit":
		a = w.post("/api/jobs", `{"mode":"diagnostic"}`, "Idempotency-Key", key)
	case "cancel":
		a = w.post("/api/jobs/"+id+"/cancel", "")
	case "get":
		path := "/api/jobs/" + id
		if version > 0 {
			path += "?position=" + positionToken(id, version)
		}
		a = w.get(path)
	}
	end := time.Since(h.begin)
	defer h.asked.Add(1)
	seen, told := h.read(w.t, call, a)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.known[id] = max(h.known[id], told)
	if seen.unknown {
		if call.verb == "get" {
			return // says and does nothing
		}
		end = math.MaxInt64
	}
	h.history = append(h.history, porcupine.Operation{ClientId: client, Input: call, Call: int64(begin), Output: seen, Return: int64(end)})
}

// read is what an answer says, and the version of the job that it tells.
func (h *historian) read(t testing.TB, call jobCall, a answer) (seen jobSeen, version int64) {
	var body struct {
		Version    int64  `json:"version"`
		Status     any    `json:"status"` // of the job, or of HTTP
		Cancelling bool   `json:"cancelling"`
		Outcome    string `json:"outcome"`
		Code       string `json:"code"`
		Position   string `json:"position"`
	}
	a.decode(t, &body)
	if body.Position != "" {
		var id string
		_, _ = fmt.Sscanf(body.Position[:36]+" "+body.Position[37:], "%s %d", &id, &version)
	}
	version = max(version, body.Version)
	switch {
	case a.status == http.StatusNotFound:
		return jobSeen{state: jobAbsent}, 0
	case a.status == http.StatusConflict && body.Code == codeJobEnded:
		return jobSeen{state: jobClosed}, 0
	case a.status >= http.StatusBadRequest:
		return jobSeen{unknown: true}, 0
	case call.verb == "submit" && version > 1:
		// A repeat may be answered from memory: it says that the job is there, and no more.
		return jobSeen{state: jobThere}, version
	case call.verb == "submit":
		return jobSeen{unknown: true}, 0 // the job handler has not answered
	case body.Outcome == outcomePending:
		return jobSeen{unknown: true}, 0
	case call.verb == "cancel", body.Cancelling, body.Status == "cancelled":
		return jobSeen{state: jobClosed}, max(1, version)
	}
	return jobSeen{state: jobOpen}, max(1, version)
}

func TestHistoriesUnderFaultsAreLinearizable(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true, config: func(c *Config) { c.ReplyTimeout = 400 * time.Millisecond }})
	servers := []*world{w, w.another()}
	h := &historian{begin: time.Now(), known: map[string]int64{}}
	const jobs, clients, calls = 12, 4, 40
	var work sync.WaitGroup
	for client := range clients {
		work.Go(func() {
			r := rand.New(rand.NewPCG(uint64(client), 7)) //nolint:gosec // the same calls every time
			for n := range calls {
				verb := []string{"submit", "get", "get", "cancel"}[r.IntN(4)]
				h.ask(servers[r.IntN(2)], client, jobCall{(n/4 + r.IntN(2)) % jobs, verb})
			}
		})
	}
	for fault := 0; ; fault++ {
		net := &w.logNet
		if fault%2 == 1 {
			net = &w.tableNet
		}
		over := func(requests int) func() bool {
			until := h.asked.Load() + int64(requests)
			return func() bool { return h.asked.Load() >= min(until, clients*calls) }
		}
		eventually(t, "requests are answered before the fault", over(8))
		net.Cut()
		eventually(t, "requests are answered during the fault", over(3))
		net.Mend()
		if h.asked.Load() == clients*calls {
			work.Wait()
			h.judge(t)
			return
		}
	}
}

func (h *historian) judge(t *testing.T) {
	t.Helper()
	sure := 0
	for _, o := range h.history {
		if !o.Output.(jobSeen).unknown {
			sure++
		}
	}
	if sure < 20 {
		t.Errorf("only %d of %d answers say something", sure, len(h.history))
	}
	if !porcupine.CheckOperations(jobModel.ToModel(), h.history) {
		t.Errorf("no order of the requests explains the answers: %+v", h.history)
	}
}

// The checker refuses what must not be.
func TestTheModelOfHistoriesCanFail(t *testing.T) {
	t.Parallel()
	op := func(verb string, begin, end int64, seen jobSeen) porcupine.Operation {
		return porcupine.Operation{Input: jobCall{1, verb}, Call: begin, Output: seen, Return: end}
	}
	open, closed, absent := jobSeen{state: jobOpen}, jobSeen{state: jobClosed}, jobSeen{state: jobAbsent}
	for name, c := range map[string]struct {
		history []porcupine.Operation
		fine    bool
	}{
		"in order":                {[]porcupine.Operation{op("submit", 1, 2, open), op("get", 3, 4, open), op("cancel", 5, 6, closed), op("get", 7, 8, closed)}, true},
		"a late unknown submit":   {[]porcupine.Operation{op("submit", 1, math.MaxInt64, jobSeen{unknown: true}), op("get", 3, 4, absent), op("get", 5, 6, open)}, true},
		"there":                   {[]porcupine.Operation{op("submit", 1, 2, jobSeen{state: jobThere}), op("cancel", 3, 4, closed), op("submit", 5, 6, jobSeen{state: jobThere})}, true},
		"there before it was":     {[]porcupine.Operation{op("cancel", 1, 2, jobSeen{state: jobThere})}, false},
		"open again":              {[]porcupine.Operation{op("submit", 1, 2, open), op("cancel", 3, 4, closed), op("get", 5, 6, open)}, false},
		"forgotten":               {[]porcupine.Operation{op("submit", 1, 2, open), op("get", 3, 4, absent)}, false},
		"cancelled by nobody":     {[]porcupine.Operation{op("submit", 1, 2, open), op("get", 3, 4, closed)}, false},
		"cancelled and not there": {[]porcupine.Operation{op("cancel", 1, 2, closed)}, false},
	} {
		if got := porcupine.CheckOperations(jobModel.ToModel(), c.history); got != c.fine {
			t.Errorf("%s: %v", name, got)
		}
	}
}
