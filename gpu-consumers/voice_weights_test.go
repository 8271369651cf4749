// Weights of trained voices: the order in which a server is told of them, and the folder
// that they are kept in.

package gpu

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// fetchedWeights are files of an object store that count how often they are fetched.
type fetchedWeights struct {
	mu    sync.Mutex
	files map[string]string // content by digest
	n     int
}

func (w *fetchedWeights) fetch(_ context.Context, f events.Artifact, path string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.n++
	content, ok := w.files[f.SHA256]
	if !ok {
		return &TaskError{Class: events.ClassArtifactMissing, Message: "not in the object store"}
	}
	return os.WriteFile(path, []byte(content), 0o600)
}

func (w *fetchedWeights) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.n
}

// add makes a file of weights with that content.
func (w *fetchedWeights) add(name, content string) events.Artifact {
	sum := sha256.Sum256([]byte(content))
	digest := hex.EncodeToString(sum[:])
	w.files[digest] = content
	return events.Artifact{Name: name, Type: "weights", SHA256: digest, Size: int64(len(content))}
}

// trainedVoice are the weights of somebody's voice as a job has them: not here yet.
func trainedVoice(whose string) ([]File, *fetchedWeights) {
	w := &fetchedWeights{files: map[string]string{}}
	return []File{{Artifact: w.add("voice-gpt.ckpt", "gpt of "+whose)}, {Artifact: w.add("voice-sovits.pth", "sovits of "+whose)}}, w
}

