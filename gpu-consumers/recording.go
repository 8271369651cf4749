// A recording in place of a voice: what a person said is the speech. It is cut to what is
// heard and brought to the usual form, and nothing in it is spoken anew.

package gpu

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/myspinbot/myspinbot/events"
)

// Bounds of a recording in seconds, from its first sound to its last.
const (
	shortestRecording = 0.5
	longestRecording  = 60.0
)

// recording plays the person's own words. It is a voice that says everything in one go.
type recording struct{ media *mediaTool }

func (r recording) announce(ctx context.Context) (events.TaskCapability, *events.TaskGap) {
	version, err := r.media.versionOf(ctx, "recording")
	if err != nil {
		return events.TaskCapability{}, &events.TaskGap{Engine: "recording", Reason: err.Error(), Hint: ffmpegInstall, Builtin: true}
	}
	return events.TaskCapability{Engine: "recording", Version: version, Fidelity: events.FidelityFull, Builtin: true, Takes: events.InputRecording}, nil
}

func (recording) takes(a *Attempt) bool { return hasRecording(a) }
func (recording) writing() writing      { return writing{spell: asWritten, whole: true} }

// hasRecording says whether the attempt brings a recording, which no voice may replace.
func hasRecording(a *Attempt) bool { return len(a.Files[events.InputRecording]) > 0 }

// meantFor says whether the engine is for attempts like this one: of its task, and with a
// recording where it plays one.
func meantFor(a *Attempt, c events.TaskCapability) bool {
	return c.Task == a.Task && hasRecording(a) == (c.Takes == events.InputRecording)
}

func (r recording) open(ctx context.Context, a *Attempt, _ float64) (speaker, error) {
	file, err := a.oneFile(events.InputRecording)
	if err != nil {
		return nil, err
	}
	who, gap := r.announce(ctx)
	if gap != nil {
		return nil, &TaskError{Class: events.ClassEngineUnavailable, Message: gap.Reason, Hint: gap.Hint}
	}
	return &recordingRun{media: r.media, path: file.Path, dir: a.Dir, who: who}, nil
}

// recordingRun is one recording.
type recordingRun struct {
	media     *mediaTool
	path, dir string
	who       events.TaskCapability
}

func (p *recordingRun) about() (events.TaskCapability, []string) {
	return p.who, []string{"the person's own recording; no voice was made"}
}

func (p *recordingRun) close() error { return nil }

// say reads the recording, in which the whole utterance is said.
func (p *recordingRun) say(ctx context.Context, u utterance) (*take, error) {
	refuse := func(hint, message string, a ...any) error {
		return &TaskError{Class: events.ClassInvalidInput, Message: "the recording " + fmt.Sprintf(message, a...), Hint: hint}
	}
	info, err := p.media.probe(ctx, p.path)
	if err != nil {
		return nil, err
	}
	if info.Audio == nil {
		return nil, refuse("upload a recording of the voice", "holds no sound")
	}
	out := filepath.Join(p.dir, "recording.wav")
	err = p.media.run(ctx, transcode{dir: p.dir, inputs: []mediaInput{{path: p.path}}, output: out, timeout: 5 * time.Minute,
		args: []string{"-map", "0:a:0", "-t", strconv.Itoa(clipLimit), "-ac", "1", "-ar", strconv.Itoa(speechRate), "-c:a", "pcm_s16le", "-f", "wav"}})
	if err != nil {
		return nil, asInvalidInput(err, "the recording cannot be decoded", "upload it again, or in another format")
	}
	sound, err := readWave(out)
	if err != nil {
		return nil, err
	}
	t := &take{sound: sound}
	if level(sound.samples) < quietestSpeak || !t.heard() {
		return nil, refuse("record it again, closer to the microphone", "is silent")
	}
	chars, seconds := utf8.RuneCountInString(u.text()), t.to-t.from
	switch {
	case seconds < shortestRecording:
		return nil, refuse("record at least half a second of speech", "holds %.1f s of sound, too little", seconds)
	case seconds > longestRecording:
		return nil, refuse("cut it, or make several videos", "lasts %.0f s from its first sound to its last, more than %.0f", seconds, longestRecording)
	case seconds > longestExtra+slowestChar*float64(chars):
		return nil, refuse("give every word that is said in it", "lasts %.0f s, and its script has %d characters alone", seconds, chars)
	case seconds < fastestChar*float64(chars):
		return nil, refuse("give the words that are said in it alone", "lasts %.1f s, and its script has %d characters", seconds, chars)
	}
	return t, nil
}
