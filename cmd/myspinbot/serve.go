// The composition root: the roles of one process, wired to running services.

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/api"
	gpu "github.com/myspinbot/myspinbot/gpu-consumers"
	"github.com/myspinbot/myspinbot/handlers"
	"github.com/myspinbot/myspinbot/internal/devstack"
	"github.com/myspinbot/myspinbot/internal/erasure"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/objects"
	"github.com/myspinbot/myspinbot/internal/webhooks"
	"github.com/myspinbot/myspinbot/projections"
)

// Roles.
const (
	roleAPI       = "api"
	roleHandler   = "handler"
	roleProjector = "projector"
	roleNotifier  = "notifier"
	roleGPU       = "gpu"
)

// runRun is `myspinbot run`.
func runRun(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cfg, status, ok := commandConfig("run [--roles api,handler,projector,notifier,gpu] [--lanes tts,render]", "Plays the roles of one process, until a signal ends it.", args, stdout, stderr)
	if !ok {
		return status
	}
	if err := cfg.checkServices(); err != nil {
		return failed(stderr, err)
	}
	tell := func(addr string) { fmt.Fprintf(stdout, "The API listens at http://%s.\n", addr) }
	if err := runRoles(ctx, cfg, newLogger(cfg, stderr), tell); err != nil {
		return failed(stderr, err)
	}
	return 0
}

// checkServices says which services the roles need and are not told about.
func (c Config) checkServices() error {
	var missing []error
	need := func(ok bool, key, what string) {
		if !ok {
			missing = append(missing, fmt.Errorf("%s is not set: %s", key, what))
		}
	}
	need(len(c.Kafka.Brokers) > 0, "kafka.brokers", "the addresses of the log's brokers")
	if c.has(roleAPI) || c.has(roleProjector) {
		need(c.Postgres.URL != "", "postgres.url", "the tables' database")
	}
	if c.needsObjects() {
		need(c.S3.Endpoint != "", "s3.endpoint", "the object store")
		need(len(c.Secrets.MasterKeyBytes()) == 32, "secrets.master_key", "32 bytes in base64 that protect all text")
	}
	return errors.Join(missing...)
}

func (c Config) has(role string) bool { return slices.Contains(c.Roles, role) }

// needsObjects says whether a role reads objects, or the keys of texts, which are objects.
func (c Config) needsObjects() bool { return c.has(roleAPI) || c.has(roleNotifier) || c.has(roleGPU) }

func newLogger(c Config, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Log.Level)); err != nil {
		level = slog.LevelInfo // loadConfig allows the four names alone
	}
	if c.Log.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}))
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}

func openLog(c Config, logger *slog.Logger) (*eventlog.Log, error) {
	return eventlog.Open(eventlog.Config{
		Brokers: c.Kafka.Brokers, Prefix: c.Kafka.Prefix, Partitions: c.Kafka.Partitions,
		LanePartitions: c.Lanes.Partitions(), ReplicationFactor: c.Kafka.Replication, Instance: c.Instance, SessionTimeout: c.Kafka.SessionTimeout, Logger: logger,
	})
}

// process is what the roles of one process share.
type process struct {
	cfg      Config
	logger   *slog.Logger
	registry *prometheus.Registry
	own      aggregates.Catalogue
	log      *eventlog.Log
	pool     *pgxpool.Pool
	objects  *objects.Store
	keyring  *objects.Keyring
}

// busyGC is the garbage collector's percentage for roles that go through thousands of
// records a second and keep little of them: a fifth more jobs per second than with the
// usual 100 (make bench ONLY=jobs_per_second, with and without GOGC=100). GOGC in the
// environment has the last word.
const busyGC = 400

// runRoles runs the configured roles until ctx ends or one of them fails. ready is
// told the API's address once it listens.
func runRoles(ctx context.Context, cfg Config, logger *slog.Logger, ready func(addr string)) error {
	if os.Getenv("GOGC") == "" && (cfg.has(roleHandler) || cfg.has(roleGPU)) {
		debug.SetGCPercent(busyGC)
	}
	own, err := loadPipelines(cfg.Pipelines.Dir)
	if err != nil {
		return err
	}
	p := &process{cfg: cfg, logger: logger, registry: prometheus.NewRegistry(), own: own}
	p.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	log, err := openLog(cfg, logger)
	if err != nil {
		return err
	}
	defer log.Close()
	p.log = log
	p.registry.MustRegister(log.Collectors()...)
	if cfg.has(roleAPI) || cfg.has(roleProjector) {
		if p.pool, err = pgxpool.New(ctx, cfg.Postgres.URL.Reveal()); err != nil {
			return fmt.Errorf("postgres.url cannot be used: %w", err)
		}
		defer p.pool.Close()
	}
	if cfg.needsObjects() {
		if err := p.openObjects(ctx); err != nil {
			return err
		}
	}
	if err := p.awaitTopics(ctx); err != nil {
		return err
	}
	return p.run(ctx, ready)
}

