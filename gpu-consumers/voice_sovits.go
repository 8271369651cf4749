// Voices that imitate a reference behind GPT-SoVITS' api_v2.py (POST /tts).
//
// Rules, each of which answers a fact of that server: the reference is named by a
// path that the server itself opens, so that it lies in a folder that both see;
// weights are the server's global state, so that setting them and speaking lie under
// one lock, which all processes of this machine share; languages are sent in lower case, because POST does not lower them; every
// failure is a 400, so that its words decide about the class; a reference is 3 to 10
// seconds long.

package gpu

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/myspinbot/myspinbot/events"
)

// SoVITSConfig says where a GPT-SoVITS server answers. With an empty URL there is
// none.
type SoVITSConfig struct {
	URL      string // such as http://127.0.0.1:9880
	Shared   string // folder here that the server sees too; empty: the server runs on this machine, as the same user
	SharedAs string // that folder as the server names it; empty: as here
	// GPTWeights and SoVITSWeights are paths on the server; empty: what it has loaded. They
	// speak for whoever has none of his own.
	GPTWeights, SoVITSWeights string
	// CacheBytes is how much of trained voices' weights is kept here, in a folder below
	// Shared or else below Work (default the folder of temporary files); 0: none are used.
	CacheBytes int64
	Work       string
	// Language is that of the references, as the server names it; empty: as their
	// transcript is written, else that of the job.
	Language string
	// Languages are those that the weights speak; none: all that the server knows.
	Languages []string
	Note      string // added to the notes of each result
	Patience
}

const (
	soVITSShortest = 3.0 // seconds of a reference
	soVITSLongest  = 9.5 // a little below the server's own limit
)

// soVITSLanguages are those of its version 2 and later; version 1 lacks ko and yue.
var soVITSLanguages = []string{"en", "ja", "ko", "yue", "zh"}

// soVITSNames are how the server calls what may be spoken in a reference: the languages, each
// also without foreign words in it (all_), and what it shall find out itself.
var soVITSNames = []string{"all_ja", "all_ko", "all_yue", "all_zh", "auto", "auto_yue", "en", "ja", "ko", "yue", "zh"}

type soVITS struct {
	SoVITSConfig
	speaks events.Languages
	server *modelServer
	media  *mediaTool
	lock   machineLock // for servers whose weights we set
	cache  *weightsCache
}

func newSoVITS(c SoVITSConfig, media *mediaTool) (*soVITS, error) {
	server, err := newModelServer("GPT-SoVITS", c.URL, "", c.Patience)
	if err != nil {
		return nil, err
	}
	if (c.GPTWeights == "") != (c.SoVITSWeights == "") {
		return nil, errors.New("cannot set one half of GPT-SoVITS' weights: name both, or neither")
	}
	speaks, err := c.spoken()
	if err != nil {
		return nil, err
	}
	c.Language = strings.ToLower(c.Language)
	if c.Shared == "" {
		if u, err := url.Parse(server.base); err != nil || !loopback(u.Hostname()) {
			return nil, fmt.Errorf("cannot hand voice references to GPT-SoVITS at %s: name a folder that it shares with this machine", c.URL)
		}
	} else if !filepath.IsAbs(c.Shared) {
		return nil, fmt.Errorf("cannot use the shared folder %q of GPT-SoVITS: give an absolute path", c.Shared)
	}
	return &soVITS{SoVITSConfig: c, speaks: speaks, server: server, media: media, cache: weightsCacheOf(c), lock: lockFor("GPT-SoVITS " + sameHost(server.base))}, nil
}

// spoken are the languages that it speaks.
func (c SoVITSConfig) spoken() (events.Languages, error) {
	if of := strings.ToLower(c.Language); of != "" && !slices.Contains(soVITSNames, of) {
		return "", fmt.Errorf("cannot have GPT-SoVITS imitate references in %q: it knows %s", of, strings.Join(soVITSNames, ", "))
	}
	for _, of := range c.Languages {
		if !slices.Contains(soVITSLanguages, of) {
			return "", fmt.Errorf("cannot have GPT-SoVITS speak %q: it knows %s", of, strings.Join(soVITSLanguages, ", "))
		}
	}
	if len(c.Languages) == 0 {
		return languagesOf(soVITSLanguages)
	}
	return languagesOf(c.Languages)
}

// sameHost is the address's host and port, alike for all names of this machine itself.
func sameHost(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	if loopback(u.Hostname()) {
		return "loopback:" + u.Port()
	}
	return strings.ToLower(u.Host)
}

// loopback says whether a host name is this machine itself.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (v *soVITS) about() events.TaskCapability {
	model := "loaded weights"
	if v.SoVITSWeights != "" {
		model = path.Base(v.GPTWeights) + "+" + path.Base(v.SoVITSWeights)
	}
	return events.TaskCapability{Engine: "gpt-sovits", Model: model, Version: settingsVersion("1", v.GPTWeights, v.SoVITSWeights, v.Language, v.CacheBytes > 0), Fidelity: events.FidelityFull, Takes: "voice_reference", Languages: v.speaks}
}

