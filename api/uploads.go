// Uploads: one file, streamed into a temporary one, proved to be what it says,
// cleaned, and only then stored with a record beside it. A refused file leaves
// nothing behind.

package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/objects"
)

// Kinds of upload.
const (
	uploadImage = "image"
	uploadAudio = "audio"
)

const (
	uploadTimeout = 10 * time.Minute // of one upload, from the first byte to the record
	recordLimit   = 16 << 10
)

// UploadLimits bound what is uploaded.
type UploadLimits struct {
	Bytes       int64         // of a file sent to this server; default 64 MiB
	TicketBytes int64         // of a file posted to the store under a ticket; default 512 MiB
	Pixels      int           // of an image; default 16 million
	Audio       time.Duration // of a recording; default 10 minutes
	Keep        time.Duration // how long one can be named; default 24 hours
}

func (l *UploadLimits) fill() {
	def(&l.Bytes, 64<<20)
	def(&l.TicketBytes, 512<<20)
	def(&l.Pixels, 16_000_000)
	def(&l.Audio, 10*time.Minute)
	def(&l.Keep, 24*time.Hour)
}

// allowed says in words what can be uploaded.
func (l UploadLimits) allowed() string {
	return fmt.Sprintf("allowed are images (JPEG, PNG, WebP; up to %s) and audio (WAV, FLAC, MP3, OGG, M4A; up to %s)", megapixels(l.Pixels), spokenTime(l.Audio))
}

func megapixels(n int) string {
	return strconv.FormatFloat(float64(n)/1e6, 'f', -1, 64) + " megapixels"
}

func spokenTime(d time.Duration) string {
	if d%time.Minute == 0 {
		return fmt.Sprintf("%d minutes", int(d.Minutes()))
	}
	return d.String()
}

// upload is the record that lies beside an uploaded file, and the answer to its upload.
type upload struct {
	ID         string    `json:"id"`
	Type       string    `json:"type"`
	MediaType  string    `json:"media_type"`
	Size       int64     `json:"size"` // bytes
	SHA256     string    `json:"sha256"`
	Width      int       `json:"width,omitempty"` // pixels
	Height     int       `json:"height,omitempty"`
	DurationMS int64     `json:"duration_ms,omitempty"`
	URI        string    `json:"uri"`
	CreatedAt  time.Time `json:"created_at"`
	ExpiresAt  time.Time `json:"expires_at"` // zero in records of earlier versions

	unstored cleaned // of a file that came with its job, and lies on this machine's disk
}

// ext is that of its file, with the point.
func (u upload) ext() string {
	if u.unstored.path != "" {
		return "." + u.unstored.ext
	}
	return path.Ext(u.URI)
}

func (u upload) artifact() events.Artifact {
	return events.Artifact{URI: u.URI, SHA256: u.SHA256, Size: u.Size, MediaType: u.MediaType, Width: u.Width, Height: u.Height, DurationMS: u.DurationMS}
}

// cleaned is a file that passed: re-encoded, without metadata.
type cleaned struct {
	path          string
	kind, ext     string
	mediaType     string
	width, height int
	duration      time.Duration
}

func (s *Server) viewUpload(u upload) uploadView {
	return uploadView{ID: u.ID, Type: u.Type, MediaType: u.MediaType, Size: u.Size, SHA256: u.SHA256,
		Width: opt(u.Width), Height: opt(u.Height), DurationMS: opt(u.DurationMS), CreatedAt: u.CreatedAt, ExpiresAt: s.keptUntil(u)}
}

// shortestKeep is the least time that an upload is kept for.
const shortestKeep = time.Hour

// keptUntil is when the upload may be deleted: what was promised for it, whatever the
// configuration says now.
func (s *Server) keptUntil(u upload) time.Time {
	if u.ExpiresAt.IsZero() {
		return u.CreatedAt.Add(s.cfg.Uploads.Keep)
	}
	return u.ExpiresAt
}

