// The specification's WebSocket: a client names jobs, and is told how they stand, at
// once and whenever that changes. This file opens and closes connections.

package api

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/coder/websocket"
	"github.com/gofiber/fiber/v2"
)

const (
	socketQueue   = 2048            // frames that wait for a client of many jobs
	socketJobs    = 200             // that one client may follow
	socketMessage = 16 << 10        // bytes of a client's message
	socketGoodbye = 1 * time.Second // for a client to answer that the connection closes
)

// getSocket turns the connection into a WebSocket.
func (s *Server) getSocket(c *fiber.Ctx) error {
	if err := checkQuery(c); err != nil {
		return err
	}
	key, err := socketKey(c)
	if err != nil {
		return err
	}
	// Browsers let every web page open a WebSocket to every server, and say which page it is.
	if origin := c.Get(fiber.HeaderOrigin); origin != "" {
		if u, err := url.Parse(origin); err != nil || !s.isOwn(c, u.Host) {
			return &refusal{code: codeOriginForbidden}
		}
	}
	if len(s.streams) == cap(s.streams) || s.isStopping() {
		return refuse(codeBusy, "%d streams are open, which is this server's limit", s.cfg.MaxStreams)
	}
	who := callerOf(c)
	c.Status(fiber.StatusSwitchingProtocols)
	c.Context().HijackSetNoResponse(true)
	c.Context().Hijack(func(conn net.Conn) {
		if err := s.takeStream(); err != nil {
			return // another one was faster; nothing was answered yet
		}
		defer s.releaseStream()
		s.metrics.streams.Inc()
		defer s.metrics.streams.Dec()
		s.serveSocket(conn, key, who)
	})
	return nil
}

// socketKey is what the client's handshake asks to be answered (RFC 6455, section 4.2.1).
func socketKey(c *fiber.Ctx) (string, error) {
	has := func(header, token string) bool {
		for _, value := range strings.Split(c.Get(header), ",") {
			if strings.EqualFold(strings.TrimSpace(value), token) {
				return true
			}
		}
		return false
	}
	if c.Method() != fiber.MethodGet || !c.Request().Header.IsHTTP11() || !has("Connection", "upgrade") || !has("Upgrade", "websocket") || c.Get("Sec-WebSocket-Version") != "13" {
		c.Set("Upgrade", "websocket")
		c.Set("Sec-WebSocket-Version", "13")
		return "", &refusal{code: codeUpgrade}
	}
	keys := c.Request().Header.PeekAll("Sec-WebSocket-Key")
	if len(keys) == 1 {
		if b, err := base64.StdEncoding.DecodeString(string(keys[0])); err == nil && len(b) == 16 {
			return string(keys[0]), nil
		}
	}
	return "", refuse(codeRequestMalformed, "Sec-WebSocket-Key must be 16 bytes in base64, once")
}

// serveSocket speaks with the client until one of both ends it.
func (s *Server) serveSocket(conn net.Conn, key string, who *caller) {
	raw := &hijacked{Conn: conn}
	ws, err := websocket.Accept(&handshake{conn: raw, header: http.Header{}}, &http.Request{
		Method: http.MethodGet, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {key}},
	}, &websocket.AcceptOptions{InsecureSkipVerify: true}) // the origin was checked
	if err != nil {
		return // the client has gone
	}
	ws.SetReadLimit(socketMessage)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	lasts, end := who.lasts()
	defer end()
	talk := newTalk(s, ws, lasts, who.tenant)
	reading := make(chan struct{})
	go func() {
		defer close(reading)
		talk.listen(ctx)
	}()
	code, why := talk.run(ctx)
	s.feed.unsubscribe(talk.sub)
	force := time.AfterFunc(socketGoodbye, func() { _ = raw.Close() })
	defer force.Stop()
	_ = ws.Close(code, why) // the client may have gone
	cancel()
	<-reading
}

// hijacked closes for good: what fasthttp hands on leaves that to it, while somebody
// still waits for the client to say something.
type hijacked struct{ net.Conn }

// Close implements net.Conn.
func (h *hijacked) Close() error {
	if inner, ok := h.Conn.(interface{ UnsafeConn() net.Conn }); ok {
		return inner.UnsafeConn().Close()
	}
	return h.Conn.Close()
}

// handshake is the http.ResponseWriter of one answer, 101.
type handshake struct {
	conn   net.Conn
	header http.Header
}

// Header implements http.ResponseWriter.
func (h *handshake) Header() http.Header { return h.header }

// Write implements http.ResponseWriter.
func (h *handshake) Write(b []byte) (int, error) { return h.conn.Write(b) }

// WriteHeader implements http.ResponseWriter. An error shows with the first message.
func (h *handshake) WriteHeader(status int) {
	_ = h.conn.SetWriteDeadline(time.Now().Add(socketGoodbye))
	defer func() { _ = h.conn.SetWriteDeadline(time.Time{}) }()
	_, _ = fmt.Fprintf(h.conn, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	_ = h.header.Write(h.conn)
	_, _ = h.conn.Write([]byte("\r\n"))
}

// Hijack implements http.Hijacker.
func (h *handshake) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.conn, bufio.NewReadWriter(bufio.NewReaderSize(h.conn, 1<<10), bufio.NewWriterSize(h.conn, 4<<10)), nil
}
