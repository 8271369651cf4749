// `myspinbot webhooks`: what a job's webhook was told, and telling it again; and the
// flags of `submit` that ask for one.

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
	"strings"
	"text/tabwriter"
	"time"
)

const webhooksUsage = "usage: myspinbot webhooks [list] JOB [--json] [--server URL]\n" +
	"       myspinbot webhooks redeliver JOB [DELIVERY] [--json] [--server URL]"

// webhookFlags ask for a webhook.
type webhookFlags struct{ url, events, secret string }

func (h *webhookFlags) define(f *flag.FlagSet) {
	f.StringVar(&h.url, "webhook", "", "address that is told of the job, https://…; a retry or re-run tells the same")
	f.StringVar(&h.events, "webhook-events", "", "what to tell, separated by commas, such as job.succeeded,approval.requested; default: how the job ends")
	f.StringVar(&h.secret, "webhook-secret", "", "whsec_… that messages are signed with; default: one is made and printed")
}

func (h *webhookFlags) body() map[string]any {
	body := map[string]any{"url": h.url}
	if h.events != "" {
		body["events"] = splitList(h.events)
	}
	if h.secret != "" {
		body["secret"] = h.secret
	}
	return body
}

// deliveriesDoc is what the API says of a job's webhook.
type deliveriesDoc struct {
	Webhook *struct {
		URL    string   `json:"url"`
		Events []string `json:"events"`
		State  string   `json:"state"`
	} `json:"webhook"`
	Items []struct {
		ID       string     `json:"id"`
		Event    string     `json:"event"`
		Status   string     `json:"status"`
		Next     *time.Time `json:"next_attempt_at"`
		Attempts []struct {
			At        time.Time `json:"at"`
			Status    int       `json:"http_status"`
			LatencyMS int64     `json:"latency_ms"`
			Message   string    `json:"message"`
		} `json:"attempts"`
	} `json:"items"`
}

// runWebhooks is `myspinbot webhooks`: 0 fine, 1 failed, 2 wrong usage.
func runWebhooks(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	verb := "list"
	if len(args) > 0 && (args[0] == "list" || args[0] == "redeliver") {
		verb, args = args[0], args[1:]
	}
	f := flag.NewFlagSet("webhooks "+verb, flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() { fmt.Fprintln(stderr, webhooksUsage); f.PrintDefaults() }
	server := f.String("server", "", "address of the API; default $MYSPINBOT_SERVER, else "+defaultServer)
	asJSON := f.Bool("json", false, "print the API's answer")
	words, err := parseAnywhere(f, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2 // the flag set has said why
	case len(words) != 1 && (verb != "redeliver" || len(words) != 2):
		fmt.Fprintln(stderr, webhooksUsage)
		return 2
	}
	c, err := newClient(*server)
	if err == nil && verb == "list" {
		err = c.listDeliveries(ctx, words[0], *asJSON, stdout)
	} else if err == nil {
		err = c.redeliver(ctx, words, *asJSON, stdout)
	}
	if err != nil {
		fmt.Fprintf(stderr, "myspinbot webhooks: %v\n", err)
		return 1
	}
	return 0
}

func (c *client) listDeliveries(ctx context.Context, job string, asJSON bool, stdout io.Writer) error {
	var raw json.RawMessage
	if err := c.call(ctx, http.MethodGet, "/api/jobs/"+url.PathEscape(job)+"/deliveries", nil, nil, &raw); err != nil {
		return fmt.Errorf("cannot list the deliveries: %w", err)
	}
	if asJSON {
		return printRaw(stdout, raw)
	}
	var d deliveriesDoc
	if err := json.Unmarshal(raw, &d); err != nil {
		return fmt.Errorf("the server's answer cannot be read: %w", err)
	}
	if d.Webhook == nil {
		fmt.Fprintln(stdout, "the job tells no webhook")
		return nil
	}
	fmt.Fprintf(stdout, "%s is %s, and is told of %s\n", printable(d.Webhook.URL), printable(d.Webhook.State), printable(strings.Join(d.Webhook.Events, ", ")))
	t := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "DELIVERY\tEVENT\tSTATUS\tATTEMPTS\tLAST\tSAID\tNEXT")
	for _, i := range d.Items {
		last, said, next := "", "", ""
		if n := len(i.Attempts); n > 0 {
			a := i.Attempts[n-1]
			last, said = a.At.Local().Format(time.DateTime), fmt.Sprintf("%d in %d ms", a.Status, a.LatencyMS)
			if a.Message != "" {
				said = a.Message
			}
		}
		if i.Next != nil {
			next = i.Next.Local().Format(time.DateTime)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%s\t%s\n", printable(i.ID), printable(i.Event), printable(i.Status), len(i.Attempts), last, printable(said), next)
	}
	return t.Flush()
}

// redeliver asks for a delivery of the job again; words are the job and perhaps its id.
func (c *client) redeliver(ctx context.Context, words []string, asJSON bool, stdout io.Writer) error {
	body := []byte("{}")
	if len(words) == 2 {
		var err error
		if body, err = json.Marshal(map[string]string{"delivery_id": words[1]}); err != nil {
			return err
		}
	}
	var raw json.RawMessage
	if err := c.call(ctx, http.MethodPost, "/api/jobs/"+url.PathEscape(words[0])+"/redeliver", nil, body, &raw); err != nil {
		return fmt.Errorf("cannot ask for it: %w", err)
	}
	if asJSON {
		return printRaw(stdout, raw)
	}
	var answer struct {
		Detail string `json:"detail"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return fmt.Errorf("the server's answer cannot be read: %w", err)
	}
	fmt.Fprintln(stdout, printable(answer.Detail))
	return nil
}
