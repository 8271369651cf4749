// The routes, and what runs around every handler.

package api

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
)

// route is one operation of the contract.
type route struct {
	method, path string // the path as the contract writes it, with {id} and {lane}
	handle       fiber.Handler
}

// getMetrics shows what is counted and measured.
func (s *Server) getMetrics(c *fiber.Ctx) error { return s.scrape(c) }

func (s *Server) register() {
	s.app.Use(s.observe, s.ownName, s.ownPages)
	s.methods = map[string][]string{}
	all := routesOf(s)
	// A path without a hole goes first: /api/jobs/bulk is no /api/jobs/{id}. Those of one path stay together.
	slices.SortStableFunc(all, func(a, b route) int { return strings.Count(a.path, "{") - strings.Count(b.path, "{") })
	for i, r := range all {
		path := strings.NewReplacer("{id}", ":id", "{lane}", ":lane").Replace(r.path)
		handle := fitting(s.contract.forms(r.method, r.path), r.handle)
		if need, guarded := s.contract.needs[r.method+" "+r.path]; guarded || s.access == nil {
			handle = s.identified(need, handle)
		}
		s.app.Add(r.method, path, handle)
		s.methods[path] = append(s.methods[path], r.method)
		if r.method == fiber.MethodGet {
			s.app.Add(fiber.MethodHead, path, handle)
			s.methods[path] = append(s.methods[path], fiber.MethodHead)
		}
		if i+1 < len(all) && all[i+1].path == r.path {
			continue
		}
		s.app.All(path, func(c *fiber.Ctx) error { return s.notAllowed(c, c.Method(), s.methods[path]) })
	}
	s.app.Use(func(*fiber.Ctx) error { return &refusal{code: codeNotFound} })
}

const localTrace = "trace"

// traceParent is the header of W3C Trace Context.
const traceParent = "traceparent"

var traceForm = regexp.MustCompile(`^00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}$`)

// observe gives the request a trace id, keeps a panic from ending the process,
// answers errors, and writes the access line and the metrics.
func (s *Server) observe(c *fiber.Ctx) error { return s.around(c, (*fiber.Ctx).Next) }

// serve is Fiber's own handler, but for methods that it does not know: to those it
// answers in plain text and past everything that runs around a handler.
func (s *Server) serve() fasthttp.RequestHandler {
	known, methods := s.app.Handler(), s.app.Config().RequestMethods
	return func(rc *fasthttp.RequestCtx) {
		if slices.Contains(methods, string(rc.Method())) {
			known(rc)
			return
		}
		c := s.app.AcquireCtx(rc)
		defer s.app.ReleaseCtx(c)
		err := s.around(c, func(*fiber.Ctx) error {
			return s.noSuchMethod(c, shortened(string(rc.Method())))
		})
		if err != nil {
			rc.Error(kinds[codeInternal].title, fasthttp.StatusInternalServerError)
		}
	}
}

// noSuchMethod refuses a method that Fiber does not know.
func (s *Server) noSuchMethod(c *fiber.Ctx, method string) error {
	for path, allowed := range s.methods {
		if fiber.RoutePatternMatch(c.Path(), path, s.app.Config()) {
			return s.notAllowed(c, method, allowed)
		}
	}
	return &refusal{code: codeNotFound}
}

func (s *Server) notAllowed(c *fiber.Ctx, method string, allowed []string) error {
	list := strings.Join(allowed, ", ")
	c.Set(fiber.HeaderAllow, list)
	return refuse(codeMethodNotAllowed, "%s is not allowed here; %s is", method, list)
}

func (s *Server) around(c *fiber.Ctx, handle fiber.Handler) (err error) {
	begin := time.Now()
	trace := newTrace()
	if m := traceForm.FindStringSubmatch(c.Get(traceParent)); m != nil && strings.Trim(m[1], "0") != "" {
		trace = m[1]
	}
	trace = strings.Clone(trace)
	c.Locals(localTrace, trace)
	// Not the server's own context: that ends with the listener, and requests in flight may finish.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c.SetUserContext(ctx)
	c.Set("X-Trace-Id", trace)
	c.Set(fiber.HeaderXContentTypeOptions, "nosniff")
	c.Set(fiber.HeaderReferrerPolicy, "no-referrer")
	defer noteUnread(c)
	defer func() {
		method, route, id := methodName(c.Method()), "none", ""
		if r := c.Route(); len(r.Handlers) > 0 {
			route, id = r.Path, strings.Clone(c.Params("id")) // the path as registered; without a route it would be the request's
		}
		status := c.Response().StatusCode()
		took := time.Since(begin)
		s.metrics.requests.WithLabelValues(method, route, strconv.Itoa(status)).Observe(took.Seconds())
		if !s.log.Enabled(c.Context(), slog.LevelInfo) {
			return
		}
		attrs := append(make([]slog.Attr, 0, 7), slog.String("method", method), slog.String("route", route),
			slog.Int("status", status), slog.Duration("took", took), slog.String("trace_id", trace), slog.String("id", id))
		if who := callerOf(c); who != nil && s.access != nil {
			attrs = append(attrs, slog.String("actor", who.actor))
		}
		s.log.LogAttrs(c.Context(), slog.LevelInfo, "request", attrs...)
	}()
	if err := guarded(c, func(c *fiber.Ctx) error {
		if err := s.inTurn(c); err != nil {
			return err
		}
		return handle(c)
	}); err != nil {
		return s.fail(c, err)
	}
	return nil
}

