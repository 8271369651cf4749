// `myspinbot log export` and `log import`: a history as a file.

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/logfile"
)

const exportUsage = "log export --out FILE|- [--job ID] [--topics A,B] [--since TIME] [--until TIME]"

// runExport is `myspinbot log export`.
func runExport(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("log export", flag.ContinueOnError)
	out := flags.String("out", "", "file to write, which must not exist; - is standard output")
	job := flags.String("job", "", "only this job's records")
	topics := flags.String("topics", "", "topics without their prefix, separated by commas; default "+strings.Join(logfile.Topics(), ","))
	var s logfile.Selection
	flags.Func("since", "only records that the log stamped at this `time` (RFC 3339) or later", timeFlag(&s.Since))
	flags.Func("until", "only records that the log stamped at this `time` (RFC 3339) or earlier", timeFlag(&s.Until))
	cfg, status, ok := commandConfig(exportUsage, "Writes a history as JSON lines, sealed texts as they lie on the log, for log import, for a test or to keep.", args, stdout, stderr, flags)
	if !ok {
		return status
	}
	if *out == "" {
		fmt.Fprintln(stderr, "myspinbot log export: --out names the file\nusage: myspinbot "+exportUsage)
		return 2
	}
	s.Key = *job
	if *topics != "" {
		s.Topics = strings.Split(*topics, ",")
	}
	if err := exportLog(ctx, cfg, *out, s, stdout, stderr); err != nil {
		return failed(stderr, err)
	}
	return 0
}

func timeFlag(to *time.Time) func(string) error {
	return func(text string) (err error) {
		*to, err = time.Parse(time.RFC3339, text)
		if err != nil {
			return errors.New("give a time such as 2026-03-01T12:00:00Z")
		}
		return nil
	}
}

func exportLog(ctx context.Context, cfg Config, path string, s logfile.Selection, stdout, stderr io.Writer) error {
	log, err := openLog(cfg, newLogger(cfg, stderr))
	if err != nil {
		return err
	}
	defer log.Close()
	if err := log.CheckTopics(ctx); err != nil {
		return err
	}
	if path == "-" {
		_, err := logfile.Export(ctx, log, stdout, s)
		return err
	}
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s exists; choose another name or remove it", path)
	}
	// Nothing stands under the name before it is whole.
	file, err := os.CreateTemp(filepath.Dir(path), ".export-*")
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	n, err := logfile.Export(ctx, log, file, s)
	if err == nil {
		err = file.Chmod(0o600)
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Link(file.Name(), path) // unlike a renaming it never replaces
	}
	if err = errors.Join(err, os.Remove(file.Name())); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%d records in %s\n", n, path)
	return nil
}

const importUsage = "log import FILE [--renumber] [--force]"

// runImport is `myspinbot log import`.
func runImport(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("log import", flag.ContinueOnError)
	var o logfile.Options
	flags.BoolVar(&o.Renumber, "renumber", false, "give the records new offsets, which is faster; what names an offset is then another one, or left out")
	flags.BoolVar(&o.Force, "force", false, "write behind what the log already holds, with new offsets")
	path := ""
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		path, args = args[0], args[1:]
	}
	cfg, status, ok := commandConfig(importUsage, "Checks a whole history, then writes it into a log that is empty and that nobody else writes to.", args, stdout, stderr, flags)
	if !ok {
		return status
	}
	if path == "" {
		fmt.Fprintln(stderr, "myspinbot log import: name the file\nusage: myspinbot "+importUsage)
		return 2
	}
	if err := importLog(ctx, cfg, path, o, stdout, stderr); err != nil {
		return failed(stderr, err)
	}
	return 0
}

func importLog(ctx context.Context, cfg Config, path string, o logfile.Options, stdout, stderr io.Writer) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot read the history: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("cannot read the history: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("cannot read the history: %s is no regular file, and it is read twice", path)
	}
	log, err := openLog(cfg, newLogger(cfg, stderr))
	if err != nil {
		return err
	}
	defer log.Close()
	began, last := time.Now(), time.Now()
	o.Report = func(done, total int64) {
		if time.Since(last) >= time.Second {
			last = time.Now()
			fmt.Fprintf(stderr, "%d of %d records (%.0f/s)\n", done, total, float64(done)/time.Since(began).Seconds())
		}
	}
	got, err := logfile.Import(ctx, log, file, info.Size(), o)
	switch {
	case errors.Is(err, eventlog.ErrNotRestorable):
		return fmt.Errorf("%d records are written, then: %w; empty the log and import with --renumber", got.Records, err)
	case err != nil && got.Records > 0:
		return fmt.Errorf("%d records are written, then: %w; empty the log before the next try", got.Records, err)
	case err != nil:
		return err
	case got.Kept:
		fmt.Fprintf(stdout, "%d records are where they were, partition and offset (%.1f s)\n", got.Records, time.Since(began).Seconds())
		return nil
	}
	fmt.Fprintf(stdout, "%d records have new offsets, for %s (%.1f s)\n", got.Records, got.Why, time.Since(began).Seconds())
	if got.LeftOut > 0 {
		fmt.Fprintf(stdout, "%d records of deadletters are left out: they name each other by offsets\n", got.LeftOut)
	}
	return nil
}
