// What real servers tell of the card while an attempt runs, and that it is remembered.

package gpu

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
	"github.com/myspinbot/myspinbot/internal/vram"
)

// memoryIn is a worker's memory whose account lies in the folder.
func memoryIn(t *testing.T, folder string, engines ...engine) *memory {
	t.Helper()
	metrics, err := newMemoryMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := newMemory(MemoryConfig{BudgetMiB: 16000, Folder: folder}, "w", engines, slog.New(slog.DiscardHandler), metrics, make(chan struct{}, 1))
	if err != nil {
		t.Fatal(err)
	}
	m.readings = time.Millisecond
	m.open(t.Context())
	t.Cleanup(func() { _ = m.close() })
	return m
}

// measure runs an attempt of the engine, as far as the card sees it.
func (m *memory) measure(t *testing.T, e engine, can events.TaskCapability, during func()) {
	t.Helper()
	a := &Attempt{Task: can.Task}
	claim := m.claim("attempt", "queue", false, e, can, a)
	if !m.admit(claim) {
		t.Fatal("there is no room")
	}
	g := m.watch(t.Context(), claim, e, can, a)
	during()
	g.settle()
	m.end("attempt", true)
}

// Ollama tells what its model has of the card: that takes the place of the guess by the
// size of its file, up and down, and outlives the process.
func TestOllamaTellsWhatItsModelTakes(t *testing.T) {
	t.Parallel()
	f := ollamaWire.serve(t)
	o, err := newOllama(ChatConfig{URL: f.URL, Model: theModel})
	if err != nil {
		t.Fatal(err)
	}
	e := counted(&modelScript{model: o})
	can := events.TaskCapability{Task: taskScript, Engine: "ollama", Model: theModel, Fidelity: events.FidelityFull}
	if _, gap := o.announce(t.Context()); gap != nil {
		t.Fatal(gap)
	}
	onCard := f.ps // the recording is of a machine without one
	tells := func(mib int) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.ps = onCard
		f.ps.Lines = []string{strings.Replace(onCard.Lines[0], `"size_vram":0`, fmt.Sprintf(`"size_vram":%d`, mib<<20), 1)}
	}
	folder := t.TempDir()
	m := memoryIn(t, folder, e)
	want := func(m *memory, what string, needs ...events.TaskNeed) {
		t.Helper()
		if got := m.announced(e, can); !slices.Equal(got, needs) {
			t.Errorf("%s: the needs are %+v, want %+v", what, got, needs)
		}
	}
	guess := 241*11/10 + 512
	want(m, "before", events.TaskNeed{Task: taskScript, Engine: "ollama", MiB: guess})
	tells(5000)
	m.measure(t, e, can, func() {})
	want(m, "more than guessed", events.TaskNeed{Task: taskScript, Engine: "ollama", MiB: 5056, Measured: 5056})
	tells(600)
	m.measure(t, e, can, func() {})
	want(m, "less than guessed", events.TaskNeed{Task: taskScript, Engine: "ollama", MiB: 640, Measured: 640})
	want(memoryIn(t, folder, e), "in a later process", events.TaskNeed{Task: taskScript, Engine: "ollama", MiB: 640, Measured: 640})
	f.mu.Lock()
	f.ps = recorded(t)["ps_empty"]
	f.mu.Unlock()
	m.measure(t, e, can, func() {})
	want(m, "a model that was unloaded at once", events.TaskNeed{Task: taskScript, Engine: "ollama", MiB: 640, Measured: 640})
	tells(0)
	m.measure(t, e, can, func() {})
	want(m, "a model beside the card", events.TaskNeed{Task: taskScript, Engine: "ollama", MiB: 64, Measured: 64})
}

