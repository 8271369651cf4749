// W2: what belongs to another tenant does not exist for who asks for it.

package invariants

import (
	"regexp"

	"github.com/myspinbot/myspinbot/events"
)

// Places name the tenant in whose folder a file lies, and under whose key a text is sealed.
var places = regexp.MustCompile(`"(?:s3://[^/"]+|keys)/([^/"]+)/[^/"]+/[^/"]+(?:/[^/"]+)?"`)

// checkTenants holds jobs and profiles to one tenant each: their facts and the commands that
// follow from them, the places of what they name, and what clients of others are answered.
func (r *reading) checkTenants() {
	owners := map[string]string{}
	for _, topic := range []string{events.TopicJobEvents, events.TopicProfileEvents} {
		for _, e := range r.entries[topic] {
			id := e.m.AggregateID
			if owners[id] == "" {
				owners[id] = e.m.Tenant
			}
			r.checkOwned(e, owners[id])
		}
	}
	for topic, entries := range r.entries {
		if _, _, lane := laneOf(topic); !lane {
			continue
		}
		for _, e := range entries {
			r.checkOwned(e, owners[e.m.JobID])
		}
	}
	for at, e := range r.inputs {
		owner := owners[e.m.AggregateID]
		_, profile := e.m.Data.(events.ProfileCommand)
		if owner == "" || owner == e.m.Tenant || !asked(e.m) && !profile {
			continue
		}
		if facts := r.facts[at]; len(facts) > 0 {
			r.violation("W2", e.m.AggregateID, "%s of tenant %s has led to %s of tenant %s", e.m.Type(), e.m.Tenant, facts[0].m.Type(), owner)
		}
	}
	for _, e := range r.entries[events.TopicJobReplies] {
		d, ok := e.m.Data.(events.CommandReplied)
		if owner := owners[e.m.AggregateID]; !ok || owner == "" || owner == e.m.Tenant {
			continue
		}
		if d.Outcome != events.OutcomeRefused || d.Version != 0 || d.Status != "" {
			r.violation("W2", e.m.AggregateID, "tenant %s is answered %s at version %d, status %q, of what is tenant %s's", e.m.Tenant, d.Outcome, d.Version, d.Status, owners[e.m.AggregateID])
		}
	}
}

// checkOwned holds a record to its owner: by its tenant, and by the files and texts that it names.
func (r *reading) checkOwned(e entry, owner string) {
	if owner == "" {
		return // a lane's command whose fact was not given
	}
	if e.m.Tenant != owner {
		r.violation("W2", e.m.AggregateID, "%s at %s offset %d is of tenant %s, the first fact of tenant %s", e.m.Type(), e.rec.At(), e.rec.Offset, e.m.Tenant, owner)
	}
	for _, place := range places.FindAllSubmatch(e.rec.Value, -1) {
		if string(place[1]) != owner {
			r.violation("W2", e.m.AggregateID, "%s of tenant %s names %s", e.m.Type(), owner, place[0])
		}
	}
}
