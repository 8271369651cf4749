// Everything that moves lips or renders, held to what all of them must do.

package gpu

import (
	"bytes"
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// fakeFFmpeg is how the binary is named when it plays ffmpeg; it is the real one but for
// what finishes a stage.
const fakeFFmpeg = "fake-ffmpeg-"

var _ = playFFmpeg()

func playFFmpeg() bool {
	behaviour, ok := strings.CutPrefix(filepath.Base(os.Args[0]), fakeFFmpeg)
	if !ok {
		return false
	}
	real, err := exec.LookPath("ffmpeg")
	result := filepath.Base(os.Args[len(os.Args)-1])
	if err != nil || behaviour == works || !slices.Contains([]string{"talking.mp4", "clip.mp4", "clip0.wav", "upscaled.mp4"}, result) {
		_ = syscall.Exec(real, append([]string{"ffmpeg"}, os.Args[1:]...), os.Environ())
		os.Exit(99)
	}
	s := &fakeScript{behaviour: behaviour}
	switch behaviour {
	case hangs:
		err = s.hang()
	case starves:
		err = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case garbles:
		err = errors.New("Error while opening encoder for output stream")
	}
	if err != nil {
		_, _ = os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	os.Exit(0)
	return true
}

func plantFFmpeg(t *testing.T, behaviour string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), fakeFFmpeg+behaviour)
	if behaviour != lost {
		if err := os.Symlink(self, path); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

var builtInClasses = map[string]string{
	starves: events.ClassOOM, garbles: events.ClassEngineRejected, mute: events.ClassEngineRejected, lost: events.ClassEngineUnavailable,
}

// toTalk is an attempt with a portrait, or a clip of it, and a second of speech.
func toTalk(clip bool) func(t *testing.T) *Attempt {
	return func(t *testing.T) *Attempt {
		speech := makeMedia(t, "s.wav", "-f", "lavfi", "-i", "sine=frequency=200", "-t", "1")
		a := &Attempt{Params: map[string]any{"resolution": "576p", "fps": 10.0}, Files: map[string][]File{"speech": {{Path: speech, Artifact: events.Artifact{DurationMS: 1000}}}}}
		if clip { // shorter than the speech
			path := makeMedia(t, "c.mp4", "-loop", "1", "-i", portraitPath(t), "-t", "0.6", "-r", "10", "-vf", "scale=320:-2,crop=320:320:0:0", "-pix_fmt", "yuv420p")
			a.Files["clip"] = []File{{Path: path, Artifact: events.Artifact{DurationMS: 600}}}
			return a
		}
		a.Files["portrait"] = input(portraitPath(t))
		return a
	}
}

// talksWell holds a talking picture against its speech.
func talksWell(t *testing.T, a *Attempt, out *Output) {
	t.Helper()
	f := out.Files["talking"][0]
	info, err := testTool().probe(t.Context(), f.Path)
	if err != nil {
		t.Fatal(err)
	}
	side := 576
	if len(a.Files["clip"]) > 0 {
		side = 320
	}
	v := info.Video
	if v == nil || v.Codec != "h264" || v.Width != side || v.Height != side || f.Artifact.Width != side || v.FPS != 10 || math.Abs(v.Seconds-1.4) > 0.11 || math.Abs(float64(f.Artifact.DurationMS)/1000-v.Seconds) > 0.01 {
		t.Errorf("video %+v, artifact %+v", v, f.Artifact)
	}
	if s := info.Audio; s == nil || s.Codec != "aac" || math.Abs(s.Seconds-v.Seconds) > 0.1 {
		t.Errorf("sound %+v", s)
	}
	if film, err := os.ReadFile(f.Path); err != nil || bytes.Contains(film, []byte("secret")) || !strings.Contains(info.Comment, "AI generated") {
		t.Errorf("the result tells of what it should not, or not of its origin: %v, %q", err, info.Comment)
	}
}

// rendersWell holds a clip against what was asked for.
func rendersWell(t *testing.T, _ *Attempt, out *Output) {
	t.Helper()
	info, err := testTool().probe(t.Context(), out.Files["clip"][0].Path)
	if err != nil {
		t.Fatal(err)
	}
	if v := info.Video; v == nil || v.Codec != "h264" || v.Width != 576 || v.Height != 576 || v.FPS != 10 || math.Abs(v.Seconds-1) > 0.11 || info.Audio != nil {
		t.Errorf("clip %+v, sound %+v", v, info.Audio)
	}
	if still, err := loadPicture(out.Files["scene_image"][0].Path); err != nil || still.Rect.Dx() != 576 {
		t.Errorf("the scene's picture: %v", err)
	}
}

func toRender(t *testing.T) *Attempt {
	return &Attempt{Params: map[string]any{"resolution": "576p", "fps": 10.0, "duration_seconds": 1.0, "seed": 2.0}, Files: map[string][]File{"portrait": input(portraitPath(t))}}
}

// programClasses are what programs can do wrong.
var programClasses = map[string]string{
	starves: events.ClassOOM, killed: events.ClassOOM, stalls: events.ClassStalled, garbles: events.ClassEngineRejected, halves: events.ClassEngineRejected, mute: events.ClassEngineRejected,
	lost: events.ClassEngineUnavailable, lacking: events.ClassEngineUnavailable, blind: events.ClassInvalidInput, short: events.ClassEngineRejected,
}

func onlyLipsync(t *testing.T, c LipsyncConfig) engine {
	t.Helper()
	engines, err := LipsyncEngines(c, EngineConfig{})
	if err != nil || len(engines) != 1 {
		t.Fatalf("%d engines, error %v", len(engines), err)
	}
	return engines[0]
}

func wav2LipTrial(name string, clip bool) engineTrial {
	return engineTrial{name: name, task: "lipsync.apply", lane: events.LaneLipsync, fidelity: events.FidelityFull, attempt: toTalk(clip), check: talksWell, classes: programClasses,
		begin: func(t *testing.T, behaviour string) trialEngine {
			program := plantProgram(t, behaviour)
			folder := checkout(t, "inference.py", "checkpoints/wav2lip_gan.pth", "face_detection/detection/sfd/s3fd.pth")
			return plantedEngine(t, program, onlyLipsync(t, LipsyncConfig{Wav2Lip: LipsyncProgramConfig{Folder: folder, Python: program, Idle: impatience(behaviour)}}), nothing)
		}}
}

func sadTalkerTrial() engineTrial {
	classes := map[string]string{circles: events.ClassOOM}
	for behaviour, class := range programClasses {
		classes[behaviour] = class
	}
	return engineTrial{name: "sadtalker", task: "lipsync.apply", lane: events.LaneLipsync, fidelity: events.FidelityFull, attempt: toTalk(false), check: talksWell, classes: classes,
		begin: func(t *testing.T, behaviour string) trialEngine {
			program := plantProgram(t, behaviour)
			folder := checkout(t, "inference.py", "checkpoints/SadTalker_V0.0.2_512.safetensors", "gfpgan/weights/alignment_WFLW_4HG.pth")
			return plantedEngine(t, program, onlyLipsync(t, LipsyncConfig{SadTalker: LipsyncProgramConfig{Folder: folder, Python: program, Idle: impatience(behaviour)}}), nothing)
		}}
}

func lipsyncCommandTrial() engineTrial {
	return engineTrial{name: "command", task: "lipsync.apply", lane: events.LaneLipsync, fidelity: events.FidelityPreview, attempt: toTalk(false), check: talksWell,
		classes: map[string]string{starves: events.ClassOOM, mute: events.ClassEngineRejected, halves: events.ClassEngineRejected},
		begin: func(t *testing.T, behaviour string) trialEngine {
			program := plantProgram(t, behaviour)
			weights := checkout(t, "w.pth")
			return plantedEngine(t, program, onlyLipsync(t, LipsyncConfig{Command: CommandLipsyncConfig{Preview: true,
				Argv: []string{program, "run", "inference.py", "--face", "{face}", "--audio", "{speech}", "--outfile", "{out}", "--fps", "{fps}", "--checkpoint_path", weights + "/w.pth"}}}), nothing)
		}}
}

// comfyTrial is a template on the server that plays recorded traffic.
func comfyTrial(template, task, lane string, attempt func(t *testing.T) *Attempt, check func(*testing.T, *Attempt, *Output)) engineTrial {
	return engineTrial{name: "comfyui-" + template, task: task, lane: lane, fidelity: events.FidelityFull, attempt: attempt, check: check,
		classes: map[string]string{
			starves: events.ClassOOM, stalls: events.ClassStalled, garbles: events.ClassEngineRejected, halves: events.ClassEngineRejected, mute: events.ClassEngineRejected,
			lost: events.ClassEngineUnavailable, restarts: events.ClassEngineUnavailable, unheard: "",
		},
		begin: func(t *testing.T, behaviour string) trialEngine {
			f := serveComfy(t, plays("ws_success", "history_success"))
			e := engineOn(t, f, template, func(c *ComfyUIConfig) {
				if behaviour == stalls {
					c.Idle = 300 * time.Millisecond
				}
			})
			f.node, f.result = e.t.Output.Node, leakyFilm(t, "1.4")
			misbehaveComfy(f, behaviour)
			return trialEngine{engine: e, files: nothing, works: func() bool { f.mu.Lock(); defer f.mu.Unlock(); return len(f.running) > 0 }, gone: func() bool {
				f.mu.Lock()
				defer f.mu.Unlock()
				return len(f.running)+len(f.pending) == 0 || behaviour == lost
			}}
		}}
}

func misbehaveComfy(f *fakeComfy, behaviour string) {
	switch behaviour {
	case hangs, stalls:
		f.play = func(f *fakeComfy, id string) { f.begin(id) }
	case starves:
		f.play = plays("ws_oom", "history_oom")
	case garbles:
		f.result = []byte("not a film at all, whatever it is called")
	case halves:
		f.result = f.result[:len(f.result)/2]
	case mute:
		f.node = "999" // of another node
	case lost:
		f.play = func(f *fakeComfy, id string) { f.begin(id); f.vanish() }
	case restarts:
		f.play = func(f *fakeComfy, id string) {
			f.begin(id)
			f.say(id, "ws_before_drop")
			f.change(func() { f.running = nil })
		}
	case unheard:
		f.intercept = losesFirst(f)
	}
}

func TestLipsyncConforms(t *testing.T) {
	t.Parallel()
	builtIn := func(name string, clip bool) engineTrial {
		return engineTrial{name: name, task: "lipsync.apply", lane: events.LaneLipsync, fidelity: events.FidelityPreview, attempt: toTalk(clip), check: talksWell, classes: builtInClasses,
			begin: func(t *testing.T, behaviour string) trialEngine {
				program := plantFFmpeg(t, behaviour)
				return plantedEngine(t, program, &talkingPhoto{&mediaTool{ffmpeg: program, ffprobe: "ffprobe"}, testFaces()}, nothing)
			}}
	}
	for _, tr := range []engineTrial{
		builtIn("talking-photo", false), builtIn("talking-photo-clip", true), wav2LipTrial("wav2lip", true), wav2LipTrial("wav2lip-portrait", false), sadTalkerTrial(), lipsyncCommandTrial(),
		comfyTrial("talk", "lipsync.apply", events.LaneLipsync, toTalk(false), talksWell), comfyTrial("latentsync", "lipsync.apply", events.LaneLipsync, toTalk(true), talksWell),
	} {
		t.Run(tr.name, func(t *testing.T) {
			t.Parallel()
			tr.conforms(t)
		})
	}
}

func TestRendersConform(t *testing.T) {
	t.Parallel()
	for _, tr := range []engineTrial{
		{name: "ken-burns", task: "render_video", lane: events.LaneRender, fidelity: events.FidelityPreview, attempt: toRender, check: rendersWell, classes: builtInClasses,
			begin: func(t *testing.T, behaviour string) trialEngine {
				program := plantFFmpeg(t, behaviour)
				return plantedEngine(t, program, &kenBurns{&mediaTool{ffmpeg: program, ffprobe: "ffprobe"}, &faceNetworks{}}, nothing)
			}},
		comfyTrial("svd", "render_video", events.LaneRender, toRender, rendersWell),
	} {
		t.Run(tr.name, func(t *testing.T) {
			t.Parallel()
			tr.conforms(t)
		})
	}
}

// What the programs are really told, and where their habits lead.
func TestLipsyncProgramsAreToldPlainNames(t *testing.T) {
	t.Parallel()
	for name, tr := range map[string]engineTrial{"wav2lip": wav2LipTrial("", true), "sadtalker": sadTalkerTrial()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := tr.begin(t, works)
			a, _ := tr.watched(t)
			a.Dir = filepath.Join(t.TempDir(), "a.dotted; folder")
			a.Reduce = 1
			if err := os.Mkdir(a.Dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if _, err := e.engine.Run(inTime(t), a); err != nil {
				t.Fatal(err)
			}
			l := e.engine.(*lipsyncProgram)
			text, err := os.ReadFile(filepath.Join(filepath.Dir(l.argv[0]), "args-inference.py"))
			if err != nil {
				t.Fatal(err)
			}
			words := strings.Split(string(text), "\n")
			for option, want := range map[string]map[string]string{
				"wav2lip":   {"--face": "face.mp4", "--audio": "speech.wav", "--outfile": "result/out.mp4", "--face_det_batch_size": "4", "--wav2lip_batch_size": "32"},
				"sadtalker": {"--source_image": "face.png", "--driven_audio": "speech.wav", "--result_dir": "result", "--size": "256", "--batch_size": "1"},
			}[name] {
				if i := slices.Index(words, option); i < 0 || words[i+1] != want {
					t.Errorf("%s is not %q: %q", option, want, words)
				}
			}
		})
	}
}

func TestNoFaceMayBeShownStill(t *testing.T) {
	t.Parallel()
	for name, tr := range map[string]engineTrial{"a clip": wav2LipTrial("", true), "a portrait": sadTalkerTrial()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := tr.begin(t, blind)
			a, _ := tr.watched(t)
			_, err := e.engine.Run(inTime(t), a)
			if te := wantTaskError(t, err, events.ClassInvalidInput); !strings.Contains(te.Hint, "still") || te.LogTail == "" {
				t.Errorf("hint %q, log %q", te.Hint, te.LogTail)
			}
			a, _ = tr.watched(t)
			a.Params["no_face"] = "still"
			out, err := e.engine.Run(inTime(t), a)
			if err != nil {
				t.Fatal(err)
			}
			talksWell(t, a, out)
			if !strings.Contains(strings.Join(out.Notes, " "), "without mouth movement") {
				t.Errorf("notes %q", out.Notes)
			}
		})
	}
}
