// Attributes of a child on other Unix systems, which have no parent-death signal.

//go:build unix && !linux

package gpu

import "syscall"

func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// limitChild does nothing: only Linux can bound another process.
func limitChild(int, int64, int64) error { return nil }
