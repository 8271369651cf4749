// The talking photo of people who differ: young and old, bearded, with glasses, turned,
// painted, in colour and without, near and far. What is made of each is held against the same
// checks of the finished file, and each of the checks is shown to fail by a file that was
// spoiled in that one way.

package main

import (
	"context"
	"fmt"
	"image"
	_ "image/jpeg" // the portraits
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gpu "github.com/myspinbot/myspinbot/gpu-consumers"
	"github.com/myspinbot/myspinbot/internal/devstack"
	"github.com/myspinbot/myspinbot/internal/devstack/devstacktest"
	"github.com/myspinbot/myspinbot/internal/talkingphoto"
)

const (
	portraitsFolder = "../../internal/talkingphoto/testdata/portraits"
	portraitText    = "Hello, my name is Mary, and this video was made from one photo."
)

// studio has the built-in engines make a video and judges what came out.
type studio struct {
	run   map[string]func(context.Context, *gpu.Attempt) (*gpu.Output, error)
	model *talkingphoto.FaceModel
}

func newStudio(t *testing.T) *studio {
	t.Helper()
	weights, err := devstack.FaceWeights()
	if err != nil {
		t.Fatal(err)
	}
	s := &studio{run: map[string]func(context.Context, *gpu.Attempt) (*gpu.Output, error){}}
	if s.model, err = talkingphoto.LoadFaceModel(weights); err != nil {
		t.Fatal(err)
	}
	for _, e := range gpu.BuiltinEngines(gpu.EngineConfig{FaceWeights: weights}) {
		can, gap := e.Capability(t.Context())
		if gap != nil {
			t.Fatalf("%+v", gap)
		}
		s.run[can.Task] = e.Run
	}
	return s
}

// stage runs one task.
func (s *studio) stage(t *testing.T, task string, files map[string][]gpu.File, params map[string]any) *gpu.Output {
	t.Helper()
	out, err := s.run[task](t.Context(), &gpu.Attempt{Dir: t.TempDir(), Files: files, Params: params, Texts: map[string]string{"narration": portraitText}})
	if err != nil {
		t.Fatalf("%s: %v", task, err)
	}
	return out
}

// film is a finished video with the speech in it.
type film struct {
	video  string
	speech []gpu.File
}

// film has a portrait speak, or with task render_video be filmed without speaking.
func (s *studio) film(t *testing.T, task, portrait, voice string) film {
	t.Helper()
	said := s.stage(t, "tts.synthesize", nil, map[string]any{"voice": voice}).Files
	said["portrait"] = []gpu.File{{Path: portrait}}
	seconds := math.Ceil(float64(said["speech"][0].Artifact.DurationMS) / 1000)
	made := s.stage(t, task, said, map[string]any{"resolution": "576p", "aspect": "1:1", "fps": 25.0, "duration_seconds": seconds}).Files
	picture := slices.Concat(made["talking"], made["clip"])
	whole := s.stage(t, "media.assemble", map[string][]gpu.File{"video": picture, "speech": said["speech"], "timing": said["timing"]}, nil)
	return film{whole.Files["video"][0].Path, said["speech"]}
}

// faults are the checks that a video fails: those of the job's own last stage by their
// codes, and ours: words, sync, jaw, face.
func (s *studio) faults(t *testing.T, f film, portrait string) []string {
	t.Helper()
	var found []string
	for _, r := range s.stage(t, "media.check", map[string][]gpu.File{"video": {{Path: f.video}}, "speech": f.speech}, nil).Verdict.Reasons {
		found = append(found, r.Code)
	}
	heard := devstacktest.Heard(t, f.video)
	if share := devstacktest.Understood(devstacktest.Words(portraitText), heard); share < 0.5 {
		found = append(found, "words")
		t.Logf("%.0f %% of the words are recognised: %q", 100*share, heard)
	}
	frames := stills(t, f.video)
	marks := s.landmarks(t, frames[0])
	if marks == nil || !s.sameFace(t, frames, *marks, readPicture(t, portrait)) {
		found = append(found, "face")
	}
	if marks == nil {
		return found
	}
	clip, err := talkingphoto.DecodeClip(t.Context(), f.video, talkingphoto.ClipOptions{})
	if err != nil {
		t.Fatal(err)
	}
	jaw := clip.JawDrop(mouthAndJaw(marks), frames[0].Bounds().Dx())
	lag, corr := talkingphoto.BestLag(jaw, loudness(t, f.video), clip.FPS)
	eyes := marks.Eyes() * float64(clip.W) / float64(frames[0].Bounds().Dx())
	moved := (slices.Max(jaw) - slices.Min(jaw)) / eyes
	t.Logf("lag %.0f ms, correlation %.2f, the jaw moves by %.2f of the distance of the eyes", lag, corr, moved)
	if math.Abs(lag) > 80 || corr < 0.3 {
		found = append(found, "sync")
	}
	if moved < 0.06 {
		found = append(found, "jaw")
	}
	return found
}

