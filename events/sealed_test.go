// Sealed text opens under its own key and name alone.

package events_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/myspinbot/myspinbot/events"
)

func TestSealOpens(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SliceOfN(rapid.Byte(), events.KeySize, events.KeySize).Draw(t, "key")
		text := rapid.String().Draw(t, "text")
		s, err := events.Seal(key, "keys/default/-/j", text)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.Open(key); err != nil || got != text {
			t.Fatalf("got %q, %v", got, err)
		}
		if len(text) > 8 && bytes.Contains(s.Bytes, []byte(text)) {
			t.Fatal("the text lies in the seal in clear")
		}
	})
}

func TestSealRefuses(t *testing.T) {
	t.Parallel()
	key, other := bytes.Repeat([]byte{1}, events.KeySize), bytes.Repeat([]byte{2}, events.KeySize)
	s, err := events.Seal(key, "a", "hello")
	if err != nil {
		t.Fatal(err)
	}
	flipped := events.Sealed{Bytes: bytes.Clone(s.Bytes), Key: "a"}
	flipped.Bytes[len(flipped.Bytes)-1] ^= 1
	for name, c := range map[string]struct {
		s   events.Sealed
		key []byte
	}{
		"another key": {s, other}, "another name": {events.Sealed{Bytes: s.Bytes, Key: "b"}, key}, "a flipped bit": {flipped, key}, "nothing": {events.Sealed{Key: "a"}, key},
	} {
		if _, err := c.s.Open(c.key); !errors.Is(err, events.ErrSealBroken) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := events.Seal([]byte("short"), "a", "x"); err == nil || !strings.Contains(err.Error(), "32") {
		t.Errorf("a short key gives %v", err)
	}
}

func TestDigestTellsTextsApart(t *testing.T) {
	t.Parallel()
	a, b := []byte("tenant a"), []byte("tenant b")
	again := events.Digest(a, "x")
	if again != events.Digest([]byte("tenant a"), "x") || events.Digest(a, "x") == events.Digest(a, "y") || events.Digest(a, "x") == events.Digest(b, "x") {
		t.Error("digests must agree for equal text of one tenant, and only then")
	}
}