// openObjects waits for the object store: nothing useful starts without it.
func (p *process) openObjects(ctx context.Context) error {
	c := p.cfg.S3
	err := p.patiently(ctx, "the object store", func() error {
		store, err := objects.Open(ctx, objects.Config{Endpoint: c.Endpoint, AccessKey: c.AccessKey.Reveal(), SecretKey: c.SecretKey.Reveal(),
			Bucket: c.Bucket, Region: c.Region, Secure: c.Secure, TempDir: p.cfg.Work})
		p.objects = store
		return err
	}, objects.ErrUnavailable)
	if err != nil {
		return err
	}
	p.keyring = objects.NewKeyring(p.objects, [32]byte(p.cfg.Secrets.MasterKeyBytes()))
	return nil
}

// awaitTopics creates and checks the topics as soon as a broker answers.
func (p *process) awaitTopics(ctx context.Context) error {
	return p.patiently(ctx, "the log", func() error { return p.log.EnsureTopics(ctx) }, eventlog.ErrUnavailable)
}

// patiently tries again while the error says that a service is away.
func (p *process) patiently(ctx context.Context, what string, try func() error, away error) error {
	for delay := 100 * time.Millisecond; ; delay = min(2*delay, 5*time.Second) {
		err := try()
		if err == nil || !errors.Is(err, away) {
			return err
		}
		p.logger.Warn("waiting for "+what, "error", err)
		select {
		case <-ctx.Done():
			return fmt.Errorf("gave up waiting for %s: %w", what, err)
		case <-time.After(delay):
		}
	}
}

// run starts the roles in one group: the first to fail stops all.
func (p *process) run(ctx context.Context, ready func(string)) error {
	roles := map[string]func() (func(context.Context) error, error){
		roleHandler: p.handler, roleProjector: p.projector, roleNotifier: p.notifier, roleGPU: p.worker,
		roleAPI: func() (func(context.Context) error, error) { return p.api(ready) },
	}
	if p.cfg.Ops.Listen != "" && !p.cfg.has(roleAPI) {
		roles["ops"] = p.ops
	}
	runs := map[string]func(context.Context) error{}
	for role, prepare := range roles {
		if role != "ops" && !p.cfg.has(role) {
			continue
		}
		run, err := prepare()
		if err != nil {
			return fmt.Errorf("cannot start role %s: %w", role, err)
		}
		runs[role] = run
	}
	g, ctx := errgroup.WithContext(ctx)
	for role, run := range runs {
		g.Go(func() error {
			if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
				return fmt.Errorf("role %s stopped: %w", role, err)
			}
			return nil
		})
	}
	return g.Wait()
}

func (p *process) handler() (func(context.Context) error, error) {
	policy := aggregates.DefaultPolicy()
	c := p.cfg.Job
	policy.MaxAttempts, policy.BackOff, policy.JobDeadline, policy.ApprovalExpiry, policy.Limits = c.MaxAttempts, c.BackOff, c.Deadline, c.ApprovalExpiry, p.limits()
	h, err := handlers.New(handlers.Config{Log: p.log, Policy: policy, Lanes: p.cfg.Lanes.Partitions(), Registerer: p.registry, Logger: p.logger})
	if err != nil {
		return nil, err
	}
	return h.Run, nil
}

func (p *process) limits() aggregates.Limits {
	return aggregates.Limits{MaxDurationSeconds: p.cfg.Limits.MaxDurationSeconds, MaxResolution: p.cfg.Limits.MaxResolution}
}

func (p *process) projector() (func(context.Context) error, error) {
	projector := projections.NewProjector(projections.Config{Log: p.log, Pool: p.pool, Logger: p.logger})
	p.registry.MustRegister(projector.Collectors()...)
	return projector.Run, nil
}

// notifier sends webhooks, and erases profiles: both follow the log and act outside of it.
func (p *process) notifier() (func(context.Context) error, error) {
	payloads := api.NewPayloads(p.log, p.keyring, p.logger)
	n, err := webhooks.New(webhooks.Config{
		Log: p.log, Keys: p.keyring, Payloads: payloads, Instance: p.cfg.Instance, Policy: p.webhooks(), ProgressEvery: p.cfg.Webhooks.Progress,
		Endpoints:  p.cfg.Webhooks.endpoints(),
		Registerer: p.registry, Logger: p.logger,
	})
	if err != nil {
		return nil, err
	}
	e, err := erasure.New(erasure.Config{Log: p.log, Keys: p.keyring, Objects: p.objects, Quiet: objects.KeyMemory + p.cfg.GPU.Lease, Registerer: p.registry, Logger: p.logger})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error { return payloads.Run(ctx) })
		g.Go(func() error { return n.Run(ctx) })
		g.Go(func() error { return e.Run(ctx) })
		return g.Wait()
	}, nil
}

