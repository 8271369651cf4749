// What becomes of others' videos that are not whole.

package gpu

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/myspinbot/myspinbot/events"
)

// TestARecutFindsWhatIsCut has a film whose head says more than its body holds.
func TestARecutFindsWhatIsCut(t *testing.T) {
	t.Parallel()
	film := makeMedia(t, "whole.mp4", "-f", "lavfi", "-i", "testsrc2=size=256x256:rate=10", "-t", "4", "-c:v", "libx264", "-g", "5", "-pix_fmt", "yuv420p", "-movflags", "+faststart")
	run := func(keep float64) (float64, error) {
		dir := t.TempDir()
		raw := filepath.Join(dir, "raw.mp4")
		content, err := os.ReadFile(film)
		if err == nil {
			err = os.WriteFile(raw, content[:int(float64(len(content))*keep)], 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return testTool().recut(t.Context(), dir, recut{raw: raw, whose: "somebody", hint: "ask", out: filepath.Join(dir, "out.mp4"), w: 128, h: 128, fps: 10, exactly: 4}, nil)
	}
	if made, err := run(1); err != nil || made < 3.9 {
		t.Errorf("the whole film: %g s, %v", made, err)
	}
	_, err := run(0.5)
	if te := wantTaskError(t, err, events.ClassEngineRejected); !strings.Contains(te.Message, "somebody's result is cut") {
		t.Errorf("message %q", te.Message)
	}
}
