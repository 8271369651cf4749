// `myspinbot jobs`: list jobs, show one, fetch what it made. What is asked of a job
// stands in ask.go.

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

const jobsUsage = "usage: myspinbot jobs [list] [--status S,…] [--variant V] [--label L] [--parent ID] [--limit N] [--json] [--server URL]\n" +
	"       myspinbot jobs show ID [--at TIME|VERSION|POSITION | --out DIR] [--json] [--server URL]\n" +
	"       myspinbot jobs cancel ID [--json] [--server URL]\n" +
	"       myspinbot jobs cancel|retry [--status S,…] [--variant V] [--label L] [--dry-run] [--yes] [--server URL]\n" +
	"       myspinbot jobs label ID LABEL … [--json] [--server URL]\n" +
	"       myspinbot jobs approve ID [--text TEXT | --text-file FILE] [--json] [--server URL]\n" +
	"       myspinbot jobs deny ID [--reason TEXT] [--json] [--server URL]\n" +
	"       myspinbot jobs retry ID [--out DIR] [--no-wait] [--key KEY] [--server URL]\n" +
	"       myspinbot jobs rerun ID [--from STAGE] [--text TEXT | --text-file FILE] [--option NAME=VALUE …] [--engines auto|real|preview] [--out DIR] [--no-wait] [--key KEY] [--server URL]"

// jobsFlags are the flags of all forms.
type jobsFlags struct {
	verb                                 string
	server, status, variant, parent, out string
	keyFile                              string
	label                                string
	text, textFile, reason, from, key    string
	engines                              string
	at                                   string
	options                              optionMap
	stdin                                io.Reader
	limit                                int
	asJSON, noWait                       bool
	dryRun, yes                          bool
	words                                []string // behind the id
}

// jobsVerbs are the forms: the flags that each has beside --server, and what it does.
var jobsVerbs = map[string]struct {
	flags []string
	run   func(j jobsFlags, ctx context.Context, c *client, id string, stdout io.Writer) error
}{
	"list": {[]string{"status", "variant", "label", "parent", "limit", "json"}, func(j jobsFlags, ctx context.Context, c *client, _ string, stdout io.Writer) error {
		return j.list(ctx, c, stdout)
	}},
	"show":    {[]string{"at", "out", "json"}, jobsFlags.show},
	"cancel":  {[]string{"json", "status", "variant", "label", "dry-run", "yes"}, jobsFlags.ask},
	"label":   {[]string{"json"}, jobsFlags.ask},
	"approve": {[]string{"text", "text-file", "json"}, jobsFlags.ask},
	"deny":    {[]string{"reason", "json"}, jobsFlags.ask},
	"retry":   {[]string{"out", "no-wait", "key", "status", "variant", "label", "dry-run", "yes"}, jobsFlags.goOn},
	"rerun":   {[]string{"from", "text", "text-file", "option", "engines", "out", "no-wait", "key"}, jobsFlags.goOn},
}

// define adds the verb's flags to f.
func (j *jobsFlags) define(f *flag.FlagSet) {
	defineServer(f, &j.server, &j.keyFile)
	all := map[string]func(name string){
		"json":    func(n string) { f.BoolVar(&j.asJSON, n, false, "print the API's answer") },
		"status":  func(n string) { f.StringVar(&j.status, n, "", "only jobs in these states, separated by commas") },
		"variant": func(n string) { f.StringVar(&j.variant, n, "", "only jobs of this variant") },
		"label":   func(n string) { f.StringVar(&j.label, n, "", "only jobs with this label") },
		"parent":  func(n string) { f.StringVar(&j.parent, n, "", "only retries and re-runs of this job") },
		"limit":   func(n string) { f.IntVar(&j.limit, n, 20, "how many, newest first") },
		"at": func(n string) {
			f.StringVar(&j.at, n, "", "show the job as it was at a time (RFC 3339), at a version, or right after the event at a position such as 3:1042")
		},
		"out":       func(n string) { f.StringVar(&j.out, n, "", "folder to download the result into") },
		"text":      func(n string) { f.StringVar(&j.text, n, "", "script that is spoken in place of the one there is") },
		"text-file": func(n string) { f.StringVar(&j.textFile, n, "", "file that holds the script; - reads standard input") },
		"reason":    func(n string) { f.StringVar(&j.reason, n, "", "why the script is not approved") },
		"from":      func(n string) { f.StringVar(&j.from, n, "", "stage that runs again, with all that come after it") },
		"option":    func(n string) { f.Var(&j.options, n, "NAME=VALUE that changes; may be given again") },
		"engines":   func(n string) { f.StringVar(&j.engines, n, "", "auto, real or preview; default: as the job before") },
		"dry-run":   func(n string) { f.BoolVar(&j.dryRun, n, false, "say how many jobs the filter takes, and do nothing") },
		"yes":       func(n string) { f.BoolVar(&j.yes, n, false, "do it without asking") },
		"no-wait":   func(n string) { f.BoolVar(&j.noWait, n, false, "only ask for the job, and print its id") },
		"key": func(n string) {
			f.StringVar(&j.key, n, "", "Idempotency-Key: the same key never makes a second job; default: a random one")
		},
	}
	for _, name := range jobsVerbs[j.verb].flags {
		all[name](name)
	}
}