// announce looks whether the server has the routes that are used here.
func (v *soVITS) announce(ctx context.Context) (events.TaskCapability, *events.TaskGap) {
	v.cache.evict(time.Now(), 0)
	gap := &events.TaskGap{Engine: "gpt-sovits"}
	r, err := v.server.get(ctx, "/openapi.json")
	switch {
	case err != nil:
		gap.Reason, gap.Hint = fmt.Sprintf("GPT-SoVITS at %s does not answer", v.URL), "start its api_v2.py, or set its address right"
	case r.status != http.StatusOK || !r.routes("/tts", "/set_gpt_weights", "/set_sovits_weights"):
		gap.Reason, gap.Hint = fmt.Sprintf("what answers at %s is not GPT-SoVITS' api_v2.py", v.URL), "start api_v2.py, not api.py or the web page"
	default:
		if v.Shared == "" {
			return v.about(), nil
		}
		if info, err := os.Stat(v.Shared); err == nil && info.IsDir() {
			return v.about(), nil
		}
		gap.Reason, gap.Hint = "the folder shared with GPT-SoVITS is not there", "mount it, or set engines.speech.sovits.shared right"
	}
	return events.TaskCapability{}, gap
}

// routes says whether an OpenAPI document has all the paths.
func (r *reply) routes(paths ...string) bool {
	var doc struct{ Paths map[string]json.RawMessage }
	if json.Unmarshal(r.body, &doc) != nil {
		return false
	}
	for _, p := range paths {
		if _, ok := doc.Paths[p]; !ok {
			return false
		}
	}
	return true
}

// takes implements voice: without a reference there is nobody to imitate.
func (v *soVITS) takes(a *Attempt) bool { return len(a.Files["voice_reference"]) > 0 }
func (v *soVITS) writing() writing      { return writing{spell: asWritten} }

// open brings the reference to where the server sees it and, where weights are set,
// takes the lock and sets them.
func (v *soVITS) open(ctx context.Context, a *Attempt, speed float64) (_ speaker, err error) {
	ref, err := a.oneFile("voice_reference")
	if err != nil {
		return nil, err
	}
	s := &soVITSSpeaker{v: v, dir: a.Dir, speed: speed, language: baseLanguage(a.language())}
	transcript := plainText(a.Texts["voice_transcript"])
	s.promptLanguage = cmp.Or(v.Language, writtenIn(transcript, s.language))
	if err := s.shareReference(ctx, ref.Path, transcript); err != nil {
		return nil, errors.Join(err, s.close())
	}
	if v.Note != "" {
		s.notes = append(s.notes, v.Note)
	}
	if err := s.takeWeights(ctx, a); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// writtenIn is the language that a reference's transcript is in, told by its letters: a
// voice may have been recorded in another language than the job's. Without a transcript it
// does not matter.
func writtenIn(transcript, job string) string {
	in := func(scripts ...*unicode.RangeTable) bool {
		return strings.ContainsFunc(transcript, func(r rune) bool { return unicode.In(r, scripts...) })
	}
	switch {
	case in(unicode.Hiragana, unicode.Katakana):
		return "ja"
	case in(unicode.Hangul):
		return "ko"
	case in(unicode.Han) && (job == "ja" || job == "yue"): // written alike
		return job
	case in(unicode.Han):
		return "zh"
	case in(unicode.Latin):
		return "en"
	}
	return job
}

// soVITSSpeaker speaks one attempt.
type soVITSSpeaker struct {
	v                        *soVITS
	dir                      string
	speed                    float64
	language, promptLanguage string
	reference, prompt        string          // as the server opens it; what is said in it, or empty
	file                     string          // the reference in the shared folder, to be removed
	release                  func() error    // of the lock, while it is held
	trained                  *trainedWeights // the profile's own
	notes                    []string
}

func (s *soVITSSpeaker) about() (events.TaskCapability, []string) {
	c := s.v.about()
	if s.trained != nil {
		c.Model = s.trained.model()
	}
	return c, s.notes
}

func (s *soVITSSpeaker) close() (err error) {
	if s.release != nil {
		err = s.release()
		s.release = nil
	}
	if s.trained != nil {
		s.trained.release()
	}
	if s.file == "" {
		return err
	}
	if gone := os.Remove(s.file); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
		return errors.Join(err, fmt.Errorf("cannot take the voice reference out of the shared folder: %w", gone))
	}
	return err
}

