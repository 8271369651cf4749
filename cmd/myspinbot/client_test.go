// Tests of `submit` and `jobs` against a server that speaks the contract.

package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func run(t *testing.T, command func(context.Context, []string, *bytes.Buffer, *bytes.Buffer) int, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	status = command(ctx, args, &out, &errs)
	return status, out.String(), errs.String()
}

func submitCommand(ctx context.Context, args []string, out, errs *bytes.Buffer) int {
	return runSubmit(ctx, args, out, errs)
}

func jobsCommand(ctx context.Context, args []string, out, errs *bytes.Buffer) int {
	return runJobs(ctx, args, out, errs)
}

func TestSubmitUploadsWatchesAndDownloads(t *testing.T) {
	t.Parallel()
	f := newFakeAPI(t)
	out := filepath.Join(t.TempDir(), "a", "b")
	status, stdout, stderr := run(t, submitCommand, "--server", f.url, "--portrait", writeFile(t, "me.png", "pixels"),
		"--voice", writeFile(t, "one.wav", "voice 1"), "--voice", writeFile(t, "two.wav", "voice 2"), "--images", writeFile(t, "x.jpg", "more"),
		"--text-file", writeFile(t, "script.txt", "Hello there."), "--variant", "sadtalker", "--option", "resolution=576p", "--option", "fps=25", "--option", "x=true",
		"--name", "Carl", "--consent-by", "Carl", "--consent-statement", "Yes.", "--out", out)
	if status != 0 {
		t.Fatalf("status %d: %s", status, stderr)
	}
	for name, want := range map[string]string{"video.mp4": "an mp4", "thumbnail.jpg": "a jpeg", "captions.srt": "1\n", "captions.vtt": "WEBVTT\n"} {
		path := filepath.Join(out, name)
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s holds %q, error %v", name, got, err)
		}
		if !strings.Contains(stdout, path+"\n") {
			t.Errorf("the path of %s is not printed: %s", name, stdout)
		}
	}
	request := f.requests[0]
	for name, want := range map[string]any{"script": "Hello there.", "variant": "sadtalker", "portrait": "upload-me.png", "profile_name": "Carl"} {
		if request[name] != want {
			t.Errorf("%s = %v, want %v", name, request[name], want)
		}
	}
	options, consent := request["options"].(map[string]any), request["consent"].(map[string]any)
	if options["resolution"] != "576p" || options["fps"] != 25.0 || options["x"] != true || consent["by"] != "Carl" || consent["statement"] != "Yes." {
		t.Errorf("options %v, consent %v", options, consent)
	}
	if v := request["voice"].([]any); len(v) != 2 || v[0] != "upload-one.wav" || f.uploads["upload-two.wav"] != "voice 2" {
		t.Errorf("voices %v, uploads %v", v, f.uploads)
	}
	if request["prompt"] != nil || request["mode"] != nil || len(f.requests) != 1 || len(f.keys[0]) < 16 {
		t.Errorf("request %v, keys %q", request, f.keys)
	}
	for _, line := range []string{"job " + fakeJob, "train_voice  skipped  no voice sample was given", "tts          done     1.5 s  flite (preview)", "tts           40 %    speaking"} {
		if !strings.Contains(stdout, line) {
			t.Errorf("the output lacks %q:\n%s", line, stdout)
		}
	}
}

func TestWhatPeopleWantOfAVideoIsAFlag(t *testing.T) {
	t.Parallel()
	f := newFakeAPI(t)
	outputs := f.job["outputs"].(map[string]any)
	for _, name := range []string{"video", "thumbnail", "captions_srt", "captions_vtt"} {
		outputs[name+"_2"] = outputs[name]
	}
	out := t.TempDir()
	status, stdout, stderr := run(t, submitCommand, "--server", f.url, "--portrait", writeFile(t, "me.png", "pixels"), "--music", writeFile(t, "tune.mp3", "a tune"), "--audio", writeFile(t, "said.ogg", "my words"), "--text", "Hello.",
		"--language", "pt-BR", "--aspect", "9:16", "--resolution", "1080p", "--fit", "blur", "--captions", "burned", "--music-level", "-14.5", "--seed", "7", "--takes", "2", "--draft", "--visible-label=false", "--label", "spring", "--out", out)
	if status != 0 {
		t.Fatalf("status %d: %s", status, stderr)
	}
	want := map[string]any{"language": "pt-BR", "aspect": "9:16", "resolution": "1080p", "fit": "blur", "captions": "burned", "music_level": -14.5, "seed": 7.0, "takes": 2.0, "draft": true, "label": false}
	if got := f.requests[0]["options"]; !reflect.DeepEqual(got, want) {
		t.Errorf("options %v, want %v", got, want)
	}
	if got := f.requests[0]["labels"]; !reflect.DeepEqual(got, []any{"spring"}) {
		t.Errorf("labels %v", got)
	}
	if f.requests[0]["music"] != "upload-tune.mp3" || f.uploads["upload-tune.mp3"] != "a tune" {
		t.Errorf("music %v, uploads %v", f.requests[0]["music"], f.uploads)
	}
	if f.requests[0]["audio"] != "upload-said.ogg" || f.uploads["upload-said.ogg"] != "my words" {
		t.Errorf("audio %v, uploads %v", f.requests[0]["audio"], f.uploads)
	}
	for _, name := range []string{"video.mp4", "video-2.mp4", "thumbnail-2.jpg", "captions.srt"} {
		if !strings.Contains(stdout, filepath.Join(out, name)+"\n") {
			t.Errorf("%s is not downloaded: %s", name, stdout)
		}
	}
	if strings.Contains(stdout, "captions-2") {
		t.Errorf("the captions are downloaded twice: %s", stdout)
	}
	if status, _, stderr := run(t, submitCommand, "--aspect", "1:1", "--option", "aspect=9:16", "--text", "x", "--profile", "p"); status != 2 || !strings.Contains(stderr, "aspect is given twice") {
		t.Errorf("status %d: %s", status, stderr)
	}
}

