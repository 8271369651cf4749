// Endpoints of the operator that differ: secrets of their own, which are changed while
// messages are on their way, and progress of their own.

package webhooks

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/myspinbot/myspinbot/events"
)

// strict takes messages that its secret has signed, and answers 401 to others.
type strict struct {
	*httptest.Server
	mu           sync.Mutex
	secret       string
	taken, fails map[string]int // by the message's id
}

func newStrict(t *testing.T, secret string) *strict {
	t.Helper()
	s := &strict{secret: secret, taken: map[string]int{}, fails: map[string]int{}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		s.mu.Lock()
		defer s.mu.Unlock()
		id := r.Header.Get(HeaderID)
		if err != nil || verify(s.secret, r.Header, body, time.Now()) != nil {
			s.fails[id]++
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		s.taken[id]++
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *strict) change(secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secret = secret
}

func (s *strict) took(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken[id] == 1
}

func (s *strict) refused(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fails[id] > 0
}

func TestASecretIsChangedWithoutLosingAMessage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	older, newer := exampleSecret, NewSecret(bytes.Repeat([]byte{9}, 32))
	changes, stays := newStrict(t, older), newStrict(t, older)
	with := func(secrets ...string) (stop func()) {
		_, stop = w.notifier(func(c *Config) {
			c.Schedule = Schedule{20 * time.Millisecond, time.Minute}
			if len(secrets) == 2 { // what waits for its next attempt is tried at once, as it would be in time
				c.Now = func() time.Time { return time.Now().Add(2 * time.Minute) }
			}
			c.Endpoints = []Endpoint{{URL: changes.URL, Secrets: secrets, Events: []string{"job.failed"}}, {URL: stays.URL, Secrets: []string{older}, Events: []string{"job.failed"}}}
		}, nil)
		return stop
	}
	fails := func() string { return w.job("").fact(events.JobFailed{}) }

	stop := with(older)
	first := fails()
	eventually(t, "it is told under the older secret", func() bool { return changes.took(first) && stays.took(first) })
	changes.change(newer) // the receiver alone, which is the wrong order
	second := fails()
	eventually(t, "a message under the older secret is refused", func() bool { return changes.refused(second) && stays.took(second) })
	stop()

	stop = with(newer, older)
	third := fails()
	eventually(t, "what was refused is told again, and the next one, under both", func() bool {
		return changes.took(second) && changes.took(third) && stays.took(third)
	})
	changes.change(older)
	fourth := fails()
	eventually(t, "the older secret still counts", func() bool { return changes.took(fourth) })
	changes.change(newer)
	stop()

	with(newer)
	fifth := fails()
	eventually(t, "it is told under the newer secret", func() bool { return changes.took(fifth) && stays.took(fifth) })
}

func TestEndpointsAreToldOfProgressAsOftenAsTheyLike(t *testing.T) {
	t.Parallel()
	w, often, usual, other := newWorld(t), newReceiver(t), newReceiver(t), newReceiver(t)
	asked := []string{events.WebhookProgress}
	w.notifier(func(c *Config) {
		c.Endpoints = []Endpoint{{URL: often.URL, Secrets: []string{exampleSecret}, Events: asked, Progress: time.Millisecond}, {URL: usual.URL, Secrets: []string{exampleSecret}, Events: asked},
			{URL: other.URL, Secrets: []string{exampleSecret}, Progress: time.Millisecond}}
	}, nil)
	job := w.job("")
	job.fact(events.JobPlanned{})
	percent := 0.0
	eventually(t, "the one is told again and again", func() bool {
		percent++
		w.write(events.TopicTaskProgress, message(job.id, "default", "worker-1", uuid.NewString(), time.Now(), events.TaskProgress{Percent: percent}))
		return len(often.messages()) > 4
	})
	if n, none := len(usual.messages()), len(other.messages()); n != 1 || none != 0 {
		t.Errorf("the one that is told once an hour got %d messages, the one that did not ask %d", n, none)
	}
}
