// Command myspinbot is the whole program: every role, and every tool.
//
// What belongs here: the composition root, configuration, the command line. What
// may not: rules, engines, SQL; those have packages of their own.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"
)

// command is one word of the command line. It returns the exit status: 0 fine,
// 1 failed, 2 wrong usage.
type command struct {
	name  string
	about string
	run   func(ctx context.Context, args []string, stdout, stderr io.Writer) int
}

func commands() []command {
	return []command{
		{"demo", "two talking videos from a sample portrait, everything started and stopped", runDemo},
		{"dev", "the whole system on this machine, until Ctrl-C", runDev},
		{"run", "the roles of one process, against running services", runRun},
		{"submit", "make a video: upload, submit, watch, download", runSubmit},
		{"jobs", "list jobs, show one, cancel, approve, deny, retry or re-run it", runJobs},
		{"profiles", "list profiles, make or show one, rename, archive, restore or erase it, record or withdraw its consent", runProfiles},
		{"pipelines", "list what can be asked for, or check a folder with pipelines of your own", runPipelines},
		{"webhooks", "what a job's webhook was told and what came of it; tell it again", runWebhooks},
		{"keys", "issue an API key, list or revoke those there are", runKeys},
		{"lanes", "list the lanes, pause or resume one", runLanes},
		{"log", "log tail: print records as they come; log export and import: carry a history elsewhere", runLog},
		{"replay", "the tables against the log: rebuild, generations, verify, status, one job alone, or as they were", runReplay},
		{"deadletters", "list the records that could not be handled, show, replay or discard one", runDeadLetters},
		{"config", "config schema: print every key of the configuration", runConfig},
		{"doctor", "say what is missing and how to get it", runDoctor},
	}
}

func main() {
	// The first signal asks for an orderly end; a second one kills.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() { <-ctx.Done(); stop() }()
	os.Exit(dispatch(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func dispatch(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		usage(stdout)
		if len(args) == 0 {
			return 2
		}
		return 0
	}
	name := args[0]
	if name == "job" { // what people say of one
		name = "jobs"
	}
	for _, c := range commands() {
		if c.name == name {
			return c.run(ctx, args[1:], stdout, stderr)
		}
	}
	fmt.Fprintf(stderr, "myspinbot: there is no command %q\n\n", args[0])
	usage(stderr)
	return 2
}

func usage(w io.Writer) {
	fmt.Fprint(w, "myspinbot makes short, personal talking videos on your own machines.\n\nusage: myspinbot COMMAND [flags]\n\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range commands() {
		fmt.Fprintf(t, "  %s\t%s\n", c.name, c.about)
	}
	t.Flush() //nolint:errcheck // to a terminal
	fmt.Fprint(w, "\n`myspinbot COMMAND --help` tells more.\n")
}

// failed prints an error as the program's last word.
func failed(stderr io.Writer, err error) int {
	fmt.Fprintf(stderr, "myspinbot: %v\n", err)
	return 1
}
