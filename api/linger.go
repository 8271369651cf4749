// Answers that a client gets although it is still sending.

package api

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v2"
)

// lingering is how long a closed connection is still read from.
const lingering = 5 * time.Second

// lingeringConn closes without losing the last answer: what a server leaves unread
// makes its machine reset the connection, and the client throw away what it has not
// read yet (RFC 9112, section 9.6).
type lingeringConn struct {
	net.Conn
	unread atomic.Bool // the client may still be sending what nobody will read
	once   sync.Once
	leave  func() // when it has closed
}

// Close implements net.Conn.
func (c *lingeringConn) Close() error {
	defer c.once.Do(c.leave)
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if ok && c.unread.Load() && half.CloseWrite() == nil && c.SetReadDeadline(time.Now().Add(lingering)) == nil {
		_, _ = io.Copy(io.Discard, onlyReader{c.Conn}) // until the client has hung up, or time is up
	}
	return c.Conn.Close()
}

// onlyReader keeps io.Copy from giving the connection away.
type onlyReader struct{ io.Reader }

// noteUnread tells the connection whether the request just answered was read to its end.
func noteUnread(c *fiber.Ctx) {
	if conn, ok := c.Context().Conn().(*lingeringConn); ok {
		conn.unread.Store(c.Context().RequestBodyStream() != nil && c.Response().StatusCode() >= fiber.StatusBadRequest)
	}
}
