// Package placement chooses the partition of a lane that an attempt goes to, and the
// workers that get partitions.
//
// What belongs here: the choices, by the lengths of queues and the models in memory, and
// by what workers can do. What may not: counting queues (package handlers), lanes, engines.
package placement

// Affinity is how many more attempts than the shortest queue's the one with the right
// model may hold and still be preferred: a change of models costs about as much as an
// attempt, and nobody waits for more than this many for it. In time: an attempt begins
// at the latest when as many as lie in the shortest queue and Affinity more have run and
// changed the model each, (shortest + Affinity) × (longest attempt + change).
const Affinity = 2

// Pick chooses among the partitions of a lane, by how many attempts go before one that is
// put there, and by the model that each was last given: the shortest queue, or a queue
// with the model that is longer by no more than Affinity. Of equal ones it takes the next
// after from, so that those who do not know of one another spread. Ahead and last are of
// one length, which is not 0; a model "" is none.
func Pick(ahead []int, last []string, model string, from int) int {
	n := len(ahead)
	best := from % n
	for i := range n {
		if at := (from + i) % n; ahead[at] < ahead[best] {
			best = at
		}
	}
	if model == "" || last[best] == model {
		return best
	}
	warm := -1
	for i := range n {
		if at := (from + i) % n; last[at] == model && ahead[at] <= ahead[best]+Affinity && (warm < 0 || ahead[at] < ahead[warm]) {
			warm = at
		}
	}
	if warm >= 0 {
		return warm
	}
	return best
}
