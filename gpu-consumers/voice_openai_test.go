// An OpenAI-compatible speech server in the shapes that Kokoro-FastAPI, Speaches and
// LocalAI have, with flite behind it.

package gpu

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// serveOpenAI is a Kokoro-FastAPI, or with captions false a server that has the
// OpenAI route alone.
func serveOpenAI(t *testing.T, behaviour string, captions bool) *fakeServer {
	t.Helper()
	f := &fakeServer{behaviour: behaviour}
	say := func(w http.ResponseWriter, r *http.Request, body map[string]any, wrap func([]byte, []timedWord) []byte) {
		if body["stream"] != false || body["response_format"] != "wav" || body["model"] != "kokoro" {
			t.Errorf("asked with %v", body)
		}
		if body["voice"] == "nobody" {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = fmt.Fprint(w, `{"detail":{"error":"validation_error","message":"Voice 'nobody' not found. Available voices: af_bella, af_heart","type":"invalid_request_error"}}`)
			return
		}
		if behaviour == hangs {
			<-r.Context().Done()
			return
		}
		sound, words, err := fliteSound(t, body["input"].(string), body["speed"].(float64))
		if err != nil {
			t.Error(err)
		}
		switch behaviour {
		case cuts:
			sound = sound[:len(sound)/2]
		case silent:
			sound = silentWave(t)
		}
		answer := wrap(sound, words)
		if !f.misbehave(w, r, answer) {
			_, _ = w.Write(answer)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer wrong" {
			w.WriteHeader(http.StatusUnauthorized)
		}
		_, _ = fmt.Fprint(w, `{"object":"list","data":[{"id":"tts-1","object":"model","created":1686935002,"owned_by":"kokoro"},{"id":"kokoro","object":"model","created":1686935002,"owned_by":"kokoro"}]}`)
	})
	mux.HandleFunc("GET /v1/audio/voices", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, `{"voices":[{"id":"af_heart","name":"af_heart"},{"id":"af_bella","name":"af_bella"}]}`)
	})
	mux.HandleFunc("POST /v1/audio/speech", f.counted(t, func(w http.ResponseWriter, r *http.Request, body map[string]any) {
		w.Header().Set("Content-Type", "audio/wav")
		say(w, r, body, func(sound []byte, _ []timedWord) []byte { return sound })
	}))
	if captions {
		mux.HandleFunc("POST /dev/captioned_speech", f.counted(t, func(w http.ResponseWriter, r *http.Request, body map[string]any) {
			w.Header().Set("Content-Type", "application/json")
			say(w, r, body, captionedAnswer)
		}))
	}
	f.Server = httptest.NewServer(mux)
	t.Cleanup(f.Close)
	return f
}

// captionedAnswer is the JSON of /dev/captioned_speech: signs are words of their own.
func captionedAnswer(sound []byte, words []timedWord) []byte {
	type stamp struct {
		Word  string  `json:"word"`
		Start float64 `json:"start_time"`
		End   float64 `json:"end_time"`
	}
	var stamps []stamp
	for _, w := range words {
		word := strings.TrimRight(w.Word, ".,!?")
		stamps = append(stamps, stamp{word, w.Start, w.End})
		if sign := strings.TrimPrefix(w.Word, word); sign != "" {
			stamps = append(stamps, stamp{sign, w.End, w.End})
		}
	}
	answer, _ := json.Marshal(map[string]any{"audio": base64.StdEncoding.EncodeToString(sound), "audio_format": "audio/wav", "timestamps": stamps})
	return answer
}

func openAISpeech(t *testing.T, c OpenAIVoiceConfig) *speech {
	t.Helper()
	if c.Model == "" {
		c.Model = "kokoro"
	}
	if c.Voice == "" {
		c.Voice = "af_heart"
	}
	engines, err := SpeechEngines(VoicesConfig{OpenAI: c}, EngineConfig{})
	if err != nil || len(engines) != 1 {
		t.Fatalf("engines %v, error %v", engines, err)
	}
	s := engines[0].(*speech)
	t.Cleanup(s.voice.(*openAIVoice).server.http.CloseIdleConnections)
	return s
}

func openAITrial(name string, captions bool) trial {
	return trial{name: name,
		begin: func(t *testing.T, behaviour string) trialVoice {
			f := serveOpenAI(t, behaviour, captions)
			if behaviour == lost {
				f.Close()
			}
			s := openAISpeech(t, OpenAIVoiceConfig{URL: f.URL + "/v1", Captions: captions, Languages: []string{"en", "de=af_bella", "zh=af_heart+af_bella"}, Patience: testPatience(behaviour)})
			return trialVoice{speech: s, asked: f.asked, gone: f.idle, heard: f.last, files: func() []string { return nil }}
		},
		told:   func(_ *testing.T, v trialVoice, _ *Attempt) string { return v.heard()["voice"].(string) },
		abroad: map[string]string{"en-GB": "af_heart", "de": "af_bella", "de-AT": "af_bella", "zh-CN": "af_heart+af_bella"}, unspoken: []string{"fr", "ja", "pt-BR"},
		classes: map[string]string{
			stalls: events.ClassStalled, garbles: events.ClassEngineRejected, halves: events.ClassEngineUnavailable, cuts: events.ClassEngineRejected,
			lost: events.ClassEngineUnavailable, starves: events.ClassOOM, mute: events.ClassEngineRejected, silent: events.ClassEngineRejected,
		},
	}
}

