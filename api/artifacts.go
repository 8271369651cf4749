// Artifacts: their records, and their bytes with ranges.

package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/myspinbot/myspinbot/internal/objects"
	"github.com/myspinbot/myspinbot/projections"
)

const linkTime = 15 * time.Minute // of a presigned link

func (s *Server) artifact(c *fiber.Ctx) (*projections.Artifact, error) {
	id, err := pathID(c)
	if err != nil {
		return nil, err
	}
	var a *projections.Artifact
	err = s.read(c.UserContext(), func(ctx context.Context, q *projections.Queries) (err error) {
		a, err = q.Artifact(ctx, tenant, id)
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
	if strings.Contains(c.Get(fiber.HeaderIfNoneMatch), etag(a)) {
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
		name = a.Name
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
	c.Set(fiber.HeaderContentDisposition, mime.FormatMediaType(kind, map[string]string{"filename": a.Name}))
	c.Set(fiber.HeaderContentSecurityPolicy, "default-src 'none'; sandbox")
	c.Set(fiber.HeaderAcceptRanges, "bytes")
	c.Set(fiber.HeaderETag, etag(a))
	c.Set(fiber.HeaderCacheControl, "private, max-age=60")
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

// byteRange reads Range (RFC 9110, section 14): one range of bytes. Several ranges,
// other units, and an If-Range that does not match ask for the whole.
func byteRange(c *fiber.Ctx, a *projections.Artifact) (from, to int64, partial bool, err error) {
	spec, ok := strings.CutPrefix(c.Get(fiber.HeaderRange), "bytes=")
	condition := c.Get(fiber.HeaderIfRange)
	if !ok || strings.Contains(spec, ",") || (condition != "" && condition != etag(a)) {
		return 0, a.Size, false, nil
	}
	bad := func() (int64, int64, bool, error) {
		c.Set(fiber.HeaderContentRange, fmt.Sprintf("bytes */%d", a.Size))
		return 0, 0, false, refuse(codeRange, "the file has %d bytes; ask for a range within it, such as bytes=0-1023", a.Size)
	}
	first, last, ok := strings.Cut(strings.TrimSpace(spec), "-")
	if !ok {
		return bad()
	}
	if first == "" {
		n, err := strconv.ParseInt(last, 10, 64)
		if err != nil || n <= 0 {
			return bad()
		}
		return max(0, a.Size-n), a.Size, true, nil
	}
	from, err = strconv.ParseInt(first, 10, 64)
	if err != nil || from < 0 || from >= a.Size {
		return bad()
	}
	to = a.Size
	if last != "" {
		n, err := strconv.ParseInt(last, 10, 64)
		if err != nil || n < from {
			return bad()
		}
		to = min(to, n+1)
	}
	return from, to, true, nil
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
