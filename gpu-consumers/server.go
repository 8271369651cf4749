// What all engines behind a server over HTTP share: its address, how it is reached, and
// how its silence is noticed.

package gpu

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// checkServer refuses a base URL that leads nowhere. A bare one is for servers that get
// a key of their own: nothing but a host and a path may stand in it.
func checkServer(whose, address string, bare bool) error {
	u, err := url.Parse(address)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || bare && (u.User != nil || u.RawQuery != "" || u.Fragment != "") {
		return fmt.Errorf("cannot use %q as the address of %s: give http://host:port", address, whose)
	}
	return nil
}

// serverTransport reaches a server that must take a connection within the time.
func serverTransport(connect time.Duration) *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy = nil // a model server is named directly
	t.DialContext = (&net.Dialer{Timeout: connect}).DialContext
	t.TLSHandshakeTimeout = connect
	return t
}

// stayHere is for clients whose key, pictures and words go to the server that was
// named, and nowhere else.
func stayHere(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Causes with which a request is given up.
var (
	errFirstToken = errors.New("no answer began in time")
	errIdle       = errors.New("the answer stopped in the middle")
)

// attentive tells of every read that brought something.
type attentive struct {
	io.ReadCloser
	heard func()
}

func (a *attentive) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	if n > 0 {
		a.heard()
	}
	return n, err
}
