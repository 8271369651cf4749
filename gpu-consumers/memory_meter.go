// What the card itself says: its memory, and the peak that an attempt has reached.

package gpu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/vram"
)

// reading is the card's memory at one time, in MiB, whoever has it.
type reading struct {
	name        string
	used, total int
}

// meter reads the card's memory.
type meter interface {
	readMemory(ctx context.Context) (reading, error)
}

var errNoMeter = errors.New("nothing tells of a card's memory")

// read asks the first that answers.
func (m *memory) read(ctx context.Context) (reading, error) {
	err := errNoMeter
	for _, meter := range m.meters {
		var r reading
		if r, err = meter.readMemory(ctx); err == nil {
			return r, nil
		}
	}
	return reading{}, err
}

// nvidiaSMI asks the driver's own program.
type nvidiaSMI struct{ device string }

const nvidiaSMITime = 5 * time.Second

func (n nvidiaSMI) readMemory(ctx context.Context) (reading, error) {
	out, err := child{
		name: "nvidia-smi", path: "nvidia-smi", dir: os.TempDir(), install: "it comes with the driver of the card", timeout: nvidiaSMITime,
		args: []string{"--id=" + n.device, "--query-gpu=name,memory.used,memory.total", "--format=csv,noheader,nounits"},
	}.run(ctx)
	if err != nil {
		return reading{}, err
	}
	return parseSMI(string(out))
}

// parseSMI reads one line: NVIDIA GeForce RTX 4090, 517, 24564.
func parseSMI(line string) (reading, error) {
	parts := strings.Split(strings.TrimSpace(line), ", ")
	if len(parts) == 3 {
		used, err := strconv.Atoi(parts[1])
		total, err2 := strconv.Atoi(parts[2])
		if err == nil && err2 == nil {
			return reading{parts[0], used, total}, nil
		}
	}
	return reading{}, fmt.Errorf("nvidia-smi says %q, which is no card's memory", line)
}

// gauge watches the card while one attempt works alone on it.
type gauge struct {
	memory *memory
	card   *vram.Card
	claim  vram.Claim
	of     peakOf
	stop   context.CancelFunc
	done   sync.WaitGroup

	first, most int
	had         int // of the attempt's own model, loaded before
	spoilt      bool
}

// watch measures the attempt until settle; nil where nothing is counted or can be read.
func (m *memory) watch(ctx context.Context, claim vram.Claim, can events.TaskCapability, a *Attempt) *gauge {
	card := m.account()
	if card == nil || claim.MiB == 0 {
		return nil
	}
	first, err := m.read(ctx)
	if err != nil {
		return nil
	}
	g := &gauge{memory: m, card: card, claim: claim, of: peakOf{can.Task, can.Engine, can.Model, a.resolution()}, first: first.used, most: first.used}
	g.had = card.Loaded(claim.Unit, claim.Model)
	ctx, g.stop = context.WithCancel(ctx)
	g.look(first)
	g.done.Go(func() {
		again := time.NewTicker(m.readings)
		defer again.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-again.C:
			}
			if r, err := m.read(ctx); err == nil {
				g.look(r)
			}
		}
	})
	return g
}

// look takes one reading. What others do at the same time makes it of no use.
func (g *gauge) look(r reading) {
	u, err := g.card.Usage()
	g.spoilt = g.spoilt || err != nil || !u.Alone
	g.most = max(g.most, r.used)
}

// settle ends the watch, and raises what the next attempt of the kind needs where this
// one took more.
func (g *gauge) settle() {
	if g == nil {
		return
	}
	g.stop()
	g.done.Wait()
	if !g.spoilt {
		g.memory.learn(g.of, g.claim.MiB, g.most-g.first+g.had)
	}
}

// learn takes a measured peak in MiB.
func (m *memory) learn(of peakOf, needed, peak int) {
	const step = 64
	peak = (peak + step - 1) / step * step
	if peak <= needed {
		return
	}
	m.mu.Lock()
	m.peaks[of] = max(m.peaks[of], peak)
	m.mu.Unlock()
	m.metrics.peak(of, peak)
	m.log.Warn("an attempt took more of the card than was set aside; later ones are given what it took",
		"task", of.task, "engine", of.engine, "model", of.model, "resolution", of.resolution, "set_aside_mib", needed, "peak_mib", peak)
	signal(m.changed)
}
