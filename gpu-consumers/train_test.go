// What becomes of voice clips and training pictures, and which are refused.

package gpu

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"io"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/myspinbot/myspinbot/events"
)

// spokenClip is flite's voice saying a text, in the given format, with two
// seconds of silence before it.
func spokenClip(t *testing.T, name, text string) string {
	t.Helper()
	out, err := testSpeech().Run(context.Background(), &Attempt{Dir: t.TempDir(), Texts: map[string]string{"narration": text}})
	if err != nil {
		t.Fatal(err)
	}
	return makeMedia(t, name, "-i", out.Files["speech"][0].Path, "-af", "adelay=2000,apad=pad_dur=2,volume=-12dB")
}

func runVoice(t *testing.T, params map[string]any, clips ...string) (*Output, error) {
	t.Helper()
	a := &Attempt{Dir: t.TempDir(), Params: params, Files: map[string][]File{}}
	for _, c := range clips {
		a.Files["voice"] = append(a.Files["voice"], File{Path: c})
	}
	return (&voiceReference{testTool()}).Run(context.Background(), a)
}

func TestVoiceReference(t *testing.T) {
	t.Parallel()
	text := "This is my voice. It is recorded with care. I hope that it sounds like me."
	out, err := runVoice(t, nil, spokenClip(t, "a.mp3", text), spokenClip(t, "b.ogg", "And here is some more of it."))
	if err != nil {
		t.Fatal(err)
	}
	ref := out.Files["voice_reference"][0]
	w, err := readWave(ref.Path)
	if err != nil {
		t.Fatal(err)
	}
	if w.rate != 24000 || w.seconds() < 5 || w.seconds() > 9 || ref.Artifact.Type != "voice" || out.Fidelity != events.FidelityFull {
		t.Errorf("%d Hz, %g s, artifact %+v", w.rate, w.seconds(), ref.Artifact)
	}
	if start, end := level(w.cut(0, 0.3)), level(w.cut(w.seconds()-0.3, w.seconds())); start < -45 || end < -45 {
		t.Errorf("the ends are silent: %g and %g dBFS", start, end)
	}
	lufs, _, err := testTool().loudness(context.Background(), t.TempDir(), ref.Path)
	if err != nil || math.Abs(lufs-speechLUFS) > 2 {
		t.Errorf("loudness %g, error %v", lufs, err)
	}

	cut, err := runVoice(t, map[string]any{"max_seconds": 4.0, "sample_rate": 16000.0}, spokenClip(t, "c.m4a", text))
	if err != nil {
		t.Fatal(err)
	}
	w, err = readWave(cut.Files["voice_reference"][0].Path)
	if err != nil || w.rate != 16000 || w.seconds() > 4 || w.seconds() < 2 {
		t.Fatalf("cut to %g s at %d Hz, error %v", w.seconds(), w.rate, err)
	}
	if l := level(w.samples[len(w.samples)-w.rate/25:]); l > -30 {
		t.Errorf("the cut is not at a pause: %g dBFS at the end", l)
	}
}

func TestVoiceRefuses(t *testing.T) {
	t.Parallel()
	silent := makeMedia(t, "silent.wav", "-f", "lavfi", "-i", "anullsrc=r=24000:cl=mono", "-t", "5")
	short := makeMedia(t, "short.wav", "-f", "lavfi", "-i", "sine", "-t", "0.4")
	picture := makeMedia(t, "p.mp4", "-f", "lavfi", "-i", "testsrc=size=64x64:rate=5", "-t", "1")
	playlist := writeFile(t, "v.mp3", []byte("#EXTM3U\nfile:///etc/passwd\n"))
	cut := writeFile(t, "cut.wav", []byte("RIFF\x24\x00\x00\x00WAVEfmt "))
	for name, clips := range map[string][]string{"none": nil, "silent": {silent}, "short": {short}, "no sound": {picture}, "playlist": {playlist}, "truncated": {cut}, "far too many": make([]string, 21)} {
		_, err := runVoice(t, nil, clips...)
		if te := wantTaskError(t, err, events.ClassInvalidInput); te.Hint == "" {
			t.Errorf("%s: no hint with %v", name, te)
		}
	}
	_, err := runVoice(t, map[string]any{"max_seconds": 1.0}, silent)
	wantTaskError(t, err, events.ClassInvalidInput)
}