func TestSubmitResumesABrokenStream(t *testing.T) {
	t.Parallel()
	f := newFakeAPI(t)
	f.breakAt = []int{0, 3, 3, 7}
	c := f.client()
	var seen []string
	breaks := 0
	version, err := c.follow(context.Background(), fakeJob, func(u update) { seen = append(seen, u.Type) }, func(error) { breaks++ })
	if err != nil || version != 9 {
		t.Fatalf("version %d, error %v", version, err)
	}
	var want []string
	for _, e := range f.events {
		kind, _ := e["type"].(string)
		want = append(want, kind)
	}
	if !slices.Equal(seen, want) {
		t.Errorf("seen %q\nwant %q", seen, want)
	}
	if want := []string{"", "", "3:44", "3:44", "3:52"}; !slices.Equal(f.resumed, want) {
		t.Errorf("resumed at %q, want %q", f.resumed, want)
	}
	if breaks == 0 {
		t.Error("nobody was told of the break")
	}
}

func TestFollowEndsWhenEverythingWasSeen(t *testing.T) {
	t.Parallel()
	f := newFakeAPI(t)
	f.breakAt = []int{9}
	last := f.events[len(f.events)-1]
	last["type"] = "artifact.registered" // the job ended before, and the server says 204
	if version, err := f.client().follow(context.Background(), fakeJob, func(update) {}, func(error) {}); err != nil || version != 0 {
		t.Errorf("version %d, error %v", version, err)
	}
}

func TestFollowGivesUp(t *testing.T) {
	t.Parallel()
	f := newFakeAPI(t)
	f.breakAt = slices.Repeat([]int{0}, 100)
	told := 0
	_, err := f.client().follow(context.Background(), fakeJob, func(update) {}, func(error) { told++ })
	if !errors.Is(err, errGaveUp) || told != 1 || len(f.resumed) != 11 {
		t.Errorf("error %v after %d streams, told %d times", err, len(f.resumed), told)
	}
}

func TestSubmitRetriesWithTheSameKey(t *testing.T) {
	t.Parallel()
	f := newFakeAPI(t)
	f.outages["POST /api/jobs"] = 2
	f.outages["GET /api/jobs/"+fakeJob+"/events"] = 3
	f.outages["GET /api/artifacts/id-video/content"] = 1
	s := submission{text: "Hello.", portrait: writeFile(t, "me.png", "pixels"), out: t.TempDir()}
	var out bytes.Buffer
	if err := s.run(context.Background(), f.client(), &out); err != nil {
		t.Fatal(err)
	}
	if len(f.keys) != 3 || f.keys[0] == "" || f.keys[0] != f.keys[1] || f.keys[1] != f.keys[2] {
		t.Errorf("keys %q", f.keys)
	}
}

func TestSubmitDoesNotRetryARefusal(t *testing.T) {
	t.Parallel()
	f := newFakeAPI(t)
	f.refuse = map[string]any{"status": 422, "code": "request_invalid", "title": "The request is not valid", "detail": "two things",
		"errors": []any{map[string]any{"pointer": "/options/fps", "detail": "option fps must be a whole number from 10 to 60"}, map[string]any{"pointer": "/prompt", "detail": "give a prompt\x1b[2J"}}}
	status, stdout, stderr := run(t, submitCommand, "--server", f.url, "--portrait", writeFile(t, "me.png", "p"), "--prompt", "dogs", "--option", "fps=500")
	if status != 1 || len(f.requests) != 1 || stdout != "" {
		t.Errorf("status %d, %d requests, output %q", status, len(f.requests), stdout)
	}
	for _, want := range []string{"not accepted", "/options/fps: option fps must be", "/prompt: give a prompt·[2J"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("the message lacks %q: %q", want, stderr)
		}
	}
}

