// What a finished video must be, measured on the file itself.

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/devstack"
	"github.com/myspinbot/myspinbot/internal/devstack/devstacktest"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/talkingphoto"
)

func onlyVideo(t *testing.T, dir string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*.mp4"))
	if err != nil || len(found) != 1 {
		t.Fatalf("videos in %s: %v, %v", dir, found, err)
	}
	return found[0]
}

// checkTalkingVideo holds a video against what users are promised: streams and
// lengths, words that can be recognised, a mouth that follows the sound, and the
// face of the photo.
func checkTalkingVideo(t *testing.T, path, script string) {
	t.Helper()
	checkStreams(t, path)
	heard := devstacktest.Heard(t, path)
	if share := devstacktest.Understood(devstacktest.Words(script), heard); share < 0.5 {
		t.Errorf("%s: only %.0f %% of the words are recognised: %q", path, 100*share, heard)
	}
	checkMouthAndFace(t, path)
}

type stream struct {
	Type     string `json:"codec_type"`
	Codec    string `json:"codec_name"`
	Width    int    `json:"width"`
	Height   int    `json:"height"`
	Rate     string `json:"avg_frame_rate"`
	Duration string `json:"duration"`
}

func checkStreams(t *testing.T, path string) {
	t.Helper()
	out, err := exec.Command("ffprobe", "-v", "error", "-show_streams", "-of", "json", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	var probe struct{ Streams []stream }
	if err := json.Unmarshal(out, &probe); err != nil {
		t.Fatal(err)
	}
	seconds := map[string]float64{}
	for _, s := range probe.Streams {
		if seconds[s.Type], err = strconv.ParseFloat(s.Duration, 64); err != nil {
			t.Fatal(err)
		}
		switch {
		case s.Type == "video" && (s.Codec != "h264" || s.Width < 512 || s.Height < 512 || s.Rate != "25/1"):
			t.Errorf("%s: video is %+v", path, s)
		case s.Type == "audio" && s.Codec != "aac":
			t.Errorf("%s: audio is %+v", path, s)
		}
	}
	if v, a := seconds["video"], seconds["audio"]; v < 1 || a < 1 || v-a > 0.3 || a-v > 0.3 {
		t.Errorf("%s: video lasts %.2f s, audio %.2f s", path, v, a)
	}
}

// checkMouthAndFace looks at the picture: the mouth moves with the sound, within
// 80 ms, and the face is the photo's.
func checkMouthAndFace(t *testing.T, path string) {
	t.Helper()
	weights, err := devstack.FaceWeights()
	if err != nil {
		t.Fatal(err)
	}
	model, err := talkingphoto.LoadFaceModel(weights)
	if err != nil {
		t.Fatal(err)
	}
	photo := aligned(t, model, readPNG(t, portraitFile), false)
	mirrored := aligned(t, model, readPNG(t, portraitFile), true)
	var mouth image.Rectangle
	frames := stills(t, path)
	for _, f := range frames {
		face := aligned(t, model, f, false)
		mouth = mouth.Union(mouthOf(t, model, f))
		if same, other := likeness(photo, face), likeness(mirrored, face); same < 0.8 || same < other+0.1 {
			t.Errorf("%s: the face is %.2f like the photo's and %.2f like its mirror image", path, same, other)
		}
	}
	clip, err := talkingphoto.DecodeClip(context.Background(), path, talkingphoto.ClipOptions{})
	if err != nil {
		t.Fatal(err)
	}
	lag, corr := talkingphoto.BestLag(clip.MouthOpening(mouth, frames[0].Bounds().Dx()), loudness(t, path), clip.FPS)
	if lag < -80 || lag > 80 || corr < 0.3 {
		t.Errorf("%s: the mouth follows the sound %.0f ms late, with a correlation of %.2f", path, lag, corr)
	}
	t.Logf("%s: lag %.0f ms, correlation %.2f", filepath.Base(filepath.Dir(path)), lag, corr)
}

// stills are frames of the video, one a second.
func stills(t *testing.T, path string) []image.Image {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("ffmpeg", "-nostdin", "-v", "error", "-i", path, "-vf", "fps=1", filepath.Join(dir, "%03d.png")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.png"))
	if err != nil || len(names) < 2 {
		t.Fatalf("%d stills, %v", len(names), err)
	}
	var out []image.Image
	for _, n := range names {
		out = append(out, readPNG(t, n))
	}
	return out
}

func readPNG(t *testing.T, path string) image.Image {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func landmarksOf(t *testing.T, model *talkingphoto.FaceModel, img image.Image) []talkingphoto.Point {
	t.Helper()
	faces, err := model.Detect(context.Background(), img)
	if err != nil {
		t.Fatal(err)
	}
	l, err := model.Landmarks(img, faces[0].Box) // the largest
	if err != nil {
		t.Fatal(err)
	}
	return l.Points[:]
}

func mouthOf(t *testing.T, model *talkingphoto.FaceModel, img image.Image) image.Rectangle {
	t.Helper()
	r := image.Rectangle{}
	for _, p := range landmarksOf(t, model, img)[48:] {
		r = r.Union(image.Rect(int(p.X)-3, int(p.Y)-3, int(p.X)+4, int(p.Y)+4))
	}
	return r
}

const patchW, patchH = 64, 32

// aligned is the band of brows and eyes in grey, turned and scaled so that the
// outer corners of the eyes lie at fixed places.
func aligned(t *testing.T, model *talkingphoto.FaceModel, img image.Image, mirror bool) []float64 {
	t.Helper()
	return eyeBand(img, landmarksOf(t, model, img), mirror)
}

// eyeBand is that band where the landmarks are known.
func eyeBand(img image.Image, marks []talkingphoto.Point, mirror bool) []float64 {
	l, r := marks[36], marks[45] // outer corners of the eyes (68-point scheme)
	ux, uy := (r.X-l.X)/(patchW/2), (r.Y-l.Y)/(patchW/2)
	cx, cy := (l.X+r.X)/2, (l.Y+r.Y)/2
	out := make([]float64, 0, patchW*patchH)
	for y := range patchH {
		for x := range patchW {
			dx, dy := float64(x-patchW/2), float64(y-patchH/2)
			if mirror {
				dx = -dx
			}
			c := color.GrayModel.Convert(img.At(int(cx+dx*ux-dy*uy), int(cy+dx*uy+dy*ux))).(color.Gray)
			out = append(out, float64(c.Y))
		}
	}
	return out
}

// likeness is the normalised cross-correlation of two patches, from -1 to 1.
func likeness(a, b []float64) float64 {
	var sa, sb float64
	for i := range a {
		sa, sb = sa+a[i], sb+b[i]
	}
	ma, mb := sa/float64(len(a)), sb/float64(len(b))
	var ab, aa, bb float64
	for i := range a {
		x, y := a[i]-ma, b[i]-mb
		ab, aa, bb = ab+x*y, aa+x*x, bb+y*y
	}
	return ab / math.Sqrt(aa*bb)
}

func loudness(t *testing.T, path string) *talkingphoto.Loudness {
	t.Helper()
	wav := filepath.Join(t.TempDir(), "sound.wav")
	if out, err := exec.Command("ffmpeg", "-nostdin", "-v", "error", "-i", path, "-ac", "1", "-ar", "24000", wav).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	pcm, err := talkingphoto.ReadWAV(wav)
	if err != nil {
		t.Fatal(err)
	}
	return talkingphoto.NewLoudness(pcm)
}

// writeWall makes a picture without a face.
func writeWall(t *testing.T, path string) {
	t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, 640, 640))
	for y := range 640 {
		for x := range 640 {
			img.Set(x, y, color.RGBA{uint8(150 + x/16), uint8(120 + y/16), 90, 255})
		}
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(png.Encode(f, img), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// awaitEnd follows jobs.events, as any reader of the log can, to the job's end.
func awaitEnd(ctx context.Context, t *testing.T, log *eventlog.Log, job string) string {
	t.Helper()
	var state aggregates.Job
	ended := errors.New("ended")
	err := log.Tail(ctx, log.Whole(events.TopicJobEvents), func(b eventlog.Batch) error {
		for _, r := range b.Records {
			if r.Key != job {
				continue
			}
			m, err := events.Decode(r.Value)
			if err == nil {
				state, err = state.Apply(m)
			}
			if err != nil {
				return err
			}
		}
		if state.Terminal() {
			return ended
		}
		return nil
	}, nil)
	if !errors.Is(err, ended) {
		t.Fatalf("job %s stands at %s: %v", job, state.State, err)
	}
	return state.State
}

func firstDifference(a, b string) string {
	as, bs := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(as), len(bs)) {
		if as[i] != bs[i] {
			return fmt.Sprintf("line %d\n%s\n%s", i+1, as[i], bs[i])
		}
	}
	return fmt.Sprintf("%d and %d lines", len(as), len(bs))
}