func (s *Server) upload(c *fiber.Ctx) (err error) {
	outcome := "refused"
	defer func() { s.metrics.uploads.WithLabelValues(outcome).Inc() }()
	if err := checkQuery(c); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(s.cfg.TempDir, "myspinbot-upload-")
	if err != nil {
		return fmt.Errorf("cannot make a folder for an upload: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ctx, cancel := context.WithTimeout(c.UserContext(), uploadTimeout)
	defer cancel()
	file := filepath.Join(dir, "upload")
	if err := s.receive(ctx, c, file); err != nil {
		// What is left of a large body is not worth reading.
		c.Context().SetConnectionClose()
		return err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("cannot make an upload id: %w", err)
	}
	u, err := s.take(ctx, callerOf(c).tenant, dir, file, id.String(), s.now())
	if err != nil {
		return err
	}
	outcome = "stored"
	return c.Status(fiber.StatusCreated).JSON(s.viewUpload(u))
}

// take cleans the file at path, within dir, and stores what came of it for the tenant, under the id.
func (s *Server) take(ctx context.Context, tenant, dir, path, id string, created time.Time) (u upload, err error) {
	file, err := s.clean(ctx, dir, path)
	if err != nil {
		return upload{}, err
	}
	info, err := os.Stat(file.path)
	if err != nil {
		return upload{}, fmt.Errorf("cannot look at a cleaned upload: %w", err)
	}
	if err := begin(ctx, s.storing); err != nil {
		return upload{}, err
	}
	defer func() { <-s.storing }()
	err = inTime(ctx, objectTimeout+copyTime(info.Size()), func(ctx context.Context) (err error) {
		u, err = s.store(ctx, tenant, file, id, created)
		return err
	})
	return u, err
}

// begin waits for a place in a bounded kind of work, which is given back by reading from places.
func begin(ctx context.Context, places chan struct{}) error {
	select {
	case places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// receive writes the one file of the form to path.
func (s *Server) receive(ctx context.Context, c *fiber.Ctx, path string) error {
	most := s.cfg.Uploads.Bytes + formSlack
	form, err := s.openForm(ctx, c, most, "send the file as multipart/form-data, in a field called file")
	if err != nil {
		return err
	}
	if int64(c.Request().Header.ContentLength()) > most {
		return s.tooLarge()
	}
	found := false
	for {
		part, err := form.next()
		switch {
		case errors.Is(err, io.EOF) && found:
			return ctx.Err()
		case errors.Is(err, io.EOF):
			return invalid(fault{Parameter: "file", Code: "field_missing", Detail: "the form has no field called file"})
		case errors.Is(err, errFormTooLarge):
			return s.tooLarge()
		case err != nil:
			return err
		case part.FormName() != "file" || found:
			return invalid(fault{Parameter: shortened(part.FormName()), Code: "field_unknown", Detail: "the form must have one field, called file"})
		}
		found = true
		if err := s.receiveFile(part, path); errors.Is(err, errFormTooLarge) {
			return s.tooLarge()
		} else if err != nil {
			return err
		}
	}
}

func (s *Server) tooLarge() error {
	return refuse(codeTooLarge, "a file sent here may have at most %s; for up to %s, take a ticket (POST /api/uploads/tickets) and post the file to the store",
		mebibytes(s.cfg.Uploads.Bytes), mebibytes(s.cfg.Uploads.TicketBytes))
}

func mebibytes(n int64) string {
	return strconv.FormatFloat(float64(n)/(1<<20), 'f', -1, 64) + " MiB"
}

// refuseFile says why a file of a known kind cannot be used.
func refuseFile(format string, args ...any) error {
	detail := fmt.Sprintf(format, args...)
	return &refusal{code: codeFileInvalid, detail: detail, faults: []fault{{Parameter: "file", Code: codeFileInvalid, Detail: detail}}}
}

// clean finds out what the file is, by its first bytes alone, and re-encodes it.
func (s *Server) clean(ctx context.Context, dir, path string) (cleaned, error) {
	head, err := firstBytes(path)
	if err != nil {
		return cleaned{}, err
	}
	format, demuxer := imageFormat(head), audioDemuxer(head)
	if format == "" && demuxer == "" {
		return cleaned{}, badMedia("file", "the file is neither an image nor audio of a known format; "+s.cfg.Uploads.allowed())
	}
	if err := checkDisguise(path); err != nil {
		return cleaned{}, err
	}
	if format != "" {
		return s.cleanImage(ctx, dir, path, format)
	}
	return s.cleanAudio(ctx, dir, path, demuxer)
}

func firstBytes(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read an upload back: %w", err)
	}
	defer f.Close()
	head := make([]byte, 16)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("cannot read an upload back: %w", err)
	}
	return head[:n], nil
}

// store puts the file and then its record; a record therefore means that the file is there.
func (s *Server) store(ctx context.Context, tenant string, f cleaned, id string, created time.Time) (upload, error) {
	subject, err := objects.Subject(tenant, objects.NoProfile, id)
	if err != nil {
		return upload{}, err
	}
	a, err := s.cfg.Objects.PutFile(ctx, subject, f.ext, f.mediaType, f.path)
	if err != nil {
		return upload{}, fmt.Errorf("cannot store an upload: %w", err)
	}
	u := upload{ID: id, Type: f.kind, MediaType: f.mediaType, Size: a.Size, SHA256: a.SHA256, Width: f.width, Height: f.height,
		DurationMS: f.duration.Milliseconds(), URI: a.URI, CreatedAt: created.UTC().Truncate(time.Millisecond)}
	u.ExpiresAt = u.CreatedAt.Add(s.cfg.Uploads.Keep)
	record, err := json.Marshal(u)
	if err != nil {
		return upload{}, fmt.Errorf("cannot write an upload's record: %w", err)
	}
	if _, err := s.cfg.Objects.Put(ctx, subject, "json", fiber.MIMEApplicationJSON, bytes.NewReader(record)); err != nil {
		return upload{}, errors.Join(fmt.Errorf("cannot store an upload's record: %w", err), s.forget(ctx, a.URI))
	}
	return u, nil
}

// forget deletes an object that nothing names, also when the request's time is over.
func (s *Server) forget(ctx context.Context, uri string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	return s.cfg.Objects.Delete(ctx, uri)
}

// findUpload reads the tenant's record of an upload, or says objects.ErrMissing.
// The record is the one JSON object of the upload's folder.
func (s *Server) findUpload(ctx context.Context, tenant, id string) (upload, error) {
	for info, err := range s.cfg.Objects.List(ctx, tenant+"/"+objects.NoProfile+"/"+id+"/") {
		if err != nil {
			return upload{}, fmt.Errorf("cannot look for upload %s: %w", id, err)
		}
		if !strings.HasSuffix(info.URI, ".json") {
			continue
		}
		return s.readUpload(ctx, id, info.URI)
	}
	return upload{}, fmt.Errorf("upload %s: %w", id, objects.ErrMissing)
}

func (s *Server) readUpload(ctx context.Context, id, uri string) (u upload, err error) {
	r, err := s.cfg.Objects.Open(ctx, uri)
	if err != nil {
		return u, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := json.NewDecoder(io.LimitReader(r, recordLimit)).Decode(&u); err != nil {
		return u, fmt.Errorf("cannot read the record of upload %s: %w", id, err)
	}
	if u.ID != id {
		return u, fmt.Errorf("the record of upload %s names %q: %w", id, u.ID, objects.ErrMissing)
	}
	return u, nil
}
