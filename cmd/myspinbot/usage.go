// What the commands share: reading the configuration, and telling how they are used.

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// commandConfig reads the configuration of a command that takes flags alone; own
// are its flags beside the configuration's. Unless ok, the command ends with status.
func commandConfig(usage, about string, args []string, stdout, stderr io.Writer, own ...*flag.FlagSet) (cfg Config, status int, ok bool) {
	cfg, rest, err := loadConfig(args, os.Environ(), own...)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintf(stdout, "usage: myspinbot %s [flags]\n%s\n\n", usage, about)
		for _, set := range own {
			set.SetOutput(stdout)
			set.PrintDefaults()
		}
		fmt.Fprintln(stdout, "Every key of the configuration is a flag as well: `myspinbot config schema` prints them.")
		return cfg, 0, false
	case err != nil:
		return cfg, failed(stderr, err), false
	case len(rest) > 0:
		fmt.Fprintf(stderr, "myspinbot: %q is not expected here; usage: myspinbot %s [flags]\n", rest[0], usage)
		return cfg, 2, false
	}
	return cfg, 0, true
}

// verbConfig reads the configuration of a command whose words begin with a verb, which is list
// when there are none; f are its own flags. Unless ok, the command ends with status.
func verbConfig(usage string, f *flag.FlagSet, args []string, stdout, stderr io.Writer) (cfg Config, verb string, words []string, status int, ok bool) {
	cfg, words, err := loadConfig(args, os.Environ(), f)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintln(stdout, usage)
		f.SetOutput(stdout)
		f.PrintDefaults()
		return cfg, "", nil, 0, false
	case err != nil:
		return cfg, "", nil, failed(stderr, err), false
	case len(words) == 0:
		return cfg, "list", nil, 0, true
	}
	return cfg, words[0], words[1:], 0, true
}

// openChecked opens the log of a command that works on it directly, once its topics are as they
// must be. The caller closes it.
func openChecked(ctx context.Context, cfg Config, stderr io.Writer) (*eventlog.Log, error) {
	log, err := openLog(cfg, newLogger(cfg, stderr))
	if err != nil {
		return nil, err
	}
	if err := log.CheckTopics(ctx); err != nil {
		log.Close()
		return nil, err
	}
	return log, nil
}

// asksForHelp says whether the first word asks for it.
func asksForHelp(args []string) bool {
	return len(args) > 0 && (args[0] == "-h" || args[0] == "--help" || args[0] == "help")
}
