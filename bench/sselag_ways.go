package main

// This file holds the ways to follow a job that sse_lag measures.

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/coder/websocket"
)

// streamTimeout bounds a client's life.
const streamTimeout = 10 * time.Minute

// follower is one client's stream.
type follower interface {
	// next is the version that the job has come to, as soon as the client knows.
	next() (version int64, err error)
	close()
}

// follow opens a client's stream of one job, which follows from then on.
type follow func(ctx context.Context, addr, job string) (follower, error)

// sse reads server-sent events.
type sse struct {
	conn  net.Conn
	lines *bufio.Scanner
}

// followJob is GET /api/jobs/{id}/events.
func followJob(_ context.Context, addr, job string) (follower, error) {
	return openSSE(addr, "/api/jobs/"+job+"/events")
}

// followAll is GET /api/events, narrowed to the job: every client has as much to read as by
// the other ways, and the server holds every event against the filter of each.
func followAll(_ context.Context, addr, job string) (follower, error) {
	c, err := openSSE(addr, "/api/events?job_id="+job)
	if err != nil {
		return nil, err
	}
	for c.lines.Scan() { // it begins with an id
		if bytes.HasPrefix(c.lines.Bytes(), []byte("id: ")) {
			return c, nil
		}
	}
	c.close()
	return nil, fmt.Errorf("the stream of all jobs did not begin: %w", c.lines.Err())
}

func openSSE(addr, path string) (*sse, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	_ = conn.SetReadDeadline(time.Now().Add(streamTimeout))
	lines := bufio.NewScanner(conn)
	lines.Buffer(make([]byte, 0, 16<<10), 1<<20)
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", path, addr)
	return &sse{conn, lines}, err
}

func (c *sse) next() (int64, error) {
	for c.lines.Scan() {
		data, is := bytes.CutPrefix(c.lines.Bytes(), []byte("data: "))
		if !is {
			continue
		}
		version, err := versionIn(data)
		if err != nil || version > 0 { // a beat of a stage has none
			return version, err
		}
	}
	if err := c.lines.Err(); err != nil {
		return 0, err
	}
	return 0, io.EOF
}

func (c *sse) close() { _ = c.conn.Close() }

// socket is a connection of /ws.
type socket struct {
	conn *websocket.Conn
	ctx  context.Context //nolint:containedctx // lives as long as the measure
}

// followSocket is /ws with one job subscribed; its first update is waited for.
func followSocket(ctx context.Context, addr, job string) (follower, error) {
	conn, res, err := websocket.Dial(ctx, "ws://"+addr+"/ws", nil)
	if err != nil {
		return nil, err
	}
	if res.Body != nil {
		_ = res.Body.Close()
	}
	conn.SetReadLimit(1 << 20)
	c := &socket{conn, ctx}
	if err = conn.Write(ctx, websocket.MessageText, fmt.Appendf(nil, `{"action": "subscribe", "jobId": %q}`, job)); err == nil {
		_, err = c.next()
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *socket) next() (int64, error) {
	ctx, cancel := context.WithTimeout(c.ctx, streamTimeout)
	defer cancel()
	_, message, err := c.conn.Read(ctx)
	if err != nil {
		return 0, err
	}
	return versionIn(message)
}

func (c *socket) close() { _ = c.conn.CloseNow() }

// versionIn is the job's version that a message tells; 0 if it tells none.
func versionIn(message []byte) (int64, error) {
	var m struct {
		Version int64 `json:"version"`
	}
	err := json.Unmarshal(message, &m)
	return m.Version, err
}
