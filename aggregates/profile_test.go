// Decisions of a profile: it happens, there is nothing to do, it is too early.

package aggregates_test

import (
	"fmt"
	"testing"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
)

func TestProfile(t *testing.T) {
	t.Parallel()
	voice := events.ProfileAttachVoice{Attachment: events.Attachment{Artifact: events.Artifact{ID: "v", SHA256: "1"}}}
	better := events.ProfileAttachVoice{Attachment: events.Attachment{Artifact: events.Artifact{ID: "w", SHA256: "2"}}}
	trained, retrained := better, better
	trained.Weights = []events.Artifact{{ID: "g", SHA256: "5"}, {ID: "s", SHA256: "6"}}
	retrained.Weights = []events.Artifact{{ID: "g", SHA256: "5"}, {ID: "s", SHA256: "7"}}
	face := events.ProfileAttachPortrait{Attachment: events.Attachment{Artifact: events.Artifact{ID: "p", SHA256: "3"}}}
	lora := events.ProfileAttachLora{Attachment: events.Attachment{Artifact: events.Artifact{ID: "l", SHA256: "4"}}}
	var p aggregates.Profile
	for i, step := range []struct {
		when events.Payload
		then string
	}{
		{voice, ""},
		{events.ProfileRecordConsent{}, ""},
		{events.ProfileCreate{Name: events.Sealed{Key: "k"}}, "profile.created"},
		{events.ProfileCreate{}, ""},
		{events.ProfileRecordConsent{}, "profile.consent_recorded"},
		{events.ProfileRecordConsent{}, "profile.consent_recorded"},
		{voice, "profile.voice_attached"},
		{voice, ""},
		{trained, "profile.voice_attached"},
		{voice, "profile.voice_attached"},
		{better, "profile.voice_attached"},
		{trained, "profile.voice_attached"},
		{trained, ""},
		{retrained, "profile.voice_attached"},
		{face, "profile.portrait_attached"},
		{face, ""},
		{lora, "profile.lora_attached"},
		{lora, ""},
	} {
		facts := aggregates.DecideProfile(p, events.Message{ID: fmt.Sprint("m", i), AggregateID: "prof", Tenant: "default", Data: step.when}, start)
		got := ""
		for _, f := range facts {
			got = f.Type()
			next, err := p.Apply(f)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := next.Apply(f); err != nil || again.Chain != next.Chain {
				t.Fatalf("a duplicate changes the profile: %v", err)
			}
			p = next
		}
		if c, is := step.when.(events.ProfileAttachVoice); is && got != "" && len(p.Snapshot().VoiceWeights) != len(c.Weights) {
			t.Errorf("step %d: the profile has the weights %v of %v", i, p.Snapshot().VoiceWeights, c.Weights)
		}
		if got != step.then {
			t.Errorf("step %d, %s: got %q, want %q", i, step.when.EventType(), got, step.then)
		}
	}
	s := p.Snapshot()
	if s.Voice.ID != "w" || s.Portrait.ID != "p" || s.Lora.ID != "l" || s.VoiceWeights[1].SHA256 != "7" || !s.Consented || s.Version != p.Chain.Version {
		t.Errorf("the snapshot is %+v", s)
	}
	if (aggregates.Profile{}).Snapshot() != nil {
		t.Error("a profile that was never created has a snapshot")
	}
}

// A producer without a memory writes a command twice, and the second one may lie
// behind others: it must not put the older consent in force again.
func TestProfileHeedsACommandOnce(t *testing.T) {
	t.Parallel()
	var p aggregates.Profile
	consent := func(by string) events.ProfileRecordConsent {
		return events.ProfileRecordConsent{Consent: events.Consent{By: events.Sealed{Key: by}}}
	}
	for _, m := range []events.Message{
		{ID: "1", Data: events.ProfileCreate{}}, {ID: "2", Data: consent("first")}, {ID: "3", Data: consent("second")}, {ID: "2", Data: consent("first")},
	} {
		m.AggregateID = "prof"
		for _, f := range aggregates.DecideProfile(p, m, start) {
			var err error
			if p, err = p.Apply(f); err != nil {
				t.Fatal(err)
			}
		}
	}
	if p.Chain.Version != 3 || p.Consent.By.Key != "second" {
		t.Errorf("version %d, consent of %s", p.Chain.Version, p.Consent.By.Key)
	}
}
