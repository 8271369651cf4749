// Who gets partitions of a lane, where it has more workers than partitions.

package placement

import "slices"

// Seats chooses the members that get partitions: all of them, if there are enough, and
// otherwise as many as there are partitions, so that together they are able to do as much
// of what any member can as is found by taking the one that adds most, again and again.
// Where the first members do, it is those, so that nothing moves without need. Able are
// the skills of each member in the members' order; the answer is their indices, ascending.
func Seats(able [][]string, partitions int) []int {
	first := make([]int, min(partitions, len(able)))
	for i := range first {
		first[i] = i
	}
	missing := map[string]bool{}
	for _, skills := range able {
		for _, s := range skills {
			missing[s] = true
		}
	}
	if covers(able, first, missing) {
		return first
	}
	var chosen []int
	for len(chosen) < len(first) {
		best, most := -1, 0
		for i, skills := range able {
			if n := adds(skills, missing); n > most && !slices.Contains(chosen, i) {
				best, most = i, n
			}
		}
		if best < 0 { // all that can be done is: the first of the others
			for best = 0; slices.Contains(chosen, best); {
				best++
			}
		}
		chosen = append(chosen, best)
		for _, s := range able[best] {
			delete(missing, s)
		}
	}
	slices.Sort(chosen)
	return chosen
}

// adds counts the skills that are missing.
func adds(skills []string, missing map[string]bool) (n int) {
	for _, s := range skills {
		if missing[s] {
			n++
		}
	}
	return n
}

func covers(able [][]string, chosen []int, all map[string]bool) bool {
	has := map[string]bool{}
	for _, i := range chosen {
		for _, s := range able[i] {
			has[s] = true
		}
	}
	return len(has) == len(all)
}
