// What the fake voices of the tests share: flite speaks behind all of them.

package gpu

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// fliteSound is a text as flite's voice rms says it: a WAV file, and its words.
func fliteSound(t testing.TB, text string, speed float64) ([]byte, []timedWord, error) {
	dir := t.TempDir()
	sentences, _ := splitNarration(inLatin(text), speakable)
	u := gather(sentences, 1000)[0]
	said, err := (&fliteRun{path: "flite", voice: "rms", stretch: 1 / speed, dir: dir}).say(context.Background(), u)
	if err != nil {
		return nil, nil, err
	}
	sound, err := os.ReadFile(filepath.Join(dir, "sentence.wav"))
	return sound, said.words, err
}

// inLatin gives flite something to say for each character of a writing that it does not
// know.
func inLatin(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case wide(r):
			b.WriteString("la ")
		case strings.ContainsRune(commas, r):
			b.WriteString(", ")
		case r == '。' || r == '！' || r == '？':
			b.WriteString(". ")
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// silentWave is a WAV file of two seconds without a sound.
func silentWave(t testing.TB) []byte {
	w := &wave{rate: 16000}
	w.pad(2)
	path := filepath.Join(t.TempDir(), "silent.wav")
	if err := w.write(path); err != nil {
		t.Error(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	}
	return data
}

// fakeServer is what the fake speech servers share.
type fakeServer struct {
	*httptest.Server
	behaviour string
	mu        sync.Mutex
	requests  []map[string]any
	open      int // requests that are being answered
}

// counted is a handler that keeps what it was asked and whether it still answers.
func (f *fakeServer) counted(t *testing.T, answer func(w http.ResponseWriter, r *http.Request, body map[string]any)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var body map[string]any
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		f.mu.Lock()
		f.requests = append(f.requests, body)
		f.open++
		f.mu.Unlock()
		defer func() {
			f.mu.Lock()
			f.open--
			f.mu.Unlock()
		}()
		answer(w, r, body)
	}
}

func (f *fakeServer) asked() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.requests)
}

// last is what it was asked last.
func (f *fakeServer) last() map[string]any {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests[len(f.requests)-1]
}

func (f *fakeServer) idle() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.open == 0
}

// misbehave answers in the way of a server that does not speak well; true means that
// it did.
func (f *fakeServer) misbehave(w http.ResponseWriter, r *http.Request, sound []byte) bool {
	switch f.behaviour {
	case stalls, halves:
		w.Header().Set("Content-Length", fmt.Sprint(len(sound)))
		_, _ = w.Write(sound[:len(sound)/2])
		if f.behaviour == halves {
			panic(http.ErrAbortHandler)
		}
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	case garbles:
		_, _ = w.Write([]byte("<!DOCTYPE html><title>It works!</title>" + strings.Repeat("\n", 300)))
	case starves:
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = fmt.Fprint(w, `{"detail":{"error":"processing_error","message":"CUDA out of memory. Tried to allocate 20.00 MiB","type":"server_error"}}`)
	case mute:
	default:
		return false
	}
	return true
}

// testPatience is short where a test waits for its end, and long elsewhere: flite
// behind the fakes has to share the machine.
func testPatience(behaviour string) Patience {
	switch behaviour {
	case hangs:
		return Patience{FirstByte: 20 * time.Second}
	case stalls:
		return Patience{Idle: 100 * time.Millisecond}
	}
	return Patience{}
}

func runSpeech(t *testing.T, s *speech, a *Attempt) (*Output, *timing, error) {
	t.Helper()
	a.Dir, a.Task = t.TempDir(), taskSpeech
	out, err := s.Run(context.Background(), a)
	if err != nil {
		return nil, nil, err
	}
	times, err := readTiming(out.Files["timing"][0].Path)
	if err != nil {
		t.Fatal(err)
	}
	return out, times, nil
}

func narrated(text string) *Attempt { return &Attempt{Texts: map[string]string{"narration": text}} }
