// Package api is the HTTP edge: it turns requests into commands on the log, and
// reads the tables, the live log and the objects for clients.
//
// What belongs here: the contract (openapi.yaml), routes, validation, uploads,
// errors, live streams. What does not: decisions about jobs (aggregates), SQL
// (projections), the log's and the store's clients. Nothing here writes a fact:
// a request becomes a command, and 202 means that it lies on the log.
package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/adaptor"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/internal/access"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/objects"
	"github.com/myspinbot/myspinbot/internal/webhooks"
	"github.com/myspinbot/myspinbot/projections"
)

// Config is what the server needs. Log, Tables, Objects and Keyring are required;
// none of them has to answer when the server starts.
type Config struct {
	// Addr is host:port to listen on; default 127.0.0.1:8080. Port 0 takes a free
	// one. Only loopback addresses are allowed while there is no access control.
	Addr string
	// Access says by what callers show who they are; the zero value asks nobody.
	Access access.Config
	// Hosts are names, beside loopback ones, that requests may be sent to (a reverse
	// proxy's). Others are refused, so that a foreign web page cannot reach the
	// server by a name of its own (DNS rebinding).
	Hosts []string

	Log     *eventlog.Log
	Tables  *projections.Reader
	Objects *objects.Store
	Keyring *objects.Keyring

	// Webhooks says which addresses may be told of jobs.
	Webhooks webhooks.Policy
	// Endpoints are those of the operator, which the notifier tells of every job.
	Endpoints []webhooks.Endpoint

	// Limits are those of the job handler, so that a refusal comes at once.
	Limits aggregates.Limits
	// Catalogue is what can be asked for; the zero value has the built-in pipelines alone.
	Catalogue aggregates.Catalogue
	// Engines are those of jobs that say nothing about them; empty: events.EnginesAuto.
	Engines string

	Registerer prometheus.Registerer // default: a registry of this server's own
	Gatherer   prometheus.Gatherer   // what /metrics shows; default: the same
	Logger     *slog.Logger          // default slog.Default

	FFmpeg, FFprobe string // programs for audio uploads; default: found on PATH
	TempDir         string // for files being uploaded; default the system's

	MaxConnections           int     // connections at once; default 10,000
	MaxConnectionsPerAddress int     // of them from one address; default 0: no bound of its own
	RequestsPerSecond        float64 // from one address, over time; default 0: no bound
	RequestBurst             int     // from one address, at once; default 100
	ClientHeader             string  // names the client where a proxy stands in front, such as X-Forwarded-For; default: the connection's other end
	MaxOpenJobs              int     // jobs that have not ended; default 0: no bound
	MaxOpenJobsPerTenant     int     // of them of one tenant; default 0: no bound of its own

	Uploads UploadLimits

	MaxStreams    int           // live streams at once; default 256
	ReadTimeout   time.Duration // of the headers, and of a pause within a body; default 30 s
	WriteTimeout  time.Duration // of one write to a client; default 30 s
	IdleTimeout   time.Duration // of a connection between two requests; default 60 s
	ReplyTimeout  time.Duration // for the job handler's answer to a command, and for tables that show it, before 202 is all that can be said; default 1 s
	SubmitTimeout time.Duration // of a submission, without what copying its uploads takes, until it answers 503; default 2.5 s
	StopTimeout   time.Duration // for requests in flight when the server stops; default 5 s
}

func (c *Config) fill() error {
	def(&c.Addr, "127.0.0.1:8080")
	def(&c.FFmpeg, "ffmpeg")
	def(&c.FFprobe, "ffprobe")
	def(&c.MaxConnections, 10_000)
	def(&c.RequestBurst, 100)
	c.Uploads.fill()
	def(&c.MaxStreams, 256)
	def(&c.ReadTimeout, 30*time.Second)
	def(&c.WriteTimeout, 30*time.Second)
	def(&c.IdleTimeout, time.Minute)
	def(&c.ReplyTimeout, time.Second)
	def(&c.SubmitTimeout, 2500*time.Millisecond)
	def(&c.StopTimeout, 5*time.Second)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Registerer == nil || c.Gatherer == nil {
		own := prometheus.NewRegistry()
		c.Registerer, c.Gatherer = own, own
	}
	var faults []error
	for _, need := range []struct {
		name    string
		missing bool
	}{{"Log", c.Log == nil}, {"Tables", c.Tables == nil}, {"Objects", c.Objects == nil}, {"Keyring", c.Keyring == nil}} {
		if need.missing {
			faults = append(faults, fmt.Errorf("%s is not given", need.name))
		}
	}
	if err := checkLoopback(c.Addr); err != nil && !c.Access.On() {
		faults = append(faults, err)
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("cannot start the API: %w", err)
	}
	return nil
}

func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Server is the HTTP API of one process.
type Server struct {
	cfg        Config
	log        *slog.Logger
	app        *fiber.App
	listener   net.Listener
	contract   *contract
	access     *access.Control // nil: everybody may ask everything
	page, docs page
	scrape     fiber.Handler       // shows the metrics
	methods    map[string][]string // of every path, as Fiber writes it
	metrics    *metrics
	views
	feed        *feed
	queue       *queue
	accepted    *recent
	open        *backlog
	rate        *rate
	ownHost     atomic.Pointer[string] // a name of this server's that was asked for lately
	replies     *replies
	history     *projections.History
	lookingBack chan struct{} // bounds looks into the history at once
	decoding    *decoding     // bounds the memory of pictures being decoded
	storing     chan struct{} // bounds uploads put into the store at once: each holds a part in memory
	completing  chan struct{} // bounds tickets completed at once: each holds a file on disk
	streams     chan struct{} // bounds live streams
	catchingUp  chan struct{} // bounds those of them that read the log
	stopping    chan struct{} // closed when the server begins to stop
	stopOnce    sync.Once
	closeOnce   sync.Once
	identifying func(*fiber.Ctx, access.Scopes) error // says who sends a request: identify
	now         func() time.Time
	positions   time.Duration // longest wait for tables to show what a client knows
	longestWait time.Duration // that a client may prefer
}

