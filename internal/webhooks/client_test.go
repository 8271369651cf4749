// One attempt against receivers of every kind.

package webhooks

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"crypto/x509"
)

// local allows what runs on this machine, for tests of everything else.
var local = Policy{Private: []string{"127.0.0.1"}}

func plainClient(t *testing.T, p Policy) *client {
	t.Helper()
	c := newClient(p, nil, nil, time.Now)
	t.Cleanup(c.close)
	return c
}

func TestAMessageAsItArrives(t *testing.T) {
	t.Parallel()
	var got *http.Request
	var body []byte
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
	}))
	defer server.Close()
	a := plainClient(t, local).post(t.Context(), server.URL+"/hook?x=1", []string{exampleSecret}, "id-1", []byte(exampleBody))
	if a.status != 200 || a.class != "" || a.took <= 0 {
		t.Fatalf("got %+v", a)
	}
	if got.Method != http.MethodPost || got.URL.String() != "/hook?x=1" || string(body) != exampleBody || got.Header.Get("Content-Type") != "application/json" || got.Header.Get(HeaderID) != "id-1" {
		t.Errorf("received %s %s %v %s", got.Method, got.URL, got.Header, body)
	}
	if err := verify(exampleSecret, got.Header, body, time.Now()); err != nil {
		t.Error(err)
	}
}

func TestWhatAnswersMean(t *testing.T) {
	t.Parallel()
	other := atomic.Int32{}
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { other.Add(1) }))
	defer elsewhere.Close()
	mux := http.NewServeMux()
	for _, status := range []int{200, 202, 204, 400, 404, 410, 500, 503} {
		mux.HandleFunc(fmt.Sprintf("/%d", status), func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
	}
	for _, status := range []int{301, 302, 303, 307, 308} {
		mux.Handle(fmt.Sprintf("/%d", status), http.RedirectHandler(elsewhere.URL, status))
	}
	mux.HandleFunc("/later", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Retry-After", "90"); w.WriteHeader(429) })
	mux.HandleFunc("/huge", func(w http.ResponseWriter, _ *http.Request) {
		for range 10_000 { // far more than is read; the connection is cut meanwhile
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/headers", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Long", strings.Repeat("x", 1<<20)) })
	server := httptest.NewServer(mux)
	defer server.Close()
	for path, want := range map[string]struct {
		class, says string
		wish        time.Duration
	}{
		"/200": {}, "/202": {}, "/204": {}, "/huge": {},
		"/400": {class: ClassStatus, says: "answered 400"}, "/404": {class: ClassStatus, says: "404"}, "/500": {class: ClassStatus, says: "500"}, "/503": {class: ClassStatus},
		"/410": {class: ClassGone, says: "nothing more"},
		"/301": {class: ClassRedirect, says: "redirects are not followed"}, "/302": {class: ClassRedirect}, "/303": {class: ClassRedirect}, "/307": {class: ClassRedirect}, "/308": {class: ClassRedirect},
		"/later": {class: ClassStatus, says: "429", wish: 90 * time.Second}, "/headers": {class: ClassUnreach},
	} {
		a := plainClient(t, local).post(t.Context(), server.URL+path, []string{exampleSecret}, "id", nil)
		if a.class != want.class || !strings.Contains(a.message, want.says) || a.wish != want.wish || (a.class == "") != (a.message == "") {
			t.Errorf("%s: %+v, want %+v", path, a, want)
		}
	}
	if other.Load() != 0 {
		t.Errorf("a redirect was followed %d times", other.Load())
	}
}

func TestReceiversThatDoNotAnswerWell(t *testing.T) {
	t.Parallel()
	garbage, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer garbage.Close()
	go func() {
		for {
			c, err := garbage.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("220 mail.example.com <script>ESMTP\r\n"))
			_ = c.Close()
		}
	}()
	hang := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	}))
	defer slow.Close()
	defer close(hang)
	dead := httptest.NewServer(nil)
	dead.Close()
	tls := httptest.NewTLSServer(nil) // of an authority that nobody trusts
	defer tls.Close()
	for name, c := range map[string]struct{ url, class, says string }{
		"garbage":  {"http://" + garbage.Addr().String(), ClassUnreach, "not HTTP"},
		"slow":     {slow.URL, ClassTimeout, "no answer within 15s"},
		"dead":     {dead.URL, ClassUnreach, "does not take the connection"},
		"stranger": {tls.URL, ClassUnreach, "certificate"},
	} {
		client := plainClient(t, local)
		if name == "slow" {
			client.http.Timeout = 200 * time.Millisecond
		}
		a := client.post(t.Context(), c.url, []string{exampleSecret}, "id", nil)
		if a.class != c.class || !strings.Contains(a.message, c.says) || a.status != 0 {
			t.Errorf("%s: %+v, want %+v", name, a, c)
		}
	}
}

// A name that leads inside is refused by the whole client, and the server there sees nothing.
func TestNamesThatLeadInsideReachNobody(t *testing.T) {
	t.Parallel()
	hits := atomic.Int32{}
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	trust := x509.NewCertPool()
	trust.AddCert(server.Certificate()) // for example.com
	for _, inside := range [][]string{{"127.0.0.1"}, {"::ffff:127.0.0.1"}, {"::1"}, {"64:ff9b::7f00:1"}, {"169.254.169.254"}, {"127.0.0.1", "::1"}} {
		c := newClient(Policy{}, trust, names(t, inside), time.Now)
		a := c.post(t.Context(), "https://example.com:"+port+"/", []string{exampleSecret}, "id", nil)
		c.close()
		if a.class != ClassAddress || hits.Load() != 0 {
			t.Errorf("%v: %+v, and %d requests came through", inside, a, hits.Load())
		}
	}
	// The same where the host is allowed: it was the guard that kept them away.
	c := newClient(Policy{Private: []string{"example.com"}}, trust, names(t, []string{"127.0.0.1"}), time.Now)
	defer c.close()
	if a := c.post(t.Context(), "https://example.com:"+port+"/", []string{exampleSecret}, "id", nil); a.class != "" || hits.Load() != 1 {
		t.Errorf("an allowed host: %+v, %d requests", a, hits.Load())
	}
}

// No proxy of the environment does the dialling in our place.
func TestProxiesAreNotUsed(t *testing.T) {
	t.Parallel()
	transport := plainClient(t, Policy{}).http.Transport.(*http.Transport)
	if transport.Proxy != nil {
		t.Error("the client uses a proxy")
	}
}
