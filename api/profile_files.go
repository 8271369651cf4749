// What a command to a profile writes before it: sealed texts, and copies of the uploads
// in the profile's own folder.

package api

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/objects"
)

// profileFile is an upload that becomes the profile's portrait or voice.
type profileFile struct {
	use
	upload upload
	copied *events.Attachment
}

// give notes the uploads that the request names.
func (p *profileAsking) give(portrait, voice string) {
	if portrait != "" {
		p.files = append(p.files, &profileFile{use: use{"portrait", uploadImage, "portrait", []string{portrait}, false}})
	}
	if voice != "" {
		p.files = append(p.files, &profileFile{use: use{"voice", uploadAudio, "voice", []string{voice}, false}})
	}
}

func (p *profileAsking) file(input string) *events.Attachment {
	for _, f := range p.files {
		if f.input == input {
			return f.copied
		}
	}
	return nil
}

// bytes is how much is to be copied.
func (p *profileAsking) bytes() (n int64) {
	for _, f := range p.files {
		n += f.upload.Size
	}
	return n
}

// check adds what the contract cannot say to the faults of the body.
func (p *profileAsking) check(ctx context.Context, faults []fault) ([]fault, error) {
	if p.verb == profileErase {
		return faults, nil
	}
	more := p.blank()
	err := inTime(ctx, objectTimeout, func(ctx context.Context) error {
		for _, f := range p.files {
			u, wrong, err := p.server.usable(ctx, p.who.tenant, "/"+f.input, f.use, f.ids[0])
			if err != nil {
				return err
			}
			if f.upload = u; wrong != nil {
				more = append(more, *wrong)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var voice *profileFile
	for _, f := range p.files {
		if f.input == "voice" {
			voice = f
		}
	}
	if voice == nil && p.transcript != nil {
		more = append(more, fault{Pointer: "/voice_transcript", Code: "input_unused", Detail: "voice_transcript says what is said in a voice; give the voice with it"})
	}
	if voice != nil && voice.upload.Type == uploadAudio {
		if length := time.Duration(voice.upload.DurationMS) * time.Millisecond; length < shortestVoice || length > longestVoice {
			more = append(more, fault{Pointer: "/voice", Code: "out_of_range", Detail: fmt.Sprintf("voice must be 1 to 60 seconds long, not %.1f; cut it, or let a job train on it", length.Seconds())})
		}
	}
	return append(faults, more...), nil
}

// compose makes the commands. What they name exists.
func (p *profileAsking) compose(ctx context.Context) (commands []events.Payload, err error) {
	if p.verb == profileErase {
		return []events.Payload{events.ProfileErase{}}, nil
	}
	label, consent, transcript, err := p.sealed(ctx) // the key comes first: by it leftovers are found
	if err != nil {
		return nil, err
	}
	if err := p.copyFiles(ctx); err != nil {
		return nil, err
	}
	portrait, voice := p.file("portrait"), p.file("voice")
	if p.verb == profileCreate {
		return []events.Payload{events.ProfileCreate{Name: *label, Consent: consent, Portrait: portrait, Voice: voice, Transcript: transcript}}, nil
	}
	if label != nil {
		commands = append(commands, events.ProfileRename{Name: *label})
	}
	switch {
	case consent != nil:
		commands = append(commands, events.ProfileRecordConsent{Consent: *consent})
	case p.withdraws:
		commands = append(commands, events.ProfileWithdrawConsent{})
	}
	if portrait != nil {
		commands = append(commands, events.ProfileAttachPortrait{Attachment: *portrait})
	}
	if voice != nil {
		commands = append(commands, events.ProfileAttachVoice{Attachment: *voice, Transcript: transcript})
	}
	switch {
	case p.archived == nil:
	case *p.archived:
		commands = append(commands, events.ProfileArchive{})
	default:
		commands = append(commands, events.ProfileRestore{})
	}
	return commands, nil
}

// sealed are the texts of the request under the profile's own key, which is made when
// there is one.
func (p *profileAsking) sealed(ctx context.Context) (label *events.Sealed, consent *events.Consent, transcript *events.Sealed, err error) {
	if p.label == nil && p.consent == nil && p.transcript == nil {
		return nil, nil, nil, nil
	}
	var keyID string
	var key []byte
	err = inTime(ctx, objectTimeout, func(ctx context.Context) (err error) {
		if p.verb == profileCreate {
			keyID, key, err = p.server.requestKey(ctx, p.who.tenant, p.id, p.id)
		} else {
			keyID, key, err = p.server.keyring.Create(ctx, p.who.tenant, p.id, p.id)
		}
		return err
	})
	if err != nil {
		return nil, nil, nil, fmt.Errorf("cannot make the profile's content key: %w", err)
	}
	seal := func(text string) (s events.Sealed) {
		if err == nil {
			s, err = events.Seal(key, keyID, strings.TrimSpace(text))
		}
		return s
	}
	if p.label != nil {
		s := seal(*p.label)
		label = &s
	}
	if p.consent != nil {
		consent = &events.Consent{By: seal(p.consent.By), Statement: seal(p.consent.Statement)}
	}
	if p.transcript != nil && strings.TrimSpace(*p.transcript) != "" {
		s := seal(*p.transcript)
		transcript = &s
	}
	return label, consent, transcript, err
}

// copyFiles puts the uploads' bytes into the profile's folder.
func (p *profileAsking) copyFiles(ctx context.Context) error {
	subject, err := objects.Subject(p.who.tenant, p.id, p.id)
	if err != nil {
		return err
	}
	return inTime(ctx, objectTimeout+copyTime(p.bytes()), func(ctx context.Context) error {
		for _, f := range p.files {
			u := f.upload
			a, err := p.server.copyObject(ctx, u, subject)
			if errors.Is(err, errSwept) {
				return invalid(uploadUnknown("/"+f.input, u.ID))
			}
			if err != nil {
				return fmt.Errorf("cannot copy upload %s into the profile's folder: %w", u.ID, err)
			}
			a.ID, a.Name, a.Type = events.ArtifactID(p.id, f.input, 0, a.SHA256), f.input+path.Ext(u.URI), f.as
			a.Width, a.Height, a.DurationMS = u.Width, u.Height, u.DurationMS
			f.copied = &events.Attachment{Artifact: a}
		}
		return nil
	})
}
