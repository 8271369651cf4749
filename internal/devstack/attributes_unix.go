// Process attributes on other Unix systems, which have no parent-death signal: there a child can
// outlive a parent that was killed with SIGKILL (myspinbot-devstack notices that by itself).

//go:build unix && !linux

package devstack

import "syscall"

func attributes(cred *syscall.Credential, _ syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: cred, Setpgid: true}
}
