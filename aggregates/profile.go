// The profile: rules, state, Decide and Evolve.
//
//  1. A profile is created once; nothing can be attached to one that does not exist.
//  2. An attachment with the digest that is attached already changes nothing. A voice's
//     weights count with it, and go when another voice comes.
//  3. Every recorded consent is kept; the latest is the one in force, until it is withdrawn.
//  4. A command is heeded once, however often and late it comes again.
//  5. An archived profile can be changed, erased and restored; no new job uses it. Jobs
//     that use it already go on.
//  6. An erased profile is at its end: it has no content, nothing is attached to it, and
//     no command brings it back. What still follows is the word that nothing of it is left.
//  7. A job may use a profile that is active and has a consent in force. A retry may make
//     one anew whose consent was never asked for, but not one whose consent was withdrawn.
//  8. For a client of another tenant there is no such profile, and no command brings another
//     tenant's files or texts along.

package aggregates

import (
	"slices"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// Codes of a profile's refusals.
const (
	CodeProfileUnknown = "profile_unknown"
	CodeProfileErased  = "profile_erased"
)

// Profile is the state of one profile.
type Profile struct {
	Chain      events.Chain
	ID, Tenant string
	Status     string // one of the events.Profile… statuses
	Name       events.Sealed
	Consent    *events.Consent
	Withdrawn  bool // the latest consent was
	Portrait   *events.Artifact
	Voice      *events.Artifact
	Transcript *events.Sealed
	Weights    []events.Artifact // trained on the voice
	Lora       *events.Artifact
	// Heeded are the ids of the commands that led to its facts, in their order.
	Heeded []string
}

// Apply is Job.Apply for a profile.
func (p Profile) Apply(m events.Message) (Profile, error) {
	if p.Chain.Seen(m) {
		return p, nil
	}
	if err := p.Chain.Check(m); err != nil {
		return p, err
	}
	return EvolveProfile(p, m), nil
}

// EvolveProfile gives the state after a fact that continues the chain.
func EvolveProfile(p Profile, m events.Message) Profile {
	p.Chain = p.Chain.Next(m)
	if n := len(p.Heeded); n == 0 || p.Heeded[n-1] != m.CausationID { // one command may lead to several
		p.Heeded = append(slices.Clip(p.Heeded), m.CausationID)
	}
	fact, ok := m.Data.(events.ProfileFact)
	if !ok {
		return p
	}
	switch d := fact.(type) {
	case events.ProfileCreated:
		p.ID, p.Tenant, p.Name, p.Status = m.AggregateID, m.Tenant, d.Name, events.ProfileStatusActive
	case events.ProfileRenamed:
		p.Name = d.Name
	case events.ProfileConsentRecorded:
		p.Consent, p.Withdrawn = &d.Consent, false
	case events.ProfileConsentWithdrawn:
		p.Consent, p.Withdrawn = nil, true
	case events.ProfileVoiceAttached:
		p.Voice, p.Transcript, p.Weights = &d.Artifact, d.Transcript, d.Weights
	case events.ProfileLoraAttached:
		p.Lora = &d.Artifact
	case events.ProfilePortraitAttached:
		p.Portrait = &d.Artifact
	case events.ProfileArchived:
		p.Status = events.ProfileStatusArchived
	case events.ProfileRestored:
		p.Status = events.ProfileStatusActive
	case events.ProfileErased:
		p.Status, p.Name, p.Consent = events.ProfileStatusErasing, events.Sealed{}, nil
		p.Portrait, p.Voice, p.Transcript, p.Weights, p.Lora = nil, nil, nil, nil, nil
	case events.ProfileErasureCompleted:
		p.Status = events.ProfileStatusErased
	}
	return p
}

// Gone says whether the profile was erased.
func (p Profile) Gone() bool {
	return p.Status == events.ProfileStatusErasing || p.Status == events.ProfileStatusErased
}

// Barred is why no new job of that mode may use the profile; nil when one may, and for a
// profile that there is not.
func (p Profile) Barred(mode string) *events.Reason {
	reason := func(code, detail string) *events.Reason {
		return &events.Reason{Code: code, Field: "/profile_id", Detail: detail}
	}
	switch {
	case p.Chain.Version == 0:
		return nil
	case p.Gone():
		return reason(CodeProfileErased, "the profile was erased; make a new one")
	case p.Status == events.ProfileStatusArchived:
		return reason("profile_archived", "the profile is archived; restore it first")
	case p.Withdrawn:
		return reason("consent_missing", "the consent to the use of this profile was withdrawn; record a new one first")
	case p.Consent == nil && mode == ModeGenerateFromProfile:
		return reason("consent_missing", "nobody has agreed to the use of this profile's face and voice; record a consent first")
	}
	return nil
}

// Snapshot is the part that jobs depend on.
func (p Profile) Snapshot() *events.ProfileSnapshot {
	if p.Chain.Version == 0 {
		return nil
	}
	return &events.ProfileSnapshot{ID: p.ID, Version: p.Chain.Version, Portrait: p.Portrait, Voice: p.Voice,
		Transcript: p.Transcript, VoiceWeights: p.Weights, Lora: p.Lora, Consented: p.Consent != nil}
}

// DecideProfile gives the facts that follow from a command to a profile, or the reason
// why it is refused. Neither means that there is nothing to do.
func DecideProfile(p Profile, m events.Message, at time.Time) ([]events.Message, *events.Reason) {
	command, ok := m.Data.(events.ProfileCommand)
	if !ok {
		return nil, nil
	}
	if refusal := p.Foreign(m); refusal != nil {
		return nil, refusal
	}
	if slices.Contains(p.Heeded, m.ID) {
		return nil, nil
	}
	if refusal := refuseContent(m); refusal != nil {
		return nil, refusal
	}
	if refusal := p.refuse(command); refusal != nil {
		return nil, refusal
	}
	var facts []events.Message
	for i, fact := range p.follow(command) {
		f := events.Message{
			ID: events.EventID(m.OccurredAt, m.ID, i), SchemaVersion: fact.SchemaVersion(),
			AggregateType: events.AggregateProfile, AggregateID: m.AggregateID,
			Version: p.Chain.Version + 1, PrevID: p.Chain.LastID, OccurredAt: at,
			CommandID: m.CommandID, CausationID: m.ID, CorrelationID: m.CorrelationID, Tenant: m.Tenant, Actor: m.Actor,
			Columns: events.Columns{JobID: m.JobID}, Data: fact,
		}
		p = EvolveProfile(p, f)
		facts = append(facts, f)
	}
	return facts, nil
}

// refuse is why the command cannot be done in the state that the profile is in.
func (p Profile) refuse(command events.ProfileCommand) *events.Reason {
	_, creates := command.(events.ProfileCreate)
	switch command.(type) { //nolint:gochecksumtype // all others change what is there
	case events.ProfileErase, events.ProfileCompleteErasure:
		if p.Gone() {
			return nil
		}
	}
	switch {
	case p.Chain.Version == 0 && !creates:
		return profileUnknown()
	case p.Gone():
		return &events.Reason{Code: CodeProfileErased, Detail: "the profile was erased; nothing brings it back"}
	case p.Chain.Version > 0 && creates:
		return profileTaken()
	}
	return nil
}

func profileUnknown() *events.Reason {
	return &events.Reason{Code: CodeProfileUnknown, Detail: "there is no such profile"}
}

func profileTaken() *events.Reason {
	return &events.Reason{Code: CodeIdempotencyConflict, Detail: "there is a profile of this id already, which another request made"}
}

// follow are the facts that follow from a command that was not refused; none: nothing changes.
func (p Profile) follow(command events.ProfileCommand) []events.Payload {
	if c, creates := command.(events.ProfileCreate); creates {
		return created(c)
	}
	if fact := p.change(command); fact != nil {
		return []events.Payload{fact}
	}
	return nil
}

// created are the facts of a new profile.
func created(c events.ProfileCreate) []events.Payload {
	facts := []events.Payload{events.ProfileCreated{Name: c.Name}}
	if c.Consent != nil {
		facts = append(facts, events.ProfileConsentRecorded{Consent: *c.Consent})
	}
	if c.Portrait != nil {
		facts = append(facts, events.ProfilePortraitAttached{Attachment: *c.Portrait})
	}
	if c.Voice != nil {
		facts = append(facts, events.ProfileVoiceAttached{Attachment: *c.Voice, Transcript: c.Transcript})
	}
	return facts
}

// change is the fact that follows for a profile that is there; nil: nothing changes.
func (p Profile) change(command events.ProfileCommand) events.Payload {
	switch c := command.(type) {
	case events.ProfileCreate: // there it is
	case events.ProfileRename:
		return events.ProfileRenamed{Name: c.Name}
	case events.ProfileRecordConsent:
		return events.ProfileConsentRecorded{Consent: c.Consent}
	case events.ProfileWithdrawConsent:
		if !p.Withdrawn {
			return events.ProfileConsentWithdrawn{}
		}
	case events.ProfileAttachVoice:
		if !same(p.Voice, c.Artifact) || !slices.EqualFunc(p.Weights, c.Weights, func(a, b events.Artifact) bool { return a.SHA256 == b.SHA256 }) {
			return events.ProfileVoiceAttached{Attachment: c.Attachment, Transcript: c.Transcript, Weights: c.Weights}
		}
	case events.ProfileAttachLora:
		if !same(p.Lora, c.Artifact) {
			return events.ProfileLoraAttached{Attachment: c.Attachment}
		}
	case events.ProfileAttachPortrait:
		if !same(p.Portrait, c.Artifact) {
			return events.ProfilePortraitAttached{Attachment: c.Attachment}
		}
	case events.ProfileArchive:
		if p.Status == events.ProfileStatusActive {
			return events.ProfileArchived{}
		}
	case events.ProfileRestore:
		if p.Status == events.ProfileStatusArchived {
			return events.ProfileRestored{}
		}
	case events.ProfileErase:
		if !p.Gone() {
			return events.ProfileErased{}
		}
	case events.ProfileCompleteErasure:
		if p.Status == events.ProfileStatusErasing {
			return events.ProfileErasureCompleted{}
		}
	}
	return nil
}

func same(have *events.Artifact, a events.Artifact) bool {
	return have != nil && have.SHA256 == a.SHA256
}
