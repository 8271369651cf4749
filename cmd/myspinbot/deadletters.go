// `myspinbot deadletters`: the records that could not be handled, and what an
// operator decides about each.

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/myspinbot/myspinbot/internal/eventlog"
)

const deadLettersUsage = "usage: myspinbot deadletters [list] [--all] [--json] [--kafka-brokers HOST:PORT]\n" +
	"       myspinbot deadletters show ID [--json]\n" +
	"       myspinbot deadletters replay ID…   write the record back to where it was read from\n" +
	"       myspinbot deadletters discard ID…  mark it as of no use"

// deadLettersFlags are the flags of all forms.
type deadLettersFlags struct {
	verb        string
	ids         []string
	all, asJSON bool
}

// runDeadLetters is `myspinbot deadletters`: 0 fine, 1 failed, 2 wrong usage.
func runDeadLetters(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var d deadLettersFlags
	f := flag.NewFlagSet("deadletters", flag.ContinueOnError)
	f.BoolVar(&d.all, "all", false, "list those that are resolved, too")
	f.BoolVar(&d.asJSON, "json", false, "print JSON")
	cfg, verb, words, status, ok := verbConfig(deadLettersUsage, f, args, stdout, stderr)
	if !ok {
		return status
	}
	d.verb, d.ids = verb, words
	if !d.wellFormed() {
		fmt.Fprintln(stderr, deadLettersUsage)
		return 2
	}
	if err := d.run(ctx, cfg, stdout, stderr); err != nil {
		fmt.Fprintf(stderr, "myspinbot deadletters: %v\n", err)
		return 1
	}
	return 0
}

func (d deadLettersFlags) wellFormed() bool {
	switch d.verb {
	case "list":
		return len(d.ids) == 0
	case "show":
		return len(d.ids) == 1
	case "replay", "discard":
		return len(d.ids) > 0
	}
	return false
}

func (d deadLettersFlags) run(ctx context.Context, cfg Config, stdout, stderr io.Writer) error {
	log, err := openChecked(ctx, cfg, stderr)
	if err != nil {
		return err
	}
	defer log.Close()
	switch d.verb {
	case "list":
		return d.list(ctx, log, stdout)
	case "show":
		return d.show(ctx, log, stdout)
	}
	resolve, done := log.ReplayDeadLetter, "written back to"
	if d.verb == "discard" {
		resolve, done = log.DiscardDeadLetter, "discarded; it came from"
	}
	for _, id := range d.ids {
		letter, err := resolve(ctx, id)
		if err != nil {
			return fmt.Errorf("cannot %s %s: %w", d.verb, printable(id), err)
		}
		if d.asJSON {
			err = printJSON(stdout, letterOf(letter))
		} else {
			_, err = fmt.Fprintf(stdout, "%s %s %s\n", letter.ID, done, printable(letter.Record.Topic))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// letterDoc is a dead letter as JSON.
type letterDoc struct {
	ID         string            `json:"id"`
	Time       time.Time         `json:"time"`
	Reason     string            `json:"reason"`
	Topic      string            `json:"topic"`
	Partition  int32             `json:"partition"`
	Offset     int64             `json:"offset"`
	Key        string            `json:"key"`
	Headers    map[string]string `json:"headers"`
	Value      json.RawMessage   `json:"value,omitempty"`        // where it is JSON
	ValueBytes []byte            `json:"value_base64,omitempty"` // where it is not
	Resolution string            `json:"resolution,omitempty"`
	ResolvedAt *time.Time        `json:"resolved_at,omitempty"`
}

func letterOf(l eventlog.DeadLetter) letterDoc {
	doc := letterDoc{
		ID: l.ID, Time: l.Time.UTC(), Reason: l.Reason, Topic: l.Record.Topic, Partition: l.Record.Partition, Offset: l.Record.Offset,
		Key: l.Record.Key, Headers: make(map[string]string), Resolution: l.Resolution,
	}
	for _, h := range l.Record.Headers {
		doc.Headers[h.Key] = h.Value
	}
	if json.Valid(l.Record.Value) {
		doc.Value = l.Record.Value
	} else {
		doc.ValueBytes = l.Record.Value
	}
	if !l.ResolvedAt.IsZero() {
		at := l.ResolvedAt.UTC()
		doc.ResolvedAt = &at
	}
	return doc
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

func (d deadLettersFlags) list(ctx context.Context, log *eventlog.Log, stdout io.Writer) error {
	letters, err := log.DeadLetters(ctx)
	if err != nil {
		return err
	}
	docs := []letterDoc{}
	for _, l := range letters {
		if d.all || l.Resolution == "" {
			docs = append(docs, letterOf(l))
		}
	}
	if d.asJSON {
		return printJSON(stdout, map[string]any{"items": docs})
	}
	if len(docs) == 0 {
		fmt.Fprintln(stdout, "no dead letters")
		return nil
	}
	t := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tTIME\tFROM\tKEY\tSTATE\tREASON")
	for _, l := range docs {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", l.ID, l.Time.Local().Format(time.DateTime), l.from(), printable(l.Key), l.state(), clipped(printable(l.Reason), 80))
	}
	return t.Flush()
}

func (l letterDoc) from() string {
	return fmt.Sprintf("%s/%d %d", printable(l.Topic), l.Partition, l.Offset)
}

func (l letterDoc) state() string {
	if l.Resolution == "" {
		return "open"
	}
	return printable(l.Resolution)
}

func (d deadLettersFlags) show(ctx context.Context, log *eventlog.Log, stdout io.Writer) error {
	letter, err := log.DeadLetter(ctx, d.ids[0])
	if err != nil {
		return err
	}
	l := letterOf(letter)
	if d.asJSON {
		return printJSON(stdout, l)
	}
	fmt.Fprintf(stdout, "letter  %s\nstate   %s\nreason  %s\nfrom    %s\nkey     %s\ntime    %s\n", l.ID, l.state(), printable(l.Reason), l.from(), printable(l.Key), l.Time.Local().Format(time.DateTime))
	for _, h := range letter.Record.Headers {
		fmt.Fprintf(stdout, "header  %s: %s\n", printable(h.Key), printable(h.Value))
	}
	var value bytes.Buffer
	switch {
	case l.Value == nil:
		_, err = fmt.Fprintf(stdout, "\nnot JSON: %q\n", l.ValueBytes)
	case json.Indent(&value, l.Value, "", "  ") == nil:
		_, err = fmt.Fprintf(stdout, "\n%s\n", printable(value.String()))
	}
	return err
}
