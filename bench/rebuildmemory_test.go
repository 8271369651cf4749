package main

// Tests that the peak of a program's memory is the program's own.

import (
	"os"
	"os/exec"
	"strconv"
	"testing"
)

// peakedMB names the environment variable that makes a test binary take memory.
const peakedMB = "MYSPINBOT_BENCH_TEST_PEAK_MB"

// TestPeakProcess is the process that TestAPeakIsTheProgramsOwn starts; alone it has nothing to do.
func TestPeakProcess(t *testing.T) {
	t.Parallel()
	n, err := strconv.Atoi(os.Getenv(peakedMB))
	if err != nil {
		return
	}
	touch(n)
	for range 20 { // until the starter has looked
		if err := wait(t.Context(), peakEvery, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// touch takes that much memory, and gives it back at some time.
func touch(megabytes int) (sum int) {
	b := make([]byte, megabytes<<20)
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	for i := 0; i < len(b); i += 4096 {
		sum += int(b[i])
	}
	return sum
}

// TestAPeakIsTheProgramsOwn starts a small and a large program from a process that was larger
// than both.
func TestAPeakIsTheProgramsOwn(t *testing.T) {
	t.Parallel()
	peak := func(megabytes int) float64 {
		t.Helper()
		c := exec.Command(os.Args[0], "-test.run=^TestPeakProcess$")
		c.Env = append(os.Environ(), peakedMB+"="+strconv.Itoa(megabytes))
		n, err := peakOf(c)
		if err != nil {
			t.Fatal(err)
		}
		return float64(n) / (1 << 20)
	}
	touch(400)
	small, large := peak(1), peak(200)
	if small > 150 || large < 200 || large > 350 {
		t.Errorf("a program of 1 MB had %.0f, one of 200 MB %.0f at most", small, large)
	}
}

func TestAPeakThatCouldNotBeReadIsAnError(t *testing.T) {
	t.Parallel()
	if peak, err := peakOf(exec.Command("/nowhere/to/be/found")); err == nil {
		t.Errorf("a program that is not there had %d bytes", peak)
	}
	if _, err := peakOf(exec.Command("/bin/sh", "-c", "exit 3")); err == nil {
		t.Error("a program that failed was measured")
	}
}