// Uploads in their costly steps at once.
const (
	storingAtOnce    = 2
	completingAtOnce = 4
)

// New checks the configuration and binds the address, so that Addr is known before
// Run. Close lets go of it if Run is never called.
func New(cfg Config) (*Server, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	doc, err := loadContract(cfg.Catalogue.Own()...)
	if err != nil {
		return nil, err
	}
	if !cfg.Access.On() {
		if err := doc.open(); err != nil {
			return nil, err
		}
	}
	s := &Server{
		cfg: cfg, log: cfg.Logger, contract: doc, access: access.New(cfg.Access, cfg.Log, cfg.Logger), page: newPage(indexHTML), docs: newPage(docsHTML), metrics: newMetrics(),
		views: views{newKnowledge(cfg.Log, cfg.Logger), cfg.Keyring}, feed: newFeed(cfg), accepted: newRecent(),
		history: projections.NewHistory(cfg.Log, cfg.Tables), lookingBack: make(chan struct{}, pastAtOnce),
		decoding: newDecoding(), storing: make(chan struct{}, storingAtOnce), completing: make(chan struct{}, completingAtOnce), streams: make(chan struct{}, cfg.MaxStreams), catchingUp: make(chan struct{}, catchUpsAtOnce),
		stopping: make(chan struct{}), now: time.Now, positions: waitForTables, longestWait: longestWait,
	}
	s.identifying = s.identify
	s.rate, s.open = newRate(cfg.RequestsPerSecond, cfg.RequestBurst), newBacklog(cfg.MaxOpenJobs, cfg.MaxOpenJobsPerTenant, s.metrics.open)
	s.queue = newQueue(cfg.Logger, s.metrics.forecast, s.known.slots)
	s.feed.seen = func(e *eventView) {
		s.open.apply(e)
		s.queue.apply(e)
	}
	for _, c := range s.metrics.collectors() {
		if err := cfg.Registerer.Register(c); err != nil {
			return nil, fmt.Errorf("cannot register the API's metrics: %w", err)
		}
	}
	s.replies = newReplies(cfg, s.accepted)
	s.app = fiber.New(fiber.Config{
		DisableStartupMessage:        true,
		StreamRequestBody:            true,
		DisablePreParseMultipartForm: true,
		BodyLimit:                    64 << 10, // read ahead of the handler; each route has its own limit
		ReadBufferSize:               16 << 10, // which bounds the headers
		ReadTimeout:                  cfg.ReadTimeout,
		WriteTimeout:                 cfg.WriteTimeout,
		IdleTimeout:                  cfg.IdleTimeout,
		ErrorHandler:                 s.fail,
		StrictRouting:                true,
		CaseSensitive:                true,
		UnescapePath:                 true,
	})
	s.scrape = adaptor.HTTPHandler(promhttp.HandlerFor(cfg.Gatherer, promhttp.HandlerOpts{}))
	s.register()
	s.app.Server().Handler = s.serve()
	listener, err := net.Listen("tcp", cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", cfg.Addr, err)
	}
	s.listener = newDoor(listener, cfg, s.metrics)
	return s, nil
}

// Addr is where the server listens, as host:port.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Run serves until ctx ends, and then lets requests in flight finish. Streams end
// at once. It returns nil after a clean stop.
func (s *Server) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.known.run(ctx) })
	if s.access != nil {
		group.Go(func() error { return s.access.Run(ctx) })
	}
	group.Go(func() error { return s.feed.run(ctx) })
	group.Go(func() error { return s.queue.run(ctx, s.cfg.Tables, s.feed.began) })
	group.Go(func() error { return s.replies.run(ctx) })
	group.Go(func() error { return s.open.run(ctx, s.cfg.Tables, s.log) })
	group.Go(func() error { return s.sweeping(ctx, sweepEvery, "posted files", s.sweepPosted) })
	group.Go(func() error { return s.sweeping(ctx, sweepEvery, "uploads", s.sweepUploads) })
	group.Go(func() error { return s.sweeping(ctx, leftoversEvery, "leftovers of requests", s.sweepLeftovers) })
	group.Go(func() error {
		if err := s.app.Listener(s.listener); err != nil && ctx.Err() == nil {
			return fmt.Errorf("cannot serve HTTP on %s: %w", s.Addr(), err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		return s.Close()
	})
	return group.Wait()
}

// Close stops the server; Run returns. It may be called more than once.
func (s *Server) Close() error {
	var err error
	s.closeOnce.Do(func() {
		s.stopOnce.Do(func() { close(s.stopping) })
		err = errors.Join(s.app.ShutdownWithTimeout(s.cfg.StopTimeout), ignoreClosed(s.listener.Close()))
		if errors.Is(err, context.DeadlineExceeded) {
			s.log.Warn("some requests were still running when the server stopped", "waited", s.cfg.StopTimeout)
			err = nil
		}
		s.awaitStreams()
	})
	return err
}

// awaitStreams waits for live streams to end: who has all of their places knows that none
// is left. A WebSocket is no request in flight, and not waited for elsewhere.
func (s *Server) awaitStreams() {
	late := time.After(s.cfg.StopTimeout)
	for range cap(s.streams) {
		select {
		case s.streams <- struct{}{}:
		case <-late:
			return
		}
	}
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// isStopping says whether the server has begun to stop.
func (s *Server) isStopping() bool {
	select {
	case <-s.stopping:
		return true
	default:
		return false
	}
}
