// Tests of the spread of forecasts.

package api

import (
	"math/rand/v2"
	"testing"
)

func TestAForecastIsToldWithItsSpread(t *testing.T) {
	t.Parallel()
	var s spread
	for i := range spreadLeast {
		if got := s.around(100); got != nil {
			t.Fatalf("after %d forecasts: %+v", i, got)
		}
		s.note(1)
	}
	if got := s.around(100); got == nil || *got != (EtaRange{Low: 100, High: 100}) {
		t.Errorf("forecasts that were right: %+v", got)
	}
	// Off by a factor from 0.5 to 1.5, each as likely: eight of ten lie from 0.6 to 1.4.
	random := rand.New(rand.NewPCG(1, 2))
	within, got := 0, &EtaRange{}
	for range 1000 {
		off := 0.5 + random.Float64()
		if got = s.around(1000); got.Low <= int64(1000*off) && int64(1000*off) <= got.High {
			within++
		}
		s.note(off)
	}
	if within < 700 || within > 900 || got.Low < 500 || got.High > 1500 {
		t.Errorf("%d of 1000 jobs took as long as was said; at last %+v", within, got)
	}
	// Jobs that were all late: the range reaches from what is expected.
	for range spreadSize {
		s.note(2)
	}
	if got := s.around(60); *got != (EtaRange{Low: 60, High: 120}) {
		t.Errorf("forecasts of half the time: %+v", got)
	}
}
