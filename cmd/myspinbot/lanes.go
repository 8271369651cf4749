// `myspinbot lanes`: the lanes, and pausing them.

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
	f := flag.NewFlagSet("lanes", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() { fmt.Fprintln(stderr, lanesUsage); f.PrintDefaults() }
	server := f.String("server", "", "address of the API; default $MYSPINBOT_SERVER, else "+defaultServer)
	asJSON := f.Bool("json", false, "print the API's answer")
	words, err := parseAnywhere(f, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2 // the flag set has said why
	case len(words) == 0:
		words = []string{"list"}
	}
	list := words[0] == "list" && len(words) == 1
	if set := words[0] == "pause" || words[0] == "resume"; !list && (!set || len(words) != 2) {
		fmt.Fprintln(stderr, lanesUsage)
		return 2
	}
	c, err := newClient(*server)
	if err == nil && list {
		err = listLanes(ctx, c, *asJSON, stdout)
	} else if err == nil {
		err = setLane(ctx, c, words[0], words[1], *asJSON, stdout)
	}
	if err != nil {
		fmt.Fprintf(stderr, "myspinbot lanes: %v\n", err)
		return 1
	}
	return 0
}

func listLanes(ctx context.Context, c *client, asJSON bool, stdout io.Writer) error {
	var raw json.RawMessage
	if err := c.call(ctx, http.MethodGet, "/api/lanes", nil, nil, &raw); err != nil {
		return fmt.Errorf("cannot list the lanes: %w", err)
	}
	if asJSON {
		return printRaw(stdout, raw)
	}
	var page struct {
		Items []laneDoc `json:"items"`
	}
	if err := json.Unmarshal(raw, &page); err != nil {
		return fmt.Errorf("the server's answer cannot be read: %w", err)
	}
	t := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
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

func setLane(ctx context.Context, c *client, verb, lane string, asJSON bool, stdout io.Writer) error {
	var raw json.RawMessage
	if err := c.call(ctx, http.MethodPost, "/api/lanes/"+url.PathEscape(lane)+"/"+verb, nil, []byte("{}"), &raw); err != nil {
		return fmt.Errorf("cannot %s the lane: %w", verb, err)
	}
	if asJSON {
		return printRaw(stdout, raw)
	}
	var l laneDoc
	if err := json.Unmarshal(raw, &l); err != nil {
		return fmt.Errorf("the server's answer cannot be read: %w", err)
	}
	if l.Paused {
		fmt.Fprintf(stdout, "lane %s is paused; %d attempts go on to their end\n", printable(l.Lane), l.Running)
	} else {
		fmt.Fprintf(stdout, "lane %s is open\n", printable(l.Lane))
	}
	return nil
}
