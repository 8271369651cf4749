// The keys that hold, in memory, tailed from the log: a new key and a revoked one hold at
// once in every process, and with PostgreSQL down.

package access

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

type digest = [sha256.Size]byte

// Keys looks keys up by their digests.
type Keys struct {
	log    *eventlog.Log
	logger *slog.Logger

	mu     sync.RWMutex
	whole  bool // everything that lay on the log at the start has been read
	grants map[digest]*Grant
	ids    map[string]digest // by the key's id
}

// NewKeys knows no key until Run has read the log.
func NewKeys(log *eventlog.Log, logger *slog.Logger) *Keys {
	return &Keys{log: log, logger: logger, grants: map[digest]*Grant{}, ids: map[string]digest{}}
}

// Run follows the log until ctx ends.
func (k *Keys) Run(ctx context.Context) error {
	err := k.log.Tail(ctx, k.log.Whole(events.TopicSettings), func(b eventlog.Batch) error {
		k.apply(b.Records)
		return nil
	}, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.whole = true
	})
	if err != nil {
		return fmt.Errorf("cannot follow the keys: %w", err)
	}
	return nil
}

// Find says whom a key names. The error is ErrInvalid, or ErrUnread before the log has been
// read: until then nobody is known, and nobody is refused for good. What is compared is a
// digest, so that the time it takes tells nothing of any key.
func (k *Keys) Find(text []byte, now time.Time) (*Grant, error) {
	sum := sha256.Sum256(text)
	k.mu.RLock()
	g, whole := k.grants[sum], k.whole
	k.mu.RUnlock()
	switch {
	case !whole:
		return nil, ErrUnread
	case g == nil || g.expired(now):
		return nil, ErrInvalid
	}
	return g, nil
}

func (k *Keys) apply(records []eventlog.Record) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range records {
		id, isKey := events.APIKeyID(r.Key)
		if !isKey {
			continue
		}
		k.forget(id)
		if err := k.take(id, r); err != nil {
			// Closed rather than open: what this program cannot read may be the key's end.
			k.logger.Error("an API key cannot be read from the log and holds no more", "key_id", id, "offset", r.Offset, "error", err)
		}
	}
}

// forget ends what the key's last record allowed.
func (k *Keys) forget(id string) {
	sum, known := k.ids[id]
	if !known {
		return
	}
	k.grants[sum].revoke()
	delete(k.grants, sum)
	delete(k.ids, id)
}

// take makes the key hold that the record issues.
func (k *Keys) take(id string, r eventlog.Record) error {
	key, err := readKey(r)
	if err != nil || key.Revoked {
		return err
	}
	if key.ID != id {
		return fmt.Errorf("the record is of key %q", key.ID)
	}
	if _, taken := k.grants[key.digest]; taken {
		return errors.New("another key has its digest")
	}
	k.ids[id], k.grants[key.digest] = key.digest, key.grant()
	return nil
}

// Key is a key as the log knows it, which is not enough to use it.
type Key struct {
	ID        string
	Name      string
	Tenant    string
	Scopes    Scopes
	PerSecond float64 // 0: no limit
	Burst     int
	IssuedAt  time.Time // zero for a revoked key: its last record alone is kept
	Expires   time.Time // zero: never
	Revoked   bool
	RevokedAt time.Time

	digest digest
}

// Expired says whether the key holds no more at a time.
func (k Key) Expired(now time.Time) bool { return !k.Expires.IsZero() && !now.Before(k.Expires) }

// readKey takes what a record says of a key. A record without a value is the key's end, too.
func readKey(r eventlog.Record) (Key, error) {
	if len(r.Value) == 0 {
		id, _ := events.APIKeyID(r.Key)
		return Key{ID: id, Revoked: true}, nil
	}
	m, err := events.Decode(r.Value)
	if err != nil {
		return Key{}, err
	}
	k := Key{ID: m.AggregateID, Tenant: m.Tenant}
	switch d := m.Data.(type) { //nolint:gochecksumtype // keys alone
	case events.APIKeyRevoked:
		k.Name, k.Revoked, k.RevokedAt = d.Name, true, m.OccurredAt
		return k, nil
	case events.APIKeyIssued:
		k.Name, k.PerSecond, k.Burst, k.IssuedAt = d.Name, d.RequestsPerSecond, d.Burst, m.OccurredAt
		if d.Tenant != m.Tenant {
			return Key{}, fmt.Errorf("it is of the tenants %q and %q", m.Tenant, d.Tenant)
		}
		if d.ExpiresMS != 0 {
			k.Expires = time.UnixMilli(d.ExpiresMS).UTC()
		}
		sum, err := hex.DecodeString(d.Digest)
		if err != nil || len(sum) != len(k.digest) {
			return Key{}, errors.New("its digest is not one")
		}
		k.digest = digest(sum)
		if k.Scopes, err = ParseScopes(d.Scopes); err != nil {
			return Key{}, err
		}
		return k, checkOrder(Order{Name: k.Name, Tenant: k.Tenant, Scopes: k.Scopes, PerSecond: k.PerSecond, Burst: k.Burst})
	}
	return Key{}, fmt.Errorf("it is a %s", m.Type())
}

func (k Key) grant() *Grant {
	g := &Grant{Tenant: k.Tenant, Actor: "key:" + k.Name, Scopes: k.Scopes, Expires: k.Expires}
	if k.PerSecond > 0 {
		g.bucket.perSecond, g.bucket.pace = k.PerSecond, NewPace(k.PerSecond, k.Burst)
	}
	g.held, g.revoke = context.WithCancel(context.Background())
	return g
}

// isToken says whether a credential has the form of a signed token (JWT): three parts with dots.
func isToken(credential []byte) bool { return bytes.Count(credential, []byte(".")) == 2 }
