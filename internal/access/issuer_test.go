// Tests of tokens, against an issuer with real keys: what is genuine names somebody, and
// whatever else calls itself a token does not.

package access

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
)

// provider is an issuer of tokens.
type provider struct {
	t      *testing.T
	server *httptest.Server

	mu    sync.Mutex
	keys  []jose.JSONWebKey
	down  bool
	asked int // for the keys
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	p := &provider{t: t}
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, v func() any) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.down {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v())
	}
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, func() any { return map[string]any{"issuer": p.server.URL, "jwks_uri": p.server.URL + "/keys"} })
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, func() any { p.asked++; return jose.JSONWebKeySet{Keys: p.keys} })
	})
	p.server = httptest.NewServer(mux)
	t.Cleanup(p.server.Close)
	return p
}

func (p *provider) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

func (p *provider) questions() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

// publish adds a public key.
func (p *provider) publish(id string, public crypto.PublicKey) {
	p.set(func() { p.keys = append(p.keys, jose.JSONWebKey{Key: public, KeyID: id, Use: "sig"}) })
}

func (p *provider) control() *Control {
	return New(Config{OIDC: OIDC{Issuer: p.server.URL, Audience: "myspinbot"}}, nil, quiet)
}

// claims are those of a token that is good for an hour.
func (p *provider) claims() map[string]any {
	return map[string]any{"iss": p.server.URL, "aud": "myspinbot", "sub": "ada", "exp": time.Now().Add(time.Hour).Unix(), "tenant": "acme", "scope": "openid read write email"}
}

func signed(t *testing.T, alg jose.SignatureAlgorithm, key any, id string, claims map[string]any) string {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: id}}, nil)
	ok(t, err)
	body, err := json.Marshal(claims)
	ok(t, err)
	jws, err := s.Sign(body)
	ok(t, err)
	text, err := jws.CompactSerialize()
	ok(t, err)
	return text
}

func rsaKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	ok(t, err)
	return k
}

func ask(c *Control, token string, now time.Time) (*Grant, error) {
	return c.Ask(context.Background(), []byte(token), now)
}

func TestAGenuineTokenNamesSomebody(t *testing.T) {
	t.Parallel()
	p, key := newProvider(t), rsaKey(t)
	p.publish("one", key.Public())
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	p.publish("two", curve.Public())
	c := p.control()
	for _, token := range []string{signed(t, jose.RS256, key, "one", p.claims()), signed(t, jose.PS512, key, "one", p.claims()), signed(t, jose.ES256, curve, "two", p.claims()), signed(t, jose.RS256, key, "", p.claims())} {
		g, err := ask(c, token, time.Now())
		if err != nil || g.Tenant != "acme" || g.Actor != "oidc:ada" || g.Scopes != Read|Write || g.Expires.IsZero() {
			t.Errorf("%+v, %v", g, err)
		}
	}
	if n := p.questions(); n != 1 {
		t.Errorf("the keys were asked for %d times", n)
	}
	if g, err := ask(c, signed(t, jose.RS256, key, "one", with(p.claims(), "scope", []string{"operate", "admin"})), time.Now()); err != nil || g.Scopes != Operate {
		t.Errorf("scopes as a list: %+v, %v", g, err)
	}
	soon := signed(t, jose.RS256, key, "one", with(p.claims(), "exp", time.Now().Add(2*time.Second).Unix()))
	g, err := ask(c, soon, time.Now())
	ok(t, err)
	ctx, cancel := g.Lasts()
	defer cancel()
	select {
	case <-ctx.Done():
	case <-time.After(eventlogtest.Patience):
		t.Error("it lasts beyond its expiry")
	}
}

func with(claims map[string]any, name string, value any) map[string]any {
	if value == nil {
		delete(claims, name)
	} else {
		claims[name] = value
	}
	return claims
}

// raw puts a token together by hand.
func raw(header map[string]any, claims map[string]any, sign func(text string) []byte) string {
	part := func(v any) string {
		b, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(b)
	}
	text := part(header) + "." + part(claims)
	return text + "." + base64.RawURLEncoding.EncodeToString(sign(text))
}

