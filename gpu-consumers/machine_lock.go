// One user at a time of something that all processes of a machine share.

package gpu

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// machineLock is held by at most one holder on this machine, whichever process it is
// in; the system takes it from a process that ends. It is safe for concurrent use.
type machineLock struct{ path string }

// lockFor is the lock of the thing called name, such as a server's address. Its file
// lies in the system's temporary folder and stays there.
func lockFor(name string) machineLock {
	sum := sha256.Sum256([]byte(name))
	return machineLock{filepath.Join(os.TempDir(), "myspinbot-"+hex.EncodeToString(sum[:8])+".lock")}
}

// lockPause is the time between two attempts to get a lock that another holds.
const lockPause = 20 * time.Millisecond

// hold waits for the lock and takes it until release is called. The error wraps
// ctx.Err() when ctx ended first.
func (l machineLock) hold(ctx context.Context) (release func() error, err error) {
	f, err := l.open()
	if err != nil {
		return nil, fmt.Errorf("cannot open the lock %s: %w", l.path, err)
	}
	pause := time.NewTicker(lockPause)
	defer pause.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return f.Close, nil
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR):
			return nil, errors.Join(fmt.Errorf("cannot take the lock %s: %w", l.path, err), f.Close())
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), f.Close())
		}
	}
}

// open opens the file for reading, which is enough for a lock and lets other users'
// processes take part; it follows no link that somebody laid in the folder.
func (l machineLock) open() (*os.File, error) {
	const flags = os.O_RDONLY | syscall.O_NOFOLLOW | syscall.O_NONBLOCK
	for {
		f, err := os.OpenFile(l.path, flags, 0)
		if !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
		f, err = os.OpenFile(l.path, flags|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // it is empty, and others may wait for it
		if !errors.Is(err, fs.ErrExist) {
			return f, err
		}
	}
}
