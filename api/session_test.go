// Tests of signing in, and of tokens in place of keys.

package api

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"github.com/myspinbot/myspinbot/internal/access"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
)

// cookieOf is the session that an answer sets.
func cookieOf(t *testing.T, a answer) *http.Cookie {
	t.Helper()
	res := http.Response{Header: a.header}
	for _, c := range res.Cookies() {
		if c.Name == sessionCookie {
			return c
		}
	}
	t.Fatalf("%d sets no session: %v", a.status, a.header)
	return nil
}

func TestABrowserSignsInAndOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true, noWorker: true, keys: true, config: func(c *Config) { c.Hosts = []string{"spin.example"} }})
	key := w.issue(access.Order{Name: "ada", Tenant: "acme", Scopes: access.Read | access.Write, For: time.Hour})
	w.key = ""
	w.want(401, w.get("/api/session"))
	w.want(401, w.post("/api/session", `{"key":"msb_none"}`))
	w.want(422, w.post("/api/session", `{}`))
	w.want(403, w.post("/api/session", jsonBody(t, map[string]string{"key": key.text}), "Origin", "https://evil.example"))

	for origin, secure := range map[string]bool{"": false, "http://127.0.0.1:1": false, "https://spin.example": true} {
		a := w.want(200, w.post("/api/session", jsonBody(t, map[string]string{"key": key.text}), "Origin", origin))
		c := cookieOf(t, a)
		if c.Value != key.text || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" || c.Secure != secure || c.MaxAge != 0 ||
			c.Expires.Before(time.Now().Add(50*time.Minute)) || c.Expires.After(time.Now().Add(time.Hour)) {
			t.Errorf("from %q: %+v", origin, c)
		}
		var s Session
		a.decode(t, &s)
		if s.Access != accessKeys || s.Tenant != "acme" || s.Actor != "key:ada" || strings.Join(s.Scopes, " ") != "read write" || s.ExpiresAt == nil || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("the session is %+v", s)
		}
	}
	cookie := sessionCookie + "=" + key.text
	w.want(200, w.do("GET", "/api/session", map[string]string{"Cookie": cookie}, nil))
	w.want(200, w.do("GET", "/api/pipelines", map[string]string{"Cookie": "other=1; " + cookie}, nil))
	// A key in the header goes before one in a cookie, also when it does not hold.
	w.want(401, w.do("GET", "/api/pipelines", map[string]string{"Cookie": cookie, "Authorization": "Bearer msb_none"}, nil))
	// What stands in front may have a scheme of its own.
	w.want(200, w.do("GET", "/api/pipelines", map[string]string{"Cookie": cookie, "Authorization": "Basic YTpi"}, nil))

	out := w.want(204, w.do("DELETE", "/api/session", map[string]string{"Cookie": sessionCookie + "=what holds no more"}, nil))
	if c := cookieOf(t, out); c.Value != "" || !c.Expires.Before(time.Now()) {
		t.Errorf("signing out sets %+v", c)
	}
	w.revoke(key)
	eventually(t, "the cookie ends with its key", func() bool {
		return w.do("GET", "/api/session", map[string]string{"Cookie": cookie}, nil).status == 401
	})
}