var methodNames = []string{fiber.MethodGet, fiber.MethodHead, fiber.MethodPost, fiber.MethodPut, fiber.MethodPatch, fiber.MethodDelete, fiber.MethodOptions}

// methodName is the method as a string that may be kept: what Fiber gives lies in a
// buffer that the next request overwrites, and a client may call its method anything.
func methodName(method string) string {
	if i := slices.Index(methodNames, method); i >= 0 {
		return methodNames[i]
	}
	return "OTHER"
}

func guarded(c *fiber.Ctx, handle fiber.Handler) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return handle(c)
}

func newTrace() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand, Go 1.24)
	return hex.EncodeToString(b[:])
}

func traceID(c *fiber.Ctx) string {
	id, _ := c.Locals(localTrace).(string)
	return id
}

// pathID is the id in the path, or a refusal when it is no UUID.
func pathID(c *fiber.Ctx) (string, error) {
	id := strings.Clone(c.Params("id"))
	if !isID(id) {
		return "", &refusal{code: codeIDInvalid, faults: []fault{{Parameter: "id", Code: codeIDInvalid, Detail: kinds[codeIDInvalid].detail}}}
	}
	return strings.ToLower(id), nil
}

// isID says whether s is a UUID in its usual form.
func isID(s string) bool {
	return len(s) == 36 && uuid.Validate(s) == nil
}

// checkQuery refuses query parameters that a route does not have, that come twice, or
// that say nothing.
func checkQuery(c *fiber.Ctx, allowed ...string) error {
	if len(c.Request().URI().QueryString()) == 0 {
		return nil
	}
	seen := map[string]bool{}
	for k, v := range c.Context().QueryArgs().All() {
		name := string(k)
		if !slices.Contains(allowed, name) {
			list := "none"
			if len(allowed) > 0 {
				list = strings.Join(allowed, ", ")
			}
			return badParameter(shortened(name), "there is no parameter %q here; allowed: %s", shortened(name), list)
		}
		if seen[name] {
			return badParameter(name, "%s is given twice", name)
		}
		if len(v) == 0 {
			return badParameter(name, "%s is empty: give it a value, or leave it out", name)
		}
		seen[name] = true
	}
	return nil
}

// metrics of the HTTP edge.
type metrics struct {
	requests  *prometheus.HistogramVec // by method, route and status; seconds
	submitted *prometheus.CounterVec   // by route and outcome
	commands  *prometheus.CounterVec   // by command and outcome
	uploads   *prometheus.CounterVec   // by type and outcome
	swept     *prometheus.CounterVec   // by kind
	streams   prometheus.Gauge
	cut       prometheus.Counter
	forecast  prometheus.Histogram

	connections prometheus.Gauge
	open        prometheus.Gauge
	turnedAway  *prometheus.CounterVec // by code
}

func newMetrics() *metrics {
	const ns, sub = "myspinbot", "api"
	return &metrics{
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: ns, Subsystem: sub, Name: "request_seconds",
			Help: "Time until the answer began.", Buckets: []float64{.001, .005, .02, .1, .5, 2, 10}}, []string{"method", "route", "status"}),
		submitted: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: "submissions_total",
			Help: "Submissions by route and outcome: accepted, repeated, refused, unavailable."}, []string{"route", "outcome"}),
		commands: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: "commands_total",
			Help: "Commands to what is there, by command (cancel, approve, deny, label; profile_create, profile_change, profile_erase) and outcome: accepted, pending (no reply in time), refused, unavailable."}, []string{"command", "outcome"}),
		uploads: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: "uploads_total",
			Help: "Uploads by outcome: stored, refused."}, []string{"outcome"}),
		swept: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: "swept_objects_total",
			Help: "Objects that were deleted because nothing needs them, by kind: upload (its time was over), leftover (of a request that never reached the log); all versions count."}, []string{"kind"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub, Name: "streams", Help: "Live streams that are open."}),
		cut: prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: "streams_cut_total",
			Help: "Live streams that were cut because their client read too slowly."}),
		connections: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub, Name: "connections", Help: "Connections that are open."}),
		open: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub, Name: "open_jobs",
			Help: "Jobs that have not ended, as far as this process counts them for its limit."}),
		turnedAway: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: "turned_away_total",
			Help: "Clients that were told to come back later, by code: busy (connections in all), too_many_connections (of one address), rate_limited, queue_full."}, []string{"code"}),
		forecast: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: ns, Subsystem: sub, Name: "eta_ratio",
			Help:    "What was predicted when a job's first stage was queued, by what it took to succeed: 1 is exact, more was too long. Jobs that asked for approval are left out.",
			Buckets: []float64{.1, .25, .5, .67, .8, .9, 1.1, 1.25, 1.5, 2, 4, 10}}),
	}
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.requests, m.submitted, m.commands, m.uploads, m.swept, m.streams, m.cut, m.connections, m.open, m.turnedAway, m.forecast}
}
