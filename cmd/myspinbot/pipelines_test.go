// Pipelines from a folder: what is refused at start, and the whole way of a job of one; the
// third variant on the built-in engines.

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const ownPipelines = "../../deploy/pipelines"

// Faults of all files come at once, each with its file and place, and nothing starts.
func TestAFaultyPipelineKeepsEveryRoleFromStarting(t *testing.T) {
	t.Parallel()
	good, err := os.ReadFile(filepath.Join(ownPipelines, "upright.json"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.json": string(good), "b.json": strings.Replace(string(good), `"needs": ["safety"]`, `"needs": ["nowhere"]`, 1),
		"c.json": string(good), "d.json": "{", "notes.txt": "no pipeline",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{
		"have 5 fault(s)", "b.json: /nodes/3: nothing leads to node profile", "b.json: /nodes/3/needs/0: there is no node nowhere",
		"c.json: /id: upright_v1 is the name of another pipeline", "c.json: /variant: upright is the name", "d.json: the file is no JSON",
	}
	for _, roles := range []string{"api", "handler", "gpu"} {
		cfg, _, err := loadConfig([]string{"--roles", roles, "--pipelines-dir", dir, "--kafka-brokers", "127.0.0.1:1"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = runRoles(t.Context(), cfg, slog.New(slog.DiscardHandler), nil)
		for _, part := range want {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("role %s: %q is not in %v", roles, part, err)
			}
		}
	}
	var out, problems bytes.Buffer
	if status := runPipelines(t.Context(), []string{"check", dir}, &out, &problems); status != 1 || !strings.Contains(problems.String(), want[2]) {
		t.Errorf("check: status %d, %s", status, problems.String())
	}
	if status := runPipelines(t.Context(), []string{"check", t.TempDir()}, &out, &problems); status != 1 || !strings.Contains(problems.String(), "there is no .json file") {
		t.Errorf("an empty folder: status %d, %s", status, problems.String())
	}
	if status := runPipelines(t.Context(), []string{"check"}, &out, &problems); status != 2 {
		t.Errorf("no folder: status %d", status)
	}
	if out.Len() > 0 {
		t.Errorf("something is said to be fine: %s", out.String())
	}
	if status := runPipelines(t.Context(), []string{"check", ownPipelines}, &out, &problems); status != 0 || !strings.Contains(out.String(), "ok  upright_v1: variant upright") {
		t.Errorf("the example: status %d, %s", status, out.String())
	}
}

// The example of the folder, and the variant infinitetalk in both modes, make videos on
// the built-in engines and say that these are previews; who wants the real thing is told
// at once that there is none.
func TestOwnPipelinesAndInfiniteTalkOnBuiltInEngines(t *testing.T) {
	t.Parallel()
	s := startSystem(t, "embedded", "--pipelines-dir", ownPipelines)
	s.eventually(time.Minute, "the list says what there is now", func() error {
		var out bytes.Buffer
		if status := runPipelines(context.Background(), []string{"--server", s.url}, &out, &out); status != 0 || !strings.Contains(out.String(), "upright_v1 (own)") || !strings.Contains(out.String(), "preview: tts.synthesize, ") {
			return fmt.Errorf("status %d\n%s", status, out.String())
		}
		return nil
	})
	status, printed := s.submit("--portrait", portraitFile, "--text", "Nobody.", "--variant", "infinitetalk", "--engines", "real")
	if status != 1 || !strings.Contains(printed, "no worker has the engine comfyui-infinitetalk for lipsync.apply now") || !strings.Contains(printed, "or ask with engines auto") {
		t.Errorf("real: status %d\n%s", status, printed)
	}

	folder := t.TempDir()
	status, printed = s.submit("--portrait", portraitFile, "--text", "Hello from below.", "--variant", "upright", "--option", "pace=1.3", "--out", folder)
	if status != 0 {
		t.Fatalf("upright: status %d\n%s", status, printed)
	}
	s.madeBy("tts", "preview flite", "lipsync", "preview talking-photo", "assemble", "full ffmpeg")
	if w, h := frameSize(t, filepath.Join(folder, "video.mp4")); w != 576 || h != 1024 {
		t.Errorf("the video is %d by %d", w, h)
	}

	status, printed = s.submit("--portrait", portraitFile, "--text", "Hello at length.", "--variant", "infinitetalk", "--option", "resolution=576p",
		"--voice", shortVoice(t), "--name", "Somebody", "--consent-by", "Somebody", "--consent-statement", "yes", "--out", t.TempDir())
	if status != 0 {
		t.Fatalf("infinitetalk: status %d\n%s", status, printed)
	}
	s.madeBy("train_voice", "full reference", "tts", "preview flite", "lipsync", "preview talking-photo")
	s.caughtUp("succeeded")

	status, printed = s.submit("--mode", "generate_from_profile", "--profile", fmt.Sprint(s.newestJob()["profile"].(map[string]any)["id"]), "--text", "Once more.",
		"--variant", "infinitetalk", "--engines", "preview", "--option", "resolution=576p", "--out", t.TempDir())
	if status != 0 {
		t.Fatalf("infinitetalk of a profile: status %d\n%s", status, printed)
	}
	s.madeBy("lipsync", "preview talking-photo")
	s.caughtUp("succeeded")
	s.explained()
}

// The engines that pipelines want by name are those of ComfyUI templates that there are.
func TestWantedEnginesAreTemplates(t *testing.T) {
	t.Parallel()
	own, err := loadPipelines(ownPipelines)
	if err != nil {
		t.Fatal(err)
	}
	wanted := 0
	for _, p := range own.Pipelines() {
		for _, n := range p.Nodes {
			if n.Engine == "" {
				continue
			}
			wanted++
			template, comfy := strings.CutPrefix(n.Engine, "comfyui-")
			if _, err := os.Stat("../../gpu-consumers/workflows/" + template + ".json"); !comfy || err != nil {
				t.Errorf("%s/%s wants %s: %v", p.Workflow, n.ID, n.Engine, err)
			}
		}
	}
	if wanted < 3 {
		t.Errorf("only %d nodes want an engine", wanted)
	}
}

// madeBy checks fidelity and engine of stages of the newest job.
func (s *system) madeBy(pairs ...string) {
	s.t.Helper()
	made := map[string]string{}
	for _, stage := range s.newestJobWhole().Stages {
		made[stage.ID] = stage.Fidelity + " " + stage.Engine
	}
	for i := 0; i < len(pairs); i += 2 {
		if made[pairs[i]] != pairs[i+1] {
			s.t.Errorf("stage %s was made by %q, want %q", pairs[i], made[pairs[i]], pairs[i+1])
		}
	}
}

// frameSize is a video's, in pixels.
func frameSize(t *testing.T, path string) (w, h int) {
	t.Helper()
	text, err := output(t.Context(), "ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries", "stream=width,height", "-of", "json", path)
	var probed struct{ Streams []struct{ Width, Height int } }
	if err == nil {
		err = json.Unmarshal([]byte(text), &probed)
	}
	if err != nil || len(probed.Streams) != 1 {
		t.Fatalf("cannot look at the video: %v: %s", err, text)
	}
	return probed.Streams[0].Width, probed.Streams[0].Height
}

// shortVoice is a recording of somebody speaking.
func shortVoice(t *testing.T) string {
	t.Helper()
	voice := filepath.Join(t.TempDir(), "voice.wav")
	if text, err := output(t.Context(), "flite", "-voice", "rms", "-t", "This is how I sound when I read a longer sentence aloud to my computer.", "-o", voice); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return voice
}
