// What is asked of a job that is there: cancel, approve, deny, label, and the new jobs that
// retry and rerun make of it.

package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// approvalDoc is a job's gate between its script and everything that costs.
type approvalDoc struct {
	State     string    `json:"state"`
	Script    string    `json:"script"`
	ExpiresAt time.Time `json:"expires_at"`
	By        string    `json:"by"`
	Reason    string    `json:"reason"`
}

func (a *approvalDoc) sentence(id string) string {
	text := printable(a.State)
	switch {
	case a.State == "waiting":
		text += fmt.Sprintf(" until %s; `myspinbot jobs approve %s` lets the job go on", a.ExpiresAt.Local().Format(time.DateTime), printable(id))
	case a.By != "":
		text += " by " + printable(a.By)
	}
	if a.Reason != "" {
		text += ": " + printable(a.Reason)
	}
	if a.Script != "" {
		text += "\nscript   " + printable(a.Script)
	}
	return text
}

// changes is the body that the flags of the verb make.
func (j jobsFlags) changes() ([]byte, error) {
	script, err := (&submission{text: j.text, textFile: j.textFile}).script(os.Stdin)
	if err != nil {
		return nil, err
	}
	body := map[string]any{}
	for name, text := range map[string]string{"script": script, "reason": j.reason, "from": j.from, "engines": j.engines} {
		if text != "" {
			body[name] = text
		}
	}
	if len(j.options) > 0 {
		body["options"] = j.options
	}
	if j.verb == "label" {
		body["labels"] = append([]string{}, j.words...)
	}
	return json.Marshal(body)
}

// post sends what the verb asks. The key makes a repeat after an outage harmless.
func (j jobsFlags) post(ctx context.Context, c *client, id string, out any) error {
	body, err := j.changes()
	if err != nil {
		return err
	}
	key := j.key
	if key == "" {
		key = rand.Text()
	}
	method, path := http.MethodPost, "/api/jobs/"+url.PathEscape(id)+"/"+j.verb
	if j.verb == "label" {
		method, path = http.MethodPatch, "/api/jobs/"+url.PathEscape(id)
	}
	if err := c.call(ctx, method, path, http.Header{"Idempotency-Key": {key}}, body, out); err != nil {
		return fmt.Errorf("cannot %s the job: %w", j.verb, err)
	}
	return nil
}

// ask sends a command to the job and says what came of it.
func (j jobsFlags) ask(ctx context.Context, c *client, id string, stdout io.Writer) error {
	var raw json.RawMessage
	if err := j.post(ctx, c, id, &raw); err != nil {
		return err
	}
	if j.asJSON {
		return printRaw(stdout, raw)
	}
	var answer struct {
		jobDoc
		Outcome string `json:"outcome"` // where the job cannot be shown yet
		Detail  string `json:"detail"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return fmt.Errorf("the server's answer cannot be read: %w", err)
	}
	if answer.Outcome != "" {
		fmt.Fprintf(stdout, "job %s: %s\n", printable(answer.ID), printable(answer.Detail))
		return nil
	}
	if j.verb == "label" {
		fmt.Fprintf(stdout, "job %s has the labels %s\n", printable(answer.ID), printable(strings.Join(answer.Labels, ", ")))
		return nil
	}
	fmt.Fprintf(stdout, "job %s is %s\n", printable(answer.ID), printable(answer.state()))
	return nil
}

// goOn makes a new job of one that has ended, and watches it.
func (j jobsFlags) goOn(ctx context.Context, c *client, id string, stdout io.Writer) error {
	var job jobDoc
	if err := j.post(ctx, c, id, &job); err != nil {
		return err
	}
	if job.ID == "" {
		return errors.New("the server's answer holds no job id")
	}
	return c.tellAndWatch(ctx, job, j.noWait, j.out, stdout)
}
