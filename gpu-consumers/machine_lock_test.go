// The lock that all processes of a machine share.

package gpu

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// otherProcess names the lock that this test program holds when it is run as another
// process.
const otherProcess = "MYSPINBOT_TEST_HOLDS"

// TestHoldsInAnotherProcess is that other process: it says that it holds the lock, and
// ends when its input does. Run as a test it has nothing to hold.
func TestHoldsInAnotherProcess(t *testing.T) {
	t.Parallel()
	path := os.Getenv(otherProcess)
	if path == "" {
		return
	}
	release, err := machineLock{path}.hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = os.Stdout.WriteString("held\n")
	_, _ = bufio.NewReader(os.Stdin).ReadByte()
	if err := release(); err != nil {
		t.Error(err)
	}
}

func TestAProcessWaitsForAnothersLock(t *testing.T) {
	t.Parallel()
	lock := machineLock{filepath.Join(t.TempDir(), "lock")}
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHoldsInAnotherProcess$") //nolint:gosec // this very program
	child.Env = append(os.Environ(), otherProcess+"="+lock.path)
	input, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(output).ReadString('\n'); line != "held\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	brief, cancel := context.WithTimeout(t.Context(), 5*lockPause)
	defer cancel()
	if _, err := lock.hold(brief); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while another process holds the lock: %v", err)
	}
	if err := errors.Join(input.Close(), child.Wait()); err != nil {
		t.Fatal(err)
	}
	long, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	release, err := lock.hold(long)
	if err != nil {
		t.Fatal(err)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
}

func TestALockThatIsNoFileIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "link"), filepath.Join(dir, "absent", "lock")} {
		if _, err := (machineLock{path}).hold(t.Context()); err == nil {
			t.Errorf("%s was locked", path)
		}
	}
}
