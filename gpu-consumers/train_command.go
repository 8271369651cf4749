// train_lora by a program: kohya's sd-scripts, or any other by a template of its command
// line. The rules of command.go hold.

package gpu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// loraTrainer is an engine that is a program.
type loraTrainer struct {
	programConfig
	name, model, note string
	argv              []string
	folder, base      string
	resolution        int
	hint              string
	needs             []needed
	mark              string // of the bar that counts steps; empty: every bar does
	pattern           *regexp.Regexp
	signs             []refusalRule
	resume            func(r *reached) []string // arguments to go on; nil: the program does by itself, or not at all

	chains *chains
}

// Capability implements engine.
func (t *loraTrainer) Capability(context.Context) (events.TaskCapability, *events.TaskGap) {
	t.chains.sweep(time.Now())
	if _, err := exec.LookPath(t.argv[0]); err != nil {
		return events.TaskCapability{}, &events.TaskGap{Task: "train_lora", Engine: t.name, Reason: t.argv[0] + " is not installed here", Hint: t.hint}
	}
	if reason, hint := lacks(t.needs); reason != "" {
		return events.TaskCapability{}, &events.TaskGap{Task: "train_lora", Engine: t.name, Reason: reason, Hint: hint}
	}
	return events.TaskCapability{Task: "train_lora", Lane: events.LaneTrain, Engine: t.name, Model: t.model, Version: t.version(), Fidelity: events.FidelityFull}, nil
}

func (t *loraTrainer) version() string {
	return settingsVersion("1", t.argv, t.base, t.resolution)
}

// Shares of the percent: the set, loading, the steps, keeping.
const (
	setReady     = 5
	trainingOpen = 8
	trained      = 98
)

// Run implements engine: images in; lora (the weights) and checkpoints (weights on the
// way, with their step in the name) out.
func (t *loraTrainer) Run(ctx context.Context, a *Attempt) (out *Output, err error) {
	steps, err := a.span("max_steps", 1, 10000, 800)
	if err != nil {
		return nil, err
	}
	rank, err := a.span("rank", 1, 256, 16)
	if err != nil {
		return nil, err
	}
	job := &loraJob{t: t, steps: int(steps), rank: int(rank), scheduler: a.text("scheduler", "cosine"), set: filepath.Join(a.Dir, "set")}
	if err := job.prepareSet(ctx, a); err != nil {
		return nil, err
	}
	kept, err := t.chains.open(a, settingsVersion("1", t.name, t.version(), steps, rank, job.scheduler))
	if err != nil {
		return nil, err
	}
	defer func() { err = kept.close(ctx, err) }()
	if job.dir = kept.dir; t.resume != nil {
		job.from = job.furthest()
	}
	log, err := job.train(ctx, a)
	if err != nil {
		return nil, err
	}
	return job.collect(a, log)
}

// loraJob is one attempt on its way.
type loraJob struct {
	t           *loraTrainer
	steps, rank int
	scheduler   string
	set         string   // folder of the pictures
	pictures    int      // in it: steps of an epoch
	dir         string   // kept between attempts
	from        *reached // where it goes on; nil: from the beginning
	notes       []string
}

// reached is a state that a training can go on from.
type reached struct {
	state string // folder
	steps int    // done
}

func (j *loraJob) prepareSet(ctx context.Context, a *Attempt) (err error) {
	if err := os.Mkdir(j.set, 0o700); err != nil {
		return fmt.Errorf("cannot make the training set: %w", err)
	}
	scaled := *a
	scaled.Progress = func(percent float64, message string) { a.report(setReady*percent/100, message) }
	j.pictures, j.notes, err = trainingSet{}.add(ctx, &scaled, func(name string, content []byte) error {
		return os.WriteFile(filepath.Join(j.set, name), content, 0o600)
	}, fmt.Sprintf("a LoRA of rank %d was trained on it for %d steps", j.rank, j.steps))
	return err
}

// attemptFolder names the folder of the attempt that begins after so many steps.
var attemptFolder = regexp.MustCompile(`^from-([0-9]{6})-[0-9]+$`)

// steppedFile names what a step left: the weights, or the state.
var steppedFile = regexp.MustCompile(`^lora-step([0-9]{8})(\.safetensors|-state)$`)

// left lists what earlier steps of all attempts left with the ending, by how many steps
// the training had done by then.
func (j *loraJob) left(ending string) map[int]string {
	found := map[int]string{}
	all, _ := filepath.Glob(filepath.Join(j.dir, "from-*", "lora-step*")) // the pattern is sound
	for _, path := range all {
		folder, file := attemptFolder.FindStringSubmatch(filepath.Base(filepath.Dir(path))), steppedFile.FindStringSubmatch(filepath.Base(path))
		if folder == nil || file == nil || file[2] != ending {
			continue
		}
		base, _ := strconv.Atoi(folder[1]) // digits, as few as these
		n, _ := strconv.Atoi(file[1])
		found[base-base%j.pictures+n] = path
	}
	return found
}

// furthest is the whole state with the most steps, of those that leave some to do.
func (j *loraJob) furthest() *reached {
	var best *reached
	for steps, path := range j.left("-state") {
		if steps < j.steps && (best == nil || steps > best.steps) && plainFile(filepath.Join(path, "random_states_0.pkl")) && plainFile(filepath.Join(path, "train_state.json")) {
			best = &reached{path, steps}
		}
	}
	return best
}

const savedStates = 10 // in the course of a training

