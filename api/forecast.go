// What the queue says of one job: its place, and when it will be done.
//
// The rest of a job is the longest way through the stages that are left, each as long
// as its task took lately; a running one counts for what its engine says is left, or
// for its usual time less what has passed. A stage that waits for a worker waits until
// those ahead have passed the narrowest lane of what is left of the job. What people
// take to approve is in no forecast.

package api

import "time"

// forecast is what clients are told; nil is what nobody knows, or what there is none of.
type forecast struct {
	position *int   // 1: next on its lane
	seconds  *int64 // until the job is done
	around   *EtaRange
}

// of says where a job stands that may not start before a time.
func (q *queue) of(job string, notBefore time.Time, beats map[string]progressView) forecast {
	q.mu.Lock()
	defer q.mu.Unlock()
	j := q.jobs[job]
	if !q.loaded || j == nil {
		return forecast{}
	}
	f := forecast{position: q.position(j)}
	if left, known := q.left(j, beats); known && !j.asked {
		if !notBefore.IsZero() {
			left += max(0, notBefore.Sub(q.now()))
		}
		seconds := int64((left + time.Second - 1) / time.Second)
		f.seconds, f.around = &seconds, q.spread.around(seconds)
	}
	return f
}

// position is the best place of the job's waiting stages among those of its tenant, while
// none of them runs.
func (q *queue) position(j *queuedJob) *int {
	best := 0
	for i, m := range j.marks {
		switch m.state {
		case stageRunning:
			return nil
		case stageQueued:
			if n := q.before(j, i) + 1; best == 0 || n < best {
				best = n
			}
		case stagePending, stageDone:
		}
	}
	return opt(best)
}

// before is how many stages of the same tenant wait on the same lane before this one.
func (q *queue) before(j *queuedJob, i int) int {
	l, m := q.lanes[j.shape.lanes[i]], j.marks[i]
	if l == nil || l.own[j.tenant] == nil {
		return 0
	}
	return l.own[j.tenant].ahead(waiting{m.since, j.key(i)}, m.batch)
}

// ahead is how many stages, of all tenants, wait on the same lane before this one.
func (q *queue) ahead(j *queuedJob, i int) int {
	l, m := q.lanes[j.shape.lanes[i]], j.marks[i]
	if l == nil {
		return 0
	}
	return l.all.ahead(waiting{m.since, j.key(i)}, m.batch)
}

// left is how long the job will still take; false while one of its tasks was never seen.
func (q *queue) left(j *queuedJob, beats map[string]progressView) (time.Duration, bool) {
	now, slots := q.now().UnixNano(), q.slots()
	narrow, known := q.narrowest(j, slots)
	if !known {
		return 0, false
	}
	done, longest := make([]time.Duration, len(j.marks)), time.Duration(0)
	for i, m := range j.marks {
		if m.state == stageDone {
			continue
		}
		from := time.Duration(0)
		for _, b := range j.shape.before[i] {
			from = max(from, done[b])
		}
		usual, _ := q.usual(j, i)
		switch m.state {
		case stageRunning:
			rest := usual - time.Duration(now-m.since)
			if beat := beats[j.shape.ids[i]]; beat.EtaMS > 0 {
				rest = time.Duration(beat.EtaMS) * time.Millisecond
			}
			usual = max(rest, 0)
		case stageQueued:
			from += q.wait(j, i, slots, narrow)
		case stagePending, stageDone:
		}
		done[i] = from + usual
		longest = max(longest, done[i])
	}
	return longest, true
}

// usual is how long the stage takes; what is decided inside the job handler takes no time.
func (q *queue) usual(j *queuedJob, i int) (time.Duration, bool) {
	if j.shape.lanes[i] == "" {
		return 0, true
	}
	return q.pace.expected(j.shape.tasks[i])
}

// narrowest is how long the lane that passes such jobs slowest is busy with one of them;
// false if a task was never seen.
func (q *queue) narrowest(j *queuedJob, slots map[string]int) (time.Duration, bool) {
	busy, slowest := map[string]time.Duration{}, time.Duration(0)
	for i, m := range j.marks {
		if m.state == stageDone {
			continue
		}
		usual, known := q.usual(j, i)
		if !known {
			return 0, false
		}
		lane := j.shape.lanes[i]
		busy[lane] += usual / time.Duration(max(1, slots[lane]))
		slowest = max(slowest, busy[lane])
	}
	return slowest, true
}

// wait is how long a queued stage waits: for all ahead of it, and for half of what
// runs, where no place is free.
func (q *queue) wait(j *queuedJob, i int, slots map[string]int, narrow time.Duration) time.Duration {
	name := j.shape.lanes[i]
	wait := time.Duration(q.ahead(j, i)) * narrow
	if l := q.lanes[name]; l != nil && l.running >= max(1, slots[name]) {
		usual, _ := q.usual(j, i)
		wait += usual / 2
	}
	return wait
}

// predict notes once what is expected of a job, as of an event's time.
func (q *queue) predict(j *queuedJob, at time.Time) {
	if !j.predicted.IsZero() {
		return
	}
	j.predicted = at
	if left, known := q.left(j, nil); known {
		j.seconds = left.Seconds()
	}
}
