// Attributes of a child on other Unix systems, which have no parent-death signal.

//go:build unix && !linux

package gpu

import "syscall"

func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// limits do nothing here: only Linux can bound another process.
type limits struct{ memory, file int64 }

func (limits) command(path string, args []string) (string, []string) { return path, args }

func (limits) set(int) error { return nil }
