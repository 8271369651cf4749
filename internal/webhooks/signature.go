// Signatures: Standard Webhooks, symmetric (v1).

package webhooks

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Headers of a message.
const (
	HeaderID        = "webhook-id"
	HeaderTimestamp = "webhook-timestamp" // Unix seconds of the attempt
	HeaderSignature = "webhook-signature" // "v1," and base64, of each secret, with blanks between them
)

const (
	secretPrefix = "whsec_" //nolint:gosec // not a secret itself
	leastSecret  = 24       // bytes, as the specification has it
	mostSecret   = 64
)

// ErrSecret says that a text is no secret of a webhook.
var ErrSecret = errors.New("the secret must be whsec_ and 24 to 64 bytes in base64")

// NewSecret writes key as a secret: whsec_ and base64.
func NewSecret(key []byte) string { return secretPrefix + base64.StdEncoding.EncodeToString(key) }

// SecretKey is the key of a secret, or ErrSecret.
func SecretKey(secret string) ([]byte, error) {
	text, found := strings.CutPrefix(secret, secretPrefix)
	key, err := base64.StdEncoding.DecodeString(text)
	if !found || err != nil || len(key) < leastSecret || len(key) > mostSecret {
		return nil, ErrSecret
	}
	return key, nil
}

// Sign is the signature of one message at one time: HMAC-SHA-256 of
// "<id>.<Unix seconds>.<body>" under the secret's key.
func Sign(secret, id string, at time.Time, body []byte) (string, error) {
	key, err := SecretKey(secret)
	if err != nil {
		return "", fmt.Errorf("cannot sign a message: %w", err)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + strconv.FormatInt(at.Unix(), 10) + "."))
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)), nil
}

// signatures are those of all secrets, as the header holds them.
func signatures(secrets []string, id string, at time.Time, body []byte) (string, error) {
	list := make([]string, len(secrets))
	for i, secret := range secrets {
		var err error
		if list[i], err = Sign(secret, id, at, body); err != nil {
			return "", err
		}
	}
	return strings.Join(list, " "), nil
}
