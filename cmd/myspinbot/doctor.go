// `myspinbot doctor`: what is here, what is missing, and how to get it.

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	gpu "github.com/myspinbot/myspinbot/gpu-consumers"
	"github.com/myspinbot/myspinbot/internal/devstack"
	"github.com/myspinbot/myspinbot/internal/erasure"
	"github.com/myspinbot/myspinbot/internal/objects"
	"github.com/myspinbot/myspinbot/internal/talkingphoto"
)

// checkTimeout bounds one check, so that a dead address cannot hold up the rest.
const checkTimeout = 10 * time.Second

// check looks at one thing. look answers with what was found, or with what is wrong.
type check struct {
	name     string
	required bool // without it no video is made, or something configured does not work
	look     func(ctx context.Context) (found string, err error)
	remedy   string
}

// runDoctor is `myspinbot doctor`: 0 when everything required is there, 1 when
// something is missing, 2 when the flags are wrong.
func runDoctor(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cfg, rest, err := loadConfig(args, os.Environ())
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintln(stdout, "usage: myspinbot doctor [flags of the configuration]\nsays what is missing and how to get it; exits 1 when something required is")
		return 0
	case err == nil && len(rest) > 0:
		err = fmt.Errorf("doctor takes flags only, not %q", rest[0])
	}
	if err != nil {
		fmt.Fprintf(stderr, "myspinbot doctor: %v\n", err)
		return 2
	}
	return examine(ctx, append(programChecks(cfg), serviceChecks(cfg)...), stdout)
}

// examine runs the checks in their order and prints a line for each.
func examine(ctx context.Context, checks []check, stdout io.Writer) int {
	status := 0
	for _, c := range checks {
		ctx, cancel := context.WithTimeout(ctx, checkTimeout)
		found, err := c.look(ctx)
		cancel()
		switch {
		case err == nil:
			fmt.Fprintf(stdout, "ok        %-22s %s\n", c.name, printable(found))
			continue
		case c.required:
			status = 1
			fmt.Fprintf(stdout, "MISSING   %-22s %s\n", c.name, printable(err.Error()))
		default:
			fmt.Fprintf(stdout, "optional  %-22s %s\n", c.name, printable(err.Error()))
		}
		fmt.Fprintf(stdout, "          %-22s → %s\n", "", c.remedy)
	}
	if status != 0 {
		fmt.Fprintln(stdout, "\nWhat is MISSING is needed; `make deps` installs programs and weights where it can.")
	}
	return status
}

// programChecks look at what this machine needs to make a video by itself.
func programChecks(cfg Config) []check {
	e := cfg.Engines
	ffmpeg, ffprobe, flite := or(e.FFmpeg, "ffmpeg"), or(e.FFprobe, "ffprobe"), or(e.Flite, "flite")
	const media = "apt-get install ffmpeg, or a build with libx264, aac and libass; another place: engines.ffmpeg, engines.ffprobe"
	return []check{
		{"ffmpeg", true, func(ctx context.Context) (string, error) { return lookAtFFmpeg(ctx, ffmpeg) }, media},
		{"ffprobe", true, func(ctx context.Context) (string, error) { return firstLine(ctx, ffprobe, "-version") }, media},
		{"flite", true, func(ctx context.Context) (string, error) { return lookAtFlite(ctx, flite) }, "apt-get install flite; another place: engines.flite"},
		{"face weights", true, func(context.Context) (string, error) { return lookAtWeights(e.Face.Weights) }, "make deps (it needs npm); another place: engines.face.weights"},
		{"own pipelines", cfg.Pipelines.Dir != "", func(context.Context) (string, error) { return lookAtPipelines(cfg.Pipelines.Dir) }, "docs/pipelines.md says how a pipeline is written; without pipelines.dir there are the built-in ones"},
		{"PostgreSQL programs", false, func(context.Context) (string, error) { return devstack.PostgresBin() }, "make deps; only `myspinbot dev` and `demo` start a database themselves"},
		{"myspinbot-devstack", false, func(context.Context) (string, error) { return devstack.HelperBin() }, "make build; only `myspinbot dev` and `demo` start a log and a store themselves"},
	}
}

func or(given, usual string) string {
	if given != "" {
		return given
	}
	return usual
}

// output runs a program without a shell and without input.
func output(ctx context.Context, program string, args ...string) (string, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return "", fmt.Errorf("%s is not installed", program)
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.WaitDelay = time.Second // for pipes that a grandchild holds open
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s does not work: %w: %.200s", program, strings.Join(args, " "), err, out.String())
	}
	return out.String(), nil
}

