package talkingphoto

// This file lets frames be drawn while the ones before are taken.

import "context"

// drawnAhead is how many frames may lie between drawing and taking: enough that
// neither side waits for the other's slowest frame, few enough for the memory.
const drawnAhead = 3

// Stream has draw fill the frames 0 to frames-1, each w×h pixels (both even),
// while take has the ones before: neither the encoder waits for the drawing nor
// the drawing for the encoder. Both are called in order, draw from the caller's
// goroutine and take from one other. A frame is take's until it returns. The
// first error of either ends both and comes back as it is; ctx ends both between
// two frames, with ctx.Err(). When Stream returns, both have returned.
func Stream(ctx context.Context, w, h, frames int, draw func(i int, dst *Frame) error, take func(*Frame) error) error {
	both, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	// Both channels have room for every frame there is: only receiving waits.
	empty, full := make(chan *Frame, drawnAhead), make(chan *Frame, drawnAhead)
	for range cap(empty) {
		empty <- NewFrame(w, h)
	}
	taken := make(chan struct{})
	go func() {
		defer close(taken)
		for f := range full {
			if both.Err() != nil {
				continue // the drawing ends too, and closes full
			}
			if err := take(f); err != nil {
				stop(err)
			}
			empty <- f
		}
	}()
	for i := 0; i < frames && both.Err() == nil; i++ {
		select {
		case <-both.Done():
		case f := <-empty:
			if err := draw(i, f); err != nil {
				stop(err)
			} else {
				full <- f
			}
		}
	}
	close(full)
	<-taken
	if err := ctx.Err(); err != nil {
		return err
	}
	return context.Cause(both)
}
