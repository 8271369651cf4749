// Bodies of multipart/form-data (RFC 7578), part after part as they come in: nothing is
// in memory as a whole, and neither a part's head nor all parts together are without bound.

package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"os"
	"strings"

	"github.com/gofiber/fiber/v2"
)

const (
	formSlack = 64 << 10 // bytes of a form around its files
	headLimit = 16 << 10 // bytes of a part's headers, and of what stands before the first part
)

var (
	errFormTooLarge = errors.New("the form has more bytes than are allowed")
	errHeadTooLarge = errors.New("a part of the form has too large a head")
)

// formBody reads one form.
type formBody struct {
	from  io.Reader
	left  int64 // bytes that the whole form may still have
	head  int64 // bytes that the head being read may still have
	heads bool  // a head is being read
	parts *multipart.Reader
}

// isForm says whether the body is sent as a form.
func isForm(c *fiber.Ctx) bool {
	media, err := mediaType(c)
	return err == nil && media == fiber.MIMEMultipartForm
}

// openForm reads the body as a form of at most so many bytes, until ctx ends. sent says how
// it is to be sent, for who sent something else.
func (s *Server) openForm(ctx context.Context, c *fiber.Ctx, most int64, sent string) (*formBody, error) {
	_, params, err := mime.ParseMediaType(c.Get(fiber.HeaderContentType))
	if err != nil || !isForm(c) || params["boundary"] == "" {
		return nil, badMedia("Content-Type", sent)
	}
	endTime, _ := ctx.Deadline()
	body := &patientReader{from: bodyStream(c), conn: c.Context(), pause: s.cfg.ReadTimeout, endTime: endTime}
	// The last boundary may end without a line's end. Whoever reads on behind it is within a part.
	b := &formBody{from: io.MultiReader(body, strings.NewReader("\r\n"), brokenOff{}), left: most}
	b.parts = multipart.NewReader(b, params["boundary"])
	return b, nil
}

// brokenOff is what follows a form: an io.EOF in a part's head would look like the form's end.
type brokenOff struct{}

// Read implements io.Reader.
func (brokenOff) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// Read implements io.Reader.
func (b *formBody) Read(p []byte) (int, error) {
	most, over := b.left, errFormTooLarge
	if b.heads && b.head < most {
		most, over = b.head, errHeadTooLarge
	}
	if most <= 0 {
		return 0, over
	}
	n, err := b.from.Read(p[:min(int64(len(p)), most)])
	b.left, b.head = b.left-int64(n), b.head-int64(n)
	return n, err
}

// next is the part behind the one before, which has been read to its end; io.EOF behind the last.
func (b *formBody) next() (*multipart.Part, error) {
	b.heads, b.head = true, headLimit
	part, err := b.parts.NextRawPart()
	b.heads = false
	switch {
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, errFormTooLarge):
		return part, err
	case errors.Is(err, errHeadTooLarge):
		return nil, refuse(codeRequestMalformed, "the head of a part may have at most %d KiB, or this is not multipart/form-data", headLimit>>10)
	}
	return nil, refuse(codeRequestMalformed, "the form broke off or is not multipart/form-data")
}

// receiveFile writes a part to a new file at path.
func (s *Server) receiveFile(part io.Reader, path string) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("cannot make a file for an upload: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	n, err := io.Copy(onlyWriter{f}, io.LimitReader(part, s.cfg.Uploads.Bytes+1))
	var disk *os.PathError
	switch {
	case n > s.cfg.Uploads.Bytes:
		return s.tooLarge()
	case errors.As(err, &disk):
		return fmt.Errorf("cannot write an upload: %w", err)
	case errors.Is(err, errFormTooLarge):
		return err
	case err != nil:
		return refuse(codeRequestMalformed, "the upload broke off")
	case n == 0:
		return refuseFile("the file is empty")
	}
	return nil
}

// onlyWriter keeps io.Copy from asking the file to read by itself.
type onlyWriter struct{ io.Writer }
