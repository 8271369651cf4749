// What the feed has seen of one job lately.

package api

import "slices"

// lately are the tenant's events of the job that came in lately, oldest first.
func (f *feed) lately(tenant, job string) []*eventView {
	f.mu.Lock()
	defer f.mu.Unlock()
	return ownedBy(tenant, f.ofJob(job))
}

// ownedBy are those of the events that are the tenant's. The list is used up.
func ownedBy(tenant string, list []*eventView) []*eventView {
	return slices.DeleteFunc(list, func(e *eventView) bool { return e.tenant != tenant })
}

// stages is the last beat of each running stage of a job.
func (f *feed) stages(job string) map[string]progressView {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make(map[string]progressView, len(f.progress[job]))
	for stage, p := range f.progress[job] {
		out[stage] = p
	}
	return out
}
