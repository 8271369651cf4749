// Artifacts: their records, and their bytes with ranges.

package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/myspinbot/myspinbot/internal/objects"
	"github.com/myspinbot/myspinbot/projections"
)

const (
	linkTime       = 15 * time.Minute // of a presigned link
	contentCaching = "private, max-age=60"
)

func (s *Server) artifact(c *fiber.Ctx) (*projections.Artifact, error) {
	id, err := pathID(c)
	if err != nil {
		return nil, err
	}
	var a *projections.Artifact
	err = s.read(c.UserContext(), func(ctx context.Context, q *projections.Queries) (err error) {
		a, err = q.Artifact(ctx, callerOf(c).tenant, id)
		return err
	})
	if errors.Is(err, projections.ErrNotFound) {
		return nil, refuse(codeNotFound, "there is no artifact %s", id)
	}
	return a, err
}

func (s *Server) getArtifact(c *fiber.Ctx) error {
	if err := checkQuery(c); err != nil {
		return err
	}
	a, err := s.artifact(c)
	if err != nil {
		return err
	}
	return c.JSON(viewArtifact(a))
}

// getContent streams the bytes, or answers with a link to the store.
func (s *Server) getContent(c *fiber.Ctx) error {
	if err := checkQuery(c, "via", "download"); err != nil {
		return err
	}
	via, download := copied(c, "via"), copied(c, "download")
	if via != "" && via != "stream" && via != "link" {
		return badParameter("via", "via must be stream or link")
	}
	if download != "" && download != "0" && download != "1" {
		return badParameter("download", "download must be 0 or 1")
	}
	a, err := s.artifact(c)
	if err != nil {
		return err
	}
	if via == "link" {
		return s.linkTo(c, a, download == "1")
	}
	if matches(c.Get(fiber.HeaderIfNoneMatch), etag(a)) {
		c.Set(fiber.HeaderETag, etag(a))
		c.Set(fiber.HeaderCacheControl, contentCaching)
		return c.SendStatus(fiber.StatusNotModified)
	}
	from, to, partial, err := byteRange(c, a)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background()) // outlives the handler
	late := time.AfterFunc(objectTimeout, cancel)
	r, err := s.cfg.Objects.Open(ctx, a.URI)
	if err == nil && from > 0 {
		_, err = r.Seek(from, io.SeekStart)
	}
	if !late.Stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		if ctx.Err() != nil {
			err = &refusal{code: codeObjectsDown, cause: err}
		}
		if r != nil {
			err = errors.Join(err, r.Close())
		}
		cancel()
		if errors.Is(err, objects.ErrMissing) {
			return &refusal{code: codeGone, cause: err}
		}
		return fmt.Errorf("cannot open an artifact: %w", err)
	}
	contentHeaders(c, a, download == "1")
	if partial {
		c.Set(fiber.HeaderContentRange, fmt.Sprintf("bytes %d-%d/%d", from, to-1, a.Size))
		c.Status(fiber.StatusPartialContent)
	}
	body := &content{object: r, from: io.LimitReader(r, to-from), end: cancel, conn: c.Context().Conn(), patience: s.cfg.WriteTimeout}
	return c.SendStream(body, int(to-from))
}

func (s *Server) linkTo(c *fiber.Ctx, a *projections.Artifact, download bool) error {
	name := ""
	if download || disposition(a) == "attachment" {
		name = safeName(a.Name)
	}
	link, err := s.cfg.Objects.Presign(c.UserContext(), a.URI, linkTime, name)
	if err != nil {
		return fmt.Errorf("cannot make a link to an artifact: %w", err)
	}
	c.Set(fiber.HeaderCacheControl, "no-store")
	return c.Redirect(link.String(), fiber.StatusTemporaryRedirect)
}

func etag(a *projections.Artifact) string { return `"` + a.SHA256 + `"` }

// contentHeaders keep a browser from taking the bytes for anything but media.
func contentHeaders(c *fiber.Ctx, a *projections.Artifact, download bool) {
	kind := disposition(a)
	if download {
		kind = "attachment"
	}
	c.Set(fiber.HeaderContentType, a.MediaType)
	c.Set(fiber.HeaderContentDisposition, mime.FormatMediaType(kind, map[string]string{"filename": safeName(a.Name)}))
	c.Set(fiber.HeaderContentSecurityPolicy, "default-src 'none'; sandbox")
	c.Set(fiber.HeaderAcceptRanges, "bytes")
	c.Set(fiber.HeaderETag, etag(a))
	c.Set(fiber.HeaderCacheControl, contentCaching)
}

// disposition is inline for what a browser plays or shows, and a download for the
// rest; SVG is a document with scripts, whatever its type says.
func disposition(a *projections.Artifact) string {
	class, kind, _ := strings.Cut(a.MediaType, "/")
	switch {
	case class == "video", class == "audio", class == "image" && !strings.HasPrefix(kind, "svg"), a.MediaType == "text/vtt":
		return "inline"
	}
	return "attachment"
}

// content is an artifact on its way to a client: each read gives the client another
// write time-out, so that a long video is not cut, and a client that stopped reading is.
type content struct {
	object   io.Closer
	from     io.Reader
	end      context.CancelFunc
	conn     net.Conn
	patience time.Duration
}

// Read implements io.Reader.
func (b *content) Read(p []byte) (int, error) {
	if err := b.conn.SetWriteDeadline(time.Now().Add(b.patience)); err != nil {
		return 0, err
	}
	late := time.AfterFunc(b.patience, b.end) // a store that stopped in the middle
	defer late.Stop()
	return b.from.Read(p)
}

// Close implements io.Closer; the server calls it when the answer has ended.
func (b *content) Close() error {
	defer b.end()
	return b.object.Close()
}
