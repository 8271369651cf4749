// A GPT-SoVITS server in the shape of its api_v2.py, with flite behind it.

package gpu

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/myspinbot/myspinbot/events"
)

// fakeSoVITS opens references itself, as the real server does.
type fakeSoVITS struct {
	*fakeServer
	seen    string // the folder as the server names it
	real    string // and as it is
	weights []string
	spoken  []string // weights that each sentence was spoken with
	seconds []float64
}

func serveSoVITS(t *testing.T, behaviour string) *fakeSoVITS {
	t.Helper()
	f := &fakeSoVITS{fakeServer: &fakeServer{behaviour: behaviour}, seen: "/srv/voices", real: t.TempDir()}
	refuse := func(w http.ResponseWriter, body string) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = fmt.Fprint(w, body)
	}
	set := func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Query().Get("weights_path")
		if content, err := os.ReadFile(strings.Replace(path, f.seen, f.real, 1)); err == nil {
			path = string(content) // what is loaded, whatever it is called
		}
		if strings.Contains(path, "absent") {
			refuse(w, `{"message":"change gpt weight failed","Exception":"[Errno 2] No such file or directory: 'absent.ckpt'"}`)
			return
		}
		f.mu.Lock()
		f.weights = append(f.weights, path)
		f.mu.Unlock()
		_, _ = fmt.Fprint(w, `{"message":"success"}`)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, `{"openapi":"3.1.0","paths":{"/control":{},"/tts":{},"/set_refer_audio":{},"/set_gpt_weights":{},"/set_sovits_weights":{}}}`)
	})
	mux.HandleFunc("GET /set_gpt_weights", set)
	mux.HandleFunc("GET /set_sovits_weights", set)
	mux.HandleFunc("POST /tts", f.counted(t, func(w http.ResponseWriter, r *http.Request, body map[string]any) {
		for _, lang := range []string{"text_lang", "prompt_lang"} {
			if body[lang] == "ko" || !slices.Contains(soVITSNames, body[lang].(string)) {
				refuse(w, fmt.Sprintf(`{"message":"%s: %v is not supported in version v2"}`, lang, body[lang]))
				return
			}
		}
		path := strings.Replace(body["ref_audio_path"].(string), f.seen, f.real, 1)
		reference, err := readWave(path)
		if err != nil {
			refuse(w, `{"message":"tts failed","Exception":"[Errno 2] No such file or directory: 'x.wav'"}`)
			return
		}
		if s := reference.seconds(); s < 3 || s > 10 {
			refuse(w, `{"message":"tts failed","Exception":"Reference audio is outside the 3-10 second range, please choose another one!"}`)
			return
		}
		f.mu.Lock()
		f.spoken = append(f.spoken, strings.Join(f.weights[max(0, len(f.weights)-2):], "+"))
		f.seconds = append(f.seconds, reference.seconds())
		f.mu.Unlock()
		f.answer(t, w, r, body)
	}))
	f.Server = httptest.NewServer(mux)
	t.Cleanup(f.Close)
	t.Cleanup(func() { _ = os.Remove(lockFor("GPT-SoVITS " + sameHost(f.URL)).path) }) // of whom takes its weights
	return f
}

func (f *fakeSoVITS) answer(t *testing.T, w http.ResponseWriter, r *http.Request, body map[string]any) {
	if f.behaviour == hangs {
		<-r.Context().Done()
		return
	}
	if f.behaviour == starves {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = fmt.Fprint(w, `{"message":"tts failed","Exception":"CUDA out of memory. Tried to allocate 512.00 MiB"}`)
		return
	}
	sound, _, err := fliteSound(t, body["text"].(string), body["speed_factor"].(float64))
	if err != nil {
		t.Error(err)
	}
	switch f.behaviour {
	case cuts:
		sound = sound[:len(sound)/2]
	case silent:
		sound = silentWave(t)
	}
	w.Header().Set("Content-Type", "audio/wav")
	if !f.misbehave(w, r, sound) {
		_, _ = w.Write(sound)
	}
}

// voiceReferenceFile is a reference of about the given length.
func voiceReferenceFile(t *testing.T, seconds float64) map[string][]File {
	t.Helper()
	sound, _, err := fliteSound(t, strings.Repeat("Green tea is picked in spring. ", int(seconds/1.5)+1), 1)
	if err != nil {
		t.Fatal(err)
	}
	w, err := readWave(writeFile(t, "long.wav", sound))
	if err != nil {
		t.Fatal(err)
	}
	w.samples = w.cut(0, seconds)
	path := filepath.Join(t.TempDir(), "voice.wav")
	if err := w.write(path); err != nil {
		t.Fatal(err)
	}
	return map[string][]File{"voice_reference": {{Path: path}}}
}

func soVITSSpeech(t *testing.T, c SoVITSConfig) *speech {
	t.Helper()
	engines, err := SpeechEngines(VoicesConfig{SoVITS: c}, EngineConfig{})
	if err != nil {
		t.Fatal(err)
	}
	s := engines[0].(*speech)
	t.Cleanup(s.voice.(*soVITS).server.http.CloseIdleConnections)
	return s
}

// spokenWith are the weights that each sentence was spoken with.
func (f *fakeSoVITS) spokenWith() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.spoken)
}

func (f *fakeSoVITS) config() SoVITSConfig {
	return SoVITSConfig{URL: f.URL, Shared: f.real, SharedAs: f.seen, Patience: testPatience(f.behaviour)}
}