// TestWeightsAreSetAndUsedUnderOneLock has attempts of two workers speak at once, which
// share nothing but the machine: some with a trained voice's own weights, some with what is
// configured. A server that was told other weights in between would have spoken with those.
func TestWeightsAreSetAndUsedUnderOneLock(t *testing.T) {
	t.Parallel()
	f := serveSoVITS(t, speaks)
	c := f.config()
	c.GPTWeights, c.SoVITSWeights, c.CacheBytes = "base.ckpt", "base.pth", 1<<20
	s := soVITSSpeech(t, c)
	c.URL = strings.Replace(c.URL, "127.0.0.1", "localhost", 1)
	second := soVITSSpeech(t, c)
	files := voiceReferenceFile(t, 4)
	done := make(chan error, 6)
	for i, whose := range []string{"anna", "bert", "", "anna", "bert", ""} {
		a := narrated("Green tea is picked. It tastes fresh. People drink it hot.")
		a.Files, a.Dir = maps.Clone(files), t.TempDir()
		if whose != "" {
			own, fetched := trainedVoice(whose)
			a.Files["voice_weights"], a.Fetch = own, fetched.fetch
		}
		go func() {
			_, err := []*speech{s, second}[i%2].Run(context.Background(), a)
			done <- err
		}()
	}
	for range 6 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	turns := map[string]int{}
	for turn := range slices.Chunk(f.spokenWith(), 3) {
		if turn[1] != turn[0] || turn[2] != turn[0] {
			t.Errorf("one attempt was spoken with %v", turn)
		}
		turns[turn[0]]++
	}
	if want := map[string]int{"gpt of anna+sovits of anna": 2, "gpt of bert+sovits of bert": 2, "base.ckpt+base.pth": 2}; !maps.Equal(turns, want) {
		t.Errorf("spoken with %v, want %v", turns, want)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, path := range f.weights { // GPT's first, then SoVITS'
		if gpt := strings.HasPrefix(path, "gpt") || strings.HasSuffix(path, ".ckpt"); gpt != (i%2 == 0) {
			t.Fatalf("weights were set in the order %q", f.weights)
		}
	}
}

// Without weights that others get back, or without a folder, a trained voice is imitated
// from its reference, and the result says so.
func TestATrainedVoiceIsImitatedWhereItsWeightsCannotBeUsed(t *testing.T) {
	t.Parallel()
	f := serveSoVITS(t, speaks)
	without := f.config()
	without.CacheBytes = 1 << 20
	off := f.config()
	off.GPTWeights, off.SoVITSWeights = "base.ckpt", "base.pth"
	for want, c := range map[string]SoVITSConfig{"set engines.speech.sovits.gpt_weights": without, "engines.speech.sovits.cache_mib is 0": off} {
		own, fetched := trainedVoice("anna")
		a := narrated("Green tea.")
		a.Files, a.Fetch = voiceReferenceFile(t, 4), fetched.fetch
		a.Files["voice_weights"] = own
		out, _, err := runSpeech(t, soVITSSpeech(t, c), a)
		if err != nil || !strings.Contains(strings.Join(out.Notes, " "), want) || strings.HasPrefix(out.Model, "trained") || fetched.count() > 0 {
			t.Errorf("%s: %+v, %v", want, out, err)
		}
	}
	if slices.ContainsFunc(f.spokenWith(), func(w string) bool { return strings.Contains(w, "anna") }) {
		t.Errorf("spoken with %q", f.spokenWith())
	}
}

// Weights that are no longer there, or of another program, end the attempt before anybody
// is asked to speak, and nothing stays held.
func TestWeightsThatCannotBeHadEndTheAttempt(t *testing.T) {
	t.Parallel()
	f := serveSoVITS(t, speaks)
	c := f.config()
	c.GPTWeights, c.SoVITSWeights, c.CacheBytes = "base.ckpt", "base.pth", 1<<20
	s := soVITSSpeech(t, c)
	own, fetched := trainedVoice("anna")
	delete(fetched.files, own[1].Artifact.SHA256)
	foreign := []File{own[0], {Artifact: events.Artifact{Name: "voice.safetensors", SHA256: own[0].Artifact.SHA256}}}
	evil := []File{own[0], {Artifact: events.Artifact{Name: "voice.pth", SHA256: "../../etc/passwd"}}}
	for class, weights := range map[string][][]File{events.ClassArtifactMissing: {own}, events.ClassInvalidInput: {foreign, evil}} {
		for _, files := range weights {
			a := narrated("Green tea.")
			a.Files, a.Fetch = voiceReferenceFile(t, 4), fetched.fetch
			a.Files["voice_weights"] = files
			_, _, err := runSpeech(t, s, a)
			wantTaskError(t, err, class)
		}
	}
	if f.asked() > 0 || len(f.weights) > 0 {
		t.Errorf("the server was asked %d times and told %q", f.asked(), f.weights)
	}
	if left, err := filepath.Glob(filepath.Join(f.real, "*.wav")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
	if !removeUnused(filepath.Join(f.real, "myspinbot-voice-weights", own[0].Artifact.SHA256+".ckpt")) {
		t.Error("weights are held although nobody speaks")
	}
}

func TestTheFolderOfWeightsTrustsDigestsAlone(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "weights")
	c := &weightsCache{dir: dir, most: 1 << 20}
	w := &fetchedWeights{files: map[string]string{}}
	a := w.add("voice-gpt.ckpt", "gpt of anna")
	path := filepath.Join(dir, a.SHA256+".ckpt")
	get := func(wantFetched int) {
		t.Helper()
		held, err := c.get(t.Context(), a, w.fetch)
		if err != nil {
			t.Fatal(err)
		}
		defer held.release()
		if content, err := os.ReadFile(held.path); err != nil || string(content) != "gpt of anna" || w.count() != wantFetched || held.path != path {
			t.Errorf("%q at %s after %d fetches, %v", content, held.path, w.count(), err)
		}
	}
	get(1)
	get(1)
	for i, damage := range []func() error{
		func() error { return os.WriteFile(path, []byte("gpt of eve!"), 0o600) },
		func() error { return os.WriteFile(path, []byte("gpt of anna and more"), 0o600) },
		func() error { return errors.Join(os.Remove(path), os.Symlink("/etc/passwd", path)) },
		func() error { return os.Remove(path) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		get(2 + i)
	}
	if err := os.Chmod(dir, 0o777); err != nil { //nolint:gosec // that is the test
		t.Fatal(err)
	}
	_, err := c.get(t.Context(), a, w.fetch)
	if te := wantTaskError(t, err, events.ClassEngineUnavailable); !strings.Contains(te.Hint, dir) {
		t.Errorf("hint %q", te.Hint)
	}
}

func TestTheFolderOfWeightsKeepsToItsBound(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "weights")
	c := &weightsCache{dir: dir, most: 25}
	w := &fetchedWeights{files: map[string]string{}}
	var all []events.Artifact
	for _, name := range []string{"a", "b", "c", "d"} {
		all = append(all, w.add(name+".pth", strings.Repeat(name, 10)))
	}
	get := func(i int) *heldWeights {
		t.Helper()
		held, err := c.get(t.Context(), all[i], w.fetch)
		if err != nil {
			t.Fatal(err)
		}
		return held
	}
	age := func(i int, by time.Duration) {
		t.Helper()
		at := time.Now().Add(-by)
		if err := os.Chtimes(filepath.Join(dir, all[i].SHA256+".pth"), at, at); err != nil {
			t.Fatal(err)
		}
	}
	kept := func() string {
		var names []string
		for i, a := range all {
			if statOf(filepath.Join(dir, a.SHA256+".pth")) != nil {
				names = append(names, string(rune('a'+i)))
			}
		}
		return strings.Join(names, "")
	}
	inUse := get(0)
	get(1).release()
	age(0, 3*time.Hour)
	age(1, 2*time.Hour)
	foreign := filepath.Join(dir, "notes.txt")
	if err := os.WriteFile(foreign, []byte(strings.Repeat("x", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	get(2).release()
	if got := kept(); got != "ac" {
		t.Errorf("with a in use and b the least used there are %s", got)
	}
	age(2, time.Hour)
	inUse.release()
	get(3).release()
	if got := kept(); got != "cd" {
		t.Errorf("after a was given back there are %s", got)
	}
	age(2, weightsKeep+time.Hour)
	c.evict(time.Now(), 0)
	if got := kept(); got != "d" || statOf(foreign) == nil {
		t.Errorf("after a day there are %s", got)
	}
}