func TestWhatIsNoGenuineTokenOpensNothing(t *testing.T) {
	t.Parallel()
	p, key, foreign := newProvider(t), rsaKey(t), rsaKey(t)
	p.publish("one", key.Public())
	p.set(func() { // what is not for signatures, and what nobody knows
		p.keys = append(p.keys, jose.JSONWebKey{Key: foreign.Public(), KeyID: "enc", Use: "enc"})
	})
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	ok(t, err)
	jwk, err := json.Marshal(jose.JSONWebKey{Key: key.Public(), KeyID: "one", Use: "sig"})
	ok(t, err)
	hs := func(secret []byte) string {
		return raw(map[string]any{"alg": "HS256", "kid": "one", "typ": "JWT"}, p.claims(), func(text string) []byte {
			m := hmac.New(sha256.New, secret)
			m.Write([]byte(text))
			return m.Sum(nil)
		})
	}
	good := signed(t, jose.RS256, key, "one", p.claims())
	parts := strings.Split(good, ".")
	other, err := json.Marshal(with(p.claims(), "tenant", "evil"))
	ok(t, err)
	c := p.control()
	for name, token := range map[string]string{
		"alg none":                         raw(map[string]any{"alg": "none", "kid": "one"}, p.claims(), func(string) []byte { return nil }),
		"alg None":                         raw(map[string]any{"alg": "None", "kid": "one"}, p.claims(), func(string) []byte { return nil }),
		"HS256 by the public key, PEM":     hs(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})),
		"HS256 by the public key, DER":     hs(der),
		"HS256 by the public key, JWK":     hs(jwk),
		"HS256 by the modulus":             hs(key.N.Bytes()),
		"signed by somebody else":          signed(t, jose.RS256, foreign, "one", p.claims()),
		"signed by a key for encryption":   signed(t, jose.RS256, foreign, "enc", p.claims()),
		"a key that there is not":          signed(t, jose.RS256, foreign, "three", p.claims()),
		"brings its own key":               raw(map[string]any{"alg": "RS256", "jwk": json.RawMessage(jwk)}, p.claims(), func(string) []byte { return []byte("x") }),
		"another's claims":                 parts[0] + "." + base64.RawURLEncoding.EncodeToString(other) + "." + parts[2],
		"no signature":                     parts[0] + "." + parts[1] + ".",
		"another issuer":                   signed(t, jose.RS256, key, "one", with(p.claims(), "iss", "https://elsewhere.example")),
		"another audience":                 signed(t, jose.RS256, key, "one", with(p.claims(), "aud", []string{"others", "more"})),
		"no audience":                      signed(t, jose.RS256, key, "one", with(p.claims(), "aud", nil)),
		"expired":                          signed(t, jose.RS256, key, "one", with(p.claims(), "exp", time.Now().Add(-time.Second).Unix())),
		"no expiry":                        signed(t, jose.RS256, key, "one", with(p.claims(), "exp", nil)),
		"not yet":                          signed(t, jose.RS256, key, "one", with(p.claims(), "nbf", time.Now().Add(time.Hour).Unix())),
		"no subject":                       signed(t, jose.RS256, key, "one", with(p.claims(), "sub", nil)),
		"a subject that breaks the line":   signed(t, jose.RS256, key, "one", with(p.claims(), "sub", "ada\nbob")),
		"a subject that is somebody's key": signed(t, jose.RS256, key, "one", with(p.claims(), "sub", strings.Repeat("a", 256))),
		"dots":                             "..",
		"nonsense":                         "a.b.c",
	} {
		if g, err := ask(c, token, time.Now()); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %+v, %v", name, g, err)
		}
	}
	if _, err := ask(c, good, time.Now()); err != nil {
		t.Errorf("the genuine one: %v", err)
	}
	if _, err := ask(c, newKey(), time.Now()); !errors.Is(err, ErrInvalid) {
		t.Errorf("an API key where there are none: %v", err)
	}
}

func TestATokenSaysWhoseThings(t *testing.T) {
	t.Parallel()
	p, key := newProvider(t), rsaKey(t)
	p.publish("one", key.Public())
	c := New(Config{OIDC: OIDC{Issuer: p.server.URL, Audience: "myspinbot", TenantClaim: "org", ScopeClaim: "roles"}}, nil, quiet)
	for name, value := range map[string]any{"none": nil, "a number": 7, "a list": []string{"acme"}, "empty": "", "the keys' folder": "keys", "a way out": "../acme"} {
		_, err := ask(c, signed(t, jose.RS256, key, "one", with(p.claims(), "org", value)), time.Now())
		var claim *ClaimError
		if !errors.As(err, &claim) || claim.Claim != "org" || !strings.Contains(claim.Detail, `"org"`) {
			t.Errorf("%s: %v", name, err)
		}
	}
	g, err := ask(c, signed(t, jose.RS256, key, "one", with(p.claims(), "org", "acme")), time.Now())
	if err != nil || g.Tenant != "acme" || g.Scopes != 0 {
		t.Errorf("%+v, %v; the token's scopes stand in another claim", g, err)
	}
}

