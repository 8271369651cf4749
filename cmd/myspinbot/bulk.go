// `myspinbot jobs cancel|retry` of all jobs that a filter takes: first the server says how
// many they are, then somebody agrees, then it is done page by page.

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// filters says whether the flags name jobs by what they are.
func (j jobsFlags) filters() bool { return j.status != "" || j.variant != "" || j.label != "" }

// bulkDoc is the API's answer to a request about many jobs.
type bulkDoc struct {
	Filter  json.RawMessage `json:"filter"`
	Total   int             `json:"total"`
	More    bool            `json:"more"`
	Confirm string          `json:"confirm"`
	Done    int             `json:"done"`
	Refused []struct {
		JobID  string `json:"job_id"`
		Code   string `json:"code"`
		Detail string `json:"detail"`
	} `json:"refused"`
	Next *string `json:"next_cursor"`
}

func (d bulkDoc) many() string {
	more := ""
	if d.More {
		more = "more than "
	}
	if d.Total == 1 {
		return more + "1 job"
	}
	return fmt.Sprintf("%s%d jobs", more, d.Total)
}

// bulk does the verb to every job that the filter takes.
func (j jobsFlags) bulk(ctx context.Context, c *client, stdout io.Writer) error {
	filter := map[string]any{}
	if j.status != "" {
		filter["status"] = strings.Split(j.status, ",")
	}
	for name, value := range map[string]string{"variant": j.variant, "label": j.label} {
		if value != "" {
			filter[name] = value
		}
	}
	dry, err := j.bulkPage(ctx, c, map[string]any{"action": j.verb, "filter": filter})
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s %s: the filter %s\n", j.verb, dry.many(), printable(string(dry.Filter)))
	if j.dryRun || dry.Total == 0 {
		return nil
	}
	if err := j.agree(dry, stdout); err != nil {
		return err
	}
	done, refused := 0, 0
	for request := map[string]any{"action": j.verb, "filter": dry.Filter, "confirm": dry.Confirm}; ; {
		page, err := j.bulkPage(ctx, c, request)
		if err != nil {
			return fmt.Errorf("after %d jobs: %w", done, err)
		}
		done += page.Done
		for _, r := range page.Refused {
			refused++
			fmt.Fprintf(stdout, "%s refused (%s): %s\n", printable(r.JobID), printable(r.Code), printable(r.Detail))
		}
		if page.Next == nil {
			break
		}
		request["cursor"] = *page.Next
		fmt.Fprintf(stdout, "%d of %d\n", done+refused, dry.Total)
	}
	fmt.Fprintf(stdout, "%s is asked of %d jobs; each job's events say what comes of it\n", j.verb, done)
	if refused > 0 {
		return fmt.Errorf("%d jobs refused it", refused)
	}
	return nil
}

func (j jobsFlags) bulkPage(ctx context.Context, c *client, request map[string]any) (page bulkDoc, err error) {
	body, err := json.Marshal(request)
	if err != nil {
		return page, err
	}
	if err := c.call(ctx, http.MethodPost, "/api/jobs/bulk", nil, body, &page); err != nil {
		return page, fmt.Errorf("cannot %s the jobs: %w", j.verb, err)
	}
	return page, nil
}

// agree asks whether it shall be done, unless --yes has said so.
func (j jobsFlags) agree(dry bulkDoc, stdout io.Writer) error {
	if j.yes {
		return nil
	}
	fmt.Fprintf(stdout, "%s %s? [y/N] ", j.verb, dry.many())
	line, err := bufio.NewReader(j.stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("cannot read the answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return errors.New("nothing was done; answer y, or give --yes")
}
