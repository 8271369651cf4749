// When a message is sent again.

package webhooks

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Schedule is how long to wait after each failed attempt. One that has no wait after it
// is the last.
type Schedule []time.Duration

// Standard is the schedule that Standard Webhooks advises: ten attempts within 76 hours.
func Standard() Schedule {
	return Schedule{
		5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
	}
}

// jitter is by how much of itself a wait is drawn out at most, so that a receiver that
// comes back is not met by all at once.
const jitter = 0.2

// longestWish bounds what a receiver may ask for by Retry-After.
const longestWish = 24 * time.Hour

// Next is the time of the attempt after so many failed ones, or false when there is
// none. Wish is what the receiver asked to wait, 0 for nothing; luck lies in [0, 1).
func (s Schedule) Next(failed int, now time.Time, wish time.Duration, luck float64) (time.Time, bool) {
	if failed < 1 || failed > len(s) {
		return time.Time{}, false
	}
	pause := s[failed-1]
	pause += time.Duration(jitter * luck * float64(pause))
	return now.Add(max(pause, min(wish, longestWish))), true
}

// Window is how long the schedule lasts without jitter and wishes.
func (s Schedule) Window() time.Duration {
	var sum time.Duration
	for _, d := range s {
		sum += d
	}
	return sum
}

// retryAfter reads the header: seconds, or a date.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(n) * time.Second //nolint:gosec // 31 bits
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}
