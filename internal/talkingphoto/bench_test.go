package talkingphoto

// The benchmark of one frame.

import "testing"

func BenchmarkFrame720(b *testing.B) {
	a := newTestAnimator(b, 720, 720)
	f := NewFrame(720, 720)
	for i := 0; b.Loop(); i++ {
		if err := a.Frame(float64(i%200)/25, f); err != nil {
			b.Fatal(err)
		}
	}
}
