// Tests of `keys`, against a broker, and of the key that the other commands show.

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/access"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
)

func keysCommand(ctx context.Context, args []string, out, errs *bytes.Buffer) int {
	return runKeys(ctx, args, out, errs)
}

// keyring is a log with keys on it.
type keyring struct {
	t    *testing.T
	log  *eventlog.Log
	args []string // that lead to the log
}

func newKeyring(t *testing.T) *keyring {
	t.Helper()
	_, fake := eventlogtest.Fake(t)
	k := &keyring{t: t, args: []string{"--kafka-brokers", fake.Brokers[0], "--kafka-partitions", "3"}}
	k.log = logOf(t, k.args)
	if err := k.log.EnsureTopics(t.Context()); err != nil {
		t.Fatal(err)
	}
	return k
}

func (k *keyring) call(words ...string) (status int, stdout, stderr string) {
	k.t.Helper()
	return run(k.t, keysCommand, append(words, k.args...)...)
}

func (k *keyring) must(words ...string) (stdout, stderr string) {
	k.t.Helper()
	status, stdout, stderr := k.call(words...)
	if status != 0 {
		k.t.Fatalf("%v: status %d: %s", words, status, stderr)
	}
	return stdout, stderr
}

func (k *keyring) list(words ...string) []apiKeyDoc {
	k.t.Helper()
	out, _ := k.must(append([]string{"list", "--json"}, words...)...)
	var page struct {
		Items []apiKeyDoc `json:"items"`
	}
	if err := json.Unmarshal([]byte(out), &page); err != nil {
		k.t.Fatalf("%v in %s", err, out)
	}
	return page.Items
}

// asked is whom an API that follows the log now would know by the key.
func (k *keyring) asked(text string) (*access.Grant, error) {
	k.t.Helper()
	keys := access.NewKeys(k.log, newLogger(Config{}, &bytes.Buffer{}))
	ctx, cancel := context.WithCancel(k.t.Context())
	defer cancel()
	go func() { _ = keys.Run(ctx) }()
	var g *access.Grant
	var err error
	eventlogtest.Eventually(k.t, eventlogtest.Patience, "the keys are read", func() bool {
		g, err = keys.Find([]byte(text), time.Now())
		return err != access.ErrUnread //nolint:errorlint // a test of this very value
	})
	return g, err
}

func TestKeysFromTheFirstToTheLast(t *testing.T) {
	t.Parallel()
	k := newKeyring(t)
	if out, _ := k.must(); !strings.Contains(out, "myspinbot keys issue NAME") {
		t.Errorf("an empty list is printed as %q", out)
	}
	text, words := k.must("issue", "ada")
	text = strings.TrimSuffix(text, "\n")
	if !regexp.MustCompile(`^msb_[A-Za-z0-9_-]{43}$`).MatchString(text) || !strings.Contains(words, "of tenant default may read,write. It is shown this once") || strings.Contains(words, text) {
		t.Errorf("issued as %q, with the words %q", text, words)
	}
	g, err := k.asked(text)
	if err != nil || g.Tenant != "default" || g.Actor != "key:ada" || g.Scopes != access.Read|access.Write || !g.Expires.IsZero() || g.PerSecond() != 0 {
		t.Errorf("it is known as %+v, %v", g, err)
	}
	out, _ := k.must("issue", "robot", "--tenant", "acme", "--scope", "operate", "--rate", "2.5", "--burst", "7", "--expires", "90d", "--json")
	var second issuedDoc
	if err := json.Unmarshal([]byte(out), &second); err != nil || second.Key == "" || second.State != "valid" || second.ExpiresAt == nil {
		t.Fatalf("%v in %s", err, out)
	}
	if g, err := k.asked(second.Key); err != nil || g.Tenant != "acme" || g.Scopes != access.Operate || g.PerSecond() != 2.5 || time.Until(g.Expires) > 90*24*time.Hour || time.Until(g.Expires) < 89*24*time.Hour {
		t.Errorf("it is known as %+v, %v", g, err)
	}
	listed := k.list()
	if len(listed) != 2 || listed[0].Name != "ada" || listed[1].ID != second.ID || listed[1].Burst != 7 || !slices.Equal(listed[1].Scopes, []string{"operate"}) {
		t.Errorf("listed are %+v", listed)
	}
	if out, _ := k.must("list"); strings.Contains(out, "msb_") || !strings.Contains(out, "2.5/s, 7") || strings.Count(out, "\n") != 3 {
		t.Errorf("listed as %s", out)
	}

	// Rotation: the same name twice, and the old one goes by its id.
	k.must("issue", "ada")
	if status, _, stderr := k.call("revoke", "ada"); status != 1 || !strings.Contains(stderr, "several keys are called") || !strings.Contains(stderr, listed[0].ID) {
		t.Errorf("revoking one of two: status %d, %s", status, stderr)
	}
	if out, _ := k.must("revoke", listed[0].ID); !strings.Contains(out, "key ada ("+listed[0].ID+") opens nothing any more") {
		t.Errorf("revoked as %q", out)
	}
	if _, err := k.asked(text); err == nil {
		t.Error("the revoked key opens still")
	}
	if status, _, stderr := k.call("revoke", listed[0].ID); status != 1 || !strings.Contains(stderr, "revoked already") {
		t.Errorf("revoking again: status %d, %s", status, stderr)
	}
	k.must("revoke", "ada", "--json")
	if status, _, stderr := k.call("revoke", "ada"); status != 1 || !strings.Contains(stderr, `there is no key "ada"`) {
		t.Errorf("revoking the last: status %d, %s", status, stderr)
	}
	if n, all := len(k.list()), k.list("--all"); n != 1 || len(all) != 3 || all[0].State != "revoked" || all[0].Name != "ada" || all[0].RevokedAt == nil {
		t.Errorf("%d are left of %+v", n, all)
	}
}

