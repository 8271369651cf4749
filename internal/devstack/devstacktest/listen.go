// What a speech recogniser hears: the tests' ear.

package devstacktest

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/myspinbot/myspinbot/internal/devstack"
)

const recogniser = `
import sys
from pocketsphinx import Decoder
d = Decoder(samprate=16000)
d.start_utt()
d.process_raw(open(sys.argv[1], "rb").read(), full_utt=True)
d.end_utt()
h = d.hyp()
print(h.hypstr if h else "")
`

var word = regexp.MustCompile(`[a-z']+`)

// Words are the words of an English text in lower case, in their order.
func Words(text string) []string { return word.FindAllString(strings.ToLower(text), -1) }

// Heard is the text that the offline speech recogniser (`make deps-test`) makes out in
// the first sound of a file.
func Heard(t *testing.T, path string) string {
	t.Helper()
	python, err := devstack.SpeechPython()
	if err != nil {
		t.Fatal(err)
	}
	raw := filepath.Join(t.TempDir(), "heard.raw")
	if out, err := exec.Command("ffmpeg", "-nostdin", "-v", "error", "-i", path, "-ac", "1", "-ar", "16000", "-f", "s16le", raw).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var stderr bytes.Buffer
	cmd := exec.Command(python, "-c", recogniser, raw)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

// Understood is the share of the different words wanted that are among those heard; 0
// where none is wanted.
func Understood(wanted []string, heard string) float64 {
	among, all, found := map[string]bool{}, map[string]bool{}, 0
	for _, w := range Words(heard) {
		among[w] = true
	}
	for _, w := range wanted {
		if !all[w] && among[w] {
			found++
		}
		all[w] = true
	}
	return float64(found) / float64(max(1, len(all)))
}
