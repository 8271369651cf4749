// Decisions of a profile: it happens, there is nothing to do, it is too early or too late.

package aggregates_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

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
		facts, _ := aggregates.DecideProfile(p, events.Message{ID: fmt.Sprint("m", i), AggregateID: "prof", Tenant: "default", Data: step.when}, start)
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
		facts, _ := aggregates.DecideProfile(p, m, start)
		for _, f := range facts {
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

// TestAProfileIsCreatedWhole has one command lead to all that the profile has from the start.
func TestAProfileIsCreatedWhole(t *testing.T) {
	t.Parallel()
	create := events.ProfileCreate{Name: someone.Name, Consent: &agreed.Consent, Portrait: &pictured.Attachment,
		Voice: &events.Attachment{Artifact: events.Artifact{ID: "v", SHA256: "5"}}, Transcript: &events.Sealed{Key: "said"}}
	m := events.Message{ID: "m", AggregateID: "prof", Tenant: "default", Data: create}
	facts, refusal := aggregates.DecideProfile(aggregates.Profile{}, m, start)
	var p aggregates.Profile
	var types []string
	for _, f := range facts {
		var err error
		if p, err = p.Apply(f); err != nil {
			t.Fatal(err)
		}
		types = append(types, f.Type())
	}
	if want := []string{"profile.created", "profile.consent_recorded", "profile.portrait_attached", "profile.voice_attached"}; refusal != nil || !slices.Equal(types, want) {
		t.Errorf("%v, %v", types, refusal)
	}
	if p.Barred(aggregates.ModeGenerateFromProfile) != nil || p.Portrait.ID != "p" || p.Voice.ID != "v" || p.Transcript.Key != "said" || !slices.Equal(p.Heeded, []string{"m"}) {
		t.Errorf("the profile is %+v", p)
	}
	if again, refusal := aggregates.DecideProfile(p, m, start); len(again) != 0 || refusal != nil {
		t.Errorf("a repeat leads to %v, %v", again, refusal)
	}
}

// person is a profile to which the commands were given.
type person struct {
	t       testing.TB
	profile aggregates.Profile
	told    int
}

// when gives a command, and returns the type of the fact or the code of the refusal.
func (p *person) when(command events.Payload) string {
	p.t.Helper()
	p.told++
	return p.again(p.told, command)
}

func (p *person) again(number int, command events.Payload) string {
	p.t.Helper()
	facts, refusal := aggregates.DecideProfile(p.profile, events.Message{ID: fmt.Sprint("m", number), AggregateID: "prof", Tenant: "default", Data: command}, start)
	if refusal != nil {
		return refusal.Code
	}
	got := ""
	for _, f := range facts {
		next, err := p.profile.Apply(f)
		if err != nil {
			p.t.Fatal(err)
		}
		p.profile, got = next, f.Type()
	}
	return got
}

var (
	someone  = events.ProfileCreate{Name: events.Sealed{Key: "name"}}
	agreed   = events.ProfileRecordConsent{Consent: events.Consent{By: events.Sealed{Key: "by"}}}
	pictured = events.ProfileAttachPortrait{Attachment: events.Attachment{Artifact: events.Artifact{ID: "p", SHA256: "3"}}}
	named    = events.ProfileRename{Name: events.Sealed{Key: "other"}}
)

// TestProfileCommands has for each command: it happens, there is nothing to do, it is refused.
func TestProfileCommands(t *testing.T) {
	t.Parallel()
	made := []events.Payload{someone, agreed, pictured}
	archived := append(slices.Clip(made), events.ProfileArchive{})
	erased := append(slices.Clip(made), events.ProfileErase{})
	over := append(slices.Clip(erased), events.ProfileCompleteErasure{})
	for name, c := range map[string]struct {
		given []events.Payload
		when  events.Payload
		then  string
	}{
		"rename":                        {made, named, "profile.renamed"},
		"rename, archived":              {archived, named, "profile.renamed"},
		"rename nobody":                 {nil, named, "profile_unknown"},
		"rename what was erased":        {erased, named, "profile_erased"},
		"create what another made":      {made, someone, "idempotency_conflict"},
		"create what was erased":        {over, someone, "profile_erased"},
		"withdraw":                      {made, events.ProfileWithdrawConsent{}, "profile.consent_withdrawn"},
		"withdraw what nobody gave":     {made[:1], events.ProfileWithdrawConsent{}, "profile.consent_withdrawn"},
		"withdraw twice":                {append(slices.Clip(made), events.ProfileWithdrawConsent{}), events.ProfileWithdrawConsent{}, ""},
		"agree again":                   {append(slices.Clip(made), events.ProfileWithdrawConsent{}), agreed, "profile.consent_recorded"},
		"agree to what was erased":      {erased, agreed, "profile_erased"},
		"archive":                       {made, events.ProfileArchive{}, "profile.archived"},
		"archive twice":                 {archived, events.ProfileArchive{}, ""},
		"archive nobody":                {nil, events.ProfileArchive{}, "profile_unknown"},
		"restore":                       {archived, events.ProfileRestore{}, "profile.restored"},
		"restore what is in use":        {made, events.ProfileRestore{}, ""},
		"restore what was erased":       {append(slices.Clip(archived), events.ProfileErase{}), events.ProfileRestore{}, "profile_erased"},
		"erase":                         {made, events.ProfileErase{}, "profile.erased"},
		"erase, archived":               {archived, events.ProfileErase{}, "profile.erased"},
		"erase twice":                   {erased, events.ProfileErase{}, ""},
		"erase nobody":                  {nil, events.ProfileErase{}, "profile_unknown"},
		"complete":                      {erased, events.ProfileCompleteErasure{}, "profile.erasure_completed"},
		"complete twice":                {over, events.ProfileCompleteErasure{}, ""},
		"complete what was not erased":  {made, events.ProfileCompleteErasure{}, ""},
		"attach to what was erased":     {erased, pictured, "profile_erased"},
		"attach to what is long erased": {over, pictured, "profile_erased"},
	} {
		p := person{t: t}
		for _, g := range c.given {
			p.when(g)
		}
		if got := p.when(c.when); got != c.then {
			t.Errorf("%s: %q, want %q", name, got, c.then)
		}
	}
}

// TestWhoMayBeUsed says for each state which new jobs may use the profile.
func TestWhoMayBeUsed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		given       []events.Payload
		again, anew string // why not, in a retry of the job that made it and in generate-only
	}{
		"nobody":           {nil, "", ""},
		"no consent":       {[]events.Payload{someone, pictured}, "", "consent_missing"},
		"consent":          {[]events.Payload{someone, agreed}, "", ""},
		"withdrawn":        {[]events.Payload{someone, agreed, events.ProfileWithdrawConsent{}}, "consent_missing", "consent_missing"},
		"given once more":  {[]events.Payload{someone, agreed, events.ProfileWithdrawConsent{}, agreed}, "", ""},
		"archived":         {[]events.Payload{someone, agreed, events.ProfileArchive{}}, "profile_archived", "profile_archived"},
		"restored":         {[]events.Payload{someone, agreed, events.ProfileArchive{}, events.ProfileRestore{}}, "", ""},
		"erased":           {[]events.Payload{someone, agreed, events.ProfileErase{}}, "profile_erased", "profile_erased"},
		"nothing is left":  {[]events.Payload{someone, agreed, events.ProfileErase{}, events.ProfileCompleteErasure{}}, "profile_erased", "profile_erased"},
		"archived, erased": {[]events.Payload{someone, agreed, events.ProfileArchive{}, events.ProfileErase{}}, "profile_erased", "profile_erased"},
	} {
		p := person{t: t}
		for _, g := range c.given {
			p.when(g)
		}
		for mode, want := range map[string]string{aggregates.ModeTrainAndGenerate: c.again, aggregates.ModeGenerateFromProfile: c.anew} {
			got := ""
			if why := p.profile.Barred(mode); why != nil {
				got = why.Code
			}
			if got != want {
				t.Errorf("%s, %s: %q, want %q", name, mode, got, want)
			}
		}
	}
}