func TestKeepVoiceShortensPauses(t *testing.T) {
	t.Parallel()
	w := &wave{rate: 1000}
	tone := func(seconds float64) {
		for i := range int(seconds * 1000) {
			w.samples = append(w.samples, float32(0.5*math.Sin(float64(i))))
		}
	}
	w.pad(1)
	tone(1)
	w.pad(2)
	tone(0.5)
	w.pad(1)
	kept, seconds := keepVoice(w)
	if got := float64(len(kept)) / 1000; math.Abs(got-2.1) > 0.06 || math.Abs(seconds-1.74) > 0.06 {
		t.Errorf("%g s are left with %g s of voice, want 2.1 s (tones, their edges, one short pause) and 1.74 s", got, seconds)
	}
}

// picture is a w×h photo of a plain colour with a darker corner.
func picture(w, h int, c color.RGBA) []byte {
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for i := 0; i < len(img.Pix); i += 4 {
		copy(img.Pix[i:], []byte{c.R, c.G, c.B, 255})
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, nil); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func TestTrainingSet(t *testing.T) {
	t.Parallel()
	a := &Attempt{Dir: t.TempDir(), Params: map[string]any{"max_steps": 100.0, "rank": 8.0}, Files: map[string][]File{}}
	red, blue := color.RGBA{200, 30, 30, 255}, color.RGBA{30, 30, 200, 255}
	for i, content := range [][]byte{
		picture(640, 900, red), picture(640, 900, red), picture(1500, 1100, blue), picture(300, 400, blue), picture(200, 900, red), []byte("#EXTM3U"),
	} {
		a.Files["images"] = append(a.Files["images"], File{Path: writeFile(t, fmt.Sprint(i), content)})
	}
	out, err := trainingSet{}.Run(context.Background(), a)
	if err != nil {
		t.Fatal(err)
	}
	archive, err := zip.OpenReader(out.Files["lora"][0].Path)
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	want := map[string]int{"0001.jpg": 640, "0002.jpg": 1024, "0003.jpg": 512, "0001.txt": 0, "0002.txt": 0, "0003.txt": 0, "metadata.json": 0}
	for _, f := range archive.File {
		side, known := want[f.Name]
		delete(want, f.Name)
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil || !known {
			t.Fatalf("file %q, error %v", f.Name, err)
		}
		switch {
		case side > 0:
			if size, err := jpeg.DecodeConfig(bytes.NewReader(content)); err != nil || size.Width != side || size.Height != side {
				t.Errorf("%s is %v, error %v; want %d pixels", f.Name, size, err, side)
			}
		case f.Name == "metadata.json":
			var d setDescription
			if err := json.Unmarshal(content, &d); err != nil || d.Images != 3 || d.MaxSteps != 100 || d.Rank != 8 || d.Scheduler != "cosine" {
				t.Errorf("metadata %s, error %v", content, err)
			}
		case string(content) != trainingCaption+"\n":
			t.Errorf("%s says %q", f.Name, content)
		}
	}
	if len(want) > 0 {
		t.Errorf("missing %v", want)
	}
	notes := strings.Join(out.Notes, "; ")
	for _, says := range []string{"of 3 pictures", "no LoRA was trained", "1 pictures were the same", "1 pictures were refused", "1 pictures were smaller", "advised"} {
		if !strings.Contains(notes, says) {
			t.Errorf("notes %q lack %q", notes, says)
		}
	}
	if out.Fidelity != events.FidelityPrepared {
		t.Errorf("fidelity %s", out.Fidelity)
	}

	again := &Attempt{Dir: t.TempDir(), Params: a.Params, Files: a.Files}
	second, err := trainingSet{}.Run(context.Background(), again)
	if err != nil {
		t.Fatal(err)
	}
	one, _ := os.ReadFile(out.Files["lora"][0].Path)
	two, _ := os.ReadFile(second.Files["lora"][0].Path)
	if len(one) == 0 || !bytes.Equal(one, two) {
		t.Error("equal pictures gave different bytes")
	}
}

func TestTrainingSetRefuses(t *testing.T) {
	t.Parallel()
	bomb := writeFile(t, "bomb.png", pngHeader(16000, 16000, 700<<10))
	small := writeFile(t, "s.jpg", picture(100, 100, color.RGBA{1, 2, 3, 255}))
	for name, files := range map[string][]File{"none": nil, "too many": make([]File, 61), "a bomb alone": input(bomb), "small alone": input(small)} {
		_, err := trainingSet{}.Run(context.Background(), &Attempt{Dir: t.TempDir(), Files: map[string][]File{"images": files}})
		if te := wantTaskError(t, err, events.ClassInvalidInput); te.Hint == "" {
			t.Errorf("%s: no hint with %v", name, te)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := (trainingSet{}).Run(ctx, &Attempt{Dir: t.TempDir(), Files: map[string][]File{"images": input(bomb)}}); err == nil || ctx.Err() == nil {
		t.Errorf("a stopped run gave %v", err)
	}
}
