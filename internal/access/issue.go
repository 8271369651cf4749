// Issuing, listing and revoking keys: straight on the log, so that the first key needs none.

package access

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/objects"
)

const (
	keyMark  = "msb_"
	keyBytes = 32 // random
)

// operator is who issues and revokes keys, as the log names them: whoever may write to it.
const operator = "operator"

// newKey draws a key: what is shown once, and kept nowhere.
func newKey() string {
	var b [keyBytes]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand, Go 1.24)
	return keyMark + base64.RawURLEncoding.EncodeToString(b[:])
}

// Order is a key that somebody wants.
type Order struct {
	Name      string // 1 to 64 letters, digits, and . _ @ -
	Tenant    string
	Scopes    Scopes
	PerSecond float64       // requests over time; 0: no limit
	Burst     int           // of them at once
	For       time.Duration // until the key expires; 0: never
}

// longestLife keeps an expiry a time that all readers can write down.
const longestLife = 100 * 365 * 24 * time.Hour

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$`)

// checkOrder says everything that is wrong with an order.
func checkOrder(o Order) error {
	var faults []error
	if !nameForm.MatchString(o.Name) || uuid.Validate(o.Name) == nil {
		faults = append(faults, fmt.Errorf("a key cannot be called %q: 1 to 64 letters, digits, dots, dashes, underscores or @, beginning with a letter or digit, and no id", o.Name))
	}
	if err := objects.CheckTenant(o.Tenant); err != nil {
		faults = append(faults, err)
	}
	if o.Scopes == 0 {
		faults = append(faults, fmt.Errorf("a key without a scope is of no use; scopes are %s", strings.Join(ScopeNames(), ", ")))
	}
	if o.PerSecond < 0 || o.PerSecond > 1e6 || o.PerSecond > 0 && o.PerSecond < 1e-6 {
		faults = append(faults, errors.New("the rate must be a number of requests a second up to 1,000,000, or 0 for no limit"))
	}
	if o.PerSecond > 0 && (o.Burst < 1 || o.Burst > 1e6) {
		faults = append(faults, errors.New("the burst must be 1 to 1,000,000 requests"))
	}
	if o.For < 0 || o.For > longestLife {
		faults = append(faults, errors.New("a key expires within a hundred years, or never"))
	}
	return errors.Join(faults...)
}

// Issue makes a key and writes its digest to the log. The text is the key itself, which
// nobody can find out again.
func Issue(ctx context.Context, log *eventlog.Log, o Order, now time.Time) (text string, k Key, err error) {
	if err := checkOrder(o); err != nil {
		return "", Key{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return "", Key{}, fmt.Errorf("cannot make an id: %w", err)
	}
	text = newKey()
	r, err := IssuedAs(text, id.String(), o, now)
	if err != nil {
		return "", Key{}, err
	}
	if k, err = readKey(r); err != nil {
		return "", Key{}, fmt.Errorf("the key could not be read again: %w", err)
	}
	if err := log.Produce(ctx, r); err != nil {
		return "", Key{}, fmt.Errorf("the key could not be written to the log, and must not be used: %w", err)
	}
	return text, k, nil
}

// IssuedAs is the record that has a key hold. A plain digest is enough: a key is 256 random
// bits, which no list of likely ones holds.
func IssuedAs(text, id string, o Order, now time.Time) (eventlog.Record, error) {
	sum := sha256.Sum256([]byte(text))
	d := events.APIKeyIssued{Name: o.Name, Tenant: o.Tenant, Scopes: o.Scopes.Names(), Digest: hex.EncodeToString(sum[:])}
	if o.PerSecond > 0 {
		d.RequestsPerSecond, d.Burst = o.PerSecond, o.Burst
	}
	if o.For > 0 {
		d.ExpiresMS = now.Add(o.For).UnixMilli()
	}
	return recordOf(id, o.Tenant, d, now)
}

// Revoke ends a key for every process, at once.
func Revoke(ctx context.Context, log *eventlog.Log, k Key, now time.Time) error {
	r, err := recordOf(k.ID, k.Tenant, events.APIKeyRevoked{Name: k.Name}, now)
	if err != nil {
		return err
	}
	return log.Produce(ctx, r)
}

func recordOf(id, tenant string, data events.Payload, now time.Time) (eventlog.Record, error) {
	m := events.Message{ID: id, AggregateType: events.AggregateAPIKey, AggregateID: id, OccurredAt: now.UTC(), CommandID: id, CausationID: id, CorrelationID: id,
		Tenant: tenant, Actor: operator, Data: data}
	value, err := events.Encode(m)
	if err != nil {
		return eventlog.Record{}, err
	}
	r := eventlog.Record{Topic: events.TopicSettings, Key: events.APIKeyKey(id), Value: value}
	for _, h := range events.Headers(m) {
		r.Headers = append(r.Headers, eventlog.Header(h))
	}
	return r, nil
}

// List reads every key from the log, in the order of their ids, which is that of issuing.
// One that cannot be read is told to unread, and left out.
func List(ctx context.Context, log *eventlog.Log, unread func(id string, err error)) ([]Key, error) {
	keys := map[string]Key{}
	_, err := log.Read(ctx, log.Whole(events.TopicSettings), func(records []eventlog.Record) error {
		for _, r := range records {
			id, isKey := events.APIKeyID(r.Key)
			if !isKey {
				continue
			}
			k, err := readKey(r)
			if err != nil {
				delete(keys, id)
				unread(id, err)
				continue
			}
			if before := keys[id]; k.Name == "" { // a record without a value says nothing but the end
				k.Name, k.Tenant = before.Name, before.Tenant
			}
			keys[id] = k
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read the keys from the log: %w", err)
	}
	return slices.SortedFunc(maps.Values(keys), func(a, b Key) int { return strings.Compare(a.ID, b.ID) }), nil
}
