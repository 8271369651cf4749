// Programs that move lips and train, as they really behave: the test's own binary under
// another name plays them.

package gpu

import (
	"archive/zip"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	ossignal "os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Further behaviours of programs; others are those of the fake voices.
const (
	blind   = "blind"   // finds no face
	killed  = "killed"  // is ended from outside
	lacking = "lacking" // is not installed whole
	circles = "circles" // waits for memory for ever
	short   = "short"   // ends well with far too little
)

const noFaceOfWav2Lip = "ValueError: Face not detected! Ensure the video contains a face in all the frames."

// fakePython is how the binary is named when it plays Python, or what starts it.
const fakePython = "fake-python-"

// A process that is started as a fake program never gets to its tests.
var _ = playProgram()

func playProgram() bool {
	behaviour, ok := strings.CutPrefix(filepath.Base(os.Args[0]), fakePython)
	if !ok {
		return false
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(os.Args[0]), "mended")); err == nil {
		behaviour = works
	}
	if err := (&fakeScript{behaviour: behaviour}).run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "Traceback (most recent call last):\n  File \"x.py\", line 1, in <module>\n%v\n", err)
		os.Exit(1)
	}
	os.Exit(0)
	return true
}

// fakeScript is a script that runs.
type fakeScript struct {
	behaviour string
	script    string
	opts      map[string]string
	stated    []string // options without a value
}

func (s *fakeScript) run(args []string) error {
	if len(args) > 0 && args[0] == "launch" { // accelerate starts the script as a process of its own
		cmd := exec.Command(os.Args[0], args[1:]...)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		err := cmd.Run()
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signaled() { // as subprocess.CalledProcessError tells it
			return fmt.Errorf("subprocess.CalledProcessError: Command '%v' died with <Signals.SIGKILL: 9>", args)
		}
		return err
	}
	at := slices.IndexFunc(args, func(a string) bool { return strings.HasSuffix(a, ".py") })
	if at < 0 {
		return fmt.Errorf("called with %q", args)
	}
	s.script, s.opts = args[at], map[string]string{}
	for rest := args[at+1:]; len(rest) > 0; rest = rest[1:] {
		if len(rest) > 1 && !strings.HasPrefix(rest[1], "-") {
			s.opts[rest[0]], rest = rest[1], rest[1:]
			continue
		}
		s.stated = append(s.stated, rest[0])
	}
	if err := s.begin(args); err != nil {
		return err
	}
	switch filepath.Base(s.script) {
	case "inference.py":
		if s.opts["--source_image"] != "" {
			return s.sadTalker()
		}
		return s.wav2Lip()
	case "sdxl_train_network.py", "train.py":
		return s.kohya()
	}
	return s.soVITS()
}

// begin writes down who runs, with what, and does what every program can.
func (s *fakeScript) begin(args []string) error {
	words := strings.Join(append(args, os.Environ()...), "\n")
	if err := os.WriteFile(filepath.Join(filepath.Dir(os.Args[0]), "args-"+filepath.Base(s.script)), []byte(words), 0o600); err != nil {
		return err
	}
	fmt.Println("Using cuda for inference.")
	if s.behaviour == hangs { // not yet
		return nil
	}
	return s.tell(os.Getpid())
}