// TestAForeignPageChangesNothingByACookie: not of another site, nor of another port here.
func TestAForeignPageChangesNothingByACookie(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true, keys: true})
	cookie := sessionCookie + "=" + w.key
	for name, c := range map[string]struct {
		header map[string]string
		status int
	}{
		"its own page":            {map[string]string{"Origin": "http://" + w.server.Addr(), "Sec-Fetch-Site": "same-origin"}, 201},
		"a program":               {nil, 201},
		"another site":            {map[string]string{"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}, 403},
		"another port":            {map[string]string{"Origin": "http://127.0.0.1:1", "Sec-Fetch-Site": "same-site"}, 403},
		"one that hides":          {map[string]string{"Origin": "null"}, 403},
		"an old browser's":        {map[string]string{"Origin": "https://evil.example"}, 403},
		"a browser's, no origin":  {map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		"with a key in its hands": {map[string]string{"Authorization": "Bearer " + w.key, "Sec-Fetch-Site": "cross-site"}, 201},
	} {
		header := map[string]string{"Cookie": cookie}
		for k, v := range c.header {
			header[k] = v
		}
		if a := w.do("POST", "/api/uploads/tickets", header, nil); a.status != c.status {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	socket := map[string]string{"Cookie": cookie, "Connection": "upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}
	for site, status := range map[string]int{"same-site": 403, "cross-site": 403} {
		socket["Sec-Fetch-Site"] = site
		w.want(status, w.do("GET", "/ws", socket, nil))
	}
	w.want(200, w.do("GET", "/api/pipelines", map[string]string{"Cookie": cookie, "Sec-Fetch-Site": "same-site"}, nil)) // which it cannot read
}

func TestTheSessionOfAnOpenServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true, noWorker: true})
	for _, a := range []answer{w.get("/api/session"), w.post("/api/session", `{"key":"msb_whatever"}`)} {
		var s Session
		w.want(200, a).decode(t, &s)
		if s.Access != accessOpen || s.Tenant != everybody.tenant || s.Actor != everybody.actor || len(s.Scopes) != 3 || s.ExpiresAt != nil || a.header.Get("Set-Cookie") != "" {
			t.Errorf("%+v %v", s, a.header)
		}
	}
}

// TestTokensOpenWhatTheirClaimsSay asks the server by tokens of an issuer, and by keys beside them.
func TestTokensOpenWhatTheirClaimsSay(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(nil)
	ok(t, err)
	var away atomic.Bool
	var issuer *httptest.Server
	issuer = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case away.Load():
			w.WriteHeader(http.StatusBadGateway)
		case r.URL.Path == "/keys":
			_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: crypto.PublicKey(public), KeyID: "k", Use: "sig"}}})
		default:
			_ = json.NewEncoder(w).Encode(map[string]string{"issuer": issuer.URL, "jwks_uri": issuer.URL + "/keys"})
		}
	}))
	t.Cleanup(issuer.Close)
	token := func(change map[string]any) string {
		claims := map[string]any{"iss": issuer.URL, "aud": "myspinbot", "sub": "u-1", "exp": time.Now().Add(time.Hour).Unix(), "tenant": "acme", "scope": "read"}
		for k, v := range change {
			claims[k] = v
		}
		s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: jose.JSONWebKey{Key: private, KeyID: "k"}}, nil)
		ok(t, err)
		jws, err := s.Sign([]byte(jsonBody(t, claims)))
		ok(t, err)
		text, err := jws.CompactSerialize()
		ok(t, err)
		return text
	}
	away.Store(true) // the server starts without it
	w := newWorld(t, options{noProjector: true, noWorker: true, keys: true, config: func(c *Config) {
		c.Access.OIDC = access.OIDC{Issuer: issuer.URL, Audience: "myspinbot"}
	}})
	a := w.want(503, w.do("GET", "/api/session", bearer(token(nil)), nil))
	if !strings.Contains(string(a.body), codeIssuerDown) || a.header.Get("Retry-After") == "" {
		t.Errorf("%v %s", a.header, a.body)
	}
	w.want(200, w.get("/api/session")) // a key needs no issuer
	away.Store(false)
	eventually(t, "the issuer is back", func() bool { return w.do("GET", "/api/session", bearer(token(nil)), nil).status == 200 })
	var s Session
	w.do("GET", "/api/session", bearer(token(nil)), nil).decode(t, &s)
	if s.Tenant != "acme" || s.Actor != "oidc:u-1" || strings.Join(s.Scopes, " ") != "read" || s.ExpiresAt == nil {
		t.Errorf("the session is %+v", s)
	}
	w.want(200, w.do("GET", "/api/pipelines", bearer(token(nil)), nil))
	w.want(403, w.do("GET", "/api/lanes", bearer(token(nil)), nil))
	w.want(401, w.do("GET", "/api/pipelines", bearer(token(map[string]any{"aud": "others"})), nil))
	w.want(401, w.do("GET", "/api/pipelines", bearer(token(map[string]any{"exp": 1})), nil))
	missing := w.want(403, w.do("GET", "/api/pipelines", bearer(token(map[string]any{"tenant": nil})), nil))
	if !strings.Contains(string(missing.body), codeTenantMissing) || !strings.Contains(string(missing.body), `\"tenant\"`) {
		t.Errorf("%s", missing.body)
	}
	signed := cookieOf(t, w.want(200, w.post("/api/session", jsonBody(t, map[string]string{"key": token(nil)}))))
	w.want(200, w.do("GET", "/api/pipelines", map[string]string{"Cookie": sessionCookie + "=" + signed.Value}, nil))
	over, said := w.watching("/api/events", "", token(map[string]any{"exp": time.Now().Add(4 * time.Second).Unix()}))
	select {
	case <-over:
	case <-time.After(20 * time.Second):
		t.Fatal("a stream goes on after its token")
	}
	if !strings.Contains(said(), codeKeyUnknown) {
		t.Errorf("it ends with %q", said())
	}
}

// BenchmarkIdentify is what it costs to know who asks: nothing without access control, one
// digest and one look with it.
func BenchmarkIdentify(b *testing.B) {
	for name, guarded := range map[string]bool{"open": false, "keys": true} {
		b.Run(name, func(b *testing.B) {
			s := &Server{now: time.Now}
			key := "msb_0123456789012345678901234567890123456789012"
			if guarded {
				s.access = knowing(b, key)
			}
			app := fiber.New()
			rc := &fasthttp.RequestCtx{}
			rc.Request.Header.Set("Authorization", "Bearer "+key)
			c := app.AcquireCtx(rc)
			defer app.ReleaseCtx(c)
			c.SetUserContext(context.Background())
			b.ReportAllocs()
			for b.Loop() {
				if err := s.identify(c, access.Read); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// knowing is access control that knows a key.
func knowing(b *testing.B, key string) *access.Control {
	b.Helper()
	_, cfg := eventlogtest.Fake(b)
	log := eventlogtest.Open(b, cfg)
	r, err := access.IssuedAs(key, "01919b2e-6a2c-7c3e-9a44-6d6f1f0c7a11", access.Order{Name: "ada", Tenant: everybody.tenant, Scopes: access.Read}, time.Now())
	ok(b, err)
	ok(b, log.Produce(b.Context(), r))
	c := access.New(access.Config{Keys: true}, log, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		ok(b, <-ended)
	})
	eventually(b, "the key is known", func() bool { _, err := c.Ask(ctx, []byte(key), time.Now()); return err == nil })
	return c
}