func (p *process) webhooks() webhooks.Policy {
	return webhooks.Policy{Private: p.cfg.Webhooks.AllowPrivate}
}

func (p *process) worker() (func(context.Context) error, error) {
	c := p.cfg.Engines
	weights := c.Face.Weights
	if weights == "" {
		weights, _ = devstack.FaceWeights() // without them the lane announces the gap
	}
	engines, err := gpu.TextEngines(c.text())
	if err != nil {
		return nil, err
	}
	programs := gpu.EngineConfig{FFmpeg: c.FFmpeg, FFprobe: c.FFprobe, Flite: c.Flite, FaceWeights: weights}
	rendering, err := gpu.ComfyUIEngines(comfyUI(c.ComfyUI), programs)
	if err != nil {
		return nil, err
	}
	voices, err := gpu.SpeechEngines(c.Speech.voices(or(p.cfg.Work, os.TempDir())), programs)
	if err != nil {
		return nil, err
	}
	others, err := gpu.ProgramEngines(c.Lipsync.programs(), c.Training.programs(or(p.cfg.Work, os.TempDir())), programs)
	if err != nil {
		return nil, err
	}
	programs.NoVoice = len(voices) > 0 && !c.Speech.Fallback
	engines = slices.Concat(engines, rendering, voices, others, gpu.BuiltinEngines(programs)) // the built-in ones stand in
	if c.Noop {
		engines = append(engines, gpu.NoopEngines()...)
	}
	w, err := gpu.New(gpu.Config{
		Log: p.log, Objects: p.objects, Keyring: p.keyring, Worker: p.cfg.Instance, Slots: p.cfg.Lanes.Slots(p.cfg.GPU.Lanes),
		Memory:  gpu.MemoryConfig{BudgetMiB: p.cfg.GPU.VRAM, Folder: p.cfg.GPU.Account, Device: p.cfg.GPU.Device, Needs: p.cfg.GPU.Needs},
		Engines: engines, Lease: p.cfg.GPU.Lease, TempDir: p.cfg.Work, Registerer: p.registry, Logger: p.logger,
	})
	if err != nil {
		return nil, err
	}
	return w.Run, nil
}

func comfyUI(c ComfyUIConfig) gpu.ComfyUIConfig {
	return gpu.ComfyUIConfig{URL: c.URL, APIKey: c.APIKey.Reveal(), Workflows: c.Workflows, Templates: c.Templates, Idle: c.Idle}
}

func (c UploadsConfig) limits() api.UploadLimits {
	return api.UploadLimits{Bytes: int64(c.MaxMiB) << 20, TicketBytes: int64(c.TicketMiB) << 20, Pixels: c.MaxMegapixels * 1_000_000, Audio: c.MaxAudio, Keep: c.Keep}
}

func (p *process) api(ready func(string)) (func(context.Context) error, error) {
	server, err := api.New(api.Config{
		Addr: p.cfg.HTTP.Listen, Access: p.cfg.Access.control(), Log: p.log, Tables: projections.NewReader(p.pool), Objects: p.objects, Keyring: p.keyring,
		Hosts: p.cfg.HTTP.Hosts, MaxStreams: p.cfg.HTTP.MaxStreams, Limits: p.limits(), Catalogue: p.own, Engines: p.cfg.Job.Engines, Webhooks: p.webhooks(), Endpoints: p.cfg.Webhooks.endpoints(),
		Registerer: p.registry, Gatherer: p.registry, Logger: p.logger,
		FFmpeg: p.cfg.Engines.FFmpeg, FFprobe: p.cfg.Engines.FFprobe, TempDir: p.cfg.Work, Uploads: p.cfg.Uploads.limits(),
		MaxConnections: p.cfg.HTTP.MaxConnections, MaxConnectionsPerAddress: p.cfg.HTTP.MaxConnectionsPerAddress,
		RequestsPerSecond: p.cfg.HTTP.RequestsPerSecond, RequestBurst: p.cfg.HTTP.RequestBurst, ClientHeader: p.cfg.HTTP.ClientHeader,
		MaxOpenJobs: p.cfg.Limits.MaxOpenJobs, MaxOpenJobsPerTenant: p.cfg.Limits.MaxOpenJobsPerTenant,
	})
	if err != nil {
		return nil, err
	}
	ready(server.Addr())
	return server.Run, nil
}