// shareReference writes a reference that the server takes. One that has to be cut
// loses its transcript, which says more than it then.
func (s *soVITSSpeaker) shareReference(ctx context.Context, from, transcript string) error {
	wav, err := referenceWave(ctx, s.v.media, s.dir, from)
	if err != nil {
		return err
	}
	whole := wav.seconds()
	if whole < soVITSShortest {
		return &TaskError{Class: events.ClassInvalidInput, Message: fmt.Sprintf("the voice reference lasts %.1f s, and GPT-SoVITS needs %.0f", whole, soVITSShortest),
			Hint: "record more of the voice, at least 3 seconds"}
	}
	if s.prompt = transcript; whole > soVITSLongest {
		cutAtPause(wav, soVITSLongest)
		s.prompt = ""
		s.notes = append(s.notes, fmt.Sprintf("the voice was imitated from %.1f of the reference's %.1f s, which is as much as GPT-SoVITS takes", wav.seconds(), whole))
	}
	folder := cmp.Or(s.v.Shared, s.dir)
	f, err := os.CreateTemp(folder, "myspinbot-*.wav")
	if err != nil {
		return &TaskError{Class: events.ClassEngineUnavailable, Message: "the folder shared with GPT-SoVITS cannot be written", Hint: "let this process write to engines.speech.sovits.shared", Err: err}
	}
	s.file = f.Name()
	if err := errors.Join(f.Close(), wav.write(s.file)); err != nil {
		return err
	}
	if s.v.Shared != "" {
		if err := os.Chmod(s.file, 0o644); err != nil { //nolint:gosec // the server may be another user; the operator's folder decides who gets there
			return fmt.Errorf("cannot let GPT-SoVITS read the voice reference: %w", err)
		}
	}
	s.reference = s.v.asSeen(s.file)
	return nil
}

// asSeen is a path of ours as the server opens it.
func (v *soVITS) asSeen(path string) string {
	below, err := filepath.Rel(v.Shared, path)
	if v.Shared == "" || v.SharedAs == "" || err != nil {
		return path
	}
	return strings.TrimRight(v.SharedAs, `/\`) + "/" + filepath.ToSlash(below)
}

// setWeights waits until nobody else speaks and loads the weights, by their paths on the
// server.
func (s *soVITSSpeaker) setWeights(ctx context.Context, gpt, soVITS string) error {
	release, err := s.v.lock.hold(ctx)
	if err != nil {
		return fmt.Errorf("cannot wait for GPT-SoVITS: %w", err)
	}
	s.release = release
	for _, set := range [][2]string{{"/set_gpt_weights", gpt}, {"/set_sovits_weights", soVITS}} {
		r, err := s.v.server.do(ctx, http.MethodGet, set[0]+"?weights_path="+url.QueryEscape(set[1]), nil, replyLimit)
		if err != nil {
			return err
		}
		if r.status != http.StatusOK {
			return s.v.server.refusal(r, soVITSRules...)
		}
	}
	return nil
}

func (s *soVITSSpeaker) say(ctx context.Context, u utterance) (*take, error) {
	r, err := s.v.server.post(ctx, "/tts", map[string]any{
		"text": u.text(), "text_lang": s.language, "ref_audio_path": s.reference, "prompt_lang": s.promptLanguage, "prompt_text": s.prompt,
		"text_split_method": "cut0", "speed_factor": s.speed, "media_type": "wav", "streaming_mode": false,
	}, soundLimit)
	if err != nil {
		return nil, err
	}
	if r.status != http.StatusOK {
		return nil, s.v.server.refusal(r, soVITSRules...)
	}
	path := filepath.Join(s.dir, "answer.sound")
	if err := os.WriteFile(path, r.body, 0o600); err != nil {
		return nil, fmt.Errorf("cannot keep what GPT-SoVITS made: %w", err)
	}
	heard, err := s.v.media.hear(ctx, s.dir, path, s.v.server.name, u, s.speed)
	if err != nil {
		return nil, err
	}
	return &take{sound: heard}, nil
}

// soVITSRules read what a 400 means. The server passes on the words of whatever
// failed inside, Chinese among them.
var soVITSRules = []refusalRule{
	outOfMemory,
	{words: []string{"is not supported in version"}, class: events.ClassInvalidInput, message: "does not speak the language", hint: "set engines.speech.sovits.languages to those of its weights: version 1 has en, ja and zh"},
	{words: []string{"3-10", "3~10", "3 to 10", "3-10秒"}, class: events.ClassInvalidInput, message: "does not take the voice reference", hint: "give a reference of 3 to 10 seconds"},
	{words: []string{"change gpt weight failed", "change sovits weight failed", "weight path is required"}, class: events.ClassEngineUnavailable,
		message: "cannot load the weights", hint: "set engines.speech.sovits.gpt_weights and sovits_weights to paths on its machine; weights of a trained voice need a server of the version that trained them, which sees the same folder"},
	{words: []string{"no such file", "not exist", "not found", "error opening", "failed to open", "permission denied", "system error", "不存在"}, class: events.ClassEngineUnavailable,
		message: "cannot read the voice reference", hint: "it must see the same folder: set engines.speech.sovits.shared and shared_as, and let it read there"},
}

// referenceWave is a voice reference as mono sound at speechRate.
func referenceWave(ctx context.Context, media *mediaTool, dir, from string) (*wave, error) {
	out := filepath.Join(dir, "reference.wav")
	err := media.run(ctx, transcode{dir: dir, inputs: []mediaInput{{path: from}}, output: out, timeout: 2 * time.Minute,
		args: []string{"-map", "0:a:0", "-ac", "1", "-ar", strconv.Itoa(speechRate), "-c:a", "pcm_s16le", "-f", "wav"}})
	if err != nil {
		return nil, asInvalidInput(err, "the voice reference cannot be decoded", "upload the voice sample again")
	}
	return readWave(out)
}