func TestKeysThatCannotBe(t *testing.T) {
	t.Parallel()
	k := newKeyring(t)
	for name, tc := range map[string]struct {
		words  []string
		status int
		says   string
	}{
		"no name":          {[]string{"issue"}, 2, "usage: myspinbot keys"},
		"two names":        {[]string{"issue", "a", "b"}, 2, "usage: myspinbot keys"},
		"another verb":     {[]string{"make"}, 2, "usage: myspinbot keys"},
		"a strange name":   {[]string{"issue", "a b"}, 1, "a key cannot be called"},
		"a tenant's path":  {[]string{"issue", "a", "--tenant", "../x"}, 1, "a tenant cannot be called"},
		"the keys' folder": {[]string{"issue", "a", "--tenant", "keys"}, 1, "a tenant cannot be called"},
		"a scope":          {[]string{"issue", "a", "--scope", "read,admin"}, 1, `there is no scope "admin"; scopes are read, write, operate`},
		"a time":           {[]string{"issue", "a", "--expires", "soon"}, 1, "such as 90d or 12h"},
		"the past":         {[]string{"issue", "a", "--expires", "-1h"}, 1, "such as 90d or 12h"},
		"no days":          {[]string{"issue", "a", "--expires", "0d"}, 1, "such as 90d or 12h"},
		"a rate":           {[]string{"issue", "a", "--rate", "-1"}, 1, "the rate must be"},
		"the key itself":   {[]string{"issue", "a", "--key", "msb_x"}, 1, "no such flag"},
		"nobody":           {[]string{"revoke", "nobody"}, 1, `there is no key "nobody"`},
	} {
		if status, stdout, stderr := k.call(tc.words...); status != tc.status || !strings.Contains(stdout+stderr, tc.says) {
			t.Errorf("%s: status %d, %s", name, status, stdout+stderr)
		}
	}
	if left := k.list("--all"); len(left) != 0 {
		t.Errorf("what was refused left %+v", left)
	}
	if err := k.log.Produce(t.Context(), eventlog.Record{Topic: events.TopicSettings, Key: events.APIKeyKey("x"), Value: []byte("{")}); err != nil {
		t.Fatal(err)
	}
	if _, words := k.must("list"); !strings.Contains(words, "the key x cannot be read and opens nothing") {
		t.Errorf("a key that cannot be read is told as %q", words)
	}
}

