// Tests of `doctor`, with programs that are scripts and services that are fakes.

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/devstack"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
)

// program writes a script that prints by its arguments: lines of "ARGUMENT|TEXT".
func program(t *testing.T, name string, answers ...string) string {
	t.Helper()
	script := "#!/bin/sh\nfor a; do last=$a; done\ncase $last in\n"
	for _, a := range answers {
		arg, text, _ := strings.Cut(a, "|")
		script += fmt.Sprintf("%s) echo '%s' ;;\n", arg, text)
	}
	path := writeFile(t, name, script+"*) echo broken >&2; exit 3 ;;\nesac\n")
	if err := os.Chmod(path, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func doctor(t *testing.T, cfg Config) (status int, text string) {
	t.Helper()
	var out bytes.Buffer
	status = examine(context.Background(), append(programChecks(cfg), serviceChecks(cfg)...), &out)
	return status, out.String()
}

func TestTheRealToolsAreEnough(t *testing.T) {
	t.Parallel()
	status, text := doctor(t, Config{})
	for _, want := range []string{"ok        ffmpeg                 ffmpeg version", "ok        ffprobe", "ok        flite                  voices kal", "ok        face weights", "optional  log                    kafka.brokers is not set", "your own text"} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	if status != 0 || t.Failed() {
		t.Errorf("status %d:\n%s", status, text)
	}
}

func TestWhatIsMissingIsNamedWithItsRemedy(t *testing.T) {
	t.Parallel()
	encoders, filters := "-encoders| V..... libx264 A..... aac", "-filters| subtitles V->V"
	good := Config{Engines: EnginesConfig{
		FFmpeg: program(t, "ffmpeg", "-version|ffmpeg version 9", encoders, filters), FFprobe: program(t, "ffprobe", "-version|ffprobe version 9"),
		Flite: program(t, "flite", "-lv|Voices available: kal awb rms slt")}}
	weights, err := devstack.FaceWeights()
	if err != nil {
		t.Fatal(err)
	}
	good.Engines.Face.Weights = weights
	if status, text := doctor(t, good); status != 0 {
		t.Fatalf("the good case: status %d:\n%s", status, text)
	}
	for name, tc := range map[string]struct {
		spoil func(*EnginesConfig)
		want  []string
	}{
		"no ffmpeg": {func(e *EnginesConfig) { e.FFmpeg = "/absent/ffmpeg" }, []string{"MISSING   ffmpeg", "not installed", "apt-get install ffmpeg"}},
		"no encoder": {func(e *EnginesConfig) {
			e.FFmpeg = program(t, "ffmpeg", "-version|x", "-encoders|aac_at libx264rgb", filters)
		}, []string{"lacks aac, libx264"}},
		"no filter":  {func(e *EnginesConfig) { e.FFmpeg = program(t, "ffmpeg", "-version|x", encoders, "-filters|none") }, []string{"lacks subtitles"}},
		"broken":     {func(e *EnginesConfig) { e.FFprobe = program(t, "ffprobe") }, []string{"MISSING   ffprobe", "does not work", "broken"}},
		"one voice":  {func(e *EnginesConfig) { e.Flite = program(t, "flite", "-lv|Voices available: kal") }, []string{"MISSING   flite", "no voice slt, only kal"}},
		"no weights": {func(e *EnginesConfig) { e.Face.Weights = t.TempDir() }, []string{"MISSING   face weights", "make deps"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			tc.spoil(&cfg.Engines)
			status, text := doctor(t, cfg)
			for _, want := range append(tc.want, "is needed") {
				if status != 1 || !strings.Contains(text, want) {
					t.Errorf("status %d; the report lacks %q:\n%s", status, want, text)
				}
			}
		})
	}
}

func TestConfiguredServicesMustAnswer(t *testing.T) {
	t.Parallel()
	const nobody = "127.0.0.1:1"
	cfg := Config{Kafka: KafkaConfig{Brokers: []string{nobody}, Prefix: "x.", Partitions: 1}, Postgres: PostgresConfig{URL: "postgres://u:hunter2@" + nobody + "/d"},
		S3: S3Config{Endpoint: nobody, AccessKey: "a", SecretKey: "hunter2", Bucket: "b"}, Engines: EnginesConfig{Ollama: OllamaConfig{URL: "http://" + nobody, Model: "m"}, ComfyUI: ComfyUIConfig{URL: "http://" + nobody, APIKey: "hunter2"}}}
	cfg.Lanes = mustDefaults(t).Lanes
	var out bytes.Buffer
	status := examine(context.Background(), serviceChecks(cfg), &out)
	text := out.String()
	for _, want := range []string{"MISSING   log", "MISSING   PostgreSQL", "MISSING   object store", "optional  Ollama", "start the broker", "ollama pull m", "optional  ComfyUI", "ComfyUI does not answer (http://127.0.0.1:1)", "docs/engines.md"} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	if status != 1 || strings.Contains(text, "hunter2") || t.Failed() {
		t.Errorf("status %d:\n%s", status, text)
	}
}

// The programs and voices that are configured are looked at too.
func TestConfiguredEnginesAreLookedAt(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	cfg := mustDefaults(t)
	_, text := doctor(t, cfg)
	for _, want := range []string{"ok        voices                 none beside", "ok        lips and training      none beside"} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
	cfg.Engines.Lipsync.Wav2Lip.Folder = folder
	cfg.Engines.Training.Kohya.Folder, cfg.Engines.Training.Kohya.Accelerate = folder, "/absent/accelerate"
	cfg.Engines.Training.SoVITS.Folder = folder
	cfg.Engines.Speech.Command.Argv = []string{"/absent/say", "{text_file}", "{out}"}
	cfg.Engines.Speech.SoVITS.URL = "http://127.0.0.1:1"
	_, text = doctor(t, cfg)
	for _, want := range []string{
		"optional  voices", "say: say is not installed here", "gpt-sovits: ", "engines-voices.md", "optional  lips and training", `wav2lip: Wav2Lip's inference.py is not at "` + folder,
		"its checkpoint is not at", "kohya: /absent/accelerate is not installed here", "gpt-sovits: GPT-SoVITS' s2_train.py is not at", "docs/engines.md",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
	for name, body := range map[string]string{"inference.py": "", "checkpoints/wav2lip_gan.pth": "w", "face_detection/detection/sfd/s3fd.pth": "w"} {
		path := filepath.Join(folder, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(body), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	whole := mustDefaults(t)
	whole.Engines.Lipsync.Wav2Lip.Folder, whole.Engines.Lipsync.Wav2Lip.Python = folder, "sh"
	if _, text = doctor(t, whole); !strings.Contains(text, "ok        lips and training      wav2lip is ready, model wav2lip_gan") {
		t.Errorf("the whole one:\n%s", text)
	}
}

func mustDefaults(t *testing.T) Config {
	t.Helper()
	c, _, err := loadConfig(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestOllama(t *testing.T) {
	t.Parallel()
	answers := map[string]string{"/good/api/tags": `{"models":[{"name":"llama3.2:latest"}]}`, "/odd/api/tags": "<html>"}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := answers[r.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
		}
		fmt.Fprint(w, body)
	}))
	defer server.Close()
	for path, tc := range map[string]struct{ model, want string }{
		"/good/": {"llama3.2", "model llama3.2:latest"},
		"/good":  {"other", `no model "other"`},
		"/odd":   {"llama3.2", "as Ollama does"},
		"/none":  {"llama3.2", "404"},
	} {
		found, err := lookAtOllama(context.Background(), Config{Engines: EnginesConfig{Ollama: OllamaConfig{URL: server.URL + path, Model: tc.model}}})
		if got := fmt.Sprint(found, err); !strings.Contains(got, tc.want) {
			t.Errorf("%s: %s, want %q", path, got, tc.want)
		}
	}
}

func TestACheckThatHangsIsCut(t *testing.T) {
	t.Parallel()
	path := writeFile(t, "hang", "#!/bin/sh\nexec tail -f /dev/null\n")
	if err := os.Chmod(path, 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := output(ctx, path); err == nil || !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}

func TestDoctorsUsage(t *testing.T) {
	t.Parallel()
	var out, errs bytes.Buffer
	if status := runDoctor(context.Background(), []string{"--help"}, &out, &errs); status != 0 || !strings.Contains(out.String(), "usage") {
		t.Errorf("help: status %d, %s", status, out.String())
	}
	if status := runDoctor(context.Background(), []string{"me", "--config", filepath.Join(t.TempDir(), "none")}, &out, &errs); status != 2 || !strings.Contains(errs.String(), "no such file") {
		t.Errorf("status %d, %s", status, errs.String())
	}
}

// TestErasuresThatWaitAreTold asks with nothing to erase, with something that was asked
// for lately, and with something that nobody has erased for long.
func TestErasuresThatWaitAreTold(t *testing.T) {
	t.Parallel()
	_, fake := eventlogtest.Fake(t)
	log := eventlogtest.Open(t, fake)
	cfg, _, err := loadConfig(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Kafka.Brokers, cfg.Kafka.Prefix, cfg.Kafka.Partitions, cfg.Kafka.Replication = fake.Brokers, fake.Prefix, fake.Partitions, fake.ReplicationFactor
	asked := time.Now().UTC()
	look := func(later time.Duration) (string, error) {
		return lookAtErasures(t.Context(), cfg, asked.Add(later))
	}
	if found, err := look(time.Hour); found != "nothing waits to be erased" || err != nil {
		t.Errorf("with nothing to erase: %q, %v", found, err)
	}
	m := events.Message{ID: "e", SchemaVersion: 1, AggregateType: events.AggregateProfile, AggregateID: "p", Version: 2, OccurredAt: asked, Tenant: "default", Data: events.ProfileErased{}}
	value, err := events.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	r := eventlog.Record{Topic: events.TopicProfileEvents, Key: "p", Value: value, Headers: []eventlog.Header{{Key: events.HeaderType, Value: m.Type()}}}
	if err := log.Produce(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if found, err := look(time.Minute); found != "1 profiles are being erased" || err != nil {
		t.Errorf("soon: %q, %v", found, err)
	}
	if found, err := look(time.Hour); err == nil || !strings.Contains(err.Error(), "1 profiles wait to be erased, the first since "+asked.Local().Format(time.DateTime)) {
		t.Errorf("late: %q, %v", found, err)
	}
}
