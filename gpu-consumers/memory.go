// The memory of the graphics card: what attempts claim of it before they are accepted,
// and the models that are unloaded where others need the room.

package gpu

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/vram"
)

// MemoryConfig is about the memory of the graphics card that this worker's engines share
// with those of other workers.
type MemoryConfig struct {
	// BudgetMiB is what all workers on the card may take together. 0: what the card has, as
	// nvidia-smi or ComfyUI says; without either nothing is counted. Below 0: nothing is.
	BudgetMiB int
	// Folder is where the workers on the card keep their account, the same for all of them.
	// Default: one in the system's temporary folder, by the name of the device.
	Folder string
	// Device is the card's index or UUID, as nvidia-smi knows it; default 0.
	Device string
	// Needs take the place of what engines say of themselves: TASK=MIB, or
	// TASK/ENGINE@RESOLUTION=MIB, of which the engine and the resolution may be left out.
	Needs []string
}

// weighty is an engine that works in the card's memory.
type weighty interface {
	engine
	// weighs is what an attempt takes of the card while it runs, in MiB, as far as the engine
	// knows.
	weighs() int
}

// keeper is an engine whose model stays in the card's memory after an attempt.
type keeper interface {
	// unit names what is unloaded together, the same in every process.
	unit() string
	unload(ctx context.Context) error
}

// memory is a worker's part in the card's memory.
type memory struct {
	cfg     MemoryConfig
	owner   string
	log     *slog.Logger
	needs   []need
	keepers map[string]keeper // by unit
	meters  []meter
	metrics *memoryMetrics
	changed chan struct{} // gets one when the manifest is out of date

	opening   sync.Mutex
	readings  time.Duration // between two of the card while an attempt runs
	unloading sync.WaitGroup

	mu    sync.Mutex
	card  *vram.Card // nil: nothing is counted
	gpu   string     // name of the card
	peaks map[peakOf]peak
	set   map[string]vram.Claim  // what attempts of this worker have, by attempt
	waits map[string]bool        // attempts that were refused
	lanes interface{ Recheck() } // nil: none run yet
	later map[string]time.Time   // units that did not answer: not before then
}

func newMemory(cfg MemoryConfig, owner string, engines []engine, log *slog.Logger, metrics *memoryMetrics, changed chan struct{}) (*memory, error) {
	m := &memory{cfg: cfg, owner: owner, log: log, keepers: map[string]keeper{}, readings: time.Second, metrics: metrics, changed: changed,
		peaks: map[peakOf]peak{}, set: map[string]vram.Claim{}, waits: map[string]bool{}, later: map[string]time.Time{}}
	if m.cfg.Device == "" {
		m.cfg.Device = "0"
	}
	if m.cfg.Folder == "" {
		device := strings.Map(func(r rune) rune {
			if r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
				return r
			}
			return '_'
		}, m.cfg.Device)
		m.cfg.Folder = filepath.Join(os.TempDir(), "myspinbot-gpu-"+device)
	}
	var err error
	if m.needs, err = parseNeeds(cfg.Needs); err != nil {
		return nil, err
	}
	m.meters = append(m.meters, nvidiaSMI{device: m.cfg.Device})
	for _, e := range engines {
		if k, ok := e.(keeper); ok {
			m.keepers[k.unit()] = k
		}
		if meter, ok := e.(meter); ok && len(m.meters) < 2 { // of one server
			m.meters = append(m.meters, meter)
		}
	}
	return m, nil
}

// open takes part in the card's account as soon as it is known what the card has.
func (m *memory) open(ctx context.Context) {
	m.opening.Lock()
	defer m.opening.Unlock()
	if m.cfg.BudgetMiB < 0 || m.account() != nil {
		return
	}
	budget, name := m.cfg.BudgetMiB, ""
	if budget == 0 {
		reading, err := m.read(ctx)
		if err != nil || reading.total < 1 {
			return // there is no card, or its server is away: asked again
		}
		budget, name = reading.total, reading.name
	}
	card, err := vram.Open(vram.Config{Owner: m.owner, Budget: budget, Folder: m.cfg.Folder, Known: func(unit string) bool { return m.keepers[unit] != nil }})
	if err != nil {
		m.log.Error("the card's memory is not counted, so that attempts may run out of it", "error", err)
		return
	}
	m.log.Info("the card's memory is counted", "budget_mib", budget, "account", m.cfg.Folder)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.card, m.gpu = card, name
	if m.peaks, err = readPeaks(m.cfg.Folder); err != nil {
		m.log.Warn("what attempts took of the card before is not known, and is measured anew", "error", err)
	}
	signal(m.changed)
}

// name is the card's, unless the configuration has one.
func (m *memory) name(configured string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return cmp.Or(configured, m.gpu)
}

func (m *memory) account() *vram.Card {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.card
}

// budget in MiB; 0: nothing is counted.
func (m *memory) budget() int {
	if card := m.account(); card != nil {
		return card.Budget()
	}
	return 0
}

// fits says whether the engine can do the attempt on this card at all.
func (m *memory) fits(e engine, can events.TaskCapability, a *Attempt) bool {
	budget := m.budget()
	return budget == 0 || m.need(e, can, a) <= budget
}

