// Attributes of a child on Linux: its own group, and death with its parent.

package gpu

import "syscall"

// childAttributes puts the child into a process group of its own, so that it can
// be ended with all it started, and has the kernel kill it when its parent dies.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
