// `myspinbot demo`: the main job, start to end, on an empty machine state.

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// demoText is spoken unless TEXT says something else.
const demoText = "Hello! I am talking to you from a single photograph. " +
	"My voice was made on this computer, and so were the movements of my mouth. " +
	"Every step of the work lies on the log."

const demoPortrait = "deploy/demo/portrait.png"

// runDemo is `myspinbot demo`. PORTRAIT and TEXT in the environment replace the
// sample's.
func runDemo(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cfg, status, ok := commandConfig("demo", "Makes two videos in demo-output/. PORTRAIT and TEXT in the environment replace the sample's.",
		append([]string{"--http-listen", "127.0.0.1:0"}, args...), stdout, stderr)
	if !ok {
		return status
	}
	d := demo{portrait: os.Getenv("PORTRAIT"), text: os.Getenv("TEXT"), out: "demo-output", stdout: stdout, stderr: stderr}
	if d.portrait == "" {
		d.portrait = demoPortrait
	}
	if d.text == "" {
		d.text = demoText
	}
	if _, err := os.Stat(d.portrait); err != nil {
		return failed(stderr, fmt.Errorf("the portrait cannot be read: %w", err))
	}
	if err := d.run(ctx, cfg); err != nil {
		return failed(stderr, err)
	}
	return 0
}

type demo struct {
	portrait, text, out string
	stdout, stderr      io.Writer
}

// run keeps everything in a temporary folder and stops what it starts.
func (d demo) run(ctx context.Context, cfg Config) (err error) {
	dir, err := os.MkdirTemp("", "myspinbot-demo-")
	if err != nil {
		return fmt.Errorf("cannot make a temporary folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.MkdirAll(d.out, 0o755); err != nil {
		return fmt.Errorf("cannot make %s: %w", d.out, err)
	}
	lines, err := os.Create(filepath.Join(d.out, "demo.log"))
	if err != nil {
		return fmt.Errorf("cannot write the log file: %w", err)
	}
	defer lines.Close()         //nolint:errcheck // lines of a finished run
	cfg.Access = AccessConfig{} // it is for this machine alone, and over in minutes
	logger := newLogger(cfg, lines)

	fmt.Fprintf(d.stdout, "starting the log, the object store, PostgreSQL and all roles (lines in %s)\n", lines.Name())
	s := &devServices{dir: dir, logger: logger}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := s.start(ctx, &cfg); err != nil {
		return err
	}
	return d.withRoles(ctx, cfg, logger)
}

// withRoles runs both jobs while the roles run beside them.
func (d demo) withRoles(ctx context.Context, cfg Config, logger *slog.Logger) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	addr, ended := make(chan string, 1), make(chan error, 1)
	go func() { ended <- runRoles(ctx, cfg, logger, func(a string) { addr <- a }) }()
	select {
	case err := <-ended:
		return fmt.Errorf("the roles did not start: %w", err)
	case a := <-addr:
		err := d.jobs(ctx, "http://"+a)
		if err == nil {
			err = d.tellEvents(ctx, cfg, logger)
		}
		stop()
		return errors.Join(err, <-ended)
	}
}

func (d demo) jobs(ctx context.Context, server string) error {
	for _, variant := range []string{"sadtalker", "svd_wav2lip"} {
		fmt.Fprintf(d.stdout, "\n%s\n", variant)
		args := []string{"--server", server, "--portrait", d.portrait, "--text", d.text, "--variant", variant, "--out", filepath.Join(d.out, variant),
			"--name", "Demo", "--consent-by", "the demo's user", "--consent-statement", "This portrait may be animated for the demo."}
		if status := runSubmit(ctx, args, d.stdout, d.stderr); status != 0 {
			return fmt.Errorf("the %s job did not end well (see above)", variant)
		}
	}
	return nil
}

// tellEvents counts what the two jobs left on the log.
func (d demo) tellEvents(ctx context.Context, cfg Config, logger *slog.Logger) error {
	log, err := openLog(cfg, logger)
	if err != nil {
		return err
	}
	defer log.Close()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	n, err := countRecords(ctx, log, events.TopicJobEvents, events.TopicProfileEvents)
	if err != nil {
		return err
	}
	fmt.Fprintf(d.stdout, "\n%d events on the log tell how both were made.\n", n)
	return nil
}

// countRecords counts the committed records of topics.
func countRecords(ctx context.Context, log *eventlog.Log, topics ...string) (int, error) {
	n := 0
	_, err := log.Read(ctx, log.Whole(topics...), func(rs []eventlog.Record) error { n += len(rs); return nil })
	return n, err
}
