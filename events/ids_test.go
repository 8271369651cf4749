// Ids are functions of what they name, in the layouts that RFC 9562 gives.

package events_test

import (
	"regexp"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-([57])[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

func TestEventID(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	id := events.EventID(at, "command", 0)
	if m := uuid.FindStringSubmatch(id); m == nil || m[1] != "7" {
		t.Fatalf("%s is no version 7 UUID", id)
	}
	if again := events.EventID(at, "command", 0); again != id {
		t.Errorf("a decision made twice makes %s and %s", id, again)
	}
	for name, other := range map[string]string{
		"next index": events.EventID(at, "command", 1), "other command": events.EventID(at, "command2", 0), "later": events.EventID(at.Add(time.Millisecond), "command", 0),
	} {
		if other == id {
			t.Errorf("%s has the same id", name)
		}
	}
	if later := events.EventID(at.Add(time.Hour), "command", 0); later <= id {
		t.Errorf("ids do not sort by time: %s then %s", id, later)
	}
}

func TestNameIDs(t *testing.T) {
	t.Parallel()
	job := events.JobID("default", "jobs", "key")
	if m := uuid.FindStringSubmatch(job); m == nil || m[1] != "5" {
		t.Fatalf("%s is no version 5 UUID", job)
	}
	seen := map[string]bool{}
	for _, id := range []string{
		job, events.JobID("default", "jobs", "key2"), events.JobID("other", "jobs", "key"), events.NameID("ab", "c"), events.NameID("a", "bc"),
		events.AttemptID(job, "tts", 1), events.AttemptID(job, "tts", 2), events.ArtifactID(job, "tts", 1, "a.wav"), events.ProfileIDOfJob(job),
	} {
		if seen[id] {
			t.Errorf("%s names two things", id)
		}
		seen[id] = true
	}
	if events.JobID("default", "jobs", "key") != job {
		t.Error("the same names give another id")
	}
}
