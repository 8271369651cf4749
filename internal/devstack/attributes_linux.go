// Process attributes on Linux: the kernel ends a child with its parent.

package devstack

import "syscall"

// attributes puts the child into a group of its own, so that Ctrl-C at the terminal reaches the
// parent alone and the parent ends its children in order.
func attributes(cred *syscall.Credential, death syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: cred, Setpgid: true, Pdeathsig: death}
}
