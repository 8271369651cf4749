// The profile: rules, state, Decide and Evolve.
//
//  1. A profile is created once; nothing can be attached to one that does not exist.
//  2. An attachment with the digest that is attached already changes nothing. A voice's
//     weights count with it, and go when another voice comes.
//  3. Every recorded consent is kept; the latest is the one in force.
//  4. A command is heeded once, however often and late it comes again.

package aggregates

import (
	"slices"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// Profile is the state of one profile.
type Profile struct {
	Chain      events.Chain
	ID, Tenant string
	Name       events.Sealed
	Consent    *events.Consent
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
	p.Heeded = append(slices.Clip(p.Heeded), m.CausationID)
	fact, ok := m.Data.(events.ProfileFact)
	if !ok {
		return p
	}
	switch d := fact.(type) {
	case events.ProfileCreated:
		p.ID, p.Tenant, p.Name = m.AggregateID, m.Tenant, d.Name
	case events.ProfileConsentRecorded:
		p.Consent = &d.Consent
	case events.ProfileVoiceAttached:
		p.Voice, p.Transcript, p.Weights = &d.Artifact, d.Transcript, d.Weights
	case events.ProfileLoraAttached:
		p.Lora = &d.Artifact
	case events.ProfilePortraitAttached:
		p.Portrait = &d.Artifact
	}
	return p
}

// Snapshot is the part that jobs depend on.
func (p Profile) Snapshot() *events.ProfileSnapshot {
	if p.Chain.Version == 0 {
		return nil
	}
	return &events.ProfileSnapshot{ID: p.ID, Version: p.Chain.Version, Portrait: p.Portrait, Voice: p.Voice,
		Transcript: p.Transcript, VoiceWeights: p.Weights, Lora: p.Lora, Consented: p.Consent != nil}
}

// DecideProfile gives the facts that follow from a command to a profile.
func DecideProfile(p Profile, m events.Message, at time.Time) []events.Message {
	var fact events.Payload
	exists := p.Chain.Version > 0
	command, ok := m.Data.(events.ProfileCommand)
	if !ok || slices.Contains(p.Heeded, m.ID) {
		return nil
	}
	switch c := command.(type) {
	case events.ProfileCreate:
		if !exists {
			fact = events.ProfileCreated{Name: c.Name}
		}
	case events.ProfileRecordConsent:
		if exists {
			fact = events.ProfileConsentRecorded{Consent: c.Consent}
		}
	case events.ProfileAttachVoice:
		if exists && !(same(p.Voice, c.Artifact) && slices.EqualFunc(p.Weights, c.Weights, func(a, b events.Artifact) bool { return a.SHA256 == b.SHA256 })) {
			fact = events.ProfileVoiceAttached{Attachment: c.Attachment, Transcript: c.Transcript, Weights: c.Weights}
		}
	case events.ProfileAttachLora:
		if exists && !same(p.Lora, c.Artifact) {
			fact = events.ProfileLoraAttached{Attachment: c.Attachment}
		}
	case events.ProfileAttachPortrait:
		if exists && !same(p.Portrait, c.Artifact) {
			fact = events.ProfilePortraitAttached{Attachment: c.Attachment}
		}
	}
	if fact == nil {
		return nil
	}
	return []events.Message{{
		ID: events.EventID(m.OccurredAt, m.ID, 0), SchemaVersion: fact.SchemaVersion(),
		AggregateType: events.AggregateProfile, AggregateID: m.AggregateID,
		Version: p.Chain.Version + 1, PrevID: p.Chain.LastID, OccurredAt: at,
		CommandID: m.CommandID, CausationID: m.ID, CorrelationID: m.CorrelationID, Tenant: m.Tenant, Actor: m.Actor,
		Columns: events.Columns{JobID: m.JobID}, Data: fact,
	}}
}

func same(have *events.Artifact, a events.Artifact) bool {
	return have != nil && have.SHA256 == a.SHA256
}