func firstLine(ctx context.Context, program string, args ...string) (string, error) {
	out, err := output(ctx, program, args...)
	line, _, _ := strings.Cut(out, "\n")
	return line, err
}

// lookAtFFmpeg looks for the encoders and the filter that videos and captions need.
func lookAtFFmpeg(ctx context.Context, ffmpeg string) (string, error) {
	version, err := firstLine(ctx, ffmpeg, "-version")
	if err != nil {
		return "", err
	}
	var missing []string
	for list, names := range map[string][]string{"-encoders": {"libx264", "aac"}, "-filters": {"subtitles"}} {
		out, err := output(ctx, ffmpeg, "-nostdin", "-hide_banner", list)
		if err != nil {
			return "", err
		}
		words := strings.Fields(out)
		for _, name := range names {
			if !slices.Contains(words, name) {
				missing = append(missing, name)
			}
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return "", fmt.Errorf("this ffmpeg lacks %s", strings.Join(missing, ", "))
	}
	return version, nil
}

// lookAtFlite looks for the built-in voices.
func lookAtFlite(ctx context.Context, flite string) (string, error) {
	out, err := output(ctx, flite, "-lv")
	if err != nil {
		return "", err
	}
	_, list, _ := strings.Cut(out, ":")
	voices := strings.Fields(list)
	for _, voice := range []string{"slt", "rms", "awb", "kal"} {
		if !slices.Contains(voices, voice) {
			return "", fmt.Errorf("this flite has no voice %s, only %s", voice, strings.Join(voices, ", "))
		}
	}
	return "voices " + strings.Join(voices, ", "), nil
}

func lookAtPipelines(dir string) (string, error) {
	if dir == "" {
		return "", errors.New("pipelines.dir is not set")
	}
	c, err := loadPipelines(dir)
	var names []string
	for _, p := range c.Own() {
		names = append(names, p.Workflow)
	}
	return strings.Join(names, ", "), err
}

func lookAtWeights(dir string) (string, error) {
	if dir == "" {
		var err error
		if dir, err = devstack.FaceWeights(); err != nil {
			return "", err
		}
	}
	if _, err := talkingphoto.LoadFaceModel(dir); err != nil {
		return "", err
	}
	return dir, nil
}

// serviceChecks look at the services that the configuration names, and say which
// it does not name.
func serviceChecks(cfg Config) []check {
	var checks []check
	service := func(name, key string, configured, required bool, look func(ctx context.Context) (string, error), remedy string) {
		if !configured {
			required, look = false, func(context.Context) (string, error) { return "", fmt.Errorf("%s is not set", key) }
			remedy = "`myspinbot dev` brings its own; `myspinbot run` needs it"
			switch key {
			case "engines.ollama.url":
				remedy = "without it scripts come from your own text, or from a template"
			case "engines.comfyui.url":
				remedy = "without it the built-in engines draw, on the CPU"
			}
		}
		checks = append(checks, check{name, required, look, remedy})
	}
	service("log", "kafka.brokers", len(cfg.Kafka.Brokers) > 0, true, func(ctx context.Context) (string, error) { return lookAtLog(ctx, cfg) },
		"start the broker, or set kafka.brokers right")
	checks = append(checks, accessChecks(cfg)...)
	if len(cfg.Kafka.Brokers) > 0 {
		checks = append(checks, check{"erasures", true, func(ctx context.Context) (string, error) { return lookAtErasures(ctx, cfg, time.Now()) },
			"start a process with the role notifier; its log says what keeps it from deleting (docs/operator.md#erasing)"})
	}
	service("PostgreSQL", "postgres.url", cfg.Postgres.URL != "", true, func(ctx context.Context) (string, error) { return lookAtPostgres(ctx, cfg) },
		"start the database, or set postgres.url right")
	service("object store", "s3.endpoint", cfg.S3.Endpoint != "", true, func(ctx context.Context) (string, error) { return lookAtObjects(ctx, cfg) },
		"start the store, or set s3.endpoint, s3.access_key and s3.secret_key right")
	service("Ollama", "engines.ollama.url", cfg.Engines.Ollama.URL != "", false, func(ctx context.Context) (string, error) { return lookAtOllama(ctx, cfg) },
		"start Ollama, or ollama pull "+cfg.Engines.Ollama.Model)
	service("ComfyUI", "engines.comfyui.url", cfg.Engines.ComfyUI.URL != "", false, func(ctx context.Context) (string, error) { return lookAtComfyUI(ctx, cfg) },
		"docs/engines.md says what each template needs")
	programs := gpu.EngineConfig{FFmpeg: cfg.Engines.FFmpeg, FFprobe: cfg.Engines.FFprobe, Flite: cfg.Engines.Flite}
	checks = append(checks, engineCheck("voices", "docs/engines-voices.md says what each voice needs", func(ctx context.Context) (string, error) {
		engines, err := gpu.SpeechEngines(cfg.Engines.Speech.voices(or(cfg.Work, os.TempDir())), programs)
		if err != nil {
			return "", err
		}
		return gpu.Inspect(ctx, engines)
	}))
	return append(checks, engineCheck("lips and training", "docs/engines.md says what each program needs", func(ctx context.Context) (string, error) {
		engines, err := gpu.ProgramEngines(cfg.Engines.Lipsync.programs(), cfg.Engines.Training.programs(or(cfg.Work, os.TempDir())), programs)
		if err != nil {
			return "", err
		}
		return gpu.Inspect(ctx, engines)
	}))
}

// engineCheck is about engines beside the built-in ones, of which there may be none.
func engineCheck(name, remedy string, look func(ctx context.Context) (string, error)) check {
	return check{name, false, func(ctx context.Context) (string, error) {
		found, err := look(ctx)
		if err == nil && found == "" {
			found = "none beside the built-in ones"
		}
		return found, err
	}, remedy}
}

func lookAtLog(ctx context.Context, cfg Config) (string, error) {
	log, err := openLog(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return "", err
	}
	defer log.Close()
	if err := log.Ping(ctx); err != nil {
		return "", err
	}
	return strings.Join(cfg.Kafka.Brokers, ", "), nil
}

// erasureTime is how long erasing a profile may take before something must be wrong.
const erasureTime = 10 * time.Minute

// lookAtErasures looks whether somebody erases what is to be erased. A log that cannot be
// read is another check's.
func lookAtErasures(ctx context.Context, cfg Config, now time.Time) (string, error) {
	log, err := openLog(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return "", err
	}
	defer log.Close()
	count, since, err := erasure.Pending(ctx, log)
	switch {
	case err != nil:
		return "not known: no profile can be read from the log", nil
	case count == 0:
		return "nothing waits to be erased", nil
	case now.Sub(since) > erasureTime:
		return "", fmt.Errorf("%d profiles wait to be erased, the first since %s", count, since.Local().Format(time.DateTime))
	}
	return fmt.Sprintf("%d profiles are being erased", count), nil
}

func lookAtPostgres(ctx context.Context, cfg Config) (version string, err error) {
	conn, err := pgx.Connect(ctx, cfg.Postgres.URL.Reveal()) // its errors leave the password out
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	err = conn.QueryRow(ctx, "SHOW server_version").Scan(&version)
	return "version " + version, err
}

// lookAtObjects opens the bucket, which makes it when it is absent, as every role does.
func lookAtObjects(ctx context.Context, cfg Config) (string, error) {
	c := cfg.S3
	_, err := objects.Open(ctx, objects.Config{Endpoint: c.Endpoint, AccessKey: c.AccessKey.Reveal(), SecretKey: c.SecretKey.Reveal(),
		Bucket: c.Bucket, Region: c.Region, Secure: c.Secure})
	return "bucket " + c.Bucket + " at " + c.Endpoint, err
}

// lookAtOllama asks for the models that Ollama has (https://docs.ollama.com/api/tags).
func lookAtOllama(ctx context.Context, cfg Config) (string, error) {
	o := cfg.Engines.Ollama
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(o.URL, "/")+"/api/tags", nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var list struct {
		Models []struct {
			Name string `json:"name"`
		} `json:"models"`
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s answers %s", o.URL, resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&list); err != nil {
		return "", fmt.Errorf("%s does not answer as Ollama does: %w", o.URL, err)
	}
	for _, m := range list.Models {
		if m.Name == o.Model || m.Name == o.Model+":latest" {
			return "model " + m.Name, nil
		}
	}
	return "", fmt.Errorf("%s has no model %q", o.URL, o.Model)
}

// lookAtComfyUI asks what the templates need.
func lookAtComfyUI(ctx context.Context, cfg Config) (string, error) {
	e := cfg.Engines
	return gpu.InspectComfyUI(ctx, comfyUI(e.ComfyUI), gpu.EngineConfig{FFmpeg: e.FFmpeg, FFprobe: e.FFprobe})
}
