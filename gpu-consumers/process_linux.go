// Attributes of a child on Linux: its own group, and death with its parent.

package gpu

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// childAttributes puts the child into a process group of its own, so that it can
// be ended with all it started, and has the kernel kill it when its parent dies.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// limits are what each process of a child may fill of memory (private memory that it can
// write to: address space alone says nothing, a CUDA program reserves hundreds of GB of
// it) and the size of its files, in bytes; below 0 there is no bound. Nothing of a user's
// is left in a core file.
type limits struct{ memory, file int64 }

// prlimit is util-linux' program that starts another within limits; empty: it is not here.
var prlimit = sync.OnceValue(func() string {
	path, err := exec.LookPath("prlimit")
	if err != nil {
		return ""
	}
	path, _ = filepath.Abs(path) // the working directory is there
	return path
})

// command is the call that starts the program within the limits, in its own place.
func (l limits) command(path string, args []string) (string, []string) {
	if prlimit() == "" {
		return path, args
	}
	words := []string{"--core=0"}
	for option, most := range map[string]int64{"--data=": l.memory, "--fsize=": l.file} {
		if most >= 0 {
			words = append(words, option+strconv.FormatInt(most, 10))
		}
	}
	return prlimit(), slices.Concat(words, []string{"--", path}, args)
}

// set bounds a child that has been started without the program for it: it may have done
// something by then, though nothing that takes long.
func (l limits) set(pid int) error {
	for resource, most := range map[int]int64{unix.RLIMIT_DATA: l.memory, unix.RLIMIT_FSIZE: l.file, unix.RLIMIT_CORE: 0} {
		if most < 0 {
			continue
		}
		limit := new(unix.Rlimit)
		if err := unix.Getrlimit(resource, limit); err != nil {
			return fmt.Errorf("cannot read our own limits: %w", err)
		}
		limit.Max = min(limit.Max, uint64(most)) // nobody may raise it
		limit.Cur = limit.Max
		if err := unix.Prlimit(pid, resource, limit, nil); err != nil && err != unix.ESRCH { //nolint:errorlint // a bare errno; the child may have ended by now
			return fmt.Errorf("cannot limit the process: %w", err)
		}
	}
	return nil
}
