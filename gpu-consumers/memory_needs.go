// What an attempt needs of the card: by configuration, by what was measured, and by what
// its engine says.

package gpu

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/myspinbot/myspinbot/events"
)

// need is one line of the configuration.
type need struct {
	task, engine, resolution string // engine and resolution may be empty: any
	mib                      int
}

// parseNeeds reads lines like lipsync.apply/comfyui-s2v@1080p=22000.
func parseNeeds(lines []string) ([]need, error) {
	needs := make([]need, 0, len(lines))
	for _, line := range lines {
		name, amount, ok := strings.Cut(line, "=")
		mib, err := strconv.Atoi(strings.TrimSpace(amount))
		var n need
		name, n.resolution, _ = strings.Cut(strings.TrimSpace(name), "@")
		n.task, n.engine, _ = strings.Cut(name, "/")
		n.mib = mib
		switch {
		case !ok || err != nil || mib < 0 || mib > 1<<24:
			return nil, fmt.Errorf("cannot read the need %q: give TASK=MIB, such as render_video@1080p=12000", line)
		case taskLanes[n.task] == "":
			return nil, fmt.Errorf("cannot use the need %q: tasks are %s", line, strings.Join(slices.Sorted(maps.Keys(taskLanes)), ", "))
		case n.resolution != "" && !slices.ContainsFunc(resolutions, func(r resolution) bool { return r.name == n.resolution }):
			return nil, fmt.Errorf("cannot use the need %q: resolutions are 576p, 720p and 1080p", line)
		}
		needs = append(needs, n)
	}
	return needs, nil
}

// peakOf is what a measured peak is of.
type peakOf struct{ task, engine, model, resolution string }

// peak is the most of the card's memory that an attempt was seen to take.
type peak struct {
	MiB int
	Own bool // its server told so; otherwise the whole card showed it
}

// measured is what was measured of such an attempt; zero: nothing was.
func (m *memory) measured(can events.TaskCapability, resolution string) peak {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, told := m.peaks[peakOf{can.Task, can.Engine, can.Model, ""}]
	if !told {
		p = m.peaks[peakOf{can.Task, can.Engine, can.Model, resolution}]
	}
	return p
}

// need is what the engine takes for the attempt in MiB: what the configuration says, of
// its lines the one that says most about it, or what the engine's server has told, or else
// what the engine guesses; and no less than was measured, as far as the card has that much.
func (m *memory) need(e engine, can events.TaskCapability, a *Attempt) int {
	mib, exact := 0, -1
	if w, ok := e.(weighty); ok {
		mib = w.weighs()
	}
	resolution := a.resolution()
	measured := m.measured(can, resolution)
	if measured.Own {
		mib = measured.MiB
	}
	for _, n := range m.needs {
		if n.task != can.Task || n.engine != "" && n.engine != can.Engine || n.resolution != "" && n.resolution != resolution {
			continue
		}
		says := 0
		if n.engine != "" {
			says += 2
		}
		if n.resolution != "" {
			says++
		}
		if says > exact {
			mib, exact = n.mib, says
		}
	}
	if card := m.account(); card != nil {
		measured.MiB = min(measured.MiB, card.Budget())
	}
	return max(mib, measured.MiB)
}

// announced are the needs of an engine as the manifest tells them: one for all
// resolutions where it is the same, else one of each.
func (m *memory) announced(e engine, can events.TaskCapability) []events.TaskNeed {
	var out []events.TaskNeed
	for _, r := range resolutions {
		a := &Attempt{Task: can.Task, Params: map[string]any{"resolution": r.name}}
		out = append(out, events.TaskNeed{Task: can.Task, Engine: can.Engine, Resolution: r.name, MiB: m.need(e, can, a), Measured: m.measured(can, r.name).MiB})
	}
	if !slices.ContainsFunc(out, func(n events.TaskNeed) bool { return n.MiB != out[0].MiB || n.Measured != out[0].Measured }) {
		out[0].Resolution = ""
		out = out[:1]
	}
	return out
}
