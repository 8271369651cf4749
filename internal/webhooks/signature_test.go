// Signatures against the specification's own example, and what receivers are told to do.

package webhooks

import (
	"bytes"
	"encoding/base64"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The example of the specification (spec/standard-webhooks.md, "Symmetric").
const (
	exampleSecret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	exampleID        = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	exampleBody      = `{"test": 2432232314}`
	exampleSignature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

var exampleTime = time.Unix(1614265330, 0)

func TestSignatureOfTheSpecification(t *testing.T) {
	t.Parallel()
	got, err := Sign(exampleSecret, exampleID, exampleTime, []byte(exampleBody))
	if err != nil || got != exampleSignature {
		t.Errorf("Sign = %q, %v; want %q", got, err, exampleSignature)
	}
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	key := bytes.Repeat([]byte{7}, 32)
	if got, err := SecretKey(NewSecret(key)); err != nil || !bytes.Equal(got, key) {
		t.Errorf("SecretKey(NewSecret(key)) = %x, %v", got, err)
	}
	for _, bad := range []string{"", "whsec_", "hello", base64.StdEncoding.EncodeToString(key), NewSecret(key[:23]), NewSecret(bytes.Repeat(key, 3)), "whsec_§§§§"} {
		if _, err := SecretKey(bad); !errors.Is(err, ErrSecret) {
			t.Errorf("SecretKey(%q) = %v, want ErrSecret", bad, err)
		}
		if _, err := Sign(bad, "id", exampleTime, nil); !errors.Is(err, ErrSecret) {
			t.Errorf("Sign with %q = %v, want ErrSecret", bad, err)
		}
	}
}

// shown is the code block of the user's page in that language which holds the word.
func shown(t *testing.T, language, word string) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/user.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllSubmatch(page, -1) {
		if strings.Contains(string(m[1]), word) {
			return string(m[1])
		}
	}
	t.Fatalf("docs/user.md shows no %s with %q", language, word)
	return ""
}

// attempts at a receiver: what it is sent, and whether it may take it.
var verifications = []struct {
	name, id, body, signature string
	at, now                   time.Time
	good                      bool
}{
	{"as it was sent", exampleID, exampleBody, exampleSignature, exampleTime, exampleTime.Add(time.Minute), true},
	{"beside the signature of another secret", exampleID, exampleBody, "v1,AAAA " + exampleSignature, exampleTime, exampleTime, true},
	{"with another body", exampleID, `{"test": 1}`, exampleSignature, exampleTime, exampleTime, false},
	{"under another id", "msg_other", exampleBody, exampleSignature, exampleTime, exampleTime, false},
	{"with another time", exampleID, exampleBody, exampleSignature, exampleTime.Add(time.Second), exampleTime, false},
	{"ten minutes later", exampleID, exampleBody, exampleSignature, exampleTime, exampleTime.Add(10 * time.Minute), false},
	{"without a signature", exampleID, exampleBody, "", exampleTime, exampleTime, false},
}

// The user's page shows verify of example_test.go, word by word, and that does what it should.
func TestTheGoExampleOfTheUsersPage(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	if example := shown(t, "go", "func verify"); !strings.Contains(string(source), example) {
		t.Errorf("docs/user.md shows another verify than example_test.go:\n%s", example)
	}
	for _, c := range verifications {
		h := http.Header{}
		h.Set(HeaderID, c.id)
		h.Set(HeaderTimestamp, unix(c.at))
		h.Set(HeaderSignature, c.signature)
		if err := verify(exampleSecret, h, []byte(c.body), c.now); (err == nil) != c.good {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestThePythonExampleOfTheUsersPage(t *testing.T) {
	t.Parallel()
	program := shown(t, "python", "def verify") + `
import sys
secret, id, at, signature, now, body = sys.argv[1:]
headers = {"webhook-id": id, "webhook-timestamp": at, "webhook-signature": signature}
sys.exit(0 if verify(secret, headers, body.encode(), now=int(now)) else 3)
`
	for _, c := range verifications {
		cmd := exec.CommandContext(t.Context(), "python3", "-c", program, exampleSecret, c.id, unix(c.at), c.signature, unix(c.now), c.body)
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		switch {
		case err != nil && !errors.As(err, &exit), len(out) > 0:
			t.Fatalf("%s: %v\n%s", c.name, err, out)
		case (err == nil) != c.good:
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
