// The shares as files: one of each process, which it keeps locked for as long as it
// lives. The kernel lets go of the lock with the process, whatever ends it, so that the
// others see at once that its share is free. This works across containers that share the
// folder, where process ids mean nothing.

//go:build unix

package vram

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	shareSuffix = ".share"
	// accountWithin bounds the wait for the account: a process that was stopped while it
	// held it must not stop the others.
	accountWithin = 200 * time.Millisecond
	accountPause  = time.Millisecond
)

// ErrBusy says that another process has held the account for too long.
var ErrBusy = errors.New("another process holds the card's account")

type folder struct {
	dir   string
	guard *os.File // locked while somebody reads and changes the account
	mine  *os.File // locked for as long as this process takes part
	shown []byte   // what it holds
}

func openFolder(dir string) (*folder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	guard, err := os.OpenFile(filepath.Join(dir, "account"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	f := &folder{dir: dir, guard: guard}
	err = f.guarded(func() error {
		f.mine, err = os.CreateTemp(dir, "*"+shareSuffix)
		if err == nil {
			err = lock(f.mine, true)
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(err, guard.Close())
	}
	return f, nil
}

func lock(f *os.File, now bool) error {
	how := syscall.LOCK_EX
	if now {
		how |= syscall.LOCK_NB
	}
	return syscall.Flock(int(f.Fd()), how)
}

// guarded runs fn while no other process changes anything.
func (f *folder) guarded(fn func() error) error {
	for until := time.Now().Add(accountWithin); ; {
		err := lock(f.guard, true)
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return err
		}
		if time.Now().After(until) {
			return ErrBusy
		}
		<-time.After(accountPause)
	}
	err := fn()
	return errors.Join(err, syscall.Flock(int(f.guard.Fd()), syscall.LOCK_UN))
}

func (f *folder) with(own *share, fn func(others, dead []*share)) error {
	return f.guarded(func() error {
		others, dead, err := f.read()
		if err != nil {
			return err
		}
		fn(others, dead)
		return f.show(own)
	})
}

// read gives the shares of the living and of the dead, whose files it removes.
func (f *folder) read() (others, dead []*share, err error) {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		path := filepath.Join(f.dir, e.Name())
		if !strings.HasSuffix(path, shareSuffix) || path == f.mine.Name() {
			continue
		}
		s, alive, err := readShare(path)
		if err != nil {
			return nil, nil, err
		}
		if alive {
			others = append(others, s)
			continue
		}
		if err := os.Remove(path); err != nil {
			return nil, nil, err
		}
		dead = append(dead, s)
	}
	return others, dead, nil
}

// readShare also says whether somebody keeps the file locked. What a process that died
// while it wrote has left is no share.
func readShare(path string) (s *share, alive bool, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, file.Close()) }() // which unlocks it again
	switch err := lock(file, true); {
	case errors.Is(err, syscall.EWOULDBLOCK):
		alive = true
	case err != nil:
		return nil, false, err
	}
	text, err := io.ReadAll(io.LimitReader(file, 1<<20))
	if err != nil {
		return nil, false, err
	}
	s = &share{}
	if len(text) == 0 { // it has shown nothing yet
		s.Budget = 1 << 30
		return s, alive, nil
	}
	if err := json.Unmarshal(text, s); err != nil && alive {
		return nil, false, fmt.Errorf("the share %s cannot be read; remove it if no worker of this version uses it: %w", path, err)
	} else if err != nil {
		s = &share{}
	}
	return s, alive, nil
}

// show writes the own share where it has changed. Not to another file: the lock is this one's.
func (f *folder) show(own *share) error {
	text, err := json.Marshal(own)
	if err != nil || string(text) == string(f.shown) {
		return err
	}
	if _, err := f.mine.WriteAt(text, 0); err != nil {
		return err
	}
	if err := f.mine.Truncate(int64(len(text))); err != nil {
		return err
	}
	f.shown = text
	return nil
}

// close removes the own share, unless something is still loaded: then it lies there as a
// dead process's does.
func (f *folder) close(own *share) (err error) {
	if len(own.Loaded) == 0 {
		err = os.Remove(f.mine.Name())
	}
	return errors.Join(err, f.mine.Close(), f.guard.Close())
}
