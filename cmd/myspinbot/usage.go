// What the commands share: reading the configuration, and telling how they are used.

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
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

// asksForHelp says whether the first word asks for it.
func asksForHelp(args []string) bool {
	return len(args) > 0 && (args[0] == "-h" || args[0] == "--help" || args[0] == "help")
}