// runJobs is `myspinbot jobs`: 0 fine, 1 failed, 2 wrong usage.
func runJobs(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	j := jobsFlags{verb: "list", options: optionMap{}, stdin: os.Stdin}
	if len(args) > 0 && jobsVerbs[args[0]].run != nil {
		j.verb, args = args[0], args[1:]
	}
	f := flag.NewFlagSet("jobs "+j.verb, flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() { fmt.Fprintln(stderr, jobsUsage); f.PrintDefaults() }
	j.define(f)
	words, err := parseAnywhere(f, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2 // the flag set has said why
	case !j.fits(words):
		fmt.Fprintln(stderr, jobsUsage)
		return 2
	case j.at != "" && j.out != "":
		fmt.Fprintln(stderr, "myspinbot jobs: --at looks back, and --out downloads what there is now: give one of them")
		return 2
	case j.text != "" && j.textFile != "":
		fmt.Fprintln(stderr, "myspinbot jobs: --text and --text-file are two scripts: give one of them")
		return 2
	}
	c, err := newClient(j.server, j.keyFile)
	if err == nil {
		err = j.run(ctx, c, words, stdout)
	}
	if err != nil {
		fmt.Fprintf(stderr, "myspinbot jobs: %v\n", err)
		return 1
	}
	return 0
}

// fits says whether the words go with the verb: an id, several words behind it, or a filter in its place.
func (j jobsFlags) fits(words []string) bool {
	if j.verb == "list" {
		return len(words) == 0
	}
	if len(words) == 0 {
		return j.inBulk() && (j.filters() || j.dryRun) && !j.asJSON && !j.noWait && j.out == "" && j.key == ""
	}
	alone := len(words) == 1 || j.verb == "label"
	return alone && !(j.inBulk() && (j.filters() || j.dryRun || j.yes))
}

// inBulk says whether the verb can be done to many jobs.
func (j jobsFlags) inBulk() bool { return j.verb == "cancel" || j.verb == "retry" }

func (j jobsFlags) run(ctx context.Context, c *client, words []string, stdout io.Writer) error {
	if len(words) == 0 && j.verb != "list" {
		return j.bulk(ctx, c, stdout)
	}
	id := ""
	if len(words) > 0 {
		id, j.words = words[0], words[1:]
	}
	return jobsVerbs[j.verb].run(j, ctx, c, id, stdout)
}

// parseAnywhere lets flags stand behind other words as well.
func parseAnywhere(f *flag.FlagSet, args []string) (words []string, err error) {
	for {
		if err := f.Parse(args); err != nil {
			return nil, err
		}
		if f.NArg() == 0 {
			return words, nil
		}
		words, args = append(words, f.Arg(0)), f.Args()[1:]
	}
}

func (j jobsFlags) list(ctx context.Context, c *client, stdout io.Writer) error {
	query := url.Values{"limit": {strconv.Itoa(j.limit)}}
	for name, value := range map[string]string{"status": j.status, "variant": j.variant, "label": j.label, "parent_job_id": j.parent} {
		if value != "" {
			query.Set(name, value)
		}
	}
	var raw json.RawMessage
	if err := c.call(ctx, http.MethodGet, "/api/jobs?"+query.Encode(), nil, nil, &raw); err != nil {
		return fmt.Errorf("cannot list the jobs: %w", err)
	}
	if j.asJSON {
		return printRaw(stdout, raw)
	}
	var page struct {
		Items []jobDoc `json:"items"`
		Next  *string  `json:"next_cursor"`
	}
	if err := json.Unmarshal(raw, &page); err != nil {
		return fmt.Errorf("the server's answer cannot be read: %w", err)
	}
	if len(page.Items) == 0 {
		fmt.Fprintln(stdout, "no jobs")
		return nil
	}
	t := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "JOB\tSTATUS\tDONE\tLEFT\tVARIANT\tPROFILE\tCREATED")
	for _, job := range page.Items {
		label := ""
		if job.Profile != nil && job.Profile.Label != nil {
			label = *job.Profile.Label
		}
		fmt.Fprintf(t, "%s\t%s\t%3.0f %%\t%s\t%s\t%s\t%s\n", printable(job.ID), printable(job.state()), job.Progress*100, job.left(),
			printable(job.Variant), clipped(printable(label), 24), job.CreatedAt.Local().Format(time.DateTime))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if page.Next != nil {
		fmt.Fprintln(stdout, "there are more; raise --limit")
	}
	return nil
}

func (j jobsFlags) show(ctx context.Context, c *client, id string, stdout io.Writer) error {
	var raw json.RawMessage
	path := "/api/jobs/" + url.PathEscape(id)
	if j.at != "" {
		path += "?at=" + url.QueryEscape(j.at)
	}
	if err := c.call(ctx, http.MethodGet, path, nil, nil, &raw); err != nil {
		return fmt.Errorf("cannot show the job: %w", err)
	}
	var job jobDoc
	if err := json.Unmarshal(raw, &job); err != nil {
		return fmt.Errorf("the server's answer cannot be read: %w", err)
	}
	if j.asJSON {
		if err := printRaw(stdout, raw); err != nil {
			return err
		}
	} else if err := printJob(stdout, job); err != nil {
		return err
	}
	switch {
	case j.out == "":
		return nil
	case job.Status == "succeeded":
		return c.fetch(ctx, job, j.out, stdout)
	case !job.ended():
		return c.watch(ctx, job, j.out, stdout)
	}
	return errors.New("the job has no result to download")
}

func printRaw(w io.Writer, raw json.RawMessage) error {
	_, err := fmt.Fprintf(w, "%s\n", raw)
	return err
}

func printJob(w io.Writer, job jobDoc) error {
	fmt.Fprintf(w, "job      %s\nstatus   %s (%.0f %%)\npipeline %s, %s\ncreated  %s\n", printable(job.ID), printable(job.state()), job.Progress*100,
		printable(job.Variant), printable(job.Mode), job.CreatedAt.Local().Format(time.DateTime))
	if job.FinishedAt != nil {
		fmt.Fprintf(w, "finished %s\n", job.FinishedAt.Local().Format(time.DateTime))
	}
	if job.NotBefore != nil {
		fmt.Fprintf(w, "not before %s\n", job.NotBefore.Local().Format(time.DateTime))
	}
	if place := job.place(); place != "" {
		fmt.Fprintf(w, "place    %s\n", place)
	}
	if len(job.Labels) > 0 {
		fmt.Fprintf(w, "labels   %s\n", printable(strings.Join(job.Labels, ", ")))
	}
	if job.ParentJobID != "" {
		fmt.Fprintf(w, "goes on from %s\n", printable(job.ParentJobID))
	}
	if a := job.Approval; a != nil {
		fmt.Fprintf(w, "approval %s\n", a.sentence(job.ID))
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nSTAGE\tSTATUS\tDONE\tTIME\tENGINE")
	for _, s := range job.Stages {
		took := ""
		if s.DurationMS > 0 {
			took = fmt.Sprintf("%.1f s", float64(s.DurationMS)/1000)
		}
		engine := s.Engine
		if s.Fidelity != "" {
			engine += " (" + s.Fidelity + ")"
		}
		fmt.Fprintf(t, "%s\t%s\t%3.0f %%\t%s\t%s\n", printable(s.ID), printable(s.Status), s.Progress*100, took, printable(engine))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if job.Error != nil {
		fmt.Fprintf(w, "\n%v\n", jobFailure(job))
	}
	if len(job.Artifacts) == 0 {
		return nil
	}
	fmt.Fprintln(t, "\nARTIFACT\tNAME\tBYTES\tSHA-256")
	for _, a := range job.Artifacts {
		fmt.Fprintf(t, "%s\t%s\t%d\t%.12s…\n", printable(a.ID), printable(a.Name), a.Size, printable(a.SHA256))
	}
	return t.Flush()
}
