// Tests of `profiles create`.

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestAProfileIsMadeFromFiles(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		args    []string
		request map[string]any
		says    string
	}{
		"everything": {[]string{"--portrait", writeFile(t, "me.png", "pixels"), "--voice", writeFile(t, "me.wav", "sound"), "--transcript", "Good evening.", "--consent-by", "Ada", "--consent-statement", "I agree."},
			map[string]any{"label": "Ada", "portrait": "upload-me.png", "voice": "upload-me.wav", "voice_transcript": "Good evening.", "consent": map[string]any{"by": "Ada", "statement": "I agree."}},
			"profile p1 (Ada) is active; its consent is given\n"},
		"a transcript in a file": {[]string{"--voice", writeFile(t, "me.wav", "sound"), "--transcript-file", writeFile(t, "said.txt", "Good evening.")},
			map[string]any{"label": "Ada", "voice": "upload-me.wav", "voice_transcript": "Good evening."}, "profile p1 (Ada)"},
		"a label alone, as JSON": {[]string{"--json"}, map[string]any{"label": "Ada"}, `"id":"p1"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFakeAPI(t)
			status, stdout, stderr := run(t, profilesCommand, append([]string{"create", "Ada", "--server", f.url}, tc.args...)...)
			if status != 0 || !strings.Contains(stdout, tc.says) {
				t.Fatalf("status %d: %s%s, want %q", status, stdout, stderr, tc.says)
			}
			if len(f.requests) != 1 || !reflect.DeepEqual(f.requests[0], tc.request) || len(f.keys[0]) < 16 {
				t.Errorf("asked %v under the keys %q, want %v", f.requests, f.keys, tc.request)
			}
			for id, content := range map[string]string{"upload-me.png": "pixels", "upload-me.wav": "sound"} {
				if got, sent := f.uploads[id]; sent && got != content {
					t.Errorf("%s holds %q", id, got)
				}
			}
		})
	}
}

// An outage, or an answer that is lost on its way, is tried again under the same key and with the same uploads.
func TestALostAnswerMakesNoSecondProfile(t *testing.T) {
	t.Parallel()
	f := newFakeAPI(t)
	f.lost = 2
	f.outages["POST /api/uploads"] = 1
	var out bytes.Buffer
	a := asker{client: f.client(), words: []string{"create", "Ada"}, stdout: &out}
	if err := a.createProfile(t.Context(), profileMaking{portrait: writeFile(t, "me.png", "pixels"), key: "mine"}); err != nil {
		t.Fatal(err)
	}
	if len(f.requests) != 1 || !reflect.DeepEqual(f.keys, []string{"", "mine", "mine", "mine"}) || !strings.Contains(out.String(), "profile p1") {
		t.Errorf("%d profiles, keys %q, output %q", len(f.requests), f.keys, out.String())
	}
}

func TestProfilesThatCannotBeMade(t *testing.T) {
	t.Parallel()
	wav, absent := writeFile(t, "me.wav", "sound"), filepath.Join(t.TempDir(), "absent.png")
	refused := map[string]any{"title": "The request is not valid", "status": 422, "code": "validation_failed",
		"errors": []any{map[string]any{"pointer": "/voice", "detail": "voice must be 1 to 60 seconds long, not 70.0"}}}
	for says, tc := range map[string]struct {
		args   []string
		status int
	}{
		"usage: myspinbot profiles":                                  {[]string{"create"}, 2},
		"usage: myspinbot profiles [list]":                           {[]string{"rename", "p1", "Ada", "--portrait", wav}, 2},
		"--voice is given 2 times":                                   {[]string{"create", "Ada", "--voice", wav, "--voice", wav}, 2},
		"--transcript and --transcript-file are two texts":           {[]string{"create", "Ada", "--voice", wav, "--transcript", "x", "--transcript-file", wav}, 2},
		"give --voice with it":                                       {[]string{"create", "Ada", "--transcript", "x"}, 2},
		"a consent needs both":                                       {[]string{"create", "Ada", "--consent-by", "Ada"}, 2},
		"cannot read the file: stat " + absent:                       {[]string{"create", "Ada", "--portrait", absent}, 2},
		"the transcript in ":                                         {[]string{"create", "Ada", "--voice", wav, "--transcript-file", os.DevNull}, 1},
		"the profile was not made: The request is not valid (422 va": {[]string{"create", "Ada", "--voice", wav}, 1},
		"/voice: voice must be 1 to 60 seconds long, not 70.0":       {[]string{"create", "Ada", "--voice", wav, "--json"}, 1},
	} {
		t.Run(says, func(t *testing.T) {
			t.Parallel()
			f := newFakeAPI(t)
			f.refuse = refused
			status, stdout, stderr := run(t, profilesCommand, append(tc.args, "--server", f.url)...)
			if status != tc.status || !strings.Contains(stderr, says) {
				t.Errorf("status %d, %q on standard error, want %d with %q", status, stderr, tc.status, says)
			}
			if tc.status == 2 && len(f.requests)+len(f.uploads) > 0 || json.Valid([]byte(stdout)) {
				t.Errorf("asked %v, uploaded %v, printed %q", f.requests, f.uploads, stdout)
			}
		})
	}
}
