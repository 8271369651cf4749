// Content keys by their age: which there are, and which are too old to be gone on with.

package objects

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"
)

// ErrStale says that a content key was made too long ago to be gone on with.
var ErrStale = errors.New("the content key is of a request that was given up long ago")

// ContentKey is a content key as the store lists it.
type ContentKey struct {
	ID      string
	Subject string
	Made    time.Time
}

// List gives every content key of the tenant, in the order of their ids. It ends after the
// first error.
func (k *Keyring) List(ctx context.Context, tenant string) iter.Seq2[ContentKey, error] {
	return func(yield func(ContentKey, error) bool) {
		for o, err := range k.store.below(ctx, KeyID(tenant)+"/", false) {
			if err != nil {
				yield(ContentKey{}, err)
				return
			}
			subject := strings.TrimPrefix(o.Key, keyRoot+"/")
			if CheckSubject(subject) == nil && !yield(ContentKey{ID: o.Key, Subject: subject, Made: o.LastModified}, nil) {
				return
			}
		}
	}
}

// CreateWithin is Create, and says ErrStale where the key that is there was made longer ago
// than most.
func (k *Keyring) CreateWithin(ctx context.Context, most time.Duration, tenant, profile, job string) (id string, key []byte, err error) {
	id, key, created, err := k.create(ctx, tenant, profile, job)
	if created || err != nil {
		return id, key, err
	}
	info, err := k.store.stat(ctx, id)
	if err != nil {
		return "", nil, fmt.Errorf("cannot look at content key %s: %w", id, err)
	}
	if k.now().Sub(info.Modified) > most {
		return "", nil, fmt.Errorf("cannot use content key %s, which was made at %v: %w", id, info.Modified, ErrStale)
	}
	return id, key, nil
}
