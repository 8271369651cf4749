// Tests of the lanes: what the list tells, and pausing.

package api

import (
	"net/http"
	"testing"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
)

func (w *world) lanes() map[string]laneView {
	w.t.Helper()
	var list listOf[laneView]
	w.want(http.StatusOK, w.get("/api/lanes")).decode(w.t, &list)
	out := map[string]laneView{}
	for _, l := range list.Items {
		out[l.Lane] = l
	}
	return out
}

func TestALaneIsPausedAndResumed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	job := w.submit(diagnostic)
	w.inTables(job.ID, job.Version)
	eventlogtest.Eventually(t, eventlogtest.Patience, "the job's first stage waits on its lane", func() bool {
		l := w.lanes()[events.LaneScript]
		return l.Queued != nil && *l.Queued == 1
	})
	if all := w.lanes(); len(all) != len(events.Lanes()) || all[events.LaneRender].Paused || all[events.LaneRender].Bound != 1 {
		t.Errorf("lanes %+v", all)
	}
	var got laneView
	w.want(http.StatusOK, w.post("/api/lanes/render/pause", "")).decode(t, &got)
	if got.Lane != events.LaneRender || !got.Paused {
		t.Errorf("the answer is %+v", got)
	}
	eventlogtest.Eventually(t, eventlogtest.Patience, "the pause is told", func() bool { return w.lanes()[events.LaneRender].Paused })
	var keys []string
	_, err := w.log.Read(t.Context(), w.log.Whole(events.TopicSettings), func(rs []eventlog.Record) error {
		for _, r := range rs {
			m, err := events.Decode(r.Value)
			ok(t, err)
			keys = append(keys, r.Key+" "+m.Type())
		}
		return nil
	})
	ok(t, err)
	if len(keys) != 1 || keys[0] != "lane/render lane.paused" {
		t.Errorf("on the log lies %v", keys)
	}
	w.want(http.StatusOK, w.post("/api/lanes/render/resume", "{}")).decode(t, &got)
	if got.Paused {
		t.Errorf("the answer is %+v", got)
	}
	eventlogtest.Eventually(t, eventlogtest.Patience, "the end of the pause is told", func() bool { return !w.lanes()[events.LaneRender].Paused })
	w.refused(http.StatusNotFound, codeNotFound, "/api/lanes/dance/pause", "")
	w.refused(http.StatusUnprocessableEntity, codeInvalid, "/api/lanes/render/pause", `{"for":"ever"}`)
}

// Lanes are paused with the tables away: the list only does not know what waits.
func TestLanesAreToldWithoutTheTables(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	w.tableNet.Cut()
	var got laneView
	w.want(http.StatusOK, w.post("/api/lanes/tts/pause", "{}")).decode(t, &got)
	if !got.Paused || got.Queued != nil {
		t.Errorf("the answer is %+v, want a paused lane whose queue is not known", got)
	}
	if l := w.lanes()[events.LaneTTS]; l.Queued != nil || l.Slots == 0 {
		t.Errorf("the lane is %+v", l)
	}
}