// TestKeysOfTheIssuerRotate: a new key is found when the first token names it, one that was
// taken back ends, and questions about keys that nobody has are few.
func TestKeysOfTheIssuerRotate(t *testing.T) {
	t.Parallel()
	p, old, young := newProvider(t), rsaKey(t), rsaKey(t)
	p.publish("old", old.Public())
	c, now := p.control(), time.Now()
	byOld, byYoung := signed(t, jose.RS256, old, "old", p.claims()), signed(t, jose.RS256, young, "young", p.claims())
	if _, err := ask(c, byOld, now); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(c, byYoung, now); !errors.Is(err, ErrInvalid) {
		t.Errorf("a key that is not published yet: %v", err)
	}
	p.set(func() { p.keys = nil })
	p.publish("young", young.Public())
	if _, err := ask(c, byYoung, now.Add(issuerPause)); err != nil {
		t.Errorf("after the rotation: %v", err)
	}
	if _, err := ask(c, byOld, now.Add(issuerPause)); !errors.Is(err, ErrInvalid) {
		t.Errorf("a key that was taken back: %v", err)
	}
	before := p.questions()
	for range 50 {
		if _, err := ask(c, signed(t, jose.RS256, old, "invented", p.claims()), now.Add(issuerPause+time.Millisecond)); !errors.Is(err, ErrInvalid) {
			t.Errorf("an invented key: %v", err)
		}
	}
	if n := p.questions() - before; n != 0 {
		t.Errorf("50 invented keys led to %d questions to the issuer", n)
	}
	// A key that is taken back ends although no token names another one.
	p.set(func() { p.keys = nil })
	p.publish("third", old.Public())
	later := now.Add(issuerPause + keysFresh + time.Second)
	eventlogtest.Eventually(t, eventlogtest.Patience, "the key ends", func() bool {
		_, err := ask(c, byYoung, later)
		return errors.Is(err, ErrInvalid)
	})
}

func TestAnIssuerThatIsAwayRefusesNobodyForGood(t *testing.T) {
	t.Parallel()
	p, key := newProvider(t), rsaKey(t)
	p.publish("one", key.Public())
	p.set(func() { p.down = true })
	var lines bytes.Buffer
	c := New(Config{OIDC: OIDC{Issuer: p.server.URL, Audience: "myspinbot"}}, nil, slog.New(slog.NewTextHandler(&lines, nil)))
	token, now := signed(t, jose.RS256, key, "one", with(p.claims(), "exp", time.Now().Add(24*time.Hour).Unix())), time.Now()
	for range 3 {
		if _, err := ask(c, token, now); !errors.Is(err, ErrIssuer) {
			t.Fatalf("before it was ever there: %v", err)
		}
	}
	if n := strings.Count(lines.String(), "\n"); n != 1 || !strings.Contains(lines.String(), "502") || strings.Contains(lines.String(), token) {
		t.Errorf("%d lines: %s", n, lines.String())
	}
	p.set(func() { p.down = false })
	now = now.Add(issuerRetry)
	if _, err := ask(c, token, now); err != nil {
		t.Fatalf("when it is back: %v", err)
	}
	p.set(func() { p.down = true })
	if _, err := ask(c, token, now.Add(keysFresh+time.Minute)); err != nil {
		t.Errorf("with the keys that are known: %v", err)
	}
	eventlogtest.Eventually(t, eventlogtest.Patience, "old keys are not trusted for ever", func() bool {
		_, err := ask(c, token, now.Add(keysStale+time.Minute))
		return errors.Is(err, ErrIssuer)
	})
	if _, err := ask(c, signed(t, jose.RS256, key, "unknown", p.claims()), now.Add(keysStale+2*time.Minute)); !errors.Is(err, ErrIssuer) {
		t.Errorf("a key of which nobody can tell: %v", err)
	}
}

func TestCheckIssuer(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	if _, err := CheckIssuer(t.Context(), p.server.URL); err == nil || !strings.Contains(err.Error(), "no key for signatures") {
		t.Error(err)
	}
	p.publish("one", rsaKey(t).Public())
	if n, err := CheckIssuer(t.Context(), p.server.URL); n != 1 || err != nil {
		t.Error(n, err)
	}
	if _, err := CheckIssuer(t.Context(), p.server.URL+"/another"); err == nil {
		t.Error("an issuer that is not there")
	}
}
