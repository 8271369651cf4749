// Sealed free text: what a person wrote or said never lies on the log in clear.

package events

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
)

// KeySize is the length of a content key in bytes (AES-256).
const KeySize = 32

// ErrSealBroken says that sealed text was changed, or sealed with another key.
var ErrSealBroken = errors.New("sealed text does not open: wrong key or changed bytes")

// Sealed is free text under AES-256-GCM: nonce (12 bytes), then ciphertext and
// tag. Key is the id of the content key, which is the name of its key object;
// deleting that object makes the text unreadable for ever. JSON:
// {"sealed": base64, "key": id}.
type Sealed struct {
	Bytes []byte `json:"sealed"`
	Key   string `json:"key"`
}

// Seal encrypts text under the content key called id. The id is authenticated
// with the text, so that a seal cannot be moved under another key's name.
func Seal(key []byte, id, text string) (Sealed, error) {
	aead, err := newAEAD(key)
	if err != nil {
		return Sealed{}, err
	}
	nonce := make([]byte, aead.NonceSize(), aead.NonceSize()+len(text)+aead.Overhead())
	if _, err := rand.Read(nonce); err != nil {
		return Sealed{}, fmt.Errorf("cannot draw a nonce: %w", err)
	}
	return Sealed{Bytes: aead.Seal(nonce, nonce, []byte(text), []byte(id)), Key: id}, nil
}

// Open gives the text back, or ErrSealBroken.
func (s Sealed) Open(key []byte) (string, error) {
	aead, err := newAEAD(key)
	if err != nil {
		return "", err
	}
	n := aead.NonceSize()
	if len(s.Bytes) < n {
		return "", ErrSealBroken
	}
	text, err := aead.Open(nil, s.Bytes[:n], s.Bytes[n:], []byte(s.Key))
	if err != nil {
		return "", ErrSealBroken
	}
	return string(text), nil
}

// Digest is HMAC-SHA-256 of text under key, in hex: equal texts of one tenant
// compare equal without either being readable.
func Digest(key []byte, text string) string {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return hex.EncodeToString(h.Sum(nil))
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	if len(key) != KeySize {
		return nil, fmt.Errorf("a content key has %d bytes, want %d", len(key), KeySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("cannot use the content key: %w", err)
	}
	return cipher.NewGCM(block)
}