// claim is what an attempt needs to be run by the engine.
func (m *memory) claim(id, queue string, batch bool, e engine, can events.TaskCapability, a *Attempt) vram.Claim {
	c := vram.Claim{ID: id, MiB: m.need(e, can, a), Queue: queue, Batch: batch}
	if k, ok := e.(keeper); ok {
		c.Unit, c.Model = k.unit(), can.Model
	}
	return c
}

// admit says whether a claim may begin now.
func (m *memory) admit(c vram.Claim) bool {
	card := m.account()
	if card == nil {
		return true
	}
	if c.MiB == 0 {
		m.end(c.ID, false) // it may have waited for another engine
		return true
	}
	ok, err := card.Admit(c)
	if err != nil {
		m.log.Warn("the card's account cannot be used; the attempt waits", "error", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if ok {
		m.set[c.ID] = c
		delete(m.waits, c.ID)
	} else {
		m.waits[c.ID] = true
	}
	return ok
}

// has is what an attempt has been given.
func (m *memory) has(id string) vram.Claim {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.set[id]
}

// end gives a claim back; worked says that its model may be loaded.
func (m *memory) end(id string, worked bool) {
	m.mu.Lock()
	_, had := m.set[id]
	known, card := had || m.waits[id], m.card
	delete(m.set, id)
	delete(m.waits, id)
	m.mu.Unlock()
	switch {
	case !known:
		return
	case worked:
		card.Release(id)
	default:
		card.Withdraw(id)
	}
	m.recheck()
}

func (m *memory) recheck() {
	m.mu.Lock()
	lanes := m.lanes
	m.mu.Unlock()
	if lanes != nil {
		lanes.Recheck()
	}
}

// show tells Prometheus of the account.
func (m *memory) show(card *vram.Card) {
	if u, err := card.Usage(); err == nil {
		m.metrics.usage(u)
	}
}

// serves has the lanes ask again when there may be room.
func (m *memory) serves(lanes *eventlog.Lanes) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lanes = lanes
}

const (
	memoryLook    = 250 * time.Millisecond // between two looks at the account while somebody waits
	memoryUnload  = 30 * time.Second       // for a server to unload
	memoryPatient = 10 * time.Second       // before a server that failed is asked again, and before the card is
)

// run unloads what others need the room of, and has those who wait ask again, until ctx
// ends; then it leaves the account.
func (m *memory) run(ctx context.Context) error {
	m.open(ctx)
	look := time.NewTicker(memoryLook)
	defer look.Stop()
	asked := time.Now()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-look.C:
			card := m.account()
			if card == nil {
				if time.Since(asked) > memoryPatient {
					m.open(ctx)
					asked = time.Now()
				}
				continue
			}
			m.unload(ctx, card)
			if u, err := card.Usage(); err == nil && u.Waiting > 0 {
				m.recheck()
			}
			m.show(card)
		}
	}
	m.unloading.Wait()
	return nil
}

// close leaves the account.
func (m *memory) close() error {
	if card := m.account(); card != nil {
		return card.Close()
	}
	return nil
}

// unload empties the units that the next in line needs the room of.
func (m *memory) unload(ctx context.Context, card *vram.Card) {
	units, err := card.Unneeded()
	if err != nil {
		return // the account is looked at again soon
	}
	for _, unit := range units {
		if m.tooSoon(unit) {
			card.Unloaded(unit, false)
			continue
		}
		m.unloading.Go(func() {
			err := m.empty(ctx, unit)
			if err != nil {
				m.log.Warn("a model was not unloaded, and keeps its memory", "unit", unit, "error", err)
			} else {
				m.log.Info("models were unloaded to make room on the card", "unit", unit)
			}
			m.metrics.unloaded(err == nil)
			card.Unloaded(unit, err == nil)
			m.recheck()
		})
	}
}

// tooSoon says whether the unit has failed to unload a moment ago.
func (m *memory) tooSoon(unit string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Now().Before(m.later[unit])
}

// empty has one unit unload. A server that is gone has nothing loaded.
func (m *memory) empty(ctx context.Context, unit string) error {
	ctx, cancel := context.WithTimeout(ctx, memoryUnload)
	defer cancel()
	err := m.keepers[unit].unload(ctx)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil
	}
	if err != nil {
		m.mu.Lock()
		m.later[unit] = time.Now().Add(memoryPatient)
		m.mu.Unlock()
	}
	return err
}

// tooLarge is the failure of an attempt that no engine can do on this card.
func (m *memory) tooLarge(e engine, can events.TaskCapability, a *Attempt) *TaskError {
	t := &TaskError{Class: events.ClassInvalidInput, Misplaced: true, Message: fmt.Sprintf("%s by %s takes %d MiB of the graphics card, and there are %d", a.Task, can.Engine, m.need(e, can, a), m.budget()),
		Hint: "use a larger card or a smaller model; gpu.vram_mb is the budget, and gpu.needs holds what attempts take"}
	smaller := *a
	for _, r := range slices.Backward(resolutions) {
		smaller.Params = map[string]any{"resolution": r.name}
		if r.name != a.resolution() && m.fits(e, can, &smaller) {
			t.Hint = "choose the resolution " + r.name + ", which fits"
			break
		}
	}
	return t
}