func TestAFailedJobSaysEverything(t *testing.T) {
	t.Parallel()
	f := newFakeAPI(t)
	f.events[len(f.events)-1]["type"] = "job.failed"
	f.job["status"] = "failed"
	f.job["error"] = map[string]any{"stage": "lipsync", "class": "engine_rejected", "message": "no face was found", "hint": "use a photo from the front",
		"log_tail": "line one\nline \x1b[31mtwo\n", "reasons": []any{map[string]any{"field": "/portrait", "detail": "too dark"}}}
	out := filepath.Join(t.TempDir(), "out")
	status, _, stderr := run(t, submitCommand, "--server", f.url, "--portrait", writeFile(t, "me.png", "p"), "--text", "Hi.", "--out", out)
	if status != 1 {
		t.Errorf("status %d", status)
	}
	for _, want := range []string{"ended failed", "stage: lipsync", "class: engine_rejected", "what:  no face was found", "hint:  use a photo", "/portrait too dark", "    line one\n    line ·[31mtwo"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("the message lacks %q:\n%s", want, stderr)
		}
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("a folder was made for no result")
	}
}

func TestARejectedJobSaysWhy(t *testing.T) {
	t.Parallel()
	f := newFakeAPI(t)
	f.events[len(f.events)-1]["type"] = "job.rejected"
	f.job["status"] = "rejected"
	f.job["error"] = map[string]any{"stage": "safety", "class": "policy", "message": "Encouragement of self-harm is not allowed.",
		"reasons": []any{map[string]any{"code": "self_harm", "field": "/narration", "detail": "Encouragement of self-harm is not allowed."}}}
	status, _, stderr := run(t, submitCommand, "--server", f.url, "--portrait", writeFile(t, "me.png", "p"), "--text", "Hi.", "--out", filepath.Join(t.TempDir(), "out"))
	if status != 1 {
		t.Errorf("status %d", status)
	}
	for _, want := range []string{"ended rejected", "stage: safety", "class: policy", "/narration Encouragement of self-harm is not allowed. (self_harm)"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("the message lacks %q:\n%s", want, stderr)
		}
	}
}

func TestDamagedBytesAreNotKept(t *testing.T) {
	t.Parallel()
	f := newFakeAPI(t)
	f.damaged = "video"
	out := t.TempDir()
	status, _, stderr := run(t, submitCommand, "--server", f.url, "--portrait", writeFile(t, "me.png", "p"), "--text", "Hi.", "--out", out)
	if entries, err := os.ReadDir(out); status != 1 || err != nil || len(entries) != 0 || !strings.Contains(stderr, "not those that were made") {
		t.Errorf("status %d, %v left, message %s", status, entries, stderr)
	}
}

func TestSubmitWithoutWaiting(t *testing.T) {
	t.Parallel()
	f := newFakeAPI(t)
	status, stdout, _ := run(t, submitCommand, "--server", f.url, "--profile", fakeJob, "--mode", "generate_from_profile", "--text", "Hi.", "--key", "mine", "--no-wait")
	if status != 0 || stdout != "job "+fakeJob+"\n" || len(f.resumed) != 0 || f.keys[0] != "mine" || f.requests[0]["profile_id"] != fakeJob {
		t.Errorf("status %d, output %q, keys %q, requests %v", status, stdout, f.keys, f.requests)
	}
}

func TestWrongUsageNeedsNoServer(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"nothing":      {nil, "nothing to say"},
		"nobody":       {[]string{"--text", "x"}, "nobody to show"},
		"two scripts":  {[]string{"--text", "x", "--text-file", "y", "--profile", "p"}, "two scripts"},
		"half consent": {[]string{"--text", "x", "--profile", "p", "--consent-by", "me"}, "both --consent-by and"},
		"no words":     {[]string{"--audio", "said.wav", "--profile", "p"}, "--audio needs its words"},
		"other words":  {[]string{"--audio", "said.wav", "--text", "x", "--prompt", "y", "--profile", "p"}, "and no --prompt"},
		"no file":      {[]string{"--text", "x", "--portrait", "/absent/me.png"}, "cannot read the file"},
		"option":       {[]string{"--text", "x", "--profile", "p", "--option", "fps"}, "want NAME=VALUE"},
		"option twice": {[]string{"--text", "x", "--profile", "p", "--option", "fps=1", "--option", "fps=2"}, "given twice"},
		"time":         {[]string{"--text", "x", "--profile", "p", "--not-before", "tomorrow"}, "neither a time with its zone"},
		"word":         {[]string{"--text", "x", "--profile", "p", "more"}, "flags only"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if status, _, stderr := run(t, submitCommand, tc.args...); status != 2 || !strings.Contains(stderr, tc.want) {
				t.Errorf("status %d, message %q, want %q", status, stderr, tc.want)
			}
		})
	}
	if status, _, stderr := run(t, submitCommand, "--help"); status != 0 || !strings.Contains(stderr, "-portrait") {
		t.Errorf("help: status %d, %s", status, stderr)
	}
}

