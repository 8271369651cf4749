// `myspinbot webhooks`: what a job's webhook was told, and telling it again; and the
// flags of `submit` that ask for one.

package main

import (
	"cmp"
	"context"
	"encoding/json"
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
		Endpoint string     `json:"endpoint"` // empty: the job's own webhook
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
	fits := func(words []string) bool { return len(words) == 1 || verb == "redeliver" && len(words) == 2 }
	return runAsking(ctx, "webhooks", webhooksUsage, args, stdout, stderr, fits, func(ctx context.Context, a asker) error {
		if verb == "list" {
			return a.listDeliveries(ctx, a.words[0])
		}
		return a.redeliver(ctx)
	})
}

func (a asker) listDeliveries(ctx context.Context, job string) error {
	var d deliveriesDoc
	if done, err := a.ask(ctx, http.MethodGet, "/api/jobs/"+url.PathEscape(job)+"/deliveries", nil, &d); err != nil {
		return fmt.Errorf("cannot list the deliveries: %w", err)
	} else if done {
		return nil
	}
	if h := d.Webhook; h != nil {
		fmt.Fprintf(a.stdout, "%s is %s, and is told of %s\n", printable(h.URL), printable(h.State), printable(strings.Join(h.Events, ", ")))
	} else {
		fmt.Fprintln(a.stdout, "the job tells no webhook of its own")
	}
	if d.Webhook == nil && len(d.Items) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "DELIVERY\tTO\tEVENT\tSTATUS\tATTEMPTS\tLAST\tSAID\tNEXT")
	for _, i := range d.Items {
		last, said, next := "", "", ""
		if n := len(i.Attempts); n > 0 {
			try := i.Attempts[n-1]
			last, said = try.At.Local().Format(time.DateTime), fmt.Sprintf("%d in %d ms", try.Status, try.LatencyMS)
			if try.Message != "" {
				said = try.Message
			}
		}
		if i.Next != nil {
			next = i.Next.Local().Format(time.DateTime)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", printable(i.ID), cmp.Or(printable(i.Endpoint), "the job's own"), printable(i.Event), printable(i.Status), len(i.Attempts), last, printable(said), next)
	}
	return t.Flush()
}

// redeliver asks for a delivery of the job again; its words are the job and perhaps its id.
func (a asker) redeliver(ctx context.Context) error {
	body := []byte("{}")
	if len(a.words) == 2 {
		var err error
		if body, err = json.Marshal(map[string]string{"delivery_id": a.words[1]}); err != nil {
			return err
		}
	}
	var answer struct {
		Detail string `json:"detail"`
	}
	if done, err := a.ask(ctx, http.MethodPost, "/api/jobs/"+url.PathEscape(a.words[0])+"/redeliver", body, &answer); err != nil {
		return fmt.Errorf("cannot ask for it: %w", err)
	} else if done {
		return nil
	}
	fmt.Fprintln(a.stdout, printable(answer.Detail))
	return nil
}
