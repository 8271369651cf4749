// Tests of what a rebuild shows.

package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/projections"
)

func TestRebuildBarShowsRateAndTimeLeft(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	now := time.Unix(1000, 0)
	bar := newRebuildBar(&out)
	bar.now = func() time.Time { return now }
	p := projections.Progress{Generation: 2, Phase: projections.PhaseCopy, Total: 4000}
	bar.see(p)
	now = now.Add(time.Second)
	p.Done, p.Events = 500, 250
	bar.see(p) // too early to be shown
	now = now.Add(time.Second)
	p.Done, p.Events = 1000, 500
	bar.see(p)
	p.Phase = projections.PhaseIndex
	bar.see(p)
	bar.end()
	want := []string{
		"generation 2: reading the log [....................]   0 %",
		"generation 2: reading the log [#####...............]  25 %, 500 events in all, 500 offsets/s, 6s left",
		"generation 2: making indexes", "",
	}
	if got := out.String(); got != strings.Join(want, "\n") {
		t.Errorf("it shows\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

func TestRebuildBarIsDrawnAnewOnATerminal(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	bar := newRebuildBar(&out)
	bar.terminal = true
	bar.see(projections.Progress{Generation: 2, Phase: projections.PhaseCopy})
	bar.see(projections.Progress{Generation: 2, Phase: projections.PhaseSwitch})
	bar.end()
	if got := out.String(); strings.Count(got, "\r\x1b[2K") != 2 || strings.Count(got, "\n") != 1 || !strings.Contains(got, "100 %") {
		t.Errorf("it shows %q", got)
	}
}
