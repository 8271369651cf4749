// Tests of the progress display.

package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func beat(stage string, percent float64) update {
	return update{Stage: stage, Percent: percent, Message: "working"}
}

func TestPlainLinesTellChangesAndQuarters(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := newProgress(&out, jobDoc{Stages: []stageDoc{{ID: "tts"}, {ID: "render"}}})
	if p.terminal {
		t.Fatal("a buffer is no terminal")
	}
	failed := update{Type: "stage.failed", Stage: "render", ErrorClass: "oom"}
	failed.Data.Message, failed.Data.RetryAtMS = "out of memory", 1
	updates := []update{{Type: "stage.started", Stage: "render", Attempt: 1}, beat("render", 10), beat("render", 30), beat("render", 20), beat("render", 31),
		failed, {Type: "stage.started", Stage: "render", Attempt: 2}, {Type: "job.labelled"}, {Type: "stage.scheduled", Stage: "tts"}}
	for _, u := range updates {
		p.see(u)
	}
	want := "  render       running  \n  render        30 %    working\n  render       again    oom: out of memory\n  render       running  attempt 2\n"
	if out.String() != want {
		t.Errorf("printed\n%s\nwant\n%s", out.String(), want)
	}
}

func TestTheTerminalIsRedrawnInPlace(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := newProgress(&out, jobDoc{Stages: []stageDoc{{ID: "tts"}, {ID: "render"}}})
	now := time.Unix(0, 0)
	p.terminal, p.now = true, func() time.Time { return now }
	p.see(update{Type: "stage.started", Stage: "render", Attempt: 1})
	first := out.String()
	if strings.Count(first, "\n") != 2 || strings.Contains(first, "\x1b[2A") || !strings.Contains(first, "tts          [....................] waiting") {
		t.Errorf("first drawing %q", first)
	}
	out.Reset()
	p.see(beat("render", 50))
	if out.Len() != 0 {
		t.Errorf("drawn again within a tenth of a second: %q", out.String())
	}
	now = now.Add(time.Second)
	p.see(update{Stage: "render", Percent: 55, Message: strings.Repeat("ü", 100) + "\nx"})
	if s := out.String(); !strings.HasPrefix(s, "\x1b[2A") || !strings.Contains(s, "[###########.........]  55 %") || strings.Count(s, "\n") != 2 {
		t.Errorf("second drawing %q", s)
	}
	for _, line := range strings.Split(out.String(), "\n") {
		if n := utf8.RuneCountInString(line); n > 95 {
			t.Errorf("a line of %d characters would wrap", n)
		}
	}
}

func TestProgressOfAStageNeverFalls(t *testing.T) {
	t.Parallel()
	p := newProgress(&bytes.Buffer{}, jobDoc{})
	for _, percent := range []float64{30, 10, 250} {
		p.see(beat("tts", percent))
	}
	if got := p.stages[0].percent; got != 100 {
		t.Errorf("%g %%, want 100", got)
	}
}
