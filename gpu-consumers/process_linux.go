// Attributes of a child on Linux: its own group, and death with its parent.

package gpu

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// childAttributes puts the child into a process group of its own, so that it can
// be ended with all it started, and has the kernel kill it when its parent dies.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// limitChild bounds what each process of the child may fill of memory (private memory
// that it can write to: address space alone says nothing, a CUDA program reserves
// hundreds of GB of it) and the size of its files; below 0 there is no bound. Nothing
// of a user's is left in a core file.
func limitChild(pid int, memory, file int64) error {
	for resource, most := range map[int]int64{unix.RLIMIT_DATA: memory, unix.RLIMIT_FSIZE: file, unix.RLIMIT_CORE: 0} {
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
