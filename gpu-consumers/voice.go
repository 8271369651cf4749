// The seam between the speech engine and whatever speaks: a program, a server, or
// the built-in voice.

package gpu

import (
	"context"

	"github.com/myspinbot/myspinbot/events"
)

// voice is something that speaks. It is safe for concurrent use.
type voice interface {
	// announce says what the voice is now; with gap not nil it cannot speak, and gap
	// says why and how to mend it. Task and lane are filled in by the speech engine.
	announce(ctx context.Context) (c events.TaskCapability, gap *events.TaskGap)
	// takes says whether the voice can speak for the attempt: one that imitates a
	// reference needs one.
	takes(a *Attempt) bool
	// writing is how the voice wants its words.
	writing() writing
	// open gets ready to speak for one attempt; the speaker is closed afterwards.
	open(ctx context.Context, a *Attempt, speed float64) (speaker, error)
}

// writing is how words are handed to a voice.
type writing struct {
	spell   func(word string) string // "" where nothing of the word can be said
	longest int                      // words that are spoken in one go, at least a sentence; 0: one sentence at a time
	whole   bool                     // everything is spoken in one go, however long
}

// speaker speaks one attempt's sentences, one after another.
type speaker interface {
	say(ctx context.Context, s utterance) (*take, error)
	// about is what the result says: who spoke, and what the listener does not get.
	about() (c events.TaskCapability, notes []string)
	close() error
}

// take is one utterance as it was said. Times are in seconds from the start of
// the sound; all sounds of a speaker have one rate.
type take struct {
	sound      *wave
	from, to   float64     // the part that is heard; both 0: to be found by its loudness
	words      []timedWord // as many as the utterance has; nil: the voice does not say
	wordSource string      // of words
	phones     []phone     // nil: the voice does not say
}

// heard sets the part of the sound that is heard, where the voice did not; false
// means that it is silent.
func (t *take) heard() bool {
	if t.to > t.from {
		return true
	}
	spans := voicedSpans(t.sound)
	if len(spans) == 0 {
		return false
	}
	t.from = float64(spans[0].from) / float64(t.sound.rate)
	t.to = float64(spans[len(spans)-1].to) / float64(t.sound.rate)
	return true
}
