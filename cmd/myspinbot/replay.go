// `myspinbot replay`: the tables against the log, and the tables as they were.

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/myspinbot/myspinbot/projections"
)

const replayUsage = "usage: myspinbot " + rebuildUsage + "\n" +
	"       myspinbot " + generationsUsage + "\n" +
	"       myspinbot replay verify [--sample SHARE%|N | --job ID]\n" +
	"       myspinbot replay job ID\n" +
	"       myspinbot replay status [--watch 1s] [--json]\n" +
	"       myspinbot replay --until TIME|OFFSET|POSITION --schema NAME\n" +
	"each with [--kafka-brokers HOST:PORT] [--postgres-url URL] and the configuration's other flags"

// replayTool is one form of the command.
type replayTool struct {
	usage, about string
	words        int // that stand beside the flags
	define       func(*replayFlags, *flag.FlagSet)
	run          func(r replayFlags, ctx context.Context, c projections.Config, stdout, stderr io.Writer) error
}

// replayFlags are the flags of all forms.
type replayFlags struct {
	job, sample, until, schema string
	watch                      time.Duration
	asJSON                     bool
	scope                      projections.Scope
	moment                     projections.Moment
}

// replayTools are the forms by their word, beside those that make tables
// (replay_rebuild.go); the one without a word travels.
var replayTools = map[string]replayTool{
	"verify": {"replay verify [--sample SHARE%|N | --job ID]",
		"Folds the log up to where the live tables are, compares every row and column with it, and exits 1 if any differs.", 0,
		func(r *replayFlags, f *flag.FlagSet) {
			f.StringVar(&r.sample, "sample", "", "only a share of all jobs and profiles, such as 5%, or about so many, such as 200; others every time")
			f.StringVar(&r.job, "job", "", "only the rows of this job")
		}, replayFlags.verify},
	"job": {"replay job ID", "Makes the rows of one job anew from its events, beside everything that runs, and says what they were instead.", 1,
		func(*replayFlags, *flag.FlagSet) {}, replayFlags.replayJob},
	"status": {"replay status [--watch 1s] [--json]", "Tells how far the tables are behind the log, how fast they follow, and what is in the way.", 0,
		func(r *replayFlags, f *flag.FlagSet) {
			f.DurationVar(&r.watch, "watch", time.Second, "how long to watch the checkpoints for their rate")
			f.BoolVar(&r.asJSON, "json", false, "print one JSON object")
		}, replayFlags.status},
	"": {"replay --until TIME|OFFSET|POSITION --schema NAME",
		"Builds the tables as they were into a schema of their own, to ask in SQL. The live tables are not touched.", 0,
		func(r *replayFlags, f *flag.FlagSet) {
			f.StringVar(&r.until, "until", "", "a time (RFC 3339) up to which everything decided counts; an offset up to which, with it, every partition counts;\nor the position of an event, partition:offset, for what was true right after it")
			f.StringVar(&r.schema, "schema", "", "name of the schema to make")
		}, replayFlags.travel},
}

// runReplay is `myspinbot replay`: 0 fine, 1 failed or different, 2 wrong usage.
func runReplay(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if asksForHelp(args) {
		fmt.Fprintln(stdout, replayUsage)
		return 0
	}
	word := ""
	if len(args) > 0 && args[0] != "" && args[0][0] != '-' {
		word, args = args[0], args[1:]
	}
	switch word {
	case "rebuild":
		return replayRebuild(ctx, args, stdout, stderr)
	case "generations":
		return replayGenerations(ctx, args, stdout, stderr)
	}
	tool, known := replayTools[word]
	if !known || word == "" && len(args) == 0 {
		fmt.Fprintln(stderr, replayUsage)
		return 2
	}
	r, flags := replayFlags{}, flag.NewFlagSet("replay", flag.ContinueOnError)
	tool.define(&r, flags)
	if tool.words == 1 && len(args) > 0 && args[0] != "" && args[0][0] != '-' {
		r.job, args = args[0], args[1:]
	}
	cfg, status, ok := commandConfig(tool.usage, tool.about, args, stdout, stderr, flags)
	if !ok {
		return status
	}
	if err := r.check(word); err != nil {
		fmt.Fprintf(stderr, "myspinbot replay: %v\nusage: myspinbot %s\n", err, tool.usage)
		return 2
	}
	if err := withTables(ctx, cfg, stderr, func(c projections.Config) error { return tool.run(r, ctx, c, stdout, stderr) }); err != nil {
		return failed(stderr, err)
	}
	return 0
}

