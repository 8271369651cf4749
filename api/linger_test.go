// Tests that answers arrive while clients still send.

package api

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"testing"
)

// TestARefusalArrivesWhileTheClientStillSends writes far more than any buffer between
// holds before it reads: a reset in between would cost the answer.
func TestARefusalArrivesWhileTheClientStillSends(t *testing.T) {
	t.Parallel()
	const size = 48 << 20
	w := newWorld(t, options{noProjector: true})
	for _, c := range []struct {
		path, header string
		status       int
	}{
		{"/api/jobs", "Content-Type: application/json", 413},
		{"/api/uploads", "Content-Type: text/plain", 415},
		{"/api/nothing", "Content-Type: application/json", 404},
	} {
		t.Run(c.path, func(t *testing.T) {
			conn, err := net.Dial("tcp", w.server.Addr())
			ok(t, err)
			defer func() { _ = conn.Close() }()
			_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\n%s\r\nContent-Length: %d\r\n\r\n", c.path, w.server.Addr(), c.header, size)
			ok(t, err)
			for sent, chunk := 0, make([]byte, 1<<20); sent < size; sent += len(chunk) {
				_, err := conn.Write(chunk)
				ok(t, err)
			}
			answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
			ok(t, err)
			defer func() { _ = answer.Body.Close() }()
			if answer.StatusCode != c.status {
				t.Errorf("status %d, want %d", answer.StatusCode, c.status)
			}
		})
	}
}
