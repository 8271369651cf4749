// Loading the configuration: defaults, then the file, then the environment, then
// the flags. Every fault is collected, so that one run names them all.

package main

import (
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// fault is one thing wrong with the configuration.
type fault struct {
	where   string // key, flag or file, and where it was said
	found   string
	allowed string
}

// configError lists every fault, one a line.
type configError []fault

func (e configError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the configuration has %d fault(s):", len(e))
	for _, f := range e {
		fmt.Fprintf(&b, "\n  %s: found %s; allowed: %s", f.where, f.found, f.allowed)
	}
	b.WriteString("\n`myspinbot config schema` prints every key")
	return b.String()
}

// loader gathers values and faults.
type loader struct {
	config   Config
	settings []setting
	faults   configError
	// from says where the effective value of a key was given.
	from map[string]string
}

// loadConfig reads the configuration from args (the flags after the command's
// name, without the program's), env ("NAME=value") and the file that --config or
// MYSPINBOT_CONFIG names, else myspinbot.toml in the working directory. Flags win
// over the environment, that over the file, that over defaults; an empty variable
// counts as not set. A command's own flags may be registered in own and stand
// anywhere among the others. It returns the arguments that are no flags, and
// flag.ErrHelp when help was asked for. All faults are in one error.
func loadConfig(args, env []string, own ...*flag.FlagSet) (Config, []string, error) {
	l := &loader{from: map[string]string{}}
	l.settings = settings(&l.config)
	for _, s := range l.settings {
		if s.initial != "" && !s.set(s.initial) {
			return Config{}, nil, fmt.Errorf("the default %q of %s is not allowed: %s", s.initial, s.key, s.allowed())
		}
	}
	variables := variables(env)
	given, rest, help := l.readFlags(args, own)
	if help {
		return Config{}, nil, flag.ErrHelp
	}
	l.readFile(given["config"], variables["MYSPINBOT_CONFIG"])
	l.adoptVariables(variables)
	for _, s := range l.settings {
		if text := variables[s.env]; text != "" {
			l.assign(s, text, "environment "+s.env)
		}
	}
	for _, s := range l.settings {
		if text, ok := given[s.flag]; ok {
			l.assign(s, text, "flag --"+s.flag)
		}
	}
	l.finish()
	if len(l.faults) > 0 {
		return Config{}, nil, l.faults
	}
	return l.config, rest, nil
}

func variables(env []string) map[string]string {
	out := map[string]string{}
	for _, pair := range env {
		if name, value, ok := strings.Cut(pair, "="); ok {
			out[name] = value
		}
	}
	return out
}

func (l *loader) fail(where, found, allowed string) {
	l.faults = append(l.faults, fault{where, found, allowed})
}

// assign stores a text that somebody gave for a key.
func (l *loader) assign(s setting, text, from string) {
	if !s.set(text) {
		l.fail(s.key+" ("+from+")", shown(s, text), s.allowed())
		return
	}
	l.from[s.key] = from
}

// shown quotes what was found, unless it is a secret.
func shown(s setting, text string) string {
	if s.kind == "secret" {
		return fmt.Sprintf("a secret of %d characters", len(text))
	}
	return strconv.Quote(text)
}

// readFlags sorts args into values of settings, a command's own flags, and the rest.
func (l *loader) readFlags(args []string, own []*flag.FlagSet) (given map[string]string, rest []string, help bool) {
	given = map[string]string{}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			return given, append(rest, args...), false
		}
		name, value, joined := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), "=")
		switch {
		case arg == "-h" || arg == "--help":
			return nil, nil, true
		case !strings.HasPrefix(arg, "-") || arg == "-":
			rest = append(rest, arg)
			continue
		}
		take, isSwitch := l.flagTarget(name, given, own)
		if take == nil {
			l.fail("flag --"+name, "no such flag", "the flags that `myspinbot config schema` prints, and --config")
			continue
		}
		switch {
		case joined:
		case isSwitch:
			value = "true"
		case len(args) == 0:
			l.fail("flag --"+name, "no value behind it", "--"+name+" VALUE")
			continue
		default:
			value, args = args[0], args[1:]
		}
		if err := take(value); err != nil {
			l.fail("flag --"+name, strconv.Quote(value), err.Error())
		}
	}
	return given, rest, false
}

// flagTarget finds who takes the flag's value, nil for nobody.
func (l *loader) flagTarget(name string, given map[string]string, own []*flag.FlagSet) (take func(string) error, isSwitch bool) {
	store := func(value string) error { given[name] = value; return nil }
	if name == "config" {
		return store, false
	}
	if i := slices.IndexFunc(l.settings, func(s setting) bool { return s.flag == name }); i >= 0 {
		return store, l.settings[i].kind == "switch"
	}
	if l.adoptFlag(name) {
		return store, false
	}
	for _, set := range own {
		if f := set.Lookup(name); f != nil {
			b, ok := f.Value.(interface{ IsBoolFlag() bool })
			return func(value string) error { return set.Set(name, value) }, ok && b.IsBoolFlag()
		}
	}
	return nil, false
}
