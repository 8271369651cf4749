// The issuer's public keys: found by discovery when the first token comes, kept, and asked
// for again when a token names one that is not known, or those that are have become old.

package access

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
)

const (
	issuerTimeout = 5 * time.Second  // of an answer of the issuer
	issuerPause   = 5 * time.Second  // between two questions about keys that are not known: anybody can invent one
	issuerRetry   = time.Second      // after a question without an answer
	keysFresh     = 5 * time.Minute  // so that a key that the issuer takes back ends
	keysStale     = 60 * time.Minute // how long those that are known are good while the issuer is away
	longestKeys   = 1 << 20          // bytes
)

// issuerKeys are asked for by one question at a time. Whoever can do without its answer
// does not wait for it.
type issuerKeys struct {
	issuer string
	client *http.Client
	logger *slog.Logger

	mu     sync.Mutex
	url    string            // of the key set; empty: not discovered yet
	known  []jose.JSONWebKey // for signatures
	asked  time.Time         // when they were asked for last, with whatever outcome
	got    time.Time         // when they came
	away   error             // why the last question had no answer
	asking chan struct{}     // closed with the answer; nil: nothing is asked now
}

func newIssuerKeys(issuer string, logger *slog.Logger) *issuerKeys {
	return &issuerKeys{issuer: issuer, client: &http.Client{Timeout: issuerTimeout}, logger: logger}
}

// of are the keys that a token may be signed with which names one; an empty id is any. It is
// ErrIssuer where that cannot be known now, and none where there is no such key.
func (k *issuerKeys) of(ctx context.Context, id string, now time.Time) ([]crypto.PublicKey, error) {
	k.mu.Lock()
	if k.asking == nil && k.due(id, now) {
		k.asking, k.asked = make(chan struct{}), now
		go k.ask(context.WithoutCancel(ctx), now) // others may wait for the same answer
	}
	asking, public := k.asking, k.named(id, now)
	k.mu.Unlock()
	if len(public) > 0 {
		return public, nil
	}
	if asking != nil {
		select {
		case <-asking:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrIssuer, ctx.Err())
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if public = k.named(id, now); len(public) == 0 && k.away != nil {
		return nil, fmt.Errorf("%w: %w", ErrIssuer, k.away)
	}
	return public, nil
}

// due says whether to ask the issuer. The caller holds mu.
func (k *issuerKeys) due(id string, now time.Time) bool {
	pause := now.Sub(k.asked)
	switch {
	case k.away != nil:
		return pause >= issuerRetry
	case now.Sub(k.got) > keysFresh:
		return true
	}
	return len(k.named(id, now)) == 0 && pause >= issuerPause
}

// named are the known keys of an id, as long as they are good. The caller holds mu.
func (k *issuerKeys) named(id string, now time.Time) (public []crypto.PublicKey) {
	if now.Sub(k.got) > keysStale {
		return nil
	}
	for _, key := range k.known {
		if id == "" || key.KeyID == id {
			public = append(public, key.Key)
		}
	}
	return public
}

// ask brings the answer to those who wait for it.
func (k *issuerKeys) ask(ctx context.Context, now time.Time) {
	ctx, cancel := context.WithTimeout(ctx, issuerTimeout)
	defer cancel()
	known, err := k.fetch(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		k.known, k.got = known, now
	} else {
		k.url = "" // it may have moved
		if k.away == nil {
			k.logger.Warn("the issuer of tokens does not answer as it should", "issuer", k.issuer, "error", err)
		}
	}
	k.away = err
	close(k.asking)
	k.asking = nil
}

func (k *issuerKeys) fetch(ctx context.Context) ([]jose.JSONWebKey, error) {
	if k.url == "" {
		provider, err := oidc.NewProvider(oidc.ClientContext(ctx, k.client), k.issuer)
		if err != nil {
			return nil, err
		}
		var found struct {
			Keys string `json:"jwks_uri"`
		}
		if err := provider.Claims(&found); err != nil {
			return nil, err
		}
		if found.Keys == "" || strings.HasPrefix(k.issuer, "https://") && !strings.HasPrefix(found.Keys, "https://") {
			return nil, fmt.Errorf("its key set cannot be at %q", found.Keys)
		}
		k.url = found.Keys
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := k.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", k.url, resp.Status)
	}
	return readKeySet(io.LimitReader(resp.Body, longestKeys))
}

// readKeySet takes the keys for signatures of a set (RFC 7517), and leaves out those of a
// kind that is not known here.
func readKeySet(r io.Reader) (known []jose.JSONWebKey, err error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.NewDecoder(r).Decode(&set); err != nil {
		return nil, fmt.Errorf("its key set cannot be read: %w", err)
	}
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		if json.Unmarshal(raw, &key) != nil || !key.Valid() || !key.IsPublic() || key.Use != "" && key.Use != "sig" {
			continue
		}
		known = append(known, key)
	}
	if len(known) == 0 {
		return nil, errors.New("its key set holds no key for signatures")
	}
	return known, nil
}

// CheckIssuer asks the issuer for its keys and says how many it has.
func CheckIssuer(ctx context.Context, url string) (int, error) {
	known, err := newIssuerKeys(url, slog.New(slog.DiscardHandler)).fetch(ctx)
	return len(known), err
}
