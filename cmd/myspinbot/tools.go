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

// runLog is `myspinbot log tail`.
func runLog(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("log tail", flag.ContinueOnError)
	topic := flags.String("topic", events.TopicJobEvents, "topic to print, without the prefix")
	follow := flags.Bool("follow", true, "go on with what is written from now on; false ends at the end")
	job := flags.String("job", "", "only records with this key")
	const usage = "usage: myspinbot log tail [--topic jobs.events] [--follow=false] [--job ID] [--kafka-brokers HOST:PORT]"
	if asksForHelp(args) {
		fmt.Fprintln(stdout, usage)
		return 0
	}
	if len(args) == 0 || args[0] != "tail" {
		fmt.Fprintln(stderr, usage)
		return 2
	}
	cfg, status, ok := commandConfig("log tail [--topic jobs.events] [--job ID] [--follow=false]", "Prints a topic's records, one JSON line each.", args[1:], stdout, stderr, flags)
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

const (
	verifyAbout = "Folds the log, compares every row of the tables with it, and exits 1 if any differs."
	replayUsage = "usage: myspinbot replay rebuild|generations|verify [flags]\n" + rebuildAbout + "\n" + generationsAbout + "\n" + verifyAbout
)

// runReplay is `myspinbot replay` with the word that follows.
func runReplay(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	tools := map[string]func(context.Context, []string, io.Writer, io.Writer) int{
		"rebuild": replayRebuild, "generations": replayGenerations, "verify": replayVerify,
	}
	if asksForHelp(args) {
		fmt.Fprintln(stdout, replayUsage)
		return 0
	}
	if len(args) == 0 || tools[args[0]] == nil {
		fmt.Fprintln(stderr, replayUsage)
		return 2
	}
	return tools[args[0]](ctx, args[1:], stdout, stderr)
}

// replayVerify is `myspinbot replay verify`.
func replayVerify(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cfg, status, ok := commandConfig("replay verify", verifyAbout, args, stdout, stderr)
	if !ok {
		return status
	}
	if err := withTables(ctx, cfg, stderr, func(c projections.Config) error { return verifyTables(ctx, c, stdout) }); err != nil {
		return failed(stderr, err)
	}
	return 0
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

func verifyTables(ctx context.Context, c projections.Config, stdout io.Writer) error {
	report, err := projections.Verify(ctx, c)
	if err != nil {
		return err
	}
	for _, d := range report.Differences {
		fmt.Fprintln(stdout, d)
	}
	if len(report.Differences) > 0 {
		return fmt.Errorf("%d differences between the tables and the log", len(report.Differences))
	}
	fmt.Fprintf(stdout, "%d rows equal the fold of the log\n", report.Rows)
	return nil
}
