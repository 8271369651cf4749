// Answers that a client gets although it is still sending.

package api

import (
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v2"
)

// lingering is how long a closed connection is still read from.
const lingering = 5 * time.Second

// lingeringListener makes connections that close without losing the last answer: what
// a server leaves unread makes its machine reset the connection, and the client
// throw away what it has not read yet (RFC 9112, section 9.6).
type lingeringListener struct{ net.Listener }

// Accept implements net.Listener.
func (l lingeringListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if tcp, ok := c.(*net.TCPConn); ok {
		return &lingeringConn{TCPConn: tcp}, nil
	}
	return c, err
}

type lingeringConn struct {
	*net.TCPConn
	unread atomic.Bool // the client may still be sending what nobody will read
}

// Close implements net.Conn.
func (c *lingeringConn) Close() error {
	if c.unread.Load() && c.CloseWrite() == nil && c.SetReadDeadline(time.Now().Add(lingering)) == nil {
		_, _ = io.Copy(io.Discard, onlyReader{c.TCPConn}) // until the client has hung up, or time is up
	}
	return c.TCPConn.Close()
}

// onlyReader keeps io.Copy from giving the connection away.
type onlyReader struct{ io.Reader }

// noteUnread tells the connection whether the request just answered was read to its end.
func noteUnread(c *fiber.Ctx) {
	if conn, ok := c.Context().Conn().(*lingeringConn); ok {
		conn.unread.Store(c.Context().RequestBodyStream() != nil && c.Response().StatusCode() >= fiber.StatusBadRequest)
	}
}