// check reads what the flags say.
func (r *replayFlags) check(word string) (err error) {
	switch {
	case word == "" && (r.until == "" || r.schema == ""):
		return errors.New("--until and --schema belong together")
	case word == "":
		r.moment, err = projections.ParseMoment(r.until)
	case word == "job" && r.job == "":
		return errors.New("name the job")
	case r.sample != "" && r.job != "":
		return errors.New("give --sample or --job")
	case r.sample != "":
		r.scope, err = projections.ParseSample(r.sample)
	default:
		r.scope.Job = r.job
	}
	return err
}

func (r replayFlags) verify(ctx context.Context, c projections.Config, stdout, _ io.Writer) error {
	report, err := projections.VerifyScope(ctx, c, r.scope)
	if err != nil {
		return err
	}
	for _, d := range report.Differences {
		fmt.Fprintln(stdout, d)
	}
	switch n := len(report.Differences); {
	case report.Truncated:
		return fmt.Errorf("more than %d differences between the tables and the log; `myspinbot replay rebuild` makes the tables anew", n)
	case n > 0:
		return fmt.Errorf("%d differences between the tables and the log; `myspinbot replay job ID` mends one job, `replay rebuild` everything", n)
	case report.Rows == 0 && r.job != "":
		return fmt.Errorf("neither the log nor the tables know job %s", r.job)
	}
	of := ""
	if r.sample != "" {
		of = " of a sample of " + r.sample
	}
	fmt.Fprintf(stdout, "%d rows%s equal the fold of the log (%d events)\n", report.Rows, of, report.Events)
	return nil
}

func (r replayFlags) replayJob(ctx context.Context, c projections.Config, stdout, _ io.Writer) error {
	done, err := projections.ReplayJob(ctx, c, r.job)
	if errors.Is(err, projections.ErrNotFound) {
		return fmt.Errorf("neither the log nor the tables know job %s", r.job)
	}
	if err != nil {
		return err
	}
	for _, d := range done.Differences {
		fmt.Fprintln(stdout, d)
	}
	if len(done.Differences) == 0 {
		fmt.Fprintf(stdout, "the %d rows of job %s equal the fold of its %d events; nothing was written\n", done.Rows, r.job, done.Events)
		return nil
	}
	fmt.Fprintf(stdout, "job %s has been made anew: %d rows from %d events, %d differences mended\n", r.job, done.Rows, done.Events, len(done.Differences))
	return nil
}

func (r replayFlags) status(ctx context.Context, c projections.Config, stdout, _ io.Writer) error {
	s, err := projections.ReadStatus(ctx, c, r.watch)
	if err != nil {
		return err
	}
	if r.asJSON {
		return json.NewEncoder(stdout).Encode(s)
	}
	fmt.Fprintf(stdout, "generation %d", s.Generation)
	if !s.OwnShape {
		fmt.Fprint(stdout, ", made by another version of this program")
	}
	for _, g := range s.Generations {
		if g.Number != s.Generation {
			fmt.Fprintf(stdout, "; generation %d is %s since %s", g.Number, g.Status, g.Since.UTC().Format(time.RFC3339))
		}
	}
	more := ""
	if !s.Counted {
		more = "at least "
	}
	fmt.Fprintf(stdout, "\n%s%d events behind, %.1f s; %.0f offsets/s\n", more, s.Events, s.Seconds, s.Rate)
	t := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nPARTITION\tNEXT\tEND\tEVENTS BEHIND\tSECONDS\tOFFSETS/S\tERROR")
	for _, p := range s.Partitions {
		problem := p.Error
		if problem == "" && r.watch > 0 && p.Events > 0 && p.Rate == 0 && p.Seconds > r.watch.Seconds()+5 {
			problem = "it does not move: does a projector run?"
		}
		fmt.Fprintf(t, "%s/%d\t%d\t%d\t%d\t%.1f\t%.0f\t%s\n", p.Topic, p.Partition, p.Next, p.End, p.Events, p.Seconds, p.Rate, problem)
	}
	return t.Flush()
}

func (r replayFlags) travel(ctx context.Context, c projections.Config, stdout, stderr io.Writer) error {
	began, last := time.Now(), time.Now()
	tell := func(p projections.Progress) {
		if time.Since(last) >= time.Second {
			last = time.Now()
			fmt.Fprintf(stderr, "%d of %d offsets (%.0f/s)\n", p.Done, p.Total, float64(p.Done)/time.Since(began).Seconds())
		}
	}
	done, err := projections.Travel(ctx, c, r.schema, r.moment, tell)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "schema %s has the tables as they were at %v: %d rows from %d events (%.1f s)\n", r.schema, r.moment, done.Rows, done.Events, time.Since(began).Seconds())
	fmt.Fprintf(stdout, "ask it:  psql \"$URL\" -c 'SELECT status, count(*) FROM %s.jobs GROUP BY 1'\ndrop it: psql \"$URL\" -c 'DROP SCHEMA %s CASCADE'\n", r.schema, r.schema)
	return nil
}
