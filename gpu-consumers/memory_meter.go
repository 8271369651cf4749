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

// teller is an engine whose server tells what its model has of the card's memory, whatever
// else is going on there.
type teller interface {
	// holds is what it has now, in MiB; loaded is false while the model is not in memory.
	holds(ctx context.Context) (mib int, loaded bool, err error)
}

// gauge watches the card while one attempt works alone on it, and what its engine's server
// tells of its own.
type gauge struct {
	memory *memory
	card   *vram.Card
	claim  vram.Claim
	of     peakOf
	read   func(ctx context.Context) (reading, error)
	teller teller // nil: none
	stop   context.CancelFunc
	done   sync.WaitGroup

	first, most int
	had         int // of the attempt's own model, loaded before
	spoilt      bool
	own         int // that the teller told at most; 0: nothing
}

// watch measures the attempt until settle; nil where nothing is counted or can be read.
func (m *memory) watch(ctx context.Context, claim vram.Claim, e engine, can events.TaskCapability, a *Attempt) *gauge {
	card := m.account()
	if card == nil || claim.MiB == 0 {
		return nil
	}
	g := &gauge{memory: m, card: card, claim: claim, of: peakOf{can.Task, can.Engine, can.Model, a.resolution()}, read: m.read}
	g.teller, _ = e.(teller)
	if server, ok := e.(meter); ok { // its card may be on another machine than this process
		g.read = server.readMemory
	}
	first, err := g.read(ctx)
	if err != nil && g.teller == nil {
		return nil
	}
	g.first, g.most, g.spoilt = first.used, first.used, err != nil
	g.had = card.Loaded(claim.Unit, claim.Model)
	ctx, g.stop = context.WithCancel(ctx)
	g.look(ctx, first)
	g.done.Go(func() {
		again := time.NewTicker(m.readings)
		defer again.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-again.C:
			}
			if r, err := g.read(ctx); err == nil {
				g.look(ctx, r)
			} else {
				g.ask(ctx)
			}
		}
	})
	return g
}

// look takes one reading. What others do at the same time makes it of no use.
func (g *gauge) look(ctx context.Context, r reading) {
	u, err := g.card.Usage()
	g.spoilt = g.spoilt || err != nil || !u.Alone
	g.most = max(g.most, r.used)
	g.ask(ctx)
}

// ask has the engine's server tell.
func (g *gauge) ask(ctx context.Context) {
	if g.teller == nil {
		return
	}
	if mib, loaded, err := g.teller.holds(ctx); err == nil && loaded {
		g.own = max(g.own, mib, 1)
	}
}

// gaugeLast bounds the last question, after the attempt.
const gaugeLast = 2 * time.Second

// settle ends the watch. What was measured counts for the next attempt of the kind.
func (g *gauge) settle() {
	if g == nil {
		return
	}
	g.stop()
	g.done.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), gaugeLast)
	defer cancel()
	g.ask(ctx) // a short attempt may have had its model only after the last look
	switch {
	case g.own > 0:
		g.of.resolution = ""
		g.memory.learn(g.of, g.claim.MiB, peak{MiB: g.own, Own: true})
	case !g.spoilt:
		g.memory.learn(g.of, g.claim.MiB, peak{MiB: g.most - g.first + g.had})
	}
}

// learn takes a measured peak. What a server told of its own takes the place of what was
// told before; of what the whole card showed the highest counts.
func (m *memory) learn(of peakOf, needed int, p peak) {
	const step = 64
	p.MiB = (p.MiB + step - 1) / step * step
	if p.MiB < step && !p.Own {
		return // nothing was seen of it
	}
	m.mu.Lock()
	before := m.peaks[of]
	if !p.Own && before.MiB >= p.MiB {
		p = before
	}
	m.peaks[of] = p
	m.mu.Unlock()
	if p == before {
		return
	}
	if err := keepPeak(m.cfg.Folder, of, p); err != nil {
		m.log.Warn("what an attempt took of the card is not kept for later processes", "error", err)
	}
	if p.MiB > needed {
		m.metrics.peak(of, p.MiB)
		m.log.Warn("an attempt took more of the card than was set aside; later ones are given what it took",
			"task", of.task, "engine", of.engine, "model", of.model, "resolution", of.resolution, "set_aside_mib", needed, "peak_mib", p.MiB)
	}
	signal(m.changed)
}
