// Weights that a profile's voice was trained to: kept on this machine for the server that
// speaks with them.
//
// Rules: a file is called by its digest and read through before each use, because whoever
// loads it runs what is in it; one that is in use is not removed; the folder is kept below
// its bound, the least used going first, and what nobody has used for a day goes as well.

package gpu

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// weightsKeep is how long weights that nobody uses are kept: they are somebody's voice.
const weightsKeep = 24 * time.Hour

// weightsCache is the folder. Processes of one machine may share it.
type weightsCache struct {
	dir    string
	most   int64 // bytes; what is in use may exceed it
	shared bool  // with a server that may be another user
}

// heldWeights is a file of the cache while it is used.
type heldWeights struct {
	path string
	lock *os.File
}

func (h *heldWeights) release() { _ = h.lock.Close() } // nothing was written to it

var digestForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

// get gives the file with the artifact's bytes, which fetch brings where they are not
// there. Nobody removes it before it is released.
func (c *weightsCache) get(ctx context.Context, f events.Artifact, fetch func(context.Context, events.Artifact, string) error) (*heldWeights, error) {
	if !digestForm.MatchString(f.SHA256) {
		return nil, &TaskError{Class: events.ClassInvalidInput, Message: "weights of the voice have no digest", Hint: "train the voice again"}
	}
	if err := c.open(); err != nil {
		return nil, err
	}
	path := filepath.Join(c.dir, f.SHA256+filepath.Ext(f.Name))
	for range 3 {
		held, err := c.hold(path, f)
		if err != nil || held != nil {
			return held, err
		}
		c.evict(time.Now(), f.Size)
		part := filepath.Join(c.dir, "part-"+rand.Text())
		if err := fetch(ctx, f, part); err != nil {
			return nil, err
		}
		if c.shared {
			err = os.Chmod(part, 0o644) //nolint:gosec // the server may be another user; the operator's folder decides who gets there
		}
		if err := errors.Join(err, os.Rename(part, path)); err != nil {
			return nil, errors.Join(c.unusable(err), os.Remove(part))
		}
	}
	return nil, c.unusable(errors.New("what is written there changes at once"))
}

func (c *weightsCache) unusable(err error) error {
	return &TaskError{Class: events.ClassEngineUnavailable, Message: "the folder for weights of voices cannot be used", Hint: "let this process alone write to " + c.dir, Err: err}
}

// open makes the folder. Outside a shared one nobody else may write there.
func (c *weightsCache) open() error {
	mode := fs.FileMode(0o700)
	if c.shared {
		mode = 0o755
	}
	if err := os.MkdirAll(c.dir, mode); err != nil {
		return c.unusable(err)
	}
	info, err := os.Lstat(c.dir)
	if err != nil {
		return c.unusable(err)
	}
	owner, known := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !c.shared && (info.Mode().Perm()&0o022 != 0 || !known || int(owner.Uid) != os.Geteuid()) {
		return c.unusable(errors.New("others may write there"))
	}
	return nil
}

// hold takes the file if it is there with the artifact's bytes; others are removed. It
// counts as used now.
func (c *weightsCache) hold(path string, want events.Artifact) (*heldWeights, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, syscall.ELOOP) { // somebody's link
		err = errors.Join(os.Remove(path), fs.ErrNotExist)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, c.unusable(err)
	}
	held := &heldWeights{path, f}
	sum := sha256.New()
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH) // whoever removes it holds it for a moment
	if err == nil {
		_, err = io.Copy(sum, io.LimitReader(f, want.Size+1))
	}
	if err != nil {
		held.release()
		return nil, c.unusable(err)
	}
	now := time.Now()
	there, mine := statOf(path), fileOf(f)
	switch {
	case there == nil || mine == nil || !os.SameFile(there, mine): // removed meanwhile
	case hex.EncodeToString(sum.Sum(nil)) != want.SHA256:
		err = os.Remove(path)
	default:
		_ = os.Chtimes(path, now, now) // at worst it goes early
		return held, nil
	}
	held.release()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, c.unusable(err)
	}
	return nil, nil
}

func statOf(path string) fs.FileInfo {
	info, _ := os.Lstat(path) // nil: it is not there
	return info
}

func fileOf(f *os.File) fs.FileInfo {
	info, _ := f.Stat()
	return info
}