func TestDoctorSaysWhoMayAsk(t *testing.T) {
	t.Parallel()
	k := newKeyring(t)
	look := func(args ...string) string {
		cfg, _, err := loadConfig(append(args, k.args...), nil)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		examine(t.Context(), accessChecks(cfg), &out)
		return out.String()
	}
	if out := look(); !strings.Contains(out, "ok        access control") || !strings.Contains(out, "off: whoever can connect to 127.0.0.1:8080") {
		t.Errorf("open: %s", out)
	}
	if out := look("--access-keys"); !strings.Contains(out, "MISSING   API keys") || !strings.Contains(out, "→ myspinbot keys issue NAME") {
		t.Errorf("without a key: %s", out)
	}
	k.must("issue", "ada")
	if out := look("--access-keys"); !strings.Contains(out, "ok        API keys               1 hold") {
		t.Errorf("with a key: %s", out)
	}
	if out := look("--access-oidc-issuer", "http://127.0.0.1:1", "--access-oidc-audience", "a"); !strings.Contains(out, "MISSING   issuer of tokens") {
		t.Errorf("an issuer that is away: %s", out)
	}
}

// TestCommandsShowTheirKey to the server that they ask, and to no other that it leads to.
func TestCommandsShowTheirKey(t *testing.T) {
	t.Parallel()
	const key = "msb_secret"
	var mu sync.Mutex
	var seen []string
	note := func(r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, r.URL.Path+" "+r.Header.Get("Authorization"))
	}
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		note(r)
		_, _ = w.Write([]byte(`{"items":[]}`))
	}))
	t.Cleanup(elsewhere.Close)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		note(r)
		switch {
		case r.Header.Get("Authorization") != "Bearer "+key:
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(`{"title":"This server asks for a key","status":401,"code":"key_missing","detail":"send a key"}`))
		case r.URL.Path == "/api/jobs":
			http.Redirect(w, r, elsewhere.URL+"/moved", http.StatusTemporaryRedirect)
		default:
			_, _ = w.Write([]byte(`{"items":[]}`))
		}
	}))
	t.Cleanup(server.Close)
	file := writeFile(t, "key", key+"\n")
	for _, c := range []struct {
		run  func(context.Context, []string, *bytes.Buffer, *bytes.Buffer) int
		args []string
	}{{lanesCommand, nil}, {jobsCommand, []string{"list"}}} {
		if status, _, stderr := run(t, c.run, append(c.args, "--server", server.URL, "--api-key-file", file)...); status != 0 {
			t.Errorf("status %d: %s", status, stderr)
		}
		status, stdout, stderr := run(t, c.run, append(c.args, "--server", server.URL)...)
		if status != 1 || !strings.Contains(stderr, "MYSPINBOT_API_KEY") || !strings.Contains(stderr, "--api-key-file") {
			t.Errorf("without a key: status %d, %s%s", status, stdout, stderr)
		}
	}
	for path, says := range map[string]string{filepath.Join(t.TempDir(), "absent"): "cannot be read", writeFile(t, "empty", "\n"): "holds no API key", writeFile(t, "two", "msb_a msb_b"): "a single word"} {
		if status, _, stderr := run(t, lanesCommand, "--server", server.URL, "--api-key-file", path); status != 1 || !strings.Contains(stderr, says) || strings.Contains(stderr, "msb_a") {
			t.Errorf("%s: status %d, %s", path, status, stderr)
		}
	}
	want := []string{"/api/lanes Bearer " + key, "/api/lanes ", "/api/jobs Bearer " + key, "/moved ", "/api/jobs "}
	if !slices.Equal(seen, want) {
		t.Errorf("the servers saw %q, want %q", seen, want)
	}
}

// TestTheKeyOfTheEnvironment runs the program itself, whose environment is its own.
func TestTheKeyOfTheEnvironment(t *testing.T) {
	t.Parallel()
	got := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- r.Header.Get("Authorization")
		_, _ = w.Write([]byte(`{"items":[]}`))
	}))
	t.Cleanup(server.Close)
	p := startProgram(t, []string{"MYSPINBOT_API_KEY=msb_of_the_environment"}, "lanes", "--server", server.URL)
	if err := p.cmd.Wait(); err != nil {
		t.Fatal(err, p.printed())
	}
	if said := <-got; said != "Bearer msb_of_the_environment" {
		t.Errorf("it shows %q", said)
	}
	if strings.Contains(p.printed(), "msb_") {
		t.Errorf("it prints %s", p.printed())
	}
}