// landmarks are those of the largest face; nil where there is none.
func (s *studio) landmarks(t *testing.T, img image.Image) *talkingphoto.Landmarks {
	t.Helper()
	faces, err := s.model.Detect(t.Context(), img)
	if err != nil {
		return nil
	}
	marks, err := s.model.Landmarks(img, faces[0].Box)
	if err != nil {
		return nil
	}
	return &marks
}

// sameFace says whether every frame shows the first one's face in its place, and whether
// that is the photo's around the eyes: in nearly all frames, since some have them closed.
func (s *studio) sameFace(t *testing.T, frames []image.Image, first talkingphoto.Landmarks, photo image.Image) bool {
	t.Helper()
	original := aligned(t, s.model, photo, false)
	alike, farthest, marks := []float64{}, 0.0, first
	for i, f := range frames {
		next, err := s.model.Follow(f, marks)
		if err != nil {
			t.Logf("still %d: %v", i, err)
			return false
		}
		marks = next
		for _, k := range []int{27, 36, 45} { // between the eyes, and their outer corners
			a, b := marks.Points[k], first.Points[k]
			farthest = max(farthest, math.Hypot(a.X-b.X, a.Y-b.Y)/first.Eyes())
		}
		alike = append(alike, likeness(original, eyeBand(f, marks.Points[:], false)))
	}
	slices.Sort(alike)
	t.Logf("likeness %.2f to %.2f, farthest %.2f", alike[0], alike[len(alike)-1], farthest)
	return alike[0] > 0.5 && alike[len(alike)/2] > 0.8 && farthest < 0.2
}

// mouthAndJaw is where lips and jaw move.
func mouthAndJaw(l *talkingphoto.Landmarks) image.Rectangle {
	a, b := l.Points[48], l.Points[54]
	half, x, y := math.Hypot(b.X-a.X, b.Y-a.Y)/2, (a.X+b.X)/2, (a.Y+b.Y)/2
	return image.Rect(int(x-1.25*half), int(y-.75*half), int(x+1.25*half), int(y+half))
}

func readPicture(t *testing.T, path string) image.Image {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, _, err := image.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func portraitOf(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(portraitsFolder, name+".jpg")
	if name == "collins" {
		path = portraitFile
	}
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPeopleWhoDifferSpeak(t *testing.T) {
	t.Parallel()
	s := newStudio(t)
	for name, voice := range map[string]string{
		"collins": "slt", "hopper": "slt", "jemison": "slt", "mona_lisa": "slt", "douglass": "rms", "thoreau": "rms", "humboldt": "rms",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if faults := s.faults(t, s.film(t, "lipsync.apply", portraitOf(t, name), voice), portraitOf(t, name)); len(faults) > 0 {
				t.Errorf("it fails by %q", faults)
			}
		})
	}
}

func TestTheChecksOfSpeakingPeopleCanFail(t *testing.T) {
	t.Parallel()
	s := newStudio(t)
	thoreau, hopper := portraitOf(t, "thoreau"), portraitOf(t, "hopper")
	good := s.film(t, "lipsync.apply", thoreau, "rms")
	spoiled := func(name string, args ...string) film {
		path := filepath.Join(t.TempDir(), name+".mp4")
		args = slices.Concat([]string{"-nostdin", "-v", "error", "-i", good.video}, args, []string{"-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", path})
		if out, err := exec.Command("ffmpeg", args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return film{path, good.speech}
	}
	for name, c := range map[string]struct {
		film     func() film
		portrait string
		faults   string
	}{
		"the mouth is still":          {func() film { return s.film(t, "render_video", thoreau, "rms") }, thoreau, "mouth_still sync jaw"},
		"the sound comes 0.4 s later": {func() film { return spoiled("late", "-af", "adelay=400:all=1", "-shortest") }, thoreau, "sync"},
		"other words are said":        {func() film { return spoiled("hum", "-af", "lowpass=f=300,lowpass=f=300,loudnorm=I=-16") }, thoreau, "words"},
		"somebody else speaks":        {func() film { return good }, hopper, "face"},
		"nobody is in it":             {func() film { return spoiled("blur", "-vf", "gblur=sigma=60") }, thoreau, "no_face face"},
		"the face goes away": {func() film {
			return spoiled("gone", "-vf", "drawbox=x=0:y=0:w=iw:h=ih:color=gray:t=fill:enable='gt(t,2)'")
		}, thoreau, "face"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			faults := s.faults(t, c.film(), c.portrait)
			for _, want := range strings.Fields(c.faults) {
				if !slices.Contains(faults, want) {
					t.Errorf("%s is not among the faults %q", want, faults)
				}
			}
			if c.faults == "sync" || c.faults == "words" {
				if fmt.Sprint(faults) != "["+c.faults+"]" {
					t.Errorf("the faults are %q, want %s alone", faults, c.faults)
				}
			}
		})
	}
}
