// `myspinbot jobs`: list jobs, show one, fetch what it made.

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
	"strconv"
	"text/tabwriter"
	"time"
)

const jobsUsage = "usage: myspinbot jobs [list] [--status S,…] [--variant V] [--limit N] [--json] [--server URL]\n" +
	"       myspinbot jobs show ID [--out DIR] [--json] [--server URL]"

// jobsFlags are the flags of both forms.
type jobsFlags struct {
	server, status, variant, out string
	limit                        int
	asJSON                       bool
}

// runJobs is `myspinbot jobs`: 0 fine, 1 failed, 2 wrong usage.
func runJobs(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	verb := "list"
	if len(args) > 0 && (args[0] == "list" || args[0] == "show") {
		verb, args = args[0], args[1:]
	}
	var j jobsFlags
	f := flag.NewFlagSet("jobs "+verb, flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() { fmt.Fprintln(stderr, jobsUsage); f.PrintDefaults() }
	f.StringVar(&j.server, "server", "", "address of the API; default $MYSPINBOT_SERVER, else "+defaultServer)
	f.BoolVar(&j.asJSON, "json", false, "print the API's answer")
	ids := 0
	if verb == "list" {
		f.StringVar(&j.status, "status", "", "only jobs in these states, separated by commas")
		f.StringVar(&j.variant, "variant", "", "only jobs of this variant")
		f.IntVar(&j.limit, "limit", 20, "how many, newest first")
	} else {
		f.StringVar(&j.out, "out", "", "folder to download the result into")
		ids = 1
	}
	words, err := parseAnywhere(f, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2 // the flag set has said why
	case len(words) != ids:
		fmt.Fprintln(stderr, jobsUsage)
		return 2
	}
	c, err := newClient(j.server)
	if err == nil && verb == "list" {
		err = j.list(ctx, c, stdout)
	} else if err == nil {
		err = j.show(ctx, c, words[0], stdout)
	}
	if err != nil {
		fmt.Fprintf(stderr, "myspinbot jobs: %v\n", err)
		return 1
	}
	return 0
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
	for name, value := range map[string]string{"status": j.status, "variant": j.variant} {
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
	fmt.Fprintln(t, "JOB\tSTATUS\tDONE\tVARIANT\tPROFILE\tCREATED")
	for _, job := range page.Items {
		label := ""
		if job.Profile != nil && job.Profile.Label != nil {
			label = *job.Profile.Label
		}
		fmt.Fprintf(t, "%s\t%s\t%3.0f %%\t%s\t%s\t%s\n", printable(job.ID), printable(job.Status), job.Progress*100,
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
	if err := c.call(ctx, http.MethodGet, "/api/jobs/"+url.PathEscape(id), nil, nil, &raw); err != nil {
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
	fmt.Fprintf(w, "job      %s\nstatus   %s (%.0f %%)\npipeline %s, %s\ncreated  %s\n", printable(job.ID), printable(job.Status), job.Progress*100,
		printable(job.Variant), printable(job.Mode), job.CreatedAt.Local().Format(time.DateTime))
	if job.FinishedAt != nil {
		fmt.Fprintf(w, "finished %s\n", job.FinishedAt.Local().Format(time.DateTime))
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
