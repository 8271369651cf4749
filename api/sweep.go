// Sweeping: what clients sent and nothing needs any more is deleted, by every process of
// the API alike. Nothing is locked: what one has deleted, another finds gone.

package api

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/myspinbot/myspinbot/internal/objects"
)

const sweepEvery = 10 * time.Minute // how often posted files and uploads are looked at

// sweeping calls sweep now and again until ctx ends; what says in the log what it deletes.
func (s *Server) sweeping(ctx context.Context, every time.Duration, what string, sweep func(ctx context.Context, now time.Time) error) error {
	again := time.NewTicker(every)
	defer again.Stop()
	for {
		if err := sweep(ctx, time.Now()); err != nil && ctx.Err() == nil {
			s.log.Warn(what+" could not be swept; it is tried again", "after", every, "error", err)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// sweepUploads deletes uploads whose time is over. Nothing refers to one: jobs and profiles
// are given copies of their own before the log hears of them (inputs.go), so age alone
// decides. Who is about to copy one that is deleted is refused like who comes later.
func (s *Server) sweepUploads(ctx context.Context, now time.Time) error {
	tenants, err := s.cfg.Objects.Tenants(ctx)
	if err != nil {
		return err
	}
	uploads, deleted := 0, 0
	var failed error // the first that could not be deleted holds back no other
	for _, tenant := range tenants {
		for f, err := range s.cfg.Objects.Folders(ctx, tenant) {
			if err != nil {
				return errors.Join(failed, err)
			}
			n, err := s.sweepUpload(ctx, f, now)
			if n > 0 {
				uploads, deleted = uploads+1, deleted+n
			}
			if err != nil && failed == nil {
				failed = fmt.Errorf("upload %s: %w", path.Base(f.Subject), err)
			}
			if errors.Is(err, objects.ErrUnavailable) {
				return failed
			}
		}
	}
	if uploads > 0 {
		s.log.Info("uploads whose time was over were deleted", "uploads", uploads, "objects", deleted)
	}
	return failed
}

// sweepUpload deletes the folder if it is an upload's whose time is over, and says how many
// objects it found there.
func (s *Server) sweepUpload(ctx context.Context, f objects.Folder, now time.Time) (deleted int, err error) {
	record, old := "", true
	for _, o := range f.Objects {
		if strings.HasSuffix(o.URI, ".json") {
			record = o.URI
		}
		old = old && now.Sub(o.Modified) > shortestKeep
	}
	if record == "" || !old {
		return 0, nil
	}
	u, err := s.readUpload(ctx, path.Base(f.Subject), record)
	switch {
	case errors.Is(err, objects.ErrMissing): // another process was faster, or it is no upload's record
		return 0, nil
	case err != nil:
		return 0, err
	case !strings.HasSuffix(path.Dir(u.URI), "/"+f.Subject) || !now.After(s.keptUntil(u)):
		return 0, nil
	}
	// The record goes last: as long as it is there, whoever was interrupted is gone on with.
	deleted, err = s.cfg.Objects.EraseFolder(ctx, f, record)
	s.metrics.swept.WithLabelValues("upload").Add(float64(deleted))
	return deleted, err
}
