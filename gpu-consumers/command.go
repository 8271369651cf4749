// What all engines share that are a program of somebody's: its command line with holes,
// how its output tells how far it is, and what its last words mean.
//
// Rules: no shell ever reads the line; each argument is a word of the template with its
// holes filled in, and can become neither two nor none; a value is never looked at again
// for holes; the program gets the environment that is named and a folder of its own,
// below which every path that it is told is a plain name; it is ended with all that it
// started, when it is asked to, when it is silent for too long and when it takes too long;
// and one that ends well without its result has failed.

package gpu

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// ProgramEngines are the engines that are programs of others, in the order of preference.
// They belong before the built-in ones, which stand in for them.
func ProgramEngines(lips LipsyncConfig, training TrainingConfig, programs EngineConfig) ([]engine, error) {
	movers, err := LipsyncEngines(lips, programs)
	if err != nil {
		return nil, err
	}
	trainers, err := TrainingEngines(training, programs)
	return slices.Concat(movers, trainers), err
}

// Inspect says which engines can run now. It is an error when one cannot, with what each
// of those lacks and how to get it.
func Inspect(ctx context.Context, engines []engine) (string, error) {
	var able, unable []string
	for _, e := range engines {
		if can, gap := e.Capability(ctx); gap != nil {
			unable = append(unable, fmt.Sprintf("%s: %s (%s)", gap.Engine, gap.Reason, gap.Hint))
		} else {
			ready := can.Engine + " is ready, model " + cmp.Or(can.Model, can.Version)
			if can.Languages != "" {
				ready += ", languages " + string(can.Languages)
			}
			able = append(able, ready)
		}
	}
	if len(unable) > 0 {
		return "", errors.New(strings.Join(append(unable, able...), "; "))
	}
	return strings.Join(able, "; "), nil
}

var (
	anyPath     = regexp.MustCompile(`^[^-\x00][^\x00]*$`)
	anyNumber   = regexp.MustCompile(`^[0-9.]+$`)
	placeholder = regexp.MustCompile(`\{[^{}]*\}`)
)

// checkCommand refuses a command line without a program, and one with a hole that nothing
// fills. It tells which holes the line has.
func checkCommand(whose string, argv, env []string, holes map[string]*regexp.Regexp) (map[string]bool, error) {
	if len(argv) == 0 || argv[0] == "" || placeholder.MatchString(argv[0]) {
		return nil, fmt.Errorf("cannot use %s without a program: the first word of its command is the program", whose)
	}
	used := map[string]bool{}
	for _, word := range argv[1:] {
		for _, hole := range placeholder.FindAllString(word, -1) {
			if used[strings.Trim(hole, "{}")] = true; holes[strings.Trim(hole, "{}")] == nil {
				return nil, fmt.Errorf("cannot fill %s in the command of %s: there are {%s}", hole, whose, strings.Join(slices.Sorted(maps.Keys(holes)), "}, {"))
			}
		}
	}
	for _, name := range env {
		if strings.HasPrefix(name, "MYSPINBOT_") || strings.ContainsAny(name, "= \x00") || name == "" {
			return nil, fmt.Errorf("cannot hand the variable %q to the command of %s: name one that is not ours", name, whose)
		}
	}
	return used, nil
}

// fillCommand is the arguments of one call.
func fillCommand(words []string, values map[string]string) []string {
	args := make([]string, len(words))
	for i, word := range words {
		args[i] = placeholder.ReplaceAllStringFunc(word, func(hole string) string { return values[strings.Trim(hole, "{}")] })
	}
	return args
}

// programConfig is where a program is and what it may do.
type programConfig struct {
	Env     []string      // names of variables that the program gets, beside PATH, TZ and CUDA_VISIBLE_DEVICES
	Timeout time.Duration // of one call
	Idle    time.Duration // longest silence; 0: any
	Memory  int64         // bytes that each of its processes may fill; 0: any
}

// pythonEnv are variables by which Python programs find their models and libraries; they
// hold no secrets.
var pythonEnv = []string{"HF_HOME", "HF_HUB_OFFLINE", "XDG_CACHE_HOME", "TORCH_HOME", "LD_LIBRARY_PATH"}

// programRun is one call of a program.
type programRun struct {
	programConfig
	name    string // what messages call it
	argv    []string
	env     []string // NAME=value
	dir     string
	install string
	bars    *bars
	signs   []refusalRule // what its last words mean, the surest first
	circles string        // words that it repeats for ever when it cannot go on; empty: none
}

// errCircling ends a program that says itself that it is lost.
var errCircling = errors.New("it goes round in circles")

// circlesAllowed is how often a program may say that it is lost.
const circlesAllowed = 5

