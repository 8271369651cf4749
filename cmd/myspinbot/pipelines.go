// Pipelines of an installation's own: the folder they lie in, and `myspinbot pipelines`.

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/myspinbot/myspinbot/aggregates"
)

// maxPipelineFile is what is read of a file at most; the planner's own bound is less.
const maxPipelineFile = 1 << 20

// loadPipelines reads every *.json of a folder, or one file. All faults are in one
// error, each with its file and JSON pointer.
func loadPipelines(path string) (aggregates.Catalogue, error) {
	var c aggregates.Catalogue
	if path == "" {
		return c, nil
	}
	files, err := pipelineFiles(path)
	if err != nil {
		return c, fmt.Errorf("pipelines.dir cannot be used: %w", err)
	}
	var faults []error
	for _, file := range files {
		text, err := readAtMost(file, maxPipelineFile)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		p, reasons := aggregates.ReadPipeline(text)
		if len(reasons) == 0 {
			reasons = c.Add(p)
		}
		for _, r := range reasons {
			at := file
			if r.Field != "" {
				at += ": " + r.Field
			}
			faults = append(faults, fmt.Errorf("%s: %s (%s)", at, r.Detail, r.Code))
		}
	}
	if len(faults) > 0 {
		return aggregates.Catalogue{}, fmt.Errorf("the pipelines of %s have %d fault(s):\n%w", path, len(faults), errors.Join(faults...))
	}
	return c, nil
}

func pipelineFiles(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries { // in the order of their names
		if !e.IsDir() && strings.HasSuffix(e.Name(), ".json") {
			files = append(files, filepath.Join(path, e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("there is no .json file in %s", path)
	}
	return files, nil
}

func readAtMost(path string, n int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, &fs.PathError{Op: "read", Path: path, Err: errors.New("it is no plain file")}
	case info.Size() > n:
		return nil, &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("it has more than %d bytes", n)}
	}
	return io.ReadAll(io.LimitReader(f, n))
}

const pipelinesUsage = "usage: myspinbot pipelines [list] [--json] [--server URL]\n" +
	"       myspinbot pipelines check DIR|FILE"

// runPipelines is `myspinbot pipelines`: 0 fine, 1 failed or faulty, 2 wrong usage.
func runPipelines(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == "check" {
		return checkPipelines(args[1:], stdout, stderr)
	}
	if len(args) > 0 && args[0] == "list" {
		args = args[1:]
	}
	none := func(words []string) bool { return len(words) == 0 }
	return runAsking(ctx, "pipelines", pipelinesUsage, args, stdout, stderr, none, func(ctx context.Context, a asker) error { return a.listPipelines(ctx) })
}

func (a asker) listPipelines(ctx context.Context) error {
	var list struct {
		Items []struct {
			ID, Mode, Variant, Title string
			Own                      bool
			Missing                  []string
			Unreal                   []string `json:"missing_real"`
		}
	}
	if done, err := a.ask(ctx, http.MethodGet, "/api/pipelines", nil, &list); done || err != nil {
		return err
	}
	t := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "VARIANT\tMODE\tPIPELINE\tNOW\tTITLE")
	for _, p := range list.Items {
		now := "real"
		switch {
		case len(p.Missing) > 0:
			now = "cannot: " + few(p.Missing)
		case len(p.Unreal) > 0:
			now = "preview: " + few(p.Unreal)
		}
		id := p.ID
		if p.Own {
			id += " (own)"
		}
		for i, word := range []string{p.Variant, p.Mode, id, now, p.Title} {
			if i > 0 {
				fmt.Fprint(t, "\t")
			}
			fmt.Fprint(t, printable(word))
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

// few are the first of many words.
func few(words []string) string {
	const most = 3
	if len(words) <= most {
		return strings.Join(words, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(words[:most], ", "), len(words)-most)
}

// checkPipelines reads pipelines as every role does at its start, without any service.
func checkPipelines(args []string, stdout, stderr io.Writer) int {
	if asksForHelp(args) {
		fmt.Fprintln(stdout, pipelinesUsage)
		return 0
	}
	if len(args) != 1 || strings.HasPrefix(args[0], "-") {
		fmt.Fprintln(stderr, pipelinesUsage)
		return 2
	}
	c, err := loadPipelines(args[0])
	if err != nil {
		return failed(stderr, err)
	}
	for _, p := range c.Own() {
		var options []string
		for _, o := range p.Options() {
			options = append(options, o.Name)
		}
		slices.Sort(options)
		fmt.Fprintf(stdout, "ok  %s: variant %s, mode %s, %d nodes, options %s\n", p.Workflow, p.Variant, p.Mode, len(p.Nodes), strings.Join(options, ", "))
	}
	return 0
}
