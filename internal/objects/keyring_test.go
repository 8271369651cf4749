// Tests of content keys: first one wins, erased means unreadable.

package objects

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/myspinbot/myspinbot/events"
)

func TestSealedTextOpensInAnotherProcess(t *testing.T) {
	t.Parallel()
	s := open(t)
	ours, theirs := NewKeyring(s, [32]byte{1}), NewKeyring(s, [32]byte{1})
	id, key, err := ours.Create(t.Context(), "default", "p1", "job1")
	if err != nil {
		t.Fatal(err)
	}
	if id != "keys/default/p1/job1" || len(key) != events.KeySize {
		t.Errorf("Create = %q with %d bytes", id, len(key))
	}
	sealed, err := ours.Seal(t.Context(), id, "a secret")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := theirs.Open(t.Context(), sealed); err != nil || text != "a secret" {
		t.Errorf("Open = %q, %v", text, err)
	}
	again, sameKey, err := theirs.Create(t.Context(), "default", "p1", "job1")
	if err != nil || again != id || !bytes.Equal(sameKey, key) {
		t.Errorf("a second Create made another key (%q, %v)", again, err)
	}
	if _, err := NewKeyring(s, [32]byte{2}).Open(t.Context(), sealed); !errors.Is(err, events.ErrSealBroken) {
		t.Errorf("with another master key: %v, want ErrSealBroken", err)
	}
}

func TestKeysCreatedAtOnceAreOne(t *testing.T) {
	t.Parallel()
	s := open(t)
	for round := range 5 {
		job := fmt.Sprintf("job%d", round)
		var mu sync.Mutex
		var wait sync.WaitGroup
		keys := map[string]bool{}
		for range 8 {
			wait.Go(func() {
				_, key, err := NewKeyring(s, [32]byte{1}).Create(t.Context(), "default", "", job)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				keys[hex.EncodeToString(key)] = true
			})
		}
		wait.Wait()
		if len(keys) != 1 {
			t.Fatalf("%d keys were made for one job", len(keys))
		}
	}
}

func TestErasedTextDoesNotOpen(t *testing.T) {
	t.Parallel()
	s := open(t)
	ours, theirs := NewKeyring(s, [32]byte{1}), NewKeyring(s, [32]byte{1})
	now := time.Now()
	theirs.now = func() time.Time { return now }
	id, _, err := ours.Create(t.Context(), "default", "", "job1")
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := ours.Seal(t.Context(), id, "a secret")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := theirs.Open(t.Context(), sealed); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a repeat is no error
		if err := ours.Erase(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ours.Open(t.Context(), sealed); !errors.Is(err, ErrErased) {
		t.Errorf("Open = %v, want ErrErased", err)
	}
	if _, err := ours.Seal(t.Context(), id, "more"); !errors.Is(err, ErrErased) {
		t.Errorf("Seal = %v, want ErrErased", err)
	}
	now = now.Add(KeyMemory)
	if _, err := theirs.Open(t.Context(), sealed); !errors.Is(err, ErrErased) {
		t.Errorf("another process still opens it after %v: %v", KeyMemory, err)
	}
}

func TestAKeyObjectUnderAnotherNameDoesNotOpen(t *testing.T) {
	t.Parallel()
	s := open(t)
	k := NewKeyring(s, [32]byte{1})
	id, _, err := k.Create(t.Context(), "default", "", "job1")
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.s3.CopyObject(t.Context(),
		minio.CopyDestOptions{Bucket: s.bucket, Object: "keys/other/-/job1"}, minio.CopySrcOptions{Bucket: s.bucket, Object: id})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Key(t.Context(), "keys/other/-/job1"); !errors.Is(err, events.ErrSealBroken) {
		t.Errorf("Key = %v, want ErrSealBroken", err)
	}
	if _, err := s.putOnce(t.Context(), "keys/default/-/job2", []byte{9, 1, 2}); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Key(t.Context(), "keys/default/-/job2"); err == nil {
		t.Error("a key object of an unknown version was opened")
	}
}

func TestBadKeyIDsAreRefused(t *testing.T) {
	t.Parallel()
	k := NewKeyring(open(t), [32]byte{1})
	for _, id := range []string{"", "keys", "keys/a/b", "keys/a/b/c/d", "default/-/job1", "keys/a/../c", "keys/a//c", "keys/keys/-/c"} {
		if _, err := k.Key(t.Context(), id); err == nil || errors.Is(err, ErrErased) {
			t.Errorf("Key(%q) = %v, want a refusal", id, err)
		}
		if err := k.Erase(t.Context(), id); err == nil {
			t.Errorf("Erase(%q) was accepted", id)
		}
	}
	for _, job := range []string{"", "a/b", "..", "-", "a b"} {
		if _, _, err := k.Create(t.Context(), "default", "", job); err == nil {
			t.Errorf("Create for job %q was accepted", job)
		}
	}
}

func TestDigestsDifferByTenantAndMaster(t *testing.T) {
	t.Parallel()
	s := open(t)
	a := NewKeyring(s, [32]byte{1})
	keys := map[string]bool{
		string(a.digester("a").key): true, string(a.digester("b").key): true,
		string(NewKeyring(s, [32]byte{2}).digester("a").key): true, string(a.wrap): true,
	}
	if len(keys) != 4 {
		t.Errorf("digest keys are not one per tenant and master key")
	}
	var sides sync.WaitGroup
	for n := range 4 { // what was digested before, or is beside it, does not show
		sides.Go(func() {
			for i := range 100 {
				text := fmt.Sprint(n, "said", i)
				if got := NewKeyring(s, [32]byte{1}).Digest("a", text); a.Digest("a", text) != got || got != events.Digest(a.digester("a").key, text) || got == a.Digest("b", text) {
					t.Errorf("the digest of %q is %s", text, got)
				}
			}
		})
	}
	sides.Wait()
}

func TestTheKeyCacheIsBounded(t *testing.T) {
	t.Parallel()
	k := NewKeyring(open(t), [32]byte{1})
	for i := range keyCacheSize + 10 {
		k.remember(fmt.Sprint(i), []byte("x"))
	}
	if n := len(k.cache); n > keyCacheSize {
		t.Errorf("%d keys are cached, the bound is %d", n, keyCacheSize)
	}
	if k.recall(fmt.Sprint(keyCacheSize+9)) == nil {
		t.Error("the newest key was dropped")
	}
}

func TestAKeyOfLongAgoIsNotGoneOnWith(t *testing.T) {
	t.Parallel()
	k := NewKeyring(open(t), [32]byte{1})
	id, first, err := k.CreateWithin(t.Context(), time.Hour, "default", "", "job1")
	if err != nil {
		t.Fatal(err)
	}
	if again, key, err := k.CreateWithin(t.Context(), time.Hour, "default", "", "job1"); again != id || !bytes.Equal(key, first) || err != nil {
		t.Errorf("at once: %q, %v", again, err)
	}
	k.now = func() time.Time { return time.Now().Add(61 * time.Minute) }
	if _, _, err := k.CreateWithin(t.Context(), time.Hour, "default", "", "job1"); !errors.Is(err, ErrStale) {
		t.Errorf("an hour later: %v", err)
	}
	if _, key, err := k.Create(t.Context(), "default", "", "job1"); !bytes.Equal(key, first) || err != nil {
		t.Errorf("it is not the key any more: %v", err)
	}
}
