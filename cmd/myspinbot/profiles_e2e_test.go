// A profile made without a job, through the real roles.

package main

import (
	"bytes"
	"encoding/json"
	"strings"
)

// profileWithoutJob makes a profile by `profiles create`, and a video of it.
func (s *system) profileWithoutJob(voice string) {
	s.t.Helper()
	command := func(args ...string) string {
		var out bytes.Buffer
		if status := runProfiles(s.t.Context(), append(args, "--server", s.url), &out, &out); status != 0 {
			s.t.Fatalf("profiles %q: status %d\n%s", args, status, out.String())
		}
		return out.String()
	}
	var made personDoc
	if out := command("create", canary+" alone", "--portrait", portraitFile, "--voice", voice, "--transcript", canary, "--consent-by", canary, "--consent-statement", canary, "--json"); json.Unmarshal([]byte(out), &made) != nil || made.Portrait == nil || made.Voice == nil || made.Consent == nil {
		s.t.Fatalf("%s", out)
	}
	if out := command("show", made.ID); !strings.Contains(out, "consent  "+canary+": "+canary) || !strings.Contains(out, "voice    audio/") {
		s.t.Errorf("%s", out)
	}
	status, printed := s.submit("--mode", "generate_from_profile", "--variant", "svd_wav2lip", "--profile", made.ID, "--text", canary+" again.", "--option", "duration_seconds=2", "--out", s.t.TempDir())
	if status != 0 {
		s.t.Fatalf("a video of the profile: status %d\n%s", status, printed)
	}
	s.caughtUp("succeeded")
}
