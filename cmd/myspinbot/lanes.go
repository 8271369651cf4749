// `myspinbot lanes`: the lanes, and pausing them.

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"text/tabwriter"
)

const lanesUsage = "usage: myspinbot lanes [list] [--json] [--server URL]\n" +
	"       myspinbot lanes pause LANE [--json] [--server URL]   accept nothing; what runs goes on, what waits stays\n" +
	"       myspinbot lanes resume LANE [--json] [--server URL]"

// laneDoc is a lane as the API shows it.
type laneDoc struct {
	Lane    string `json:"lane"`
	Paused  bool   `json:"paused"`
	Bound   int    `json:"bound"`
	Slots   int    `json:"slots"`
	Running int    `json:"running"`
	Queued  *int   `json:"queued"`
}

// runLanes is `myspinbot lanes`: 0 fine, 1 failed, 2 wrong usage.
func runLanes(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	lists := func(words []string) bool { return len(words) == 0 || len(words) == 1 && words[0] == "list" }
	fits := func(words []string) bool {
		return lists(words) || len(words) == 2 && (words[0] == "pause" || words[0] == "resume")
	}
	return runAsking(ctx, "lanes", lanesUsage, args, stdout, stderr, fits, func(ctx context.Context, a asker) error {
		if lists(a.words) {
			return a.listLanes(ctx)
		}
		return a.setLane(ctx, a.words[0], a.words[1])
	})
}

func (a asker) listLanes(ctx context.Context) error {
	var page struct {
		Items []laneDoc `json:"items"`
	}
	if done, err := a.ask(ctx, http.MethodGet, "/api/lanes", nil, &page); err != nil {
		return fmt.Errorf("cannot list the lanes: %w", err)
	} else if done {
		return nil
	}
	t := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "LANE\tSTATE\tQUEUED\tRUNNING\tSLOTS\tBOUND")
	for _, l := range page.Items {
		state, queued := "open", "?"
		if l.Paused {
			state = "paused"
		}
		if l.Queued != nil {
			queued = fmt.Sprint(*l.Queued)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%d\n", printable(l.Lane), state, queued, l.Running, l.Slots, l.Bound)
	}
	return t.Flush()
}

func (a asker) setLane(ctx context.Context, verb, lane string) error {
	var l laneDoc
	if done, err := a.ask(ctx, http.MethodPost, "/api/lanes/"+url.PathEscape(lane)+"/"+verb, []byte("{}"), &l); err != nil {
		return fmt.Errorf("cannot %s the lane: %w", verb, err)
	} else if done {
		return nil
	}
	if l.Paused {
		fmt.Fprintf(a.stdout, "lane %s is paused; %d attempts go on to their end\n", printable(l.Lane), l.Running)
	} else {
		fmt.Fprintf(a.stdout, "lane %s is open\n", printable(l.Lane))
	}
	return nil
}
