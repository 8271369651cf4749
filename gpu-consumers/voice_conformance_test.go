// What every voice must do, whatever speaks behind it: one suite that is run over
// all of them.

package gpu

import (
	"context"
	"errors"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// A fake voice behaves in one of these ways.
const (
	speaks  = "speaks"
	hangs   = "hangs"   // takes the text and says nothing
	stalls  = "stalls"  // begins and does not go on
	garbles = "garbles" // answers with something that is no sound
	halves  = "halves"  // ends in the middle of the sound
	cuts    = "cuts"    // a whole answer whose sound is shorter than it says
	lost    = "lost"    // is not there
	starves = "starves" // runs out of memory
	mute    = "mute"    // says that all is well and gives no sound
	silent  = "silent"  // gives a sound without a voice in it
)

// trialVoice is a voice in one behaviour, with what the suite must know of it.
type trialVoice struct {
	speech *speech
	asked  func() int // how often it was asked to speak
	heard  func() map[string]any
	// weights are those that each sentence was spoken with; nil: the voice is never trained.
	weights func() []string
	gone    func() bool     // whether nothing of what it ran for us is left
	files   func() []string // what it left on shared disk
}

// trial is one kind of voice.
type trial struct {
	name  string
	begin func(t *testing.T, behaviour string) trialVoice
	// classes are the classes of the behaviours that the voice can show.
	classes map[string]string
	inputs  map[string][]File // beside the narration
	// abroad are languages that it speaks, and what it is told of each as told tells;
	// unspoken are some that it does not.
	abroad   map[string]string
	told     func(t *testing.T, v trialVoice, a *Attempt) string
	unspoken []string
	// recorded is the recording of a text, where the voice plays one; nil: it speaks itself.
	recorded func(t *testing.T, text string) []File
}

const longNarration = `Green tea is picked in spring. It tastes fresh and a little sweet, and people drink it while it is hot!

Is it healthy? Nobody knows for certain, but many people believe so. The old lighthouse keeper sang to the passing ships every single night, and the sailors waved their hands.

In the morning he walked home along the river, and he was happy.`

func (tr trial) attempt(t *testing.T, narration string) *Attempt {
	t.Helper()
	a := &Attempt{Dir: t.TempDir(), Task: taskSpeech, Texts: map[string]string{"narration": narration}, Files: tr.inputs, Params: map[string]any{}}
	if tr.recorded != nil {
		a.Files = map[string][]File{events.InputRecording: tr.recorded(t, narration)}
	}
	return a
}

// conforms runs the suite.
func (tr trial) conforms(t *testing.T) {
	t.Run("speaks", tr.speaksWell)
	t.Run("refuses nothing to say", tr.refusesEmptyText)
	t.Run("ends when asked", tr.endsWhenAsked)
	t.Run("is chosen by its languages", tr.isChosenByLanguage)
	t.Run("speaks its languages", tr.speaksLanguages)
	t.Run("speaks as it was trained", tr.speaksAsTrained)
	for behaviour, class := range tr.classes {
		t.Run(behaviour, func(t *testing.T) {
			t.Parallel()
			v := tr.begin(t, behaviour)
			out, err := v.speech.Run(context.Background(), tr.attempt(t, "Green tea is picked in spring."))
			te := wantTaskError(t, err, class)
			if out != nil || te.Message == "" || strings.Contains(te.Message, "Green") || te.Hint == "" && class != events.ClassStalled {
				t.Errorf("output %v, error %q, hint %q", out, te.Message, te.Hint)
			}
			if left := v.files(); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

func (tr trial) speaksWell(t *testing.T) {
	t.Parallel()
	v := tr.begin(t, speaks)
	if c, gap := v.speech.Capability(context.Background()); gap != nil || c.Task != taskSpeech || c.Lane != events.LaneTTS || c.Engine == "" || c.Version == "" {
		t.Fatalf("capability %+v, gap %+v", c, gap)
	}
	for format, text := range map[string]string{"wav": longNarration, "flac": "Green tea is picked in spring. It tastes fresh!"} {
		a := tr.attempt(t, text)
		a.Params["format"] = format
		var progress []float64
		a.Progress = func(percent float64, _ string) { progress = append(progress, percent) }
		out, err := v.speech.Run(context.Background(), a)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.IsSorted(progress) || len(progress) < 3 || progress[len(progress)-1] != 100 {
			t.Errorf("progress %v", progress)
		}
		checkSpokenWell(t, out, text, format)
	}
	if n := v.asked(); n < 8 && tr.recorded == nil {
		t.Errorf("eight sentences were spoken in %d calls", n)
	}
	if left := v.files(); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// checkSpokenWell holds a result against what it says of itself.
func checkSpokenWell(t *testing.T, out *Output, text, format string) {
	t.Helper()
	file := out.Files["speech"][0]
	info, err := testTool().probe(context.Background(), file.Path)
	if err != nil {
		t.Fatal(err)
	}
	codec := map[string]string{"wav": "pcm_s16le", "flac": "flac"}[format]
	if info.Audio == nil || info.Audio.Codec != codec || info.Audio.Rate != speechRate || info.Audio.Channels != 1 || file.Artifact.MediaType != "audio/"+format {
		t.Errorf("speech is %+v as %s", info.Audio, file.Artifact.MediaType)
	}
	times, err := readTiming(out.Files["timing"][0].Path)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(info.Audio.Seconds-times.Duration) > 0.01 || times.Duration < spokenWords(text)/7 || times.Duration > 1+spokenWords(text)/1.2 {
		t.Errorf("the sound lasts %g s, the timing %g s", info.Audio.Seconds, times.Duration)
	}
	words := ""
	at := 0.0
	for _, w := range times.Words {
		if words != "" && !w.Glued {
			words += " "
		}
		words += w.Word
		if w.Start < at-0.06 || w.End < w.Start || w.End > times.Duration {
			t.Errorf("word %+v after %g s", w, at)
		}
		at = w.Start
	}
	if want := strings.Join(strings.Fields(text), " "); words != want {
		t.Errorf("words %q, want %q", words, want)
	}
	if first, _ := sounding(times.Phones); first < 0 && !strings.ContainsFunc(text, wide) {
		t.Error("there are no phones for the mouth")
	}
	lufs, _, err := testTool().loudness(context.Background(), t.TempDir(), file.Path)
	if err != nil || math.Abs(lufs-speechLUFS) > 1.5 {
		t.Errorf("loudness %g LUFS, error %v", lufs, err)
	}
	if out.Engine == "" || out.Model == "" && out.Engine != "recording" || out.Version == "" || out.Fidelity == "" {
		t.Errorf("made by %q %q %q, fidelity %q", out.Engine, out.Model, out.Version, out.Fidelity)
	}
}

// narrations are texts of three sentences, by language.
var narrations = map[string]string{
	"en": "The colour of the harbour is grey. Is it lovely? It is!",
	"de": "Grüner Tee wird im Frühling gepflückt. Schmeckt er süß? Ja, und er ist heiß!",
	"pt": "O chá verde é colhido na primavera. É saudável? Ninguém sabe!",
	"zh": "绿茶在春天采摘，味道清新。它健康吗？很多人用 iPhone 拍它！",
	"ja": "緑茶は春に摘まれます。体にいいですか？「はい」と言います。",
}

// isChosenByLanguage asks the roster for somebody who speaks a language.
func (tr trial) isChosenByLanguage(t *testing.T) {
	t.Parallel()
	v := tr.begin(t, speaks)
	r := newRoster([]engine{v.speech}, map[string]int{events.LaneTTS: 1})
	r.refresh(context.Background())
	pick := func(language string) error {
		a := tr.attempt(t, "text")
		a.Params["language"] = language
		_, _, err := r.pick(context.Background(), a)
		return err
	}
	for language := range tr.abroad {
		if err := pick(language); err != nil {
			t.Errorf("%s: %v", language, err)
		}
	}
	for _, language := range tr.unspoken {
		if te := wantTaskError(t, pick(language), events.ClassEngineUnavailable); !strings.Contains(te.Message, "in the language "+language) || te.Hint == "" {
			t.Errorf("%s: %q", language, te.Message)
		}
	}
	if n := v.asked(); n != 0 {
		t.Errorf("the voice was asked %d times", n)
	}
}

// speaksLanguages has a text of each language spoken, in sentences, every word of it at its
// time.
func (tr trial) speaksLanguages(t *testing.T) {
	t.Parallel()
	for language, want := range tr.abroad {
		v := tr.begin(t, speaks)
		text := narrations[baseLanguage(language)]
		if text == "" {
			text = narrations["zh"]
		}
		a := tr.attempt(t, text)
		a.Params["language"] = language
		out, err := v.speech.Run(context.Background(), a)
		if err != nil {
			t.Errorf("%s: %v", language, err)
			continue
		}
		checkSpokenWell(t, out, text, "wav")
		if told := tr.told(t, v, a); told != want {
			t.Errorf("%s: the voice was told %q, want %q", language, told, want)
		}
		if n := v.asked(); n != 3 && tr.recorded == nil {
			t.Errorf("%s: three sentences were spoken in %d calls", language, n)
		}
	}
}

// speaksAsTrained gives the voice weights: a kind of voice that is trained speaks with them
// and says so, for that attempt alone, and any other does not even fetch them.
func (tr trial) speaksAsTrained(t *testing.T) {
	t.Parallel()
	v := tr.begin(t, speaks)
	own, fetched := trainedVoice("anna")
	var models []string
	for i, weights := range [][]File{own, nil, own} {
		a := tr.attempt(t, "Green tea is picked in spring.")
		a.Files = maps.Clone(a.Files)
		if weights != nil {
			if a.Files == nil {
				a.Files = map[string][]File{}
			}
			a.Files["voice_weights"] = weights
		}
		a.Fetch = fetched.fetch
		out, err := v.speech.Run(context.Background(), a)
		if err != nil {
			t.Fatalf("attempt %d: %v", i, err)
		}
		models = append(models, out.Model)
	}
	if v.weights == nil {
		if n := fetched.count(); n != 0 || models[0] != models[1] {
			t.Errorf("weights were fetched %d times, models %q", n, models)
		}
		return
	}
	if want := []string{"gpt of anna+sovits of anna", "base.ckpt+base.pth", "gpt of anna+sovits of anna"}; !slices.Equal(v.weights(), want) {
		t.Errorf("spoken with %q, want %q", v.weights(), want)
	}
	if n := fetched.count(); n != 2 || models[0] == models[1] || models[0] != models[2] || !strings.HasPrefix(models[0], "trained ") {
		t.Errorf("weights were fetched %d times, models %q", n, models)
	}
	if left := v.files(); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func (tr trial) refusesEmptyText(t *testing.T) {
	t.Parallel()
	v := tr.begin(t, speaks)
	for _, text := range []string{"", " \n ", "!!! ..."} {
		_, err := v.speech.Run(context.Background(), tr.attempt(t, text))
		wantTaskError(t, err, events.ClassInvalidInput)
	}
	if n := v.asked(); n != 0 {
		t.Errorf("the voice was asked %d times to say nothing", n)
	}
}

// endsWhenAsked cancels while the voice is at work.
func (tr trial) endsWhenAsked(t *testing.T) {
	t.Parallel()
	v := tr.begin(t, hangs)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	a := tr.attempt(t, "Green tea is picked in spring.")
	go func() {
		_, err := v.speech.Run(ctx, a)
		done <- err
	}()
	pollUntil(t, 20*time.Second, func() bool { return v.asked() > 0 })
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want an error that wraps context.Canceled", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("it went on for 5 s")
	}
	pollUntil(t, 5*time.Second, v.gone)
	if _, err := os.Stat(a.Dir + "/speech.wav"); err == nil {
		t.Error("there is a result")
	}
	if left := v.files(); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestVoicesConform(t *testing.T) {
	t.Parallel()
	for _, tr := range []trial{fliteTrial(), openAITrial("openai", false), openAITrial("captioned", true), soVITSTrial(t), commandTrial(), recordingTrial()} {
		t.Run(tr.name, func(t *testing.T) {
			t.Parallel()
			tr.conforms(t)
		})
	}
}
