// Progress of a job on a terminal, one line a stage, or as plain lines elsewhere.

package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

const barWidth = 20

// stageLine is what the display knows of one stage.
type stageLine struct {
	id      string
	state   string // waiting, running, asks, done, failed, stopped, skipped, reused or again
	percent float64
	detail  string
	told    float64 // plain display: the percent that was last printed
}

// progress draws the stages of a job. It is used by one goroutine.
type progress struct {
	w        io.Writer
	terminal bool
	now      func() time.Time
	stages   []*stageLine
	drawn    int // lines on the screen
	last     time.Time
}

func newProgress(w io.Writer, job jobDoc) *progress {
	p := &progress{w: w, terminal: isTerminal(w), now: time.Now}
	for _, s := range job.Stages {
		p.stages = append(p.stages, &stageLine{id: printable(s.ID), state: "waiting"})
	}
	return p
}

// isTerminal says whether somebody looks at w.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" || os.Getenv("TERM") == "" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// see takes an update in and shows it.
func (p *progress) see(u update) {
	if u.Stage == "" {
		return
	}
	s := p.stage(u.Stage)
	before := s.state
	switch u.Type {
	case "":
		s.state, s.detail = "running", printable(u.Message)
		s.percent = max(s.percent, min(u.Percent, 100))
	case "stage.started":
		s.state, s.percent, s.detail = "running", 0, ""
		if u.Attempt > 1 {
			s.detail = fmt.Sprintf("attempt %d", u.Attempt)
		}
	case "stage.succeeded":
		s.state, s.percent, s.detail = "done", 100, madeBy(u)
	case "stage.skipped":
		s.state, s.detail = "skipped", printable(u.Data.Reason)
	case "stage.reused":
		s.state, s.percent, s.detail = "reused", 100, "from job "+printable(u.Data.From.JobID)
	case "stage.cancelled":
		s.state, s.detail = "stopped", ""
	case "approval.requested":
		s.state, s.detail = "asks", "until "+time.UnixMilli(u.Data.ExpiresMS).Format(time.DateTime)+"; `myspinbot jobs approve` or `deny` answers"
	case "approval.granted":
		s.state, s.percent, s.detail = "done", 100, "approved by "+printable(u.Actor)
	case "approval.denied":
		s.state, s.detail = "failed", "denied by "+printable(u.Actor)
	case "approval.expired":
		s.state, s.detail = "failed", "nobody approved in time"
	case "stage.failed", "stage.attempt_expired":
		s.state, s.detail = "failed", printable(u.ErrorClass+": "+u.Data.Message)
		if u.Data.RetryAtMS > 0 {
			s.state, s.percent = "again", 0
		}
	default:
		return
	}
	if p.terminal {
		p.draw(s.state != before)
		return
	}
	p.line(s, s.state != before)
}

func (p *progress) stage(id string) *stageLine {
	id = printable(id)
	i := slices.IndexFunc(p.stages, func(s *stageLine) bool { return s.id == id })
	if i >= 0 {
		return p.stages[i]
	}
	s := &stageLine{id: id, state: "waiting"}
	p.stages = append(p.stages, s)
	return s
}

// madeBy says how long the stage took and what made its result.
func madeBy(u update) string {
	engine := u.Data.Engine
	if u.Model != "" {
		engine += " " + u.Model
	}
	if u.Data.Fidelity != "" {
		engine += " (" + u.Data.Fidelity + ")"
	}
	return strings.TrimSpace(fmt.Sprintf("%.1f s  %s", float64(u.DurationMS)/1000, printable(engine)))
}

// line prints a change of state, and every quarter of the way.
func (p *progress) line(s *stageLine, changed bool) {
	switch {
	case changed:
		s.told = s.percent
		fmt.Fprintf(p.w, "  %-12s %-8s %s\n", s.id, s.state, s.detail)
	case s.state == "running" && s.percent >= s.told+25 && s.percent < 100:
		s.told = s.percent
		fmt.Fprintf(p.w, "  %-12s %3.0f %%    %s\n", s.id, s.percent, s.detail)
	}
}

// draw paints all lines anew, at most ten times a second unless something changed.
func (p *progress) draw(changed bool) {
	if now := p.now(); changed || now.Sub(p.last) >= 100*time.Millisecond {
		p.last = now
	} else {
		return
	}
	var b strings.Builder
	if p.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", p.drawn)
	}
	for _, s := range p.stages {
		b.WriteString("\r\x1b[2K" + clipped(s.text(), 78) + "\n")
	}
	p.drawn = len(p.stages)
	io.WriteString(p.w, b.String()) //nolint:errcheck // to a terminal
}

func (s *stageLine) text() string {
	full := int(s.percent / 100 * barWidth)
	bar := "[" + strings.Repeat("#", full) + strings.Repeat(".", barWidth-full) + "]"
	note := s.state
	if s.state == "running" {
		note = fmt.Sprintf("%3.0f %%", s.percent)
	}
	return fmt.Sprintf("  %-12s %s %-8s %s", s.id, bar, note, strings.ReplaceAll(s.detail, "\n", " "))
}

// clipped keeps a line from wrapping, which would break the next drawing.
func clipped(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}