// Of ComfyUI its own card is read, before and while an attempt runs; the highest counts,
// and outlives the process. The template's word is the least.
func TestComfyUIsPeakIsMeasuredOnItsOwnCard(t *testing.T) {
	t.Parallel()
	f := serveComfy(t, plays("ws_success", "history_success"))
	free := func(mib int) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.stats = fmt.Appendf(nil, `{"system":{"comfyui_version":"0.3.64"},"devices":[{"name":"cuda:0 RTX","type":"cuda","vram_total":%d,"vram_free":%d}]}`, 16000<<20, mib<<20)
	}
	free(15000)
	e := engineOn(t, f, "talk", nil)
	e.t.LeastVRAM = 2
	can := events.TaskCapability{Task: e.t.Task, Engine: e.t.engine(), Model: e.t.Model, Fidelity: events.FidelityFull}
	folder := t.TempDir()
	m := memoryIn(t, folder, e)
	local := &scale{} // the machine's own card, where nothing happens
	local.total.Store(24000)
	m.meters = []meter{local}
	at720p := func(m *memory) events.TaskNeed {
		all := m.announced(e, can)
		return all[min(1, len(all)-1)]
	}
	seen := func(mib int) {
		t.Helper()
		m.measure(t, e, can, func() {
			free(15000 - mib)
			eventlogtest.Eventually(t, patience, "the server's card is read", func() bool {
				r, err := e.readMemory(t.Context())
				return err == nil && r.used == 1000+mib
			})
			f.mu.Lock()
			before := f.read
			f.mu.Unlock()
			eventlogtest.Eventually(t, patience, "it is read while the attempt runs", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.read > before+1 })
			free(15000)
		})
		// The model is still loaded by the account; the server is asked to free it.
		m.account().Unloaded(e.unit(), true)
	}
	seen(1500)
	if got := at720p(m); got.MiB != 1945 || got.Measured != 1536 {
		t.Errorf("after less than the template says: %+v", got)
	}
	seen(6000)
	seen(3000)
	for what, m := range map[string]*memory{"the highest peak": m, "in a later process": memoryIn(t, folder, e)} {
		if got := at720p(m); got.MiB != 6016 || got.Measured != 6016 {
			t.Errorf("%s: %+v", what, got)
		}
	}
	if n := local.reads.Load(); n != 0 {
		t.Errorf("another card was read %d times", n)
	}
}

// Workers on one card write the same file at once, and lose nothing of one another's.
func TestPeaksOfAllWorkersAreKept(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for _, p := range []peakOf{{"t", "e", fmt.Sprint(i), "720p"}, {"t", "e", "shared", "720p"}} {
				if err := keepPeak(folder, p, peak{MiB: 64 * (1 + i)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	got, err := readPeaks(folder)
	if err != nil || len(got) != 9 || got[peakOf{"t", "e", "shared", "720p"}].MiB != 512 {
		t.Errorf("kept are %v, %v", got, err)
	}
	if left, _ := filepath.Glob(filepath.Join(folder, "*.new")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := keepPeak(folder, peakOf{"t", "e", "shared", "720p"}, peak{MiB: 64, Own: true}); err != nil {
		t.Fatal(err)
	}
	if got, _ := readPeaks(folder); got[peakOf{"t", "e", "shared", "720p"}] != (peak{64, true}) {
		t.Errorf("what the server tells of its own does not replace the rest: %v", got)
	}
}

// The file is beside the account, and harms neither that nor the worker when it is damaged.
func TestADamagedFileOfPeaksIsReplaced(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	path := filepath.Join(folder, peaksFile)
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readPeaks(folder); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("read with %v, want an error that names the file", err)
	}
	m := memoryIn(t, folder)
	m.learn(peakOf{"t", "e", "m", "720p"}, 10, peak{MiB: 100})
	if got, err := readPeaks(folder); err != nil || got[peakOf{"t", "e", "m", "720p"}].MiB != 128 {
		t.Errorf("kept are %v, %v", got, err)
	}
	if u, err := m.account().Usage(); err != nil || u != (vram.Usage{Budget: 16000, Alone: true}) {
		t.Errorf("the account is %+v, %v", u, err)
	}
}