func TestAccessConfiguration(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		args []string
		says string // empty: it is fine
	}{
		"open on loopback":        {nil, ""},
		"open to everybody":       {[]string{"--http-listen", "0.0.0.0:8080"}, "or any with access control, which access.keys = true or access.oidc.issuer switches on"},
		"both ways out":           {[]string{"--http-listen", "[::]:80"}, "an address of this machine alone, such as 127.0.0.1:8080"},
		"keys for everybody":      {[]string{"--http-listen", "0.0.0.0:8080", "--access-keys"}, ""},
		"tokens for everybody":    {[]string{"--http-listen", "0.0.0.0:8080", "--access-oidc-issuer", "https://id.example.com", "--access-oidc-audience", "m"}, ""},
		"no audience":             {[]string{"--access-oidc-issuer", "https://id.example.com"}, "access.oidc.audience: found nothing"},
		"an audience alone":       {[]string{"--access-oidc-audience", "m"}, "nothing without access.oidc.issuer"},
		"no URL":                  {[]string{"--access-oidc-issuer", "id.example.com", "--access-oidc-audience", "m"}, "a URL that begins with https://"},
		"plain http":              {[]string{"--access-oidc-issuer", "http://id.example.com", "--access-oidc-audience", "m"}, "over plain http anybody"},
		"plain http on loopback":  {[]string{"--access-oidc-issuer", "http://127.0.0.1:8000/realm", "--access-oidc-audience", "m"}, ""},
		"no claim for the tenant": {[]string{"--access-oidc-issuer", "https://id.example.com", "--access-oidc-audience", "m", "--access-oidc-tenant-claim", ""}, "access.oidc.tenant_claim"},
	} {
		_, _, err := loadConfig(tc.args, nil)
		if tc.says == "" && err != nil || tc.says != "" && (err == nil || !strings.Contains(err.Error(), tc.says)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	path := writeConfig(t, "[access]\nkeys = true\n[access.oidc]\nissuer = 'https://id.example.com'\naudience = 'm'\ntenant_claim = 'org'\n")
	c, _, err := loadConfig([]string{"--config", path}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Access.control(); !got.On() || !got.Keys || got.OIDC.TenantClaim != "org" || got.OIDC.ScopeClaim != "scope" {
		t.Errorf("%+v", got)
	}
}

// TestKeysOpenARunningProgram takes a key through processes of their own: the API as it is
// run, and the commands that issue and revoke.
func TestKeysOpenARunningProgram(t *testing.T) {
	t.Parallel()
	s, env := startServices(t)
	api := startProgram(t, append(env, "MYSPINBOT_ACCESS_KEYS=true"), "run", "--roles", "api", "--http-listen", "127.0.0.1:0")
	s.servedBy(api)
	say := func(words ...string) string {
		p := startProgram(t, env, append([]string{"keys"}, words...)...)
		if err := p.cmd.Wait(); err != nil {
			t.Fatal(err, p.printed())
		}
		return p.printed()
	}
	status := func(key string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/api/session", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+key)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	key := regexp.MustCompile(`msb_[A-Za-z0-9_-]{43}`).FindString(say("issue", "ada", "--scope", "read"))
	eventlogtest.Eventually(t, eventlogtest.Patience, "the key opens", func() bool { code, _ := status(key); return code == http.StatusOK })
	if _, body := status(key); !strings.Contains(body, `"actor":"key:ada"`) || !strings.Contains(body, `"scopes":["read"]`) {
		t.Errorf("it names %s", body)
	}
	if code, body := status("msb_none"); code != http.StatusUnauthorized {
		t.Errorf("another key: %d %s", code, body)
	}
	say("revoke", "ada")
	eventlogtest.Eventually(t, eventlogtest.Patience, "the key opens nothing", func() bool { code, _ := status(key); return code == http.StatusUnauthorized })
	api.terminate(t)
	if strings.Contains(api.printed(), key) {
		t.Error("the program's lines show the key")
	}
}
