// What a training has reached, kept between the attempts of a stage, so that the next
// one goes on from there.

package gpu

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// chains are the folders of all trainings of this machine.
type chains struct {
	root string
	keep time.Duration // after the last attempt; then a folder goes

	mu    sync.Mutex
	swept time.Time
}

// chain is the folder of one stage's attempts, locked against others on this machine.
type chain struct {
	dir  string
	lock *os.File
}

const sweepEvery = time.Hour

// open gives the folder for the attempt. Only attempts of the same stage with the same
// settings and inputs share one. An earlier attempt that still works in it, because its
// worker was silent for too long, makes it engine_unavailable.
func (c *chains) open(a *Attempt, settings string) (*chain, error) {
	c.sweep(time.Now())
	sum := sha256.New()
	fmt.Fprintf(sum, "%s/%s/%s", a.JobID, a.Stage, settings)
	for _, files := range [][]File{a.Files["images"], a.Files["voice"]} {
		for _, f := range files {
			fmt.Fprintf(sum, "/%s", f.Artifact.SHA256)
		}
	}
	dir := filepath.Join(c.root, hex.EncodeToString(sum.Sum(nil)[:16]))
	for {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, &TaskError{Class: events.ClassEngineUnavailable, Message: "the folder for trainings cannot be made", Hint: "set engines.training.work to a folder that the worker may write to", Err: err}
		}
		held, err := holdFolder(dir)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, &TaskError{Class: events.ClassEngineUnavailable, Message: "an earlier attempt of the training still runs on this machine", Hint: "it ends by itself soon", Err: err}
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("cannot use the training's folder: %w", err)
		}
		if held != nil {
			return &chain{dir, held}, nil
		}
	}
}

// holdFolder locks a folder; nil when it was removed meanwhile.
func holdFolder(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		var mine, there fs.FileInfo
		if mine, err = f.Stat(); err == nil {
			if there, err = os.Stat(dir); err == nil && os.SameFile(mine, there) {
				return f, nil
			}
		}
	}
	return nil, errors.Join(err, f.Close())
}

// close keeps the folder for the next attempt where there may be one, and removes it
// otherwise: after a success, when the attempt was stopped, and after a failure that
// another attempt would only repeat.
func (c *chain) close(ctx context.Context, err error) error {
	var te *TaskError
	again := err != nil && !errors.Is(context.Cause(ctx), errStopped)
	if errors.As(err, &te) && (te.Class == events.ClassInvalidInput || te.Class == events.ClassEngineRejected) {
		again = false
	}
	if again {
		now := time.Now()
		_ = os.Chtimes(c.dir, now, now) // at worst it goes early
	} else if removeErr := os.RemoveAll(c.dir); removeErr != nil {
		err = errors.Join(err, fmt.Errorf("cannot remove the training's folder: %w", removeErr))
	}
	_ = c.lock.Close() // nothing was written to it
	return err
}

// sweep removes, now and then, what nobody came back for.
func (c *chains) sweep(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.swept) < sweepEvery {
		return
	}
	c.swept = now
	all, _ := os.ReadDir(c.root) // it may not be there yet
	for _, entry := range all {
		info, err := entry.Info()
		dir := filepath.Join(c.root, entry.Name())
		if err != nil || !info.IsDir() || now.Sub(info.ModTime()) < c.keep {
			continue
		}
		if held, err := holdFolder(dir); err == nil && held != nil {
			_ = os.RemoveAll(dir) // what is left goes next time
			_ = held.Close()
		}
	}
}

// copyFile copies a result out of a folder that goes.
func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("cannot read the training's result: %w", err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = io.Copy(out, in)
		if closeErr := out.Close(); err == nil {
			err = closeErr
		}
	}
	if err != nil {
		return fmt.Errorf("cannot keep the training's result: %w", err)
	}
	return nil
}
