// The driver: a mistake that a checker sees, one that it does not, and lists that the
// code has outgrown.

package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// checkout is a module with one function and one test.
func checkout(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":        "module example\n\ngo 1.26\n",
		"sum/sum.go":    "package sum\n\nfunc Sum(a, b int) int { return a + b }\n\nfunc Twice(a int) int { return 2 * a }\n",
		"sum/s_test.go": "package sum\n\nimport \"testing\"\n\nfunc TestSum(t *testing.T) {\n\tif Sum(1, 2) != 3 {\n\t\tt.Fatal(\"wrong\")\n\t}\n}\n",
		"bad/b_test.go": "package bad\n\nimport \"testing\"\n\nfunc TestBad(t *testing.T) { t.Fatal(\"always\") }\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestDriver(t *testing.T) {
	t.Parallel()
	dir := checkout(t)
	sum := checker{pkg: "sum", run: "TestSum"}
	seen := mutant{name: "minus", about: "subtracts", file: "sum/sum.go", old: "a + b", new: "a - b", checker: sum}
	for name, c := range map[string]struct {
		mutant mutant
		want   string // in output or error; empty: all is well
	}{
		"caught":            {seen, ""},
		"missed":            {mutant{name: "thrice", file: "sum/sum.go", old: "2 * a", new: "3 * a", checker: sum}, "missed a mistake"},
		"outgrown":          {mutant{name: "gone", file: "sum/sum.go", old: "a * b", checker: sum}, "0 times"},
		"does not compile":  {mutant{name: "broken", file: "sum/sum.go", old: "a + b", new: "a +", checker: sum}, "does not compile"},
		"no such test":      {mutant{name: "x", file: "sum/sum.go", old: "a + b", new: "a - b", checker: checker{pkg: "sum", run: "TestNone"}}, "fails without a mistake"},
		"checker fails too": {mutant{name: "y", file: "sum/sum.go", old: "a + b", new: "a - b", checker: checker{pkg: "bad", run: "TestBad"}}, "fails without a mistake"},
	} {
		var out bytes.Buffer
		err := run(context.Background(), dir, "", []mutant{c.mutant}, &out)
		switch {
		case c.want == "" && (err != nil || !strings.Contains(out.String(), "caught 1 of 1")):
			t.Errorf("%s: %v\n%s", name, err, &out)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

// Every mistake of the list can be planted into the code as it is.
func TestListIsCurrent(t *testing.T) {
	t.Parallel()
	all := mutants()
	if len(all) < 20 {
		t.Errorf("the list has %d mistakes, want at least 20", len(all))
	}
	names := map[string]bool{}
	for _, m := range all {
		source, err := os.ReadFile(filepath.Join("../..", m.file))
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(source), m.old); n != 1 || m.old == m.new {
			t.Errorf("%s: %s holds its text %d times, want once", m.name, m.file, n)
		}
		if names[m.name] || m.about == "" {
			t.Errorf("%s: names are unique, and every mistake says what it is", m.name)
		}
		names[m.name] = true
	}
}
