// Package docs holds the pages for readers, and tests that keep what they name true.
package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = ".."

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// The walk of one job is the way into the code: ten files, in the order of the job.
func TestTheWalkNamesTenFilesThatExist(t *testing.T) {
	t.Parallel()
	steps := regexp.MustCompile("(?m)^(\\d+)\\. \\[`([^`]+)`\\]\\(\\.\\./([^)]+)\\)").FindAllStringSubmatch(read(t, "docs/architecture.md"), -1)
	if len(steps) != 10 {
		t.Fatalf("the walk has %d steps, want 10", len(steps))
	}
	for _, s := range steps {
		if s[2] != s[3] {
			t.Errorf("step %s shows %s and leads to %s", s[1], s[2], s[3])
		}
		if info, err := os.Stat(filepath.Join(root, s[2])); err != nil || !info.Mode().IsRegular() {
			t.Errorf("step %s names %s, which is no file", s[1], s[2])
		}
	}
}

// Every relative link of every page leads to something.
func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	for i := range pages {
		pages[i] = "docs/" + pages[i]
	}
	pages = append(pages, "README.md", "CHANGELOG.md")
	link := regexp.MustCompile(`\]\(([^)#]+)(#[^)]*)?\)`)
	for _, page := range pages {
		for _, m := range link.FindAllStringSubmatch(read(t, page), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", page, m[1])
			}
		}
	}
}

// Problem documents point at errors.md by their code.
func TestEveryErrorCodeHasItsParagraph(t *testing.T) {
	t.Parallel()
	codes := regexp.MustCompile(`(?m)^\tcode\w+\s+= "([a-z_]+)"$`).FindAllStringSubmatch(read(t, "api/errors.go"), -1)
	headings := regexp.MustCompile(`(?m)^## ([a-z_]+)$`).FindAllStringSubmatch(read(t, "docs/errors.md"), -1)
	want, got := second(codes), second(headings)
	if len(want) < 20 {
		t.Fatalf("api/errors.go shows %d codes", len(want))
	}
	for _, code := range want {
		if !slices.Contains(got, code) {
			t.Errorf("errors.md lacks %s", code)
		}
	}
	for _, code := range got {
		if !slices.Contains(want, code) {
			t.Errorf("errors.md tells of %s, which the API never answers", code)
		}
	}
}

// The analyst's page names every fact, and none that is not in the catalogue.
func TestFactsOfTheAnalystsPageAreReal(t *testing.T) {
	t.Parallel()
	goldens, err := filepath.Glob(filepath.Join(root, "events", "testdata", "*.v1.json"))
	if err != nil {
		t.Fatal(err)
	}
	page := read(t, "docs/analyst.md")
	var known []string
	for _, g := range goldens {
		known = append(known, strings.TrimSuffix(filepath.Base(g), ".v1.json"))
	}
	named := second(regexp.MustCompile("`((?:job|stage|artifact|approval|profile)\\.[a-z_]+)`").FindAllStringSubmatch(page, -1))
	for _, name := range named {
		if !slices.Contains(known, name) {
			t.Errorf("analyst.md tells of %s, which has no golden", name)
		}
	}
	for _, name := range known {
		if strings.HasSuffix(name, "ed") && strings.Contains("job stage artifact approval profile", strings.Split(name, ".")[0]) && !slices.Contains(named, name) { // a fact is past tense
			t.Errorf("analyst.md lacks %s", name)
		}
	}
}

func second(matches [][]string) []string {
	var out []string
	for _, m := range matches {
		out = append(out, m[1])
	}
	return out
}
