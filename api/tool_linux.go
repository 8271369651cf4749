// The memory of a child on Linux.

package api

import "golang.org/x/sys/unix"

// boundMemory makes allocations of the child fail beyond toolMemory. A child that has
// ended already needs no bound.
func boundMemory(pid int) {
	_ = unix.Prlimit(pid, unix.RLIMIT_DATA, &unix.Rlimit{Cur: toolMemory, Max: toolMemory}, nil)
}
