// The table of what tasks read and write against the catalogue, its engines' words and
// the page that shows it.

package aggregates

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// Built-in pipelines are wired as a file has to be.
func TestBuiltInPipelinesKeepToThePorts(t *testing.T) {
	t.Parallel()
	for _, p := range Pipelines() {
		for _, n := range p.Nodes {
			io, ok := taskPort[n.Task]
			if !ok {
				t.Errorf("task %s has no ports", n.Task)
			}
			for name := range n.In {
				if _, ok := io.in[name]; !ok {
					t.Errorf("%s/%s reads %s, which %s does not have", p.Variant, n.ID, name, n.Task)
				}
			}
			for name := range io.in {
				if _, wired := n.In[name]; !wired && !io.in[name].optional {
					t.Errorf("%s/%s does not read %s", p.Variant, n.ID, name)
				}
			}
			for name := range n.Out {
				if port, ok := io.out[name]; !ok || port.passes != (n.Pass[name] != "") {
					t.Errorf("%s/%s writes %s as %s does not", p.Variant, n.ID, name, n.Task)
				}
			}
		}
	}
}

func TestThePageShowsThePorts(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/pipelines.md")
	if err != nil {
		t.Fatal(err)
	}
	for task, io := range taskPort {
		_, row, found := strings.Cut(string(page), "| `"+task+"` | ")
		row, _, _ = strings.Cut(row, "\n")
		cells := strings.Split(row, "|")
		if !found || len(cells) < 2 {
			t.Errorf("the page has no row for %s", task)
			continue
		}
		for i, names := range []map[string]port{io.in, io.out} {
			var shown []string
			for j, word := range strings.Split(cells[i], "`") {
				if j%2 == 1 {
					shown = append(shown, word)
				}
			}
			var want []string
			for _, name := range slices.Sorted(maps.Keys(names)) {
				if names[name].optional {
					name += "?"
				}
				want = append(want, name)
			}
			slices.Sort(shown)
			slices.Sort(want)
			if !slices.Equal(shown, want) {
				t.Errorf("%s: the page shows %v, the table has %v", task, shown, want)
			}
		}
	}
}
