// `myspinbot profiles create`: a profile without a job.

package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
)

// profileMaking is what the flags of create say.
type profileMaking struct {
	portrait, transcript, transcriptFile string
	consentBy, consentStatement, key     string
	voice                                wordList
}

func (m *profileMaking) define(f *flag.FlagSet) {
	f.StringVar(&m.portrait, "portrait", "", "create: photo of the person (JPEG, PNG or WebP)")
	f.Var(&m.voice, "voice", "create: recording of the person's voice, 1 to 60 seconds, which is imitated as it is")
	f.StringVar(&m.transcript, "transcript", "", "create: what is said in the recording")
	f.StringVar(&m.transcriptFile, "transcript-file", "", "create: file that holds what is said in the recording; - reads standard input")
	f.StringVar(&m.consentBy, "consent-by", "", "create: who agrees to the use of face and voice")
	f.StringVar(&m.consentStatement, "consent-statement", "", "create: what they agree to, in their words")
	f.StringVar(&m.key, "key", "", "create: Idempotency-Key: the same key never makes a second profile; default: a random one")
}

// given says whether any of the flags is.
func (m *profileMaking) given() bool {
	return m.portrait+m.transcript+m.transcriptFile+m.consentBy+m.consentStatement+m.key != "" || len(m.voice) > 0
}

// check is everything that can be seen to be wrong without a server, as a misuse.
func (m *profileMaking) check() error {
	var faults []error
	fault := func(format string, a ...any) { faults = append(faults, fmt.Errorf(format, a...)) }
	if (m.consentBy == "") != (m.consentStatement == "") {
		fault("a consent needs both --consent-by and --consent-statement")
	}
	if len(m.voice) > 1 {
		fault("--voice is given %d times, and a profile has one voice, imitated as it is: give the best recording, or let a job train on all of them (myspinbot submit --voice)", len(m.voice))
	}
	if m.transcript != "" && m.transcriptFile != "" {
		fault("--transcript and --transcript-file are two texts: give one of them")
	}
	if len(m.voice) == 0 && m.transcript+m.transcriptFile != "" {
		fault("a transcript says what is said in a voice: give --voice with it")
	}
	for _, path := range append([]string{m.portrait}, m.voice...) {
		if path == "" {
			continue
		}
		if _, err := os.Stat(path); err != nil {
			fault("cannot read the file: %w", err)
		}
	}
	if len(faults) > 0 {
		return misuse{errors.Join(faults...)}
	}
	return nil
}

// request uploads the files and builds the body.
func (m *profileMaking) request(ctx context.Context, c *client, label string) (map[string]any, error) {
	said := m.transcript
	if m.transcriptFile != "" {
		var err error
		if said, err = readText("transcript", m.transcriptFile, os.Stdin); err != nil {
			return nil, err
		}
	}
	body := map[string]any{"label": label}
	if said != "" {
		body["voice_transcript"] = said
	}
	if m.consentBy != "" {
		body["consent"] = map[string]string{"by": m.consentBy, "statement": m.consentStatement}
	}
	for name, paths := range map[string][]string{"portrait": {m.portrait}, "voice": m.voice} {
		for _, path := range paths {
			if path == "" {
				continue
			}
			id, err := c.upload(ctx, path)
			if err != nil {
				return nil, err
			}
			body[name] = id
		}
	}
	return body, nil
}

// createProfile makes a profile. The key makes a repeat after an outage, or after an answer
// that got lost, harmless.
func (a asker) createProfile(ctx context.Context, m profileMaking) error {
	if err := m.check(); err != nil {
		return err
	}
	request, err := m.request(ctx, a.client, a.words[1])
	if err != nil {
		return err
	}
	body, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("cannot write the request: %w", err)
	}
	if m.key == "" {
		m.key = rand.Text()
	}
	var raw json.RawMessage
	if err := a.client.call(ctx, http.MethodPost, "/api/profiles", http.Header{"Idempotency-Key": {m.key}}, body, &raw); err != nil {
		return fmt.Errorf("the profile was not made: %w", err)
	}
	return a.tellProfile(raw)
}