// TestAJobOfABarredProfileIsRejected plans with a profile that no job may use.
func TestAJobOfABarredProfileIsRejected(t *testing.T) {
	t.Parallel()
	for _, r := range []events.Request{profileRequest(), trainRequest()} {
		in := aggregates.PlanInput{JobID: "j", Request: r, Profile: snapshot, Engines: everyTask(), Barred: &events.Reason{Code: "profile_archived", Field: "/profile_id", Detail: "why"}}
		if _, reasons := aggregates.Plan(in); len(reasons) != 1 || reasons[0] != *in.Barred {
			t.Errorf("%s: %+v", r.Mode, reasons)
		}
		s := newScript(t)
		s.env.Profile, s.env.Barred = snapshot, in.Barred
		s.want(s.submit(r), "job.submitted", "job.rejected")
	}
}

// TestNothingBringsAnErasedProfileBack gives a profile commands in any order, old ones
// again: its chain stays whole, and once it is erased nothing follows but the end.
func TestNothingBringsAnErasedProfileBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		p := person{t: t}
		commands := []events.Payload{someone, agreed, pictured, named, events.ProfileWithdrawConsent{}, events.ProfileArchive{}, events.ProfileRestore{},
			events.ProfileAttachLora{Attachment: pictured.Attachment}, events.ProfileAttachVoice{Attachment: pictured.Attachment, Transcript: &events.Sealed{Key: "t"}},
			events.ProfileErase{}, events.ProfileCompleteErasure{}}
		var given []events.Payload
		for range rapid.IntRange(0, 40).Draw(rt, "commands") {
			before := p.profile
			var got string
			if len(given) > 0 && rapid.IntRange(0, 3).Draw(rt, "old") == 0 {
				i := rapid.IntRange(0, len(given)-1).Draw(rt, "which")
				got = p.again(i+1, given[i])
			} else {
				given = append(given, rapid.SampledFrom(commands).Draw(rt, "command"))
				got = p.when(given[len(given)-1])
			}
			after := p.profile
			if before.Gone() && (!after.Gone() || after.Chain != before.Chain && got != "profile.erasure_completed") {
				rt.Fatalf("%s follows when the profile is %s", got, before.Status)
			}
			if after.Gone() && (after.Barred(aggregates.ModeTrainAndGenerate) == nil || after.Consent != nil || after.Portrait != nil || after.Voice != nil ||
				after.Transcript != nil || after.Lora != nil || !reflect.DeepEqual(after.Name, events.Sealed{})) {
				rt.Fatalf("an erased profile keeps %+v", after)
			}
		}
	})
}
