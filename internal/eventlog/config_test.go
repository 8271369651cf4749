// The pace of dialling.

package eventlog

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

func TestDialsArePacedWhereTheyFail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		refused, up := errors.New("refused"), false
		dials := 0
		d := newDialer(func(context.Context, string, string) (net.Conn, error) {
			dials++
			if !up {
				return nil, refused
			}
			return nil, nil
		})
		began := time.Now()
		for range 10 {
			if _, err := d.dial(t.Context(), "tcp", "a"); !errors.Is(err, refused) {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took != 9*dialPause {
			t.Errorf("ten failing dials took %v, want nine pauses", took)
		}
		up = true
		for range 10 {
			if _, err := d.dial(t.Context(), "tcp", "a"); err != nil {
				t.Fatal(err)
			}
			if _, err := d.dial(t.Context(), "tcp", "b"); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took != 10*dialPause {
			t.Errorf("dials that succeed, or go elsewhere, took %v, want one pause", took-9*dialPause)
		}
		up = false
		_, _ = d.dial(t.Context(), "tcp", "a")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		before := dials
		if _, err := d.dial(ctx, "tcp", "a"); !errors.Is(err, context.Canceled) || dials != before {
			t.Errorf("a cancelled dial returned %v after %d more dials", err, dials-before)
		}
	})
}
