// What ffmpeg may open, what probing finds, and how progress and measures are read.

package gpu

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/myspinbot/myspinbot/events"
)

func testTool() *mediaTool { return &mediaTool{ffmpeg: "ffmpeg", ffprobe: "ffprobe"} }

// makeMedia has ffmpeg generate a file from its own sources and returns its path.
func makeMedia(t *testing.T, name string, args ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	_, err := child{name: "ffmpeg", path: "ffmpeg", dir: t.TempDir(), args: append(append([]string{"-nostdin", "-v", "error", "-y"}, args...), path)}.run(context.Background())
	if err != nil {
		t.Fatalf("cannot make %s: %v", name, err)
	}
	return path
}

// makeClip is a small moving test picture with sound.
func makeClip(t *testing.T, seconds string) string {
	t.Helper()
	return makeMedia(t, "clip.mp4", "-f", "lavfi", "-i", "testsrc=size=128x96:rate=10", "-f", "lavfi", "-i", "sine=frequency=300:sample_rate=24000",
		"-t", seconds, "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac")
}

// writeFile puts content into a new file and returns its path.
func writeFile(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestProbe(t *testing.T) {
	t.Parallel()
	info, err := testTool().probe(context.Background(), makeClip(t, "2"))
	if err != nil {
		t.Fatal(err)
	}
	v, a := info.Video, info.Audio
	if v == nil || v.Codec != "h264" || v.Width != 128 || v.Height != 96 || v.FPS != 10 || math.Abs(v.Seconds-2) > 0.01 {
		t.Errorf("video %+v", v)
	}
	if a == nil || a.Codec != "aac" || a.Rate != 24000 || a.Channels != 1 || math.Abs(a.Seconds-2) > 0.1 {
		t.Errorf("audio %+v", a)
	}
}

func TestHostileMediaIsRefused(t *testing.T) {
	t.Parallel()
	clip, err := os.ReadFile(makeClip(t, "1"))
	if err != nil {
		t.Fatal(err)
	}
	secret := writeFile(t, "secret.wav", []byte("not for you"))
	for name, content := range map[string]string{
		"playlist.mp4":  "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://" + secret + "\n#EXT-X-ENDLIST\n",
		"concat.mp4":    "ffconcat version 1.0\nfile " + secret + "\n",
		"truncated.mp4": string(clip[:200]),
		"empty.mp4":     "",
		"script.wav":    "#!/bin/sh\n",
		"liar.wav":      "RIFF\x10\x00\x00\x00WAVEjunk",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := testTool().probe(context.Background(), writeFile(t, name, []byte(content)))
			te := wantTaskError(t, err, events.ClassInvalidInput)
			if te.Hint == "" || strings.Contains(te.Message, "not for you") {
				t.Errorf("message %q, hint %q", te.Message, te.Hint)
			}
		})
	}
}

func TestTooLargeFramesAreRefused(t *testing.T) {
	t.Parallel()
	huge := makeMedia(t, "huge.mkv", "-f", "lavfi", "-i", "color=size=4100x4000:rate=1", "-frames:v", "1", "-c:v", "mjpeg", "-pix_fmt", "yuvj420p")
	err := testTool().run(context.Background(), transcode{dir: t.TempDir(), inputs: []mediaInput{{path: huge}}})
	wantTaskError(t, err, events.ClassEngineRejected)
}

func TestTranscodeReportsProgressAndStripsMetadata(t *testing.T) {
	t.Parallel()
	clip := makeMedia(t, "tagged.mp4", "-f", "lavfi", "-i", "testsrc=size=64x64:rate=10", "-t", "2", "-pix_fmt", "yuv420p", "-metadata", "title=canary", "-metadata", "comment=canary")
	out := filepath.Join(t.TempDir(), "out.mp4")
	last := -1.0
	err := testTool().run(context.Background(), transcode{dir: t.TempDir(), inputs: []mediaInput{{path: clip}}, args: []string{"-c:v", "libx264", "-preset", "ultrafast"},
		output: out, seconds: 2, progress: func(f float64) {
			if f < last || f > 1 {
				t.Errorf("progress went from %g to %g", last, f)
			}
			last = f
		}})
	if err != nil {
		t.Fatal(err)
	}
	if last < 0.5 {
		t.Errorf("the last progress was %g", last)
	}
	info, err := testTool().probe(context.Background(), out)
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if info.Comment != provenance || strings.Contains(string(content), "canary") {
		t.Errorf("comment %q, or a foreign tag survived", info.Comment)
	}
}

func TestLoudness(t *testing.T) {
	t.Parallel()
	m := testTool()
	// A 1 kHz sine of amplitude 0.1 has -23 LUFS (-20 dBFS peak, -3 dB RMS, EBU Tech 3341), one channel.
	tone := makeMedia(t, "tone.wav", "-f", "lavfi", "-i", "sine=frequency=1000:sample_rate=48000", "-t", "2", "-af", "volume=0.8")
	lufs, ok, err := m.loudness(context.Background(), t.TempDir(), tone)
	if err != nil || !ok || math.Abs(lufs+23) > 1 {
		t.Errorf("a tone: %g LUFS, ok %v, error %v", lufs, ok, err)
	}
	silence := makeMedia(t, "silence.wav", "-f", "lavfi", "-i", "anullsrc=r=16000:cl=mono", "-t", "1")
	if _, ok, err = m.loudness(context.Background(), t.TempDir(), silence); ok || err != nil {
		t.Errorf("silence: ok %v, error %v", ok, err)
	}
}

func TestAbleNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	version, err := testTool().able(context.Background())
	if err != nil || version == "" {
		t.Errorf("version %q, error %v", version, err)
	}
	absent := &mediaTool{ffmpeg: "myspinbot-no-ffmpeg", ffprobe: "ffprobe"}
	if _, err := absent.able(context.Background()); err == nil || !strings.Contains(err.Error(), "ffmpeg is not installed") {
		t.Errorf("error %v", err)
	}
	fake := writeFile(t, "ffmpeg", []byte("#!/bin/sh\necho ' V..... mpeg4 '\n"))
	if err := os.Chmod(fake, 0o700); err != nil {
		t.Fatal(err)
	}
	poor := &mediaTool{ffmpeg: fake, ffprobe: "ffprobe"}
	if _, err := poor.able(context.Background()); err == nil || !strings.Contains(err.Error(), "libx264") {
		t.Errorf("error %v", err)
	}
}