func TestASpeechServerMayBeSlowButNotForEver(t *testing.T) {
	t.Parallel()
	f := serveOpenAI(t, hangs, false)
	s := openAISpeech(t, OpenAIVoiceConfig{URL: f.URL, Patience: Patience{FirstByte: 50 * time.Millisecond}})
	_, _, err := runSpeech(t, s, narrated("Green tea."))
	wantTaskError(t, err, events.ClassTimeout)
}

func TestWordTimesOfTheServerAreUsed(t *testing.T) {
	t.Parallel()
	f := serveOpenAI(t, speaks, true)
	_, times, err := runSpeech(t, openAISpeech(t, OpenAIVoiceConfig{URL: f.URL, Captions: true}), narrated("Green tea, picked in spring. It tastes fresh!"))
	if err != nil || times.WordSource != wordsOfEngine || times.Source != timesAligned || len(times.Words) != 8 {
		t.Errorf("timing %+v, error %v", times, err)
	}
	plain := serveOpenAI(t, speaks, false)
	s := openAISpeech(t, OpenAIVoiceConfig{URL: plain.URL, Captions: true})
	if _, times, err = runSpeech(t, s, narrated("Green tea, picked in spring. It tastes fresh!")); err != nil || times.WordSource != wordsAligned {
		t.Errorf("timing %+v, error %v", times, err)
	}
}

func TestGatherWords(t *testing.T) {
	t.Parallel()
	sentences, _ := splitNarration("Don't stop, well-known friends!", asWritten)
	heard := []heardWord{{"Do", 0.1, 0.2}, {"n't", 0.2, 0.3}, {"stop", 0.3, 0.6}, {",", 0.6, 0.6}, {"well", 0.7, 0.8}, {"-", 0.8, 0.8}, {"known", 0.8, 1}, {"friends", 1, 1.5}, {"!", 1.5, 1.5}}
	got := gatherWords(sentences[0], heard, 2)
	if len(got) != 4 || got[0] != (timedWord{"Don't", 0.1, 0.3, false}) || got[2] != (timedWord{"well-known", 0.7, 1, false}) {
		t.Errorf("gathered %v", got)
	}
	backwards := append([]heardWord(nil), heard...)
	backwards[7].Start, backwards[7].End = 0.2, 0.3
	for name, bad := range map[string][]heardWord{"none": nil, "too few": heard[:5], "others": {{"five", 0, 1}}, "more": append(heard, heardWord{"again", 1.6, 1.8}), "backwards": backwards} {
		if got := gatherWords(sentences[0], bad, 2); got != nil {
			t.Errorf("%s: gathered %v", name, got)
		}
	}
}

// TestVoicesByProfile has each attempt spoken by the voice of its profile, of the
// job's own choice, or the usual one, and keeps results of a profile's voice apart.
func TestVoicesByProfile(t *testing.T) {
	t.Parallel()
	f := serveOpenAI(t, speaks, false)
	s := openAISpeech(t, OpenAIVoiceConfig{URL: f.URL, Voices: []string{"p1=af_bella", "rms=am_adam"}, Note: "for tests", Preview: true})
	for voice, a := range map[string]*Attempt{
		"af_heart": {Params: map[string]any{"voice": "slt"}, Profile: "p2", Files: map[string][]File{"voice_reference": {{}}}},
		"am_adam":  {Params: map[string]any{"voice": "rms"}},
		"af_bella": {Params: map[string]any{"voice": "rms"}, Profile: "p1"},
	} {
		a.Texts = map[string]string{"narration": "Green tea."}
		out, _, err := runSpeech(t, s, a)
		if err != nil {
			t.Fatal(err)
		}
		f.mu.Lock()
		asked := f.requests[len(f.requests)-1]["voice"]
		f.mu.Unlock()
		if asked != voice || out.Model != "kokoro/"+voice || out.Fidelity != events.FidelityPreview {
			t.Errorf("%s: asked for %v, result %+v", voice, asked, out)
		}
		if notes := strings.Join(out.Notes, " "); !strings.Contains(notes, "for tests") || strings.Contains(notes, "cannot imitate") != (voice == "af_heart") {
			t.Errorf("%s: notes %q", voice, out.Notes)
		}
	}
}

