// How long an answer waits for what it depends on. A dependency that accepts
// connections and never answers is as good as down: the client learns it in time.

package api

import (
	"context"
	"errors"
	"time"
)

const (
	repeatTimeout  = time.Second             // of looking for an earlier submission in the tables
	objectTimeout  = 2 * time.Second         // of the object store, for a group of steps, without copying
	textTimeout    = 1500 * time.Millisecond // of all sealed texts of one answer: it is better without them than late
	backlogTimeout = 10 * time.Second        // of what a live stream begins with
	copySpeed      = 8 << 20                 // bytes a second that copying may count on
	copyTimeout    = 30 * time.Second        // of copying, however much it is
)

// copyTime is how long that many bytes may take beyond the time that every request has.
func copyTime(bytes int64) time.Duration {
	return min(time.Duration(bytes)*time.Second/copySpeed, copyTimeout)
}

// inTime runs steps on the object store, which has the limit to do them all.
func inTime(ctx context.Context, limit time.Duration, steps func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := steps(ctx)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &refusal{code: codeObjectsDown, cause: err}
	}
	return err
}