// run runs the program and returns the lines of its outputs, the last ones of many.
func (p programRun) run(ctx context.Context) ([]string, *logTail, error) {
	ctx, lost := context.WithCancelCause(ctx)
	defer lost(nil)
	var said []string
	bad := 0
	log := &logTail{heard: func(line string) {
		if said = append(said, line); len(said) > programLines {
			said = said[1:]
		}
		if p.circles != "" && strings.Contains(line, p.circles) {
			if bad++; bad >= circlesAllowed {
				lost(errCircling)
			}
		}
		p.bars.line(line)
	}}
	memory := p.Memory
	if memory == 0 {
		memory = -1
	}
	_, err := child{name: p.name, path: p.argv[0], args: p.argv[1:], dir: p.dir, install: p.install, timeout: p.Timeout, idle: p.Idle,
		inherit: p.Env, env: append([]string{"PYTHONUNBUFFERED=1"}, p.env...), memory: memory, file: programFile, log: log, lines: log.line}.run(ctx)
	if errors.Is(context.Cause(ctx), errCircling) {
		err = &TaskError{Class: events.ClassEngineRejected, Message: p.name + " went round in circles and was stopped", Hint: "the end of its log says why", LogTail: log.String(), Err: errCircling}
	}
	return said, log, byLastWords(err, p.name, append(p.signs, programSigns...))
}

const (
	programLines = 200
	programFile  = 64 << 30 // bytes of a file that it may write
)

// programSigns are what the last words of many programs mean.
var programSigns = []refusalRule{
	{words: []string{"out of memory", "outofmemory", "cuda_error_out_of_memory", "<signals.sigkill: 9>", "terminated with signal sigkill"}, // what starts others tells so of them
		class: events.ClassOOM, message: "ran out of memory", hint: outOfMemory.hint},
	{words: []string{"modulenotfounderror", "no module named", "can't open file", "cannot open shared object file"},
		class: events.ClassEngineUnavailable, message: "is not installed whole", hint: "the end of its log says what it lacks; install it in the engine's own environment"},
	{words: []string{"no space left on device"}, class: events.ClassEngineUnavailable, message: "found no room on the disk", hint: "make room in the work folder"},
}

// byLastWords is a program's failure in the class that its last words tell of; other
// errors pass.
func byLastWords(err error, name string, rules []refusalRule) error {
	var te *TaskError
	if !errors.As(err, &te) || te.Class != events.ClassEngineRejected {
		return err
	}
	lower := strings.ToLower(te.LogTail)
	for _, rule := range rules {
		if slices.ContainsFunc(rule.words, func(w string) bool { return strings.Contains(lower, w) }) {
			return &TaskError{Class: rule.class, Message: name + " " + rule.message, Hint: rule.hint, LogTail: te.LogTail, Err: te.Err}
		}
	}
	return err
}

// plainFile says whether a program's result is a file of its own, not empty, and no link
// that leads elsewhere.
func plainFile(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().IsRegular() && info.Size() > 0
}

// bars read how far a program is from the bars that it draws as Python's tqdm does:
// "steps:  12%|█▏        | 120/1000 [00:10<01:13, 12.0it/s]".
type bars struct {
	phases  []phase // in the order of the work; the first one begins at once
	pattern *regexp.Regexp
	report  func(percent float64)

	at   int
	best float64
}

// phase is a part of a program's work.
type phase struct {
	mark     string  // in the line with which it begins
	from, to float64 // percent of the whole
	of       float64 // how many steps its bar will really take; 0: what the bar says
}

// tqdm has two groups: steps done and all steps.
var tqdm = regexp.MustCompile(`\d{1,3}%\|[^|]*\|\s*([0-9.]+)/([0-9.]+)`)

// line reads a line of the program's output.
func (b *bars) line(line string) {
	if b == nil {
		return
	}
	for i := b.at + 1; i < len(b.phases); i++ {
		if strings.Contains(line, b.phases[i].mark) {
			b.at = i
		}
	}
	pattern := b.pattern
	if pattern == nil {
		pattern = tqdm
	}
	m := pattern.FindStringSubmatch(line)
	if m == nil || len(b.phases) == 0 {
		return
	}
	p := b.phases[b.at]
	done, all := number(m[1]), 100.0
	if len(m) > 2 {
		all = number(m[2])
	}
	if p.of > 0 {
		all = p.of
	}
	if all <= 0 {
		return
	}
	if now := p.from + (p.to-p.from)*min(1, done/all); now > b.best {
		b.best = now
		b.report(now)
	}
}

// needed is something on disk that a program cannot do without.
type needed struct {
	path, what, hint string
	folder           bool
}

// lacks says what of it is not there, or nothing.
func lacks(needs []needed) (reason, hint string) {
	var reasons, hints []string
	for _, n := range needs {
		info, err := os.Stat(n.path)
		if err == nil && info.IsDir() == n.folder {
			continue
		}
		reasons = append(reasons, n.what+" is not at "+strconv.Quote(n.path))
		if !slices.Contains(hints, n.hint) {
			hints = append(hints, n.hint)
		}
	}
	return strings.Join(reasons, "; "), strings.Join(hints, "; ")
}

// absolute refuses paths that mean something else where a program runs.
func absolute(keys string, paths ...string) error {
	for _, path := range paths {
		if path != "" && !filepath.IsAbs(path) {
			return fmt.Errorf("cannot use the path %q of %s: give an absolute one, since programs run in a folder of their own", path, keys)
		}
	}
	return nil
}

// linkInto makes entries of a program's folder reachable by their relative names from
// the folder that it runs in, for programs that look for them there.
func linkInto(dir, folder string, names ...string) error {
	for _, name := range names {
		if err := os.Symlink(filepath.Join(folder, name), filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("cannot lend the program its %s: %w", name, err)
		}
	}
	return nil
}