func TestTheSpeechServersGapsAndRefusals(t *testing.T) {
	t.Parallel()
	f := serveOpenAI(t, speaks, false)
	for want, c := range map[string]OpenAIVoiceConfig{
		"does not accept our key": {URL: f.URL, Key: "wrong"},
		"no model":                {URL: f.URL, Model: "other"},
		"no voice":                {URL: f.URL, Voice: "af_heart+nobody"},
		"does not answer":         {URL: "http://127.0.0.1:1"},
	} {
		_, gap := openAISpeech(t, c).Capability(context.Background())
		if gap == nil || gap.Task != taskSpeech || !strings.Contains(gap.Reason, want) || gap.Hint == "" || strings.Contains(gap.Reason+gap.Hint, "wrong") {
			t.Errorf("%s: gap %+v", want, gap)
		}
	}
	if c, gap := openAISpeech(t, OpenAIVoiceConfig{URL: f.URL, Voice: "af_heart(2)+af_bella"}).Capability(context.Background()); gap != nil || c.Fidelity != events.FidelityFull {
		t.Errorf("capability %+v, gap %+v", c, gap)
	}
	_, _, err := runSpeech(t, openAISpeech(t, OpenAIVoiceConfig{URL: f.URL, Voice: "nobody"}), narrated("Green tea."))
	if te := wantTaskError(t, err, events.ClassEngineRejected); !strings.Contains(te.Hint, "voices") || !strings.Contains(te.LogTail, "af_bella") {
		t.Errorf("hint %q, log %q", te.Hint, te.LogTail)
	}
	for _, bad := range []OpenAIVoiceConfig{{URL: "ftp://x", Model: "m", Voice: "v"}, {URL: "http://u:p@x", Model: "m", Voice: "v"}, {URL: "http://x", Voice: "v"}, {URL: "http://x", Model: "m", Voice: "v", Voices: []string{"a"}}} {
		if _, err := SpeechEngines(VoicesConfig{OpenAI: bad}, EngineConfig{}); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}

func TestRefusalsHaveClasses(t *testing.T) {
	t.Parallel()
	s, err := newModelServer("it", "http://x", "", Patience{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		status            int
		body, class, said string
	}{
		{422, `{"detail":[{"loc":["body","speed"],"msg":"Input should be less than or equal to 4"}]}`, events.ClassEngineRejected, "less than or equal"},
		{400, `{"error":{"message":"bad model","type":"invalid_request_error"}}`, events.ClassEngineRejected, "bad model"},
		{401, `{"error":"no"}`, events.ClassEngineUnavailable, "no"},
		{404, `{"detail":"Not Found"}`, events.ClassEngineUnavailable, "Not Found"},
		{302, ``, events.ClassEngineUnavailable, ""},
		{429, `slow down`, events.ClassEngineUnavailable, "slow down"},
		{503, `loading`, events.ClassEngineUnavailable, "loading"},
		{504, ``, events.ClassTimeout, ""},
		{500, `{"error":{"message":"torch.OutOfMemoryError: HIP out of memory"}}`, events.ClassOOM, "HIP"},
	} {
		if e := s.refusal(&reply{c.status, []byte(c.body)}); e.Class != c.class || !strings.Contains(e.LogTail, c.said) || e.Message == "" {
			t.Errorf("%d %s: %+v", c.status, c.body, e)
		}
	}
}

// TestStreamedHeadsAreMended holds the mending against an independent reader.
func TestStreamedHeadsAreMended(t *testing.T) {
	t.Parallel()
	whole, _, err := fliteSound(t, "Green tea.", 1)
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(whole), "data") + 4
	sized := func(n uint32) []byte {
		b := append([]byte(nil), whole...)
		binary.LittleEndian.PutUint32(b[at:], n)
		return b
	}
	trailed := append(append([]byte(nil), whole...), "LIST\x04\x00\x00\x00abcd"...)
	for name, c := range map[string]struct {
		data        []byte
		cut, mended bool
	}{
		"right": {whole, false, false}, "endless": {sized(0xffffffff), false, true}, "zero": {sized(0), false, true}, "too short": {sized(100), false, true},
		"cut": {whole[:len(whole)/2], true, false}, "a chunk follows": {trailed, false, false}, "no samples": {whole[:20], true, false}, "no wave": {[]byte("OggS"), false, false},
	} {
		size := len(c.data)
		if cut, mended := mendWave(c.data); cut != c.cut || mended != c.mended {
			t.Errorf("%s: cut %v, mended %v", name, cut, mended)
		}
		if c.cut || name == "no wave" {
			continue
		}
		path := writeFile(t, "x.wav", c.data)
		out, err := exec.Command("ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", path).Output()
		var seconds float64
		if _, scanErr := fmt.Sscan(string(out), &seconds); err != nil || scanErr != nil || seconds < float64(size-200)/32000 {
			t.Errorf("%s: ffprobe finds %q s in %d bytes, %v", name, out, size, err)
		}
	}
}