// evict removes what nobody has used for long, and the least used until there is room for
// so many bytes more.
func (c *weightsCache) evict(now time.Time, room int64) {
	entries, _ := os.ReadDir(c.dir) // it may not be there yet
	var all []fs.FileInfo
	var total int64
	for _, e := range entries {
		name, _, _ := strings.Cut(e.Name(), ".")
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || !digestForm.MatchString(name) && !strings.HasPrefix(name, "part-") {
			continue // not ours
		}
		all, total = append(all, info), total+info.Size()
	}
	slices.SortFunc(all, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, info := range all {
		old := now.Sub(info.ModTime()) > weightsKeep
		if full := total+room > c.most && !strings.HasPrefix(info.Name(), "part-"); (old || full) && removeUnused(filepath.Join(c.dir, info.Name())) {
			total -= info.Size()
		}
	}
}

// removeUnused removes a file that nobody holds.
func removeUnused(path string) bool {
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW, 0) // some file systems lock for one alone what may be written
	if err != nil {
		return false
	}
	defer f.Close()
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil && os.Remove(path) == nil
}

// trainedWeights are a voice's two files while they are used.
type trainedWeights struct{ gpt, soVITS *heldWeights }

// Endings of the two files' names.
const (
	gptEnding    = ".ckpt"
	soVITSEnding = ".pth"
)

// pair finds them among an attempt's inputs, and brings them.
func (c *weightsCache) pair(ctx context.Context, a *Attempt) (_ *trainedWeights, err error) {
	w := &trainedWeights{}
	for ending, into := range map[string]**heldWeights{gptEnding: &w.gpt, soVITSEnding: &w.soVITS} {
		i := slices.IndexFunc(a.Files["voice_weights"], func(f File) bool { return filepath.Ext(f.Artifact.Name) == ending })
		if i < 0 {
			err = &TaskError{Class: events.ClassInvalidInput, Message: "the weights of the voice are not those of GPT-SoVITS", Hint: "train the voice again"}
		} else {
			*into, err = c.get(ctx, a.Files["voice_weights"][i].Artifact, a.Fetch)
		}
		if err != nil {
			w.release()
			return nil, err
		}
	}
	return w, nil
}

func (w *trainedWeights) release() {
	for _, held := range []*heldWeights{w.gpt, w.soVITS} {
		if held != nil {
			held.release()
		}
	}
}

// model names them.
func (w *trainedWeights) model() string {
	short := func(h *heldWeights) string { return filepath.Base(h.path)[:12] }
	return "trained " + short(w.gpt) + "+" + short(w.soVITS)
}

// takeWeights has the server speak with the weights that the attempt's voice was trained
// to, else with the configured ones. Without configured ones the server would go on
// with somebody's own for everybody else, so that those are not used either.
func (s *soVITSSpeaker) takeWeights(ctx context.Context, a *Attempt) (err error) {
	gpt, soVITS := s.v.GPTWeights, s.v.SoVITSWeights
	if len(a.Files["voice_weights"]) > 0 {
		switch {
		case s.v.CacheBytes == 0:
			s.notes = append(s.notes, "the weights that the voice was trained to were not used, because engines.speech.sovits.cache_mib is 0; it was imitated from its reference")
		case soVITS == "":
			s.notes = append(s.notes, "the weights that the voice was trained to were not used, because other voices need theirs back: set engines.speech.sovits.gpt_weights and sovits_weights; it was imitated from its reference")
		default:
			if s.trained, err = s.v.cache.pair(ctx, a); err != nil {
				return err
			}
			gpt, soVITS = s.v.asSeen(s.trained.gpt.path), s.v.asSeen(s.trained.soVITS.path)
		}
	}
	if soVITS == "" {
		return nil
	}
	return s.setWeights(ctx, gpt, soVITS)
}

// weightsCacheOf is the cache of a server: below the folder that it shares, or in a folder
// of this machine.
func weightsCacheOf(c SoVITSConfig) *weightsCache {
	dir, _ := filepath.Abs(cmp.Or(c.Work, os.TempDir())) // without a working directory nothing else works either
	name := fmt.Sprintf("myspinbot-voice-weights-%d", os.Geteuid())
	if c.Shared != "" {
		dir, name = c.Shared, "myspinbot-voice-weights"
	}
	return &weightsCache{dir: filepath.Join(dir, name), most: c.CacheBytes, shared: c.Shared != ""}
}