// tell writes pids down beside the program.
func (s *fakeScript) tell(pids ...int) error {
	calls, err := os.OpenFile(filepath.Join(filepath.Dir(os.Args[0]), "calls"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(calls, strings.Trim(fmt.Sprint(pids), "[]"))
	return errors.Join(err, calls.Close())
}

// hang waits for a process of its own, in the same group, which lives for a minute.
func (s *fakeScript) hang() error {
	ossignal.Ignore(syscall.SIGTERM)
	sleeper := exec.Command("sleep", "60")
	if err := sleeper.Start(); err != nil {
		return err
	}
	return errors.Join(s.tell(os.Getpid(), sleeper.Process.Pid), sleeper.Wait())
}

// bar draws a bar of tqdm, over one line.
func bar(label string, n, all int) {
	fmt.Fprintf(os.Stderr, "\r%s%3d%%|%s| %d/%d [00:01<00:01, 12.0it/s]", label, 100*n/all, strings.Repeat("█", 10*n/all), n, all)
}

// inTheMiddle is what a program may do when half of its work is done.
func (s *fakeScript) inTheMiddle() error {
	switch s.behaviour {
	case hangs, stalls:
		return s.hang()
	case starves:
		return errors.New("torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 7.79 GiB total capacity)")
	case lacking:
		return errors.New("ModuleNotFoundError: No module named 'librosa'")
	case killed:
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	return nil
}

// spoil makes of a finished file what the behaviour asks for.
func (s *fakeScript) spoil(path string) error {
	switch s.behaviour {
	case garbles:
		return os.WriteFile(path, []byte(strings.Repeat("<!DOCTYPE html>\n", 100)), 0o600)
	case halves:
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		return os.Truncate(path, info.Size()/2)
	case mute:
		return os.Remove(path)
	}
	return nil
}

func ffmpegFor(args ...string) error {
	out, err := exec.Command("ffmpeg", append([]string{"-nostdin", "-v", "error", "-y"}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// wav2Lip is Wav2Lip's inference.py: its first dot, its temp/, its shell.
func (s *fakeScript) wav2Lip() error {
	face, outfile := s.opts["--face"], s.opts["--outfile"]
	still := slices.Contains([]string{"jpg", "png", "jpeg"}, strings.Split(face, ".")[1])
	if _, err := os.Stat(s.opts["--checkpoint_path"]); err != nil {
		return err
	}
	fmt.Println("Number of frames available for inference: 25")
	bar("", 0, 2)
	for i := range 3 {
		bar("", i, 2)
	}
	if s.behaviour == blind {
		return errors.New(noFaceOfWav2Lip)
	}
	if err := s.inTheMiddle(); err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr)
	fmt.Println("Load checkpoint from: " + s.opts["--checkpoint_path"] + "\nModel loaded")
	for i := range 5 {
		bar("", i, 4)
	}
	fmt.Fprintln(os.Stderr)
	length := "60"
	if s.behaviour == short {
		length = "0.2"
	}
	film := []string{"-i", face, "-i", s.opts["--audio"], "-map", "0:v", "-shortest", "-t", length, "-c:v", "mpeg4", "-q:v", "4", "temp/result.avi"}
	if still {
		film = append([]string{"-loop", "1", "-r", s.opts["--fps"]}, film...)
	}
	if err := ffmpegFor(append(film[:len(film):len(film)], "-map", "1:a")...); err != nil && !strings.Contains(err.Error(), "result.avi") {
		return err
	}
	shell := exec.Command("sh", "-c", fmt.Sprintf("ffmpeg -y -i %s -i %s -strict -2 -q:v 1 %s", s.opts["--audio"], "temp/result.avi", outfile))
	_ = shell.Run() // as it does
	if _, err := os.Stat(outfile); err != nil {
		return nil //nolint:nilerr // as it does
	}
	return s.spoil(outfile)
}

// sadTalker is SadTalker's inference.py: a folder with dots in its name, a result beside it.
func (s *fakeScript) sadTalker() error {
	if _, err := os.Stat("gfpgan/weights"); err != nil {
		return errors.New("urllib.error.URLError: <urlopen error [Errno -3] Temporary failure in name resolution>")
	}
	folder := filepath.Join(s.opts["--result_dir"], "2026_11_26_10.56.16")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	fmt.Println("using safetensor as default\n3DMM Extraction for source image")
	bar("landmark Det:", 1, 1)
	fmt.Fprintln(os.Stderr)
	switch s.behaviour {
	case blind:
		fmt.Println("No face is detected in the input file\nCan't get the coeffs of the input")
		return nil
	case circles:
		for {
			fmt.Println("Warning: out of memory, sleep for 1s")
			if err := exec.Command("sleep", "0.01").Run(); err != nil {
				return err
			}
		}
	}
	for _, label := range []string{"3DMM Extraction In Video:", "mel:", "audio2exp:", "Face Renderer:"} {
		for i := range 5 {
			bar(label, i, 4)
		}
		fmt.Fprintln(os.Stderr)
	}
	if err := s.inTheMiddle(); err != nil {
		return err
	}
	length := "60"
	if s.behaviour == short {
		length = "0.2"
	}
	inner := filepath.Join(folder, "face##speech_full.mp4")
	err := ffmpegFor("-loop", "1", "-r", "25", "-i", s.opts["--source_image"], "-i", s.opts["--driven_audio"], "-shortest", "-t", length, "-c:v", "mpeg4", "-c:a", "aac", inner)
	if err != nil {
		return err
	}
	for i := range 5 {
		bar("seamlessClone:", i, 4)
	}
	fmt.Printf("\nThe generated video is named %s/face##speech_full.mp4\n", folder)
	if err := errors.Join(os.Rename(inner, folder+".mp4"), os.RemoveAll(folder)); err != nil {
		return err
	}
	fmt.Println("The generated video is named:", folder+".mp4")
	return s.spoil(folder + ".mp4")
}

// tensors is a file of weights with one tensor.
func tensors(path string, value byte) error {
	const size = 4096
	head := fmt.Sprintf(`{"__metadata__":{"format":"pt"},"lora_unet.weight":{"dtype":"F16","shape":[2048],"data_offsets":[0,%d]}}`, size)
	content := append([]byte{byte(len(head)), 0, 0, 0, 0, 0, 0, 0}, head...)
	for range size {
		content = append(content, value)
	}
	return os.WriteFile(path, content, 0o600)
}

// torchFile is what torch.save writes.
func torchFile(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	z := zip.NewWriter(f)
	w, err := z.Create("archive/data.pkl")
	if err == nil {
		_, err = w.Write(make([]byte, 1000))
	}
	return errors.Join(err, z.Close())
}

// kohya is sd-scripts' train_network.py, with its states and its way to go on.
func (s *fakeScript) kohya() error {
	dataset, err := os.ReadFile(s.opts["--dataset_config"])
	if err != nil {
		return err
	}
	_, dir, _ := strings.Cut(string(dataset), `image_dir = "`)
	dir, _, _ = strings.Cut(dir, `"`)
	pictures, _ := filepath.Glob(filepath.Join(dir, "*.jpg"))
	if len(pictures) == 0 {
		return errors.New("ValueError: No data found. Please verify arguments (train_data_dir must be the parent of folders with images)")
	}
	number := func(name string) int { n, _ := strconv.Atoi(s.opts[name]); return n }
	all, every, done := number("--max_train_steps"), number("--save_every_n_steps"), number("--initial_step")
	if resume := s.opts["--resume"]; resume != "" {
		if _, err := os.Stat(filepath.Join(resume, "random_states_0.pkl")); err != nil {
			return err
		}
	}
	bar("caching latents...: ", 1, 1)
	fmt.Fprintln(os.Stderr, "\nINFO     running training / 学習開始")
	at := done % len(pictures) // steps count from the epoch in which it went on
	for n := 0; done+n < all; n++ {
		bar("steps: ", n, all-at)
		if at+n == 0 || (at+n)%every != 0 {
			continue
		}
		name := filepath.Join(s.opts["--output_dir"], fmt.Sprintf("lora-step%08d", at+n))
		if err := tensors(name+".safetensors", byte(n)); err != nil {
			return err
		}
		if err := os.Mkdir(name+"-state", 0o700); err != nil {
			return err
		}
		state, _ := json.Marshal(map[string]int{"current_epoch": 1, "current_step": at + n})
		if err := errors.Join(os.WriteFile(name+"-state/train_state.json", state, 0o600), os.WriteFile(name+"-state/random_states_0.pkl", []byte("x"), 0o600)); err != nil {
			return err
		}
		if done+n >= all/2 {
			if err := s.inTheMiddle(); err != nil {
				return err
			}
		}
	}
	fmt.Fprintln(os.Stderr, "\nmodel saved.")
	out := filepath.Join(s.opts["--output_dir"], s.opts["--output_name"]+".safetensors")
	return errors.Join(tensors(out, 7), s.spoil(out))
}

// plantProgram gives the binary its other name in a folder of its own.
func plantProgram(t *testing.T, behaviour string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), fakePython+behaviour)
	if behaviour == lost {
		return path
	}
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// checkout is a folder with the files.
func checkout(t *testing.T, files ...string) string {
	t.Helper()
	// A name with a dot and a space, which programs stumble over where they are told it.
	dir := filepath.Join(t.TempDir(), "the v1.0 checkout")
	for _, name := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("x"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
