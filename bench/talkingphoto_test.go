package main

// Tests of the talking photo's measure on a clip of one word, too short to say how fast it is.

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	gpu "github.com/myspinbot/myspinbot/gpu-consumers"
)

func TestThePeerEncodesTheSameFramesWithTheSameSettings(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	b, err := newPhotoBench(ctx, setting{root: root, dir: t.TempDir(), rounds: 1}, "Hello.")
	if err != nil {
		t.Fatalf("run make deps: %v", err)
	}
	if info, err := os.Stat(b.frames); err != nil || info.Size() != int64(b.count*photoSide*photoSide*3/2) || b.count < 10 {
		t.Fatalf("the file with %d frames: %v, %v", b.count, info, err)
	}
	if err := b.checkPeer(ctx); err != nil {
		t.Fatal(err)
	}
	r, err := b.round(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for what, w := range map[string]work{"the lane": r.lane, "x264": r.x264, "drawing": r.draw} {
		if w.wall <= 0 || w.cpu <= 0 {
			t.Errorf("%s took %+v", what, w)
		}
	}

	if left, err := filepath.Glob(filepath.Join(b.dir, "round")); err != nil || len(left) > 0 {
		t.Errorf("a round left %v, %v", left, err)
	}

	// The first frame's top becomes black: the comparison must notice.
	f, err := os.OpenFile(b.frames, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(make([]byte, photoSide*100)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.checkPeer(ctx); err == nil || !strings.Contains(err.Error(), "other packets") {
		t.Errorf("other frames passed for the same: %v", err)
	}
}

func TestALaneThatCannotRunIsNamed(t *testing.T) {
	t.Parallel()
	if _, err := engines(context.Background(), gpu.EngineConfig{FaceWeights: t.TempDir()}, "tts.synthesize", "lipsync.apply"); err == nil || !strings.Contains(err.Error(), "lipsync.apply") {
		t.Errorf("got %v", err)
	}
}

func TestAChildsLastWordsAreKept(t *testing.T) {
	t.Parallel()
	_, err := child(context.Background(), "ffmpeg", "-nostdin", "-hide_banner", "-f", "wav", "-i", "file:/nowhere/x.wav")
	if err == nil || !strings.Contains(err.Error(), "/nowhere/x.wav") {
		t.Errorf("got %v", err)
	}
	_, err = child(context.Background(), "no-such-program-here")
	if err == nil || !strings.Contains(err.Error(), "make deps") {
		t.Errorf("got %v", err)
	}
}