func TestScripts(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ file, stdin, want, fault string }{
		"stdin": {"-", "Hi.", "Hi.", ""},
		"empty": {"-", " \n", "", "empty"},
		"bytes": {writeFile(t, "x", "\xff\xfe"), "", "", "no UTF-8"},
		"large": {writeFile(t, "x", strings.Repeat("a", maxScript+1)), "", "", "longer than"},
		"none":  {"/absent/script", "", "", "no such file"},
	} {
		s := submission{textFile: tc.file}
		got, err := s.script(strings.NewReader(tc.stdin))
		if got != tc.want || (err == nil) != (tc.fault == "") || err != nil && !strings.Contains(err.Error(), tc.fault) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestServersThatAreNone(t *testing.T) {
	t.Parallel()
	if _, err := newClient("localhost:8080", ""); err == nil || !strings.Contains(err.Error(), "http://HOST:PORT") {
		t.Errorf("error %v", err)
	}
	f := newFakeAPI(t)
	c := f.client()
	c.base = "http://127.0.0.1:1"
	if _, err := c.job(context.Background(), fakeJob, 0); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("nobody listens: %v", err)
	}
	if err := f.client().call(context.Background(), "GET", "/nothing", nil, nil, &struct{}{}); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("a page that is no problem document: %v", err)
	}
}

func TestJobsListsAndShows(t *testing.T) {
	t.Parallel()
	f := newFakeAPI(t)
	for _, tc := range []struct {
		args   []string
		status int
		want   []string
	}{
		{[]string{"--server", f.url}, 0, []string{fakeJob, "succeeded", "100 %", "Carl"}},
		{[]string{"list", "--server", f.url, "--status", "succeeded", "--json"}, 0, []string{`"items":[{`}},
		{[]string{"list", "--server", f.url, "--status", "odd"}, 1, []string{"query_invalid"}},
		{[]string{"show", fakeJob, "--server", f.url}, 0, []string{"status   succeeded", "train_voice", "made.mp4"}},
		{[]string{"show", "--server", f.url, fakeJob, "--json"}, 0, []string{`"outputs":{`}},
		{[]string{"show", "--server", f.url}, 2, []string{"usage:"}},
		{[]string{"show", fakeJob, "--at", "2026-03-01T12:00:00+01:00", "--server", f.url}, 0, []string{"status   running", "as at 2026-03-01T12:00:00+01:00"}},
		{[]string{"show", fakeJob, "--at", "3:1042", "--json", "--server", f.url}, 0, []string{`"as at 3:1042"`}},
		{[]string{"show", fakeJob, "--at", "7", "--out", ".", "--server", f.url}, 2, []string{"give one of them"}},
		{[]string{"list", "extra"}, 2, []string{"usage:"}},
		{[]string{"show", fakeJob, "--nope"}, 2, []string{"not defined"}},
	} {
		status, stdout, stderr := run(t, jobsCommand, tc.args...)
		for _, want := range tc.want {
			if status != tc.status || !strings.Contains(stdout+stderr, want) {
				t.Errorf("jobs %q: status %d, output %s%s; want %d with %q", tc.args, status, stdout, stderr, tc.status, want)
			}
		}
	}
}

func TestJobsShowFetchesLater(t *testing.T) {
	t.Parallel()
	f := newFakeAPI(t)
	out := t.TempDir()
	if status, _, stderr := run(t, jobsCommand, "show", fakeJob, "--out", out, "--server", f.url); status != 0 {
		t.Fatalf("status %d: %s", status, stderr)
	}
	if got, err := os.ReadFile(filepath.Join(out, "video.mp4")); err != nil || string(got) != "an mp4" {
		t.Errorf("the video holds %q, error %v", got, err)
	}
	f.job["status"] = "failed"
	if status, _, stderr := run(t, jobsCommand, "show", fakeJob, "--out", out, "--server", f.url); status != 1 || !strings.Contains(stderr, "no result") {
		t.Errorf("a failed job: status %d, %s", status, stderr)
	}
}
