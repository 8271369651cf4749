// Erasing a profile through the real roles.

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// erased erases the profile of the newest job: its video and texts go, and a job of it
// is refused. That nothing is left is said a good while later, which the tests of
// package erasure wait for.
func (s *system) erased(t *testing.T) {
	s.caughtUp("succeeded")
	var job jobDoc
	if _, body := s.get("/api/jobs/" + fmt.Sprint(s.newestJob()["id"])); json.Unmarshal(body, &job) != nil || job.Profile == nil || len(job.Outputs["video"]) == 0 {
		t.Fatalf("%s", body)
	}
	var out bytes.Buffer
	if status := runProfiles(context.Background(), []string{"erase", job.Profile.ID, "--yes", "--server", s.url}, &out, &out); status != 0 || !strings.Contains(out.String(), "the profile is erased") {
		t.Fatalf("status %d\n%s", status, out.String())
	}
	video := "/api/artifacts/" + job.Outputs["video"][0] + "/content"
	s.eventually(time.Minute, "the video is gone", func() error {
		if code, body := s.get(video); code != 410 {
			return fmt.Errorf("%d %.200s", code, body)
		}
		return nil
	})
	s.eventually(time.Minute, "nobody can read the job's texts", func() error { // keys are remembered for 30 s
		if code, body := s.get("/api/jobs/" + job.ID); code != 200 || !strings.Contains(string(body), `"content":"erased"`) || strings.Contains(string(body), "I am back.") {
			return fmt.Errorf("%d %.400s", code, body)
		}
		return nil
	})
	status, printed := s.submit("--mode", "generate_from_profile", "--variant", "sadtalker", "--profile", job.Profile.ID, "--text", "Once more.", "--no-wait")
	if status != 1 || !strings.Contains(printed, "the profile was erased") {
		t.Errorf("a job of it: status %d\n%s", status, printed)
	}
}
