// Labels of a job, while it lives and when it has ended.

package aggregates_test

import (
	"slices"
	"strconv"
	"testing"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
)

func (s *script) label(labels ...string) []string {
	return s.when(events.JobLabel{Labels: labels}, events.Columns{})
}

func TestLabelsTakeThePlaceOfOthers(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	s.want(s.label("a"))
	s.refused(aggregates.CodeJobUnknown)
	r := talker()
	r.Labels = []string{"spring"}
	s.submit(r)
	s.want(s.label("spring"))
	s.refused("")
	s.want(s.label("approved", "spring"), "job.labelled")
	s.want(s.label(), "job.labelled")
	s.want(s.label("summer"), "job.labelled")
	s.accept("script", 1)
	s.want(s.cancel(), "job.cancel_requested")
	s.want(s.label("unwanted"), "job.labelled")
	if got := s.job.Request.Labels; !slices.Equal(got, []string{"unwanted"}) || s.job.State != aggregates.JobRunning || !s.job.Cancelling {
		t.Errorf("labels %q of a job that is %s", got, s.job.State)
	}
}

func TestAJobThatHasEndedIsLabelledAndNothingElse(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	s.submit(talker())
	s.cancel()
	version := s.job.Chain.Version
	s.want(s.label("spring"), "job.labelled")
	s.want(s.label("spring"))
	s.want(s.label("autumn"), "job.labelled")
	if s.job.State != aggregates.JobCancelled || s.job.Chain.Version != version+2 || !slices.Equal(s.job.Request.Labels, []string{"autumn"}) {
		t.Errorf("the job is %s at version %d with labels %q", s.job.State, s.job.Chain.Version, s.job.Request.Labels)
	}
	s.want(s.cancel())
	s.refused(aggregates.CodeJobEnded)
	s.want(s.accept("script", 1))
}

// A client that heard nothing repeats its command, when somebody else has said more.
func TestALabelCommandIsHeededOnce(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	s.submit(talker())
	s.want(s.label("spring"), "job.labelled")
	first := s.last
	for _, end := range []bool{false, true} {
		s.want(s.label("summer"), "job.labelled")
		s.want(s.again(first))
		s.refused("")
		s.want(s.label("autumn"), "job.labelled")
		if !end {
			s.cancel()
		}
	}
	for n := len(s.job.Labelled); n < 100; n++ {
		s.want(s.label("at", strconv.Itoa(n)), "job.labelled")
	}
	s.want(s.label("once more"))
	s.refused("labels_fixed")
	s.want(s.again(first))
	s.refused("")
}