// train runs the program.
func (j *loraJob) train(ctx context.Context, a *Attempt) (*logTail, error) {
	t, from := j.t, 0
	if j.from != nil {
		from = j.from.steps
		j.notes = append(j.notes, fmt.Sprintf("an earlier attempt had done %d of %d steps, and this one went on from there", from, j.steps))
	}
	out := filepath.Join(j.dir, fmt.Sprintf("from-%06d-%d", from, a.Number))
	if err := errors.Join(os.RemoveAll(out), os.MkdirAll(out, 0o700)); err != nil {
		return nil, fmt.Errorf("cannot make the training's folder: %w", err)
	}
	resolution := t.resolution
	for range min(a.Reduce, 3) {
		resolution = max(256, resolution*3/4/64*64)
	}
	if resolution < t.resolution {
		j.notes = append(j.notes, fmt.Sprintf("trained at %d pixels in place of %d, because memory ran out before", resolution, t.resolution))
	}
	program := filepath.Join(a.Dir, "program")
	dataset := filepath.Join(program, "dataset.toml")
	err := os.Mkdir(program, 0o700)
	if err == nil {
		err = os.WriteFile(dataset, []byte(datasetConfig(j.set, resolution)), 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot describe the training set: %w", err)
	}
	argv := append([]string{t.argv[0]}, fillCommand(t.argv[1:], map[string]string{
		"folder": t.folder, "base": t.base, "set": j.set, "dataset": dataset, "work": j.dir, "out_dir": out, "out_name": "lora", "logs": program,
		"steps": strconv.Itoa(j.steps), "rank": strconv.Itoa(j.rank), "alpha": strconv.Itoa(max(1, j.rank/2)), "resolution": strconv.Itoa(resolution),
		"save_every": strconv.Itoa(max(1, j.steps/savedStates)), "scheduler": j.scheduler,
	})...)
	if j.from != nil {
		argv = append(argv, t.resume(j.from)...)
	}
	share := func(steps int) float64 { return trainingOpen + (trained-trainingOpen)*float64(steps)/float64(j.steps) }
	bars := &bars{phases: []phase{{"", share(from), trained, 0}}, pattern: t.pattern, report: func(percent float64) { a.report(percent, "training the LoRA") }}
	if t.mark != "" {
		bars.phases = []phase{{"", setReady, trainingOpen, 0}, {t.mark, share(from), trained, float64(j.steps - from)}}
	}
	_, log, err := programRun{programConfig: t.programConfig, name: t.name, argv: argv, dir: program, install: t.hint, signs: t.signs, bars: bars}.run(ctx)
	return log, err
}

// datasetConfig describes the set to sd-scripts.
func datasetConfig(set string, resolution int) string {
	return fmt.Sprintf("[general]\ncaption_extension = \".txt\"\nenable_bucket = true\n\n[[datasets]]\nresolution = %d\nbatch_size = 1\n\n  [[datasets.subsets]]\n  image_dir = %s\n  num_repeats = 1\n",
		resolution, strconv.Quote(set))
}

// collect takes the weights, and what there is of weights on the way.
func (j *loraJob) collect(a *Attempt, log *logTail) (*Output, error) {
	refuse := func(what string, err error) error {
		return &TaskError{Class: events.ClassEngineRejected, Message: j.t.name + " ended well but " + what, Hint: "the end of its log says why", LogTail: log.String(), Err: err}
	}
	weights := j.weights()
	if weights == "" {
		return nil, refuse("left no weights", nil)
	}
	if err := checkSafetensors(weights); err != nil {
		return nil, refuse("its weights are damaged", err)
	}
	lora := filepath.Join(a.Dir, "lora.safetensors")
	if err := copyFile(weights, lora); err != nil {
		return nil, err
	}
	artifact := func(name string) events.Artifact {
		return events.Artifact{Name: name, Type: "weights", MediaType: "application/octet-stream"}
	}
	files := map[string][]File{"lora": {{Path: lora, Artifact: artifact("lora.safetensors")}}}
	steps := j.left(".safetensors")
	var order []int
	for n, path := range steps {
		if n < j.steps && checkSafetensors(path) == nil {
			order = append(order, n)
		}
	}
	slices.Sort(order)
	for _, n := range order[max(0, len(order)-savedStates):] {
		name := fmt.Sprintf("lora-step%06d.safetensors", n)
		if err := copyFile(steps[n], filepath.Join(a.Dir, name)); err != nil {
			return nil, err
		}
		files["checkpoints"] = append(files["checkpoints"], File{Path: filepath.Join(a.Dir, name), Artifact: artifact(name)})
	}
	notes := j.notes
	if j.t.note != "" {
		notes = append(notes, j.t.note)
	}
	a.report(100, "LoRA ready")
	return &Output{Files: files, Fidelity: events.FidelityFull, Engine: j.t.name, Model: j.t.model, Version: j.t.version(), Notes: notes}, nil
}

// weights is the newest file of weights that is no step's. Empty: there is none.
func (j *loraJob) weights() string {
	all, _ := filepath.Glob(filepath.Join(j.dir, "from-*", "*.safetensors")) // the pattern is sound
	newest, at := "", time.Time{}
	for _, path := range all {
		info, err := os.Lstat(path)
		if err == nil && plainFile(path) && !steppedFile.MatchString(filepath.Base(path)) && !info.ModTime().Before(at) {
			newest, at = path, info.ModTime()
		}
	}
	return newest
}
