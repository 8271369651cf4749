// The operator's tools that read the log and the tables directly.

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/projections"
)

// runConfig is `myspinbot config schema`.
func runConfig(_ context.Context, args []string, stdout, stderr io.Writer) int {
	if asksForHelp(args) {
		fmt.Fprintln(stdout, "usage: myspinbot config schema [--json]")
		return 0
	}
	asJSON := len(args) == 2 && args[1] == "--json"
	if len(args) == 0 || args[0] != "schema" || len(args) > 1 && !asJSON {
		fmt.Fprintln(stderr, "usage: myspinbot config schema [--json]")
		return 2
	}
	if err := printSchema(stdout, asJSON); err != nil {
		return failed(stderr, err)
	}
	return 0
}

// runLog is `myspinbot log`.
func runLog(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	const tail = "log tail [--topic jobs.events] [--follow=false] [--job ID]"
	const usage = "usage: myspinbot " + tail + "\n       myspinbot " + exportUsage + "\n       myspinbot " + importUsage + "\neach with [--kafka-brokers HOST:PORT]"
	if asksForHelp(args) {
		fmt.Fprintln(stdout, usage)
		return 0
	}
	if len(args) > 0 {
		switch args[0] {
		case "tail":
			return runTail(ctx, tail, args[1:], stdout, stderr)
		case "export":
			return runExport(ctx, args[1:], stdout, stderr)
		case "import":
			return runImport(ctx, args[1:], stdout, stderr)
		}
	}
	fmt.Fprintln(stderr, usage)
	return 2
}

// runTail is `myspinbot log tail`.
func runTail(ctx context.Context, usage string, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("log tail", flag.ContinueOnError)
	topic := flags.String("topic", events.TopicJobEvents, "topic to print, without the prefix")
	follow := flags.Bool("follow", true, "go on with what is written from now on; false ends at the end")
	job := flags.String("job", "", "only records with this key")
	cfg, status, ok := commandConfig(usage, "Prints a topic's records, one JSON line each.", args, stdout, stderr, flags)
	if !ok {
		return status
	}
	if err := tailLog(ctx, cfg, *topic, *job, *follow, stdout, stderr); err != nil && !errors.Is(err, context.Canceled) {
		return failed(stderr, err)
	}
	return 0
}

func tailLog(ctx context.Context, cfg Config, topic, job string, follow bool, stdout, stderr io.Writer) error {
	log, err := openLog(cfg, newLogger(cfg, stderr))
	if err != nil {
		return err
	}
	defer log.Close()
	if err := log.CheckTopics(ctx); err != nil {
		return err
	}
	if log.Partitions(topic) == 0 {
		return fmt.Errorf("there is no topic %q; give its name without the prefix, such as %s", topic, events.TopicJobEvents)
	}
	from := log.Whole(topic)
	show := func(rs []eventlog.Record) error {
		for _, r := range rs {
			if job != "" && r.Key != job {
				continue
			}
			if _, err := fmt.Fprintf(stdout, "{\"partition\":%d,\"offset\":%d,\"value\":%s}\n", r.Partition, r.Offset, r.Value); err != nil {
				return err
			}
		}
		return nil
	}
	if follow {
		return log.Tail(ctx, from, func(b eventlog.Batch) error { return show(b.Records) }, nil)
	}
	_, err = log.Read(ctx, from, show)
	return err
}

func withTables(ctx context.Context, cfg Config, stderr io.Writer, use func(projections.Config) error) error {
	cfg.Roles = []string{roleProjector}
	if err := cfg.checkServices(); err != nil {
		return err
	}
	logger := newLogger(cfg, stderr)
	log, err := openLog(cfg, logger)
	if err != nil {
		return err
	}
	defer log.Close()
	if err := log.CheckTopics(ctx); err != nil {
		return err
	}
	pool, err := pgxpool.New(ctx, cfg.Postgres.URL.Reveal())
	if err != nil {
		return fmt.Errorf("postgres.url cannot be used: %w", err)
	}
	defer pool.Close()
	return use(projections.Config{Log: log, Pool: pool, Logger: logger})
}
