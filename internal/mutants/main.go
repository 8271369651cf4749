// Command mutants shows that the checkers can fail: it plants one known mistake after
// the other into the code, runs the quickest checker that should see it, and counts
// those that were caught; `make mutants` runs it.
//
// What belongs here: the list of mistakes and the driver. What may not: checkers;
// those are the tests and simulations of the packages. A mistake is planted by
// `go test -overlay`, so that no file of the checkout ever changes.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// mutant is one planted mistake.
type mutant struct {
	name    string
	about   string // what the code then does wrong
	file    string // from the checkout's root
	old     string // occurs exactly once in the file
	new     string
	checker checker
}

// checker is one run of go test.
type checker struct {
	pkg  string // from the checkout's root
	run  string // -run
	env  string // one NAME=value, or empty
	args []string
}

func (c checker) String() string {
	return strings.TrimSpace(c.env + " go test -run '" + c.run + "' ./" + c.pkg)
}

// longest bounds one run: a mutant may well make a test hang.
const longest = 5 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	only := flag.String("only", "", "regular expression over the mutants' names")
	root := flag.String("root", ".", "the checkout")
	flag.Parse()
	if err := run(ctx, *root, *only, mutants(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, root, only string, all []mutant, out io.Writer) error {
	pattern, err := regexp.Compile(only)
	if err != nil {
		return fmt.Errorf("cannot read -only: %w", err)
	}
	if root, err = filepath.Abs(root); err != nil {
		return fmt.Errorf("cannot find the checkout: %w", err)
	}
	chosen := slices.DeleteFunc(slices.Clone(all), func(m mutant) bool { return !pattern.MatchString(m.name) })
	if len(chosen) == 0 {
		return fmt.Errorf("no mutant's name matches %q", only)
	}
	dir, err := os.MkdirTemp("", "myspinbot-mutants-")
	if err != nil {
		return fmt.Errorf("cannot make a temporary folder: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // temporary
	d := &driver{root: root, dir: dir, out: out}
	if err := d.clean(ctx, chosen); err != nil {
		return err
	}
	return d.plantAll(ctx, chosen)
}

type driver struct {
	root, dir string

	mu  sync.Mutex
	out io.Writer
}

// each runs f for every index on as many goroutines as there are processors.
func each(n int, f func(i int) error) error {
	var wait sync.WaitGroup
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	errs := make([]error, n)
	for i := range n {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			errs[i] = f(i)
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

// clean checks that every checker passes on the code as it is: one that fails anyway
// would catch everything.
func (d *driver) clean(ctx context.Context, chosen []mutant) error {
	seen := map[string]checker{}
	for _, m := range chosen {
		seen[m.checker.String()] = m.checker
	}
	checkers := make([]checker, 0, len(seen))
	for _, c := range seen {
		checkers = append(checkers, c)
	}
	return each(len(checkers), func(i int) error {
		if passed, output := d.test(ctx, checkers[i], ""); !passed {
			return fmt.Errorf("%s fails without a mistake:\n%s", checkers[i], output)
		}
		return nil
	})
}

// plantAll plants every mistake and tells which were caught.
func (d *driver) plantAll(ctx context.Context, chosen []mutant) error {
	caught := make([]bool, len(chosen))
	began := time.Now()
	err := each(len(chosen), func(i int) (err error) {
		start := time.Now()
		caught[i], err = d.plant(ctx, chosen[i])
		verdict := "caught"
		if !caught[i] {
			verdict = "MISSED"
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		fmt.Fprintf(d.out, "%-6s %-32s %5.1f s  %s\n", verdict, chosen[i].name, time.Since(start).Seconds(), chosen[i].about)
		return err
	})
	n := 0
	for _, c := range caught {
		if c {
			n++
		}
	}
	fmt.Fprintf(d.out, "caught %d of %d in %.1f min\n", n, len(chosen), time.Since(began).Minutes())
	if err == nil && n < len(chosen) {
		err = errors.New("a checker has missed a mistake")
	}
	return err
}

// plant plants one mistake and tells whether its checker sees it.
func (d *driver) plant(ctx context.Context, m mutant) (bool, error) {
	path := filepath.Join(d.root, m.file)
	source, err := os.ReadFile(path)
	if err != nil {
		return false, fmt.Errorf("mutant %s: %w", m.name, err)
	}
	if n := strings.Count(string(source), m.old); n != 1 {
		return false, fmt.Errorf("mutant %s: %s holds its text %d times, want once; the code has moved on", m.name, m.file, n)
	}
	changed := filepath.Join(d.dir, m.name+".go")
	if err := os.WriteFile(changed, []byte(strings.Replace(string(source), m.old, m.new, 1)), 0o600); err != nil {
		return false, fmt.Errorf("mutant %s: %w", m.name, err)
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {path: changed}})
	if err != nil {
		return false, err
	}
	overlayFile := filepath.Join(d.dir, m.name+".json")
	if err := os.WriteFile(overlayFile, overlay, 0o600); err != nil {
		return false, fmt.Errorf("mutant %s: %w", m.name, err)
	}
	passed, output := d.test(ctx, m.checker, overlayFile)
	if strings.Contains(output, "[build failed]") || strings.Contains(output, "[setup failed]") {
		return false, fmt.Errorf("mutant %s does not compile:\n%s", m.name, output)
	}
	return !passed, nil
}

// test runs a checker, over the planted mistake if there is one.
func (d *driver) test(ctx context.Context, c checker, overlay string) (passed bool, output string) {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	args := []string{"test", "-count=1", "-vet=off", "-failfast", "-timeout", "4m", "-run", c.run}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	args = append(append(args, "./"+c.pkg), c.args...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = d.root
	// Properties would note their failures in the checkout and try them first the next time.
	cmd.Env = append(os.Environ(), "RAPID_NOFAILFILE=true")
	if c.env != "" {
		cmd.Env = append(cmd.Env, c.env)
	}
	b, err := cmd.CombinedOutput()
	return err == nil && !strings.Contains(string(b), "no tests to run"), string(b[max(0, len(b)-4000):])
}
