package talkingphoto

// Benchmarks: one frame, and a whole clip against real time.

import (
	"path/filepath"
	"testing"
	"time"
)

func BenchmarkFrame720(b *testing.B) {
	a := newTestAnimator(b, 720, 720)
	f := NewFrame(720, 720)
	for i := 0; b.Loop(); i++ {
		if err := a.Frame(float64(i%200)/25, f); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRender720 reports how many seconds of finished clip one second of
// work makes, encoder included.
func BenchmarkRender720(b *testing.B) {
	p := portrait(b)
	wav, phones := speak(b, sentence)
	out := filepath.Join(b.TempDir(), "out.mp4")
	var made, spent float64
	for b.Loop() {
		start := time.Now()
		r, err := Render(background, Options{Photo: p.img, Landmarks: p.marks, Phones: phones, WAV: wav, W: 720, H: 720, FPS: 25, Out: out})
		if err != nil {
			b.Fatal(err)
		}
		made += r.Seconds
		spent += time.Since(start).Seconds()
	}
	b.ReportMetric(made/spent, "x_realtime")
}
