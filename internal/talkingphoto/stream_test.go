package talkingphoto

// Tests of drawing and taking at the same time.

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// numbered draws a frame that holds its own number.
func numbered(i int, dst *Frame) error {
	dst.Pix[0] = byte(i)
	return nil
}

// in fails the test when what is awaited does not come.
func in(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(10 * time.Second):
		t.Error("waited in vain: " + what)
	}
}

func TestStreamKeepsTheOrder(t *testing.T) {
	t.Parallel()
	for _, frames := range []int{0, 1, drawnAhead, 100} {
		var drawn, taken, want []int
		for i := range frames {
			want = append(want, i)
		}
		err := Stream(background, 64, 66, frames, func(i int, dst *Frame) error {
			drawn = append(drawn, i)
			return numbered(i, dst)
		}, func(f *Frame) error {
			if f.W != 64 || f.H != 66 {
				t.Errorf("a frame of %d×%d", f.W, f.H)
			}
			taken = append(taken, int(f.Pix[0]))
			return nil
		})
		if err != nil || !slices.Equal(drawn, want) || !slices.Equal(taken, want) {
			t.Errorf("drawn %v, taken %v, error %v; want %d frames", drawn, taken, err, frames)
		}
	}
}

// The first frame is held until others are drawn, and drawing is held until one
// is taken: each side can go on while the other works, and not too far.
func TestStreamOverlaps(t *testing.T) {
	t.Parallel()
	ahead, release := make(chan struct{}), make(chan struct{})
	var drawn, taken atomic.Int32
	err := Stream(background, 64, 64, 20, func(i int, dst *Frame) error {
		if n := drawn.Add(1) - taken.Load(); n > drawnAhead {
			t.Errorf("%d frames are drawn and not taken", n)
		}
		if i == drawnAhead-1 {
			close(ahead)
		}
		if i == drawnAhead {
			in(t, "a frame is taken during drawing", release)
		}
		return numbered(i, dst)
	}, func(f *Frame) error {
		switch f.Pix[0] {
		case 0:
			in(t, "frames are drawn ahead", ahead)
		case 1:
			close(release)
		}
		taken.Add(1)
		return nil
	})
	if err != nil || drawn.Load() != 20 || taken.Load() != 20 {
		t.Errorf("drawn %d, taken %d, error %v", drawn.Load(), taken.Load(), err)
	}
}

func TestStreamEndsWithTheFirstError(t *testing.T) {
	t.Parallel()
	fault := errors.New("out of ink")
	var busy atomic.Int32
	counted := func(fn func() error) error {
		busy.Add(1)
		defer busy.Add(-1)
		return fn()
	}
	taken := 0
	err := Stream(background, 64, 64, 100, func(i int, dst *Frame) error {
		return counted(func() error {
			if i == 7 {
				return fault
			}
			return numbered(i, dst)
		})
	}, func(*Frame) error { taken++; return counted(func() error { return nil }) })
	if !errors.Is(err, fault) || taken > 7 || busy.Load() != 0 {
		t.Errorf("drawing failed: %v after %d taken frames, %d still busy", err, taken, busy.Load())
	}

	drawn := 0
	err = Stream(background, 64, 64, 100, func(i int, dst *Frame) error { drawn++; return counted(func() error { return numbered(i, dst) }) },
		func(f *Frame) error {
			return counted(func() error {
				if f.Pix[0] == 7 {
					return fault
				}
				return nil
			})
		})
	if !errors.Is(err, fault) || drawn < 8 || drawn > 8+drawnAhead || busy.Load() != 0 {
		t.Errorf("taking failed: %v after %d drawn frames, %d still busy", err, drawn, busy.Load())
	}
}

func TestStreamEndsWithItsContext(t *testing.T) {
	t.Parallel()
	for _, side := range []string{"draw", "take"} {
		ctx, cancel := context.WithCancel(background)
		drawn, taken := 0, 0
		err := Stream(ctx, 64, 64, 100, func(i int, dst *Frame) error {
			drawn++
			if side == "draw" && i == 5 {
				cancel()
			}
			return numbered(i, dst)
		}, func(f *Frame) error {
			taken++
			if side == "take" && f.Pix[0] == 5 {
				cancel()
			}
			return nil
		})
		if !errors.Is(err, context.Canceled) || taken > drawn || drawn > 6+drawnAhead {
			t.Errorf("%s: %v after %d drawn and %d taken frames", side, err, drawn, taken)
		}
		cancel()
	}
}