func soVITSTrial(t *testing.T) trial {
	return trial{name: "gpt-sovits", inputs: voiceReferenceFile(t, 5),
		begin: func(t *testing.T, behaviour string) trialVoice {
			f := serveSoVITS(t, behaviour)
			if behaviour == lost {
				f.Close()
			}
			c := f.config()
			c.GPTWeights, c.SoVITSWeights, c.CacheBytes = "base.ckpt", "base.pth", 1<<20
			return trialVoice{speech: soVITSSpeech(t, c), asked: f.asked, gone: f.idle, heard: f.last, weights: f.spokenWith, files: func() []string {
				left, err := filepath.Glob(filepath.Join(f.real, "*.wav"))
				if err != nil {
					t.Fatal(err)
				}
				return left
			}}
		},
		told: func(_ *testing.T, v trialVoice, _ *Attempt) string {
			return v.heard()["text_lang"].(string) + " after " + v.heard()["prompt_lang"].(string)
		},
		abroad: map[string]string{"en-GB": "en after en", "zh-CN": "zh after zh", "ja": "ja after ja", "yue": "yue after yue"}, unspoken: []string{"fr", "de", "pt-BR"},
		classes: map[string]string{
			stalls: events.ClassStalled, garbles: events.ClassEngineRejected, halves: events.ClassEngineUnavailable, cuts: events.ClassEngineRejected,
			lost: events.ClassEngineUnavailable, starves: events.ClassOOM, mute: events.ClassEngineRejected, silent: events.ClassEngineRejected,
		},
	}
}

func TestAReferenceIsCutToWhatTheServerTakes(t *testing.T) {
	t.Parallel()
	f := serveSoVITS(t, speaks)
	s := soVITSSpeech(t, f.config())
	a := narrated("Green tea.")
	a.Files, a.Texts["voice_transcript"] = voiceReferenceFile(t, 5), "Green tea is picked."
	if _, _, err := runSpeech(t, s, a); err != nil {
		t.Fatal(err)
	}
	a.Files = voiceReferenceFile(t, 14)
	out, _, err := runSpeech(t, s, a)
	if err != nil || !strings.Contains(strings.Join(out.Notes, " "), "as much as GPT-SoVITS takes") {
		t.Fatalf("result %+v, error %v", out, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.requests[0]["prompt_text"] != "Green tea is picked." || f.requests[1]["prompt_text"] != "" {
		t.Errorf("transcripts %q and %q", f.requests[0]["prompt_text"], f.requests[1]["prompt_text"])
	}
	if math.Abs(f.seconds[0]-5) > 0.1 || f.seconds[1] > soVITSLongest+0.1 || f.seconds[1] < 4 {
		t.Errorf("references of %v s", f.seconds)
	}
}

func TestSoVITSRefusalsHaveClasses(t *testing.T) {
	t.Parallel()
	f := serveSoVITS(t, speaks)
	elsewhere := f.config()
	elsewhere.SharedAs = "/nowhere"
	absent := f.config()
	absent.GPTWeights, absent.SoVITSWeights = "absent.ckpt", "a.pth"
	for name, c := range map[string]struct {
		config   SoVITSConfig
		seconds  float64
		language string
		class    string
		hint     string
	}{
		"too short":      {f.config(), 2, "en", events.ClassInvalidInput, "3 seconds"},
		"another folder": {elsewhere, 5, "en", events.ClassEngineUnavailable, "shared_as"},
		"weights":        {absent, 5, "en", events.ClassEngineUnavailable, "sovits_weights"},
		"language":       {f.config(), 5, "ko", events.ClassInvalidInput, "engines.speech.sovits.languages"}, // of weights of version 1
	} {
		a := narrated("Green tea.")
		a.Params = map[string]any{"language": c.language}
		a.Files = voiceReferenceFile(t, c.seconds)
		_, _, err := runSpeech(t, soVITSSpeech(t, c.config), a)
		if te := wantTaskError(t, err, c.class); !strings.Contains(te.Hint, c.hint) {
			t.Errorf("%s: hint %q", name, te.Hint)
		}
	}
	if left, err := os.ReadDir(f.real); err != nil || len(left) > 0 {
		t.Errorf("left in the shared folder: %v, %v", left, err)
	}
}

func TestSoVITSGapsAndConfiguration(t *testing.T) {
	t.Parallel()
	f := serveSoVITS(t, speaks)
	away := f.config()
	away.Shared = filepath.Join(f.real, "absent")
	wrong := f.config()
	wrong.URL = serveOpenAI(t, speaks, false).URL
	for want, c := range map[string]SoVITSConfig{"is not there": away, "not GPT-SoVITS": wrong, "does not answer": {URL: "http://127.0.0.1:1"}} {
		if _, gap := soVITSSpeech(t, c).Capability(context.Background()); gap == nil || !strings.Contains(gap.Reason, want) || gap.Hint == "" {
			t.Errorf("%s: gap %+v", want, gap)
		}
	}
	if soVITSSpeech(t, f.config()).takes(narrated("Green tea.")) {
		t.Error("an attempt without a reference was taken")
	}
	for _, bad := range []SoVITSConfig{{URL: "http://gpu.internal:9880"}, {URL: f.URL, Shared: "relative"}, {URL: f.URL, GPTWeights: "a"}, {URL: f.URL, Languages: []string{"de"}}, {URL: f.URL, Language: "de"}} {
		if _, err := SpeechEngines(VoicesConfig{SoVITS: bad}, EngineConfig{}); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}
