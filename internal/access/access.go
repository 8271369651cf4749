// Package access says who may ask the API for what: API keys, of which the log holds a
// digest, tokens of an OpenID Connect issuer, and the scopes of both.
//
// What belongs here: keys as they are issued, kept and looked up, the verifying of
// tokens, scopes, the pace of a key. What may not: HTTP routes and answers (api), the
// command line (cmd/myspinbot), and what a tenant owns.
package access

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// Why nobody could be named by a credential.
var (
	// ErrInvalid says that it is none, or holds no more: expired, revoked, and never issued are one.
	ErrInvalid = errors.New("the key or token is not valid, or holds no more")
	// ErrUnread says that the keys on the log have not been read yet since the start.
	ErrUnread = errors.New("the keys have not been read from the log yet")
	// ErrIssuer says that the issuer of tokens does not answer.
	ErrIssuer = errors.New("the issuer of tokens does not answer")
)

// Config switches access control on: by keys, by tokens, or both. The zero value is off.
type Config struct {
	Keys bool
	OIDC OIDC
}

// On says whether there is access control at all.
func (c Config) On() bool { return c.Keys || c.OIDC.Issuer != "" }

// Control knows who is named by a credential.
type Control struct {
	keys   *Keys   // nil: no keys
	issuer *issuer // nil: no tokens
}

// New is the access control of one process; nil where it is off. Run must run beside it.
func New(cfg Config, log *eventlog.Log, logger *slog.Logger) *Control {
	if !cfg.On() {
		return nil
	}
	c := &Control{}
	if cfg.Keys {
		c.keys = NewKeys(log, logger)
	}
	if cfg.OIDC.Issuer != "" {
		c.issuer = newIssuer(cfg.OIDC, logger)
	}
	return c
}

// Run follows the keys on the log until ctx ends.
func (c *Control) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	if c.keys != nil {
		group.Go(func() error { return c.keys.Run(ctx) })
	}
	return group.Wait()
}

// Ask says whom a credential names, an API key or a token. The error is ErrInvalid,
// ErrUnread, ErrIssuer, or a *ClaimError.
func (c *Control) Ask(ctx context.Context, credential []byte, now time.Time) (*Grant, error) {
	switch {
	case c.issuer != nil && isToken(credential):
		return c.issuer.verify(ctx, string(credential), now)
	case c.keys != nil:
		return c.keys.Find(credential, now)
	}
	return nil, ErrInvalid
}

// Grant is what a credential allows, to whom.
type Grant struct {
	Tenant  string
	Actor   string // as the log names who asked
	Scopes  Scopes
	Expires time.Time // zero: never

	bucket bucket
	held   context.Context //nolint:containedctx // ends when the key is revoked; streams hang on it
	revoke context.CancelFunc
}

// expired says whether the grant holds no more at a time.
func (g *Grant) expired(now time.Time) bool { return !g.Expires.IsZero() && !now.Before(g.Expires) }

// Lasts is a context that ends when the grant does: at its expiry, or at once when the key is
// revoked. The caller must call cancel.
func (g *Grant) Lasts() (ctx context.Context, cancel context.CancelFunc) {
	if g.Expires.IsZero() {
		return context.WithCancel(g.held)
	}
	return context.WithDeadline(g.held, g.Expires)
}

// Take takes a request from the key's bucket, or says how long it must wait for one.
func (g *Grant) Take(now time.Time) (wait time.Duration) { return g.bucket.take(now) }

// PerSecond is how many requests the key may send in a second over time; 0: as many as it likes.
func (g *Grant) PerSecond() float64 { return g.bucket.perSecond }
