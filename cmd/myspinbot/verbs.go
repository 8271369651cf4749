// What the small commands share that only ask the API: their flags, usage and exit status.

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
)

// asker is one call of such a command.
type asker struct {
	client *client
	words  []string // of the command line, without flags
	asJSON bool
	stdout io.Writer
}

// misuse is an error in how a command was called, which can be seen without a server.
type misuse struct{ error }

// runAsking parses the flags of the command called name, and those that it has beside the
// usual ones, and runs it. fits says whether its words make sense. It returns the exit
// status: 0 fine, 1 failed, 2 wrong usage.
func runAsking(ctx context.Context, name, usage string, args []string, stdout, stderr io.Writer,
	fits func(words []string) bool, run func(ctx context.Context, a asker) error, own ...func(*flag.FlagSet),
) int {
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() { fmt.Fprintln(stderr, usage); f.PrintDefaults() }
	var server, keyFile string
	defineServer(f, &server, &keyFile)
	asJSON := f.Bool("json", false, "print the API's answer")
	for _, define := range own {
		define(f)
	}
	words, err := parseAnywhere(f, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2 // the flag set has said why
	case !fits(words):
		fmt.Fprintln(stderr, usage)
		return 2
	}
	c, err := newClient(server, keyFile)
	if err == nil {
		err = run(ctx, asker{c, words, *asJSON, stdout})
	}
	if err != nil {
		fmt.Fprintf(stderr, "myspinbot %s: %v\n", name, err)
		if errors.As(err, &misuse{}) {
			return 2
		}
		return 1
	}
	return 0
}

// ask calls the API and reads the answer into doc; with --json it prints the answer
// instead, and that is all there is to do.
func (a asker) ask(ctx context.Context, method, path string, body []byte, doc any) (done bool, err error) {
	var raw json.RawMessage
	if err := a.client.call(ctx, method, path, nil, body, &raw); err != nil {
		return false, err
	}
	if a.asJSON {
		return true, printRaw(a.stdout, raw)
	}
	if err := json.Unmarshal(raw, doc); err != nil {
		return false, fmt.Errorf("the server's answer cannot be read: %w", err)
	}
	return false, nil
}
