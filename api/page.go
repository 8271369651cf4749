// The plain pages: to try everything at /, and the contract at /docs. Each is one
// embedded file without foreign resources.

package api

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"regexp"

	"github.com/gofiber/fiber/v2"
)

//go:embed index.html
var indexHTML []byte

//go:embed docs.html
var docsHTML []byte

var inline = regexp.MustCompile(`(?s)<(style|script)>(.*?)</(?:style|script)>`)

// page is the file and the policy that allows its own style and script, by their digests, and nothing else.
type page struct {
	html   []byte
	policy string
}

func newPage(html []byte) page {
	allowed := map[string]string{}
	for _, m := range inline.FindAllSubmatch(html, -1) {
		sum := sha256.Sum256(m[2])
		allowed[string(m[1])] += " 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	return page{html, "default-src 'none'; connect-src 'self'; img-src 'self' data:; media-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'" +
		"; style-src" + allowed["style"] + "; script-src" + allowed["script"]}
}

func (s *Server) getPage(c *fiber.Ctx) error { return s.page.send(c) }

func (s *Server) getDocs(c *fiber.Ctx) error { return s.docs.send(c) }

func (p page) send(c *fiber.Ctx) error {
	c.Set(fiber.HeaderContentType, fiber.MIMETextHTMLCharsetUTF8)
	c.Set(fiber.HeaderContentSecurityPolicy, p.policy)
	c.Set(fiber.HeaderCacheControl, "no-cache")
	return c.Send(p.html)
}

// getIcon answers browsers that show an answer of the API in a window: they ask for
// an icon unbidden. The page brings its own.
func (s *Server) getIcon(c *fiber.Ctx) error {
	c.Set(fiber.HeaderCacheControl, "public, max-age=86400")
	return c.SendStatus(fiber.StatusNoContent)
}
