// The content keys that sealed text is under. A key lives in one object alone,
// wrapped by the master key: deleting that object erases what was sealed.

package objects

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/myspinbot/myspinbot/events"
)

// ErrErased says that the content key is gone, and with it what was sealed.
var ErrErased = errors.New("the content was erased")

// KeyMemory is how long another process may still read after an erasure.
const KeyMemory = 30 * time.Second

const (
	// keyCacheSize bounds the keys held in memory.
	keyCacheSize = 512
	maxKeyObject = 4 << 10 // bytes
	// wrapVersion is the first byte of a key object; a sealed content key follows.
	wrapVersion = 1
)

// Keyring makes, opens and erases content keys. Its methods may be called from
// several goroutines.
type Keyring struct {
	store  *Store
	wrap   []byte // wraps content keys
	digest []byte // roots the tenants' digest keys
	hooks  []byte // roots the secrets of webhooks
	now    func() time.Time

	digests sync.Map // *digester by tenant

	mu    sync.Mutex
	cache map[string]cachedKey
}

type cachedKey struct {
	key   []byte
	until time.Time
}

// NewKeyring keeps key objects in store. The master key never leaves this process;
// whoever loses it loses every sealed text.
func NewKeyring(store *Store, master [32]byte) *Keyring {
	return &Keyring{
		store: store, wrap: derive(master[:], "wrap content keys"), digest: derive(master[:], "digest keys of tenants"), hooks: derive(master[:], "secrets of webhooks"),
		now: time.Now, cache: map[string]cachedKey{},
	}
}

// derive makes independent keys of one secret: HMAC-SHA-256(secret, purpose).
func derive(secret []byte, purpose string) []byte {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(purpose))
	return h.Sum(nil)
}

// digester makes digests with a tenant's key.
type digester struct {
	key    []byte
	hashes sync.Pool // of hash.Hash, so that the key is taken in once
}

func (k *Keyring) digester(tenant string) *digester {
	if d, ok := k.digests.Load(tenant); ok {
		return d.(*digester)
	}
	key := derive(k.digest, tenant)
	d, _ := k.digests.LoadOrStore(tenant, &digester{key: key, hashes: sync.Pool{New: func() any { return hmac.New(sha256.New, key) }}})
	return d.(*digester)
}

// Digest is events.Digest with the tenant's key, which is the same in every process.
func (k *Keyring) Digest(tenant, text string) string {
	d := k.digester(tenant)
	h := d.hashes.Get().(hash.Hash)
	defer d.hashes.Put(h)
	h.Reset()
	h.Write([]byte(text))
	var sum [sha256.Size]byte
	return hex.EncodeToString(h.Sum(sum[:0]))
}

// WebhookKey is the key that signs what is told of the job, 32 bytes, the same in every
// process: a submission that is repeated gets the same one without anybody keeping it.
func (k *Keyring) WebhookKey(tenant, job string) []byte { return derive(k.hooks, tenant+"/"+job) }

// Create makes the content key of a job and returns its id, keys/<tenant>/<profile
// or "-">/<job>. Asked again, also by another process at the same moment, it
// returns the key that is there.
func (k *Keyring) Create(ctx context.Context, tenant, profile, job string) (id string, key []byte, err error) {
	id, key, _, err = k.create(ctx, tenant, profile, job)
	return id, key, err
}

// create is Create, and says whether the key was not there before.
func (k *Keyring) create(ctx context.Context, tenant, profile, job string) (id string, key []byte, created bool, err error) {
	subject, err := Subject(tenant, profile, job)
	if err != nil {
		return "", nil, false, err
	}
	id = KeyID(subject)
	key = make([]byte, events.KeySize)
	if _, err := rand.Read(key); err != nil {
		return "", nil, false, fmt.Errorf("cannot draw a content key: %w", err)
	}
	// The wrapped key is sealed like any text: the id is authenticated with it, so
	// that a key object renamed on the store does not open.
	wrapped, err := events.Seal(k.wrap, id, string(key))
	if err != nil {
		return "", nil, false, fmt.Errorf("cannot wrap a content key: %w", err)
	}
	created, err = k.store.putOnce(ctx, id, append([]byte{wrapVersion}, wrapped.Bytes...))
	if err != nil {
		return "", nil, false, fmt.Errorf("cannot store content key %s: %w", id, err)
	}
	if !created {
		err = settled(ctx, func() (err error) {
			key, err = k.Key(ctx, id)
			return err
		})
		return id, key, false, err
	}
	k.remember(id, key)
	return id, key, true, nil
}

// Key is the content key called id, or ErrErased.
func (k *Keyring) Key(ctx context.Context, id string) ([]byte, error) {
	if err := checkKeyID(id); err != nil {
		return nil, err
	}
	if key := k.recall(id); key != nil {
		return key, nil
	}
	value, err := k.store.small(ctx, id, maxKeyObject)
	if errors.Is(err, ErrMissing) {
		return nil, fmt.Errorf("cannot open content key %s: %w", id, ErrErased)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open content key %s: %w", id, err)
	}
	wrapped, known := bytes.CutPrefix(value, []byte{wrapVersion})
	if !known {
		return nil, fmt.Errorf("cannot open content key %s: its object is not of version %d", id, wrapVersion)
	}
	key, err := events.Sealed{Bytes: wrapped, Key: id}.Open(k.wrap)
	if err != nil {
		return nil, fmt.Errorf("cannot unwrap content key %s (was it made under another master key?): %w", id, err)
	}
	k.remember(id, []byte(key))
	return []byte(key), nil
}

// Seal seals text under the content key called id, which must exist.
func (k *Keyring) Seal(ctx context.Context, id, text string) (events.Sealed, error) {
	key, err := k.Key(ctx, id)
	if err != nil {
		return events.Sealed{}, err
	}
	return events.Seal(key, id, text)
}

// Open gives sealed text back, or ErrErased, or events.ErrSealBroken.
func (k *Keyring) Open(ctx context.Context, s events.Sealed) (string, error) {
	key, err := k.Key(ctx, s.Key)
	if err != nil {
		return "", err
	}
	return s.Open(key)
}

// Erase deletes the content key called id: what was sealed under it is unreadable
// here at once and elsewhere within 30 seconds. An absent key is no error.
func (k *Keyring) Erase(ctx context.Context, id string) error {
	if err := checkKeyID(id); err != nil {
		return err
	}
	err := k.store.remove(ctx, id)
	k.mu.Lock()
	delete(k.cache, id)
	k.mu.Unlock()
	return err
}

func (k *Keyring) recall(id string) []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	c, found := k.cache[id]
	if !found || !k.now().Before(c.until) {
		return nil
	}
	return c.key
}

func (k *Keyring) remember(id string, key []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.cache) >= keyCacheSize {
		clear(k.cache) // rare, and a refill costs one small read a key
	}
	k.cache[id] = cachedKey{key: key, until: k.now().Add(KeyMemory)}
}

// small reads a whole object, at most that many bytes.
func (s *Store) small(ctx context.Context, key string, most int64) (value []byte, err error) {
	object, err := s.s3.GetObject(ctx, s.bucket, key, minio.GetObjectOptions{})
	if err != nil {
		return nil, classify(ctx, err)
	}
	defer func() { err = errors.Join(err, object.Close()) }()
	value, err = io.ReadAll(io.LimitReader(object, most))
	return value, classify(ctx, err)
}
