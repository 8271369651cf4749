// `myspinbot dev`: everything on one machine without containers. It starts the
// log, the object store and PostgreSQL as children and plays all roles itself.

package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/myspinbot/myspinbot/internal/devstack"
)

// devFlags are the flags of dev beside the configuration's.
type devFlags struct {
	data string
	log  string
}

func (f *devFlags) set() *flag.FlagSet {
	s := flag.NewFlagSet("dev", flag.ContinueOnError)
	s.StringVar(&f.data, "data", "", "folder that keeps everything; default /var/lib/myspinbot for root, else .local/state/myspinbot in the home folder")
	s.StringVar(&f.log, "log", "embedded", "embedded: a small log in a child process, kept over clean stops; kafka: a real Apache Kafka (Java), kept over crashes too")
	return s
}

// runDev is `myspinbot dev`.
func runDev(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var f devFlags
	cfg, status, ok := commandConfig("dev [--data DIR] [--log embedded|kafka]", "Runs the whole system on this machine, until Ctrl-C.", args, stdout, stderr, f.set())
	if !ok {
		return status
	}
	if f.data == "" {
		var err error
		if f.data, err = defaultData(); err != nil {
			return failed(stderr, err)
		}
	}
	logger := newLogger(cfg, stderr)
	s := &devServices{dir: f.data, kafka: f.log == "kafka", logger: logger}
	if f.log != "kafka" && f.log != "embedded" {
		return failed(stderr, fmt.Errorf("--log %q: want embedded or kafka", f.log))
	}
	if !s.kafka {
		fmt.Fprintln(stdout, "The embedded log keeps its promises over clean stops, not over a kill -9 of its process; --log kafka does.")
	}
	if err := s.run(ctx, cfg, func(addr string) { s.welcome(stdout, addr) }); err != nil {
		return failed(stderr, err)
	}
	return 0
}

// welcome says where everything is, in a form that the tools' flags take.
func (s *devServices) welcome(w io.Writer, addr string) {
	fmt.Fprintf(w, "MySpinBot is ready at http://%s, with its data in %s.\n", addr, s.dir)
	fmt.Fprintf(w, "The log:    --kafka-brokers %s\nThe tables: --postgres-url %s\nCtrl-C stops everything.\n", s.broker, s.postgres.URL())
}

func defaultData() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/lib/myspinbot", nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("there is no home folder for the data; give --data DIR: %w", err)
	}
	return filepath.Join(home, ".local", "state", "myspinbot"), nil
}

// devServices are the children that dev starts, all in one folder.
type devServices struct {
	dir    string
	kafka  bool
	logger *slog.Logger

	broker   string // address of the log
	postgres *devstack.PostgresServer
	stops    []func(context.Context) error
}

// run starts the services, plays all roles until ctx ends, and stops the services.
func (s *devServices) run(ctx context.Context, cfg Config, ready func(addr string)) (err error) {
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := s.start(ctx, &cfg); err != nil {
		return err
	}
	return runRoles(ctx, cfg, s.logger, ready)
}

// start starts every service and writes its address into cfg.
func (s *devServices) start(ctx context.Context, cfg *Config) error {
	if err := s.makeFolders(); err != nil {
		return err
	}
	key, err := masterKey(filepath.Join(s.dir, "master.key"))
	if err != nil {
		return err
	}
	cfg.Secrets.MasterKey = Secret(key)
	helper, err := devstack.StartHelper(ctx, devstack.Helper{Dir: filepath.Join(s.dir, "services"), NoLog: s.kafka})
	if err != nil {
		return err
	}
	s.stops = append(s.stops, helper.Stop)
	// The helper has locked the data folder, so what lies in its work folder is of a
	// predecessor that was killed. It is no common folder, because another system on
	// this machine may have the same name.
	cfg.Work = filepath.Join(s.dir, "work")
	if err := errors.Join(os.RemoveAll(cfg.Work), os.MkdirAll(cfg.Work, 0o700)); err != nil {
		return fmt.Errorf("cannot empty the work folder: %w", err)
	}
	cfg.S3.Endpoint, cfg.S3.AccessKey, cfg.S3.SecretKey = helper.S3(), Secret(helper.AccessKey), Secret(helper.SecretKey)
	if s.broker, err = s.startLog(ctx, helper); err != nil {
		return err
	}
	cfg.Kafka.Brokers = []string{s.broker}
	postgres, err := devstack.StartPostgres(ctx, devstack.Postgres{Dir: filepath.Join(s.dir, "postgres")})
	if err != nil {
		return err
	}
	s.postgres, s.stops = postgres, append(s.stops, postgres.Stop)
	cfg.Postgres.URL = Secret(postgres.URL())
	return nil
}

// makeFolders makes the data folder, which PostgreSQL's own user must be able to
// pass through, and in it the services', which is closed to others.
func (s *devServices) makeFolders() error {
	if err := os.MkdirAll(s.dir, 0o711); err != nil {
		return fmt.Errorf("cannot make the data folder: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(s.dir, "services"), 0o700); err != nil {
		return fmt.Errorf("cannot make the services' folder: %w", err)
	}
	return nil
}

// startLog gives the address of the log: the helper's, or Kafka's own.
func (s *devServices) startLog(ctx context.Context, helper *devstack.HelperServer) (string, error) {
	if !s.kafka {
		return helper.Kafka(), nil
	}
	broker, err := devstack.StartKafka(ctx, devstack.Kafka{Dir: filepath.Join(s.dir, "kafka")})
	if err != nil {
		return "", err
	}
	s.stops = append(s.stops, broker.Stop)
	return broker.Addr(), nil
}

// stop stops what was started, the last first.
func (s *devServices) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var faults []error
	for i := len(s.stops) - 1; i >= 0; i-- {
		faults = append(faults, s.stops[i](ctx))
	}
	s.stops = nil
	return errors.Join(faults...)
}

// masterKey reads the key that wraps all others, and draws it at the first start.
func masterKey(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(b)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("cannot read the master key: %w", err)
	}
	var raw [32]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return "", fmt.Errorf("cannot draw a master key: %w", err)
	}
	key := base64.StdEncoding.EncodeToString(raw[:])
	if err := os.WriteFile(path, []byte(key+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("cannot keep the master key: %w", err)
	}
	return key, nil
}
