// Tests of the flags and of the whole program's life inside this process. What it keeps over a
// restart and over the death of its parent is tested with the real binary in internal/devstack.

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func noEnv(string) string { return "" }

func TestFlagsReportEveryFaultAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want []string
	}{
		"nothing given":    {nil, []string{"--data is missing", "needs both keys"}},
		"nothing to run":   {[]string{"--data", "d", "--no-log", "--no-s3"}, []string{"leave nothing to run"}},
		"an open address":  {[]string{"--data", "d", "--no-s3", "--log-addr", ":9092"}, []string{`--log-addr ":9092"`, "127.0.0.1:PORT"}},
		"a foreign one":    {[]string{"--data", "d", "--no-log", "--s3-addr", "10.0.0.1:1"}, []string{`--s3-addr "10.0.0.1:1"`, "needs both keys"}},
		"no port":          {[]string{"--data", "d", "--no-s3", "--log-addr", "127.0.0.1"}, []string{`--log-addr "127.0.0.1"`}},
		"a stray argument": {[]string{"--data", "d", "--no-s3", "start"}, []string{`unknown argument "start"`}},
		"half a key":       {[]string{"--data", "d", "--s3-access-key", "me"}, []string{"needs both keys", envSecretKey}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse(c.args, noEnv)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not contain %q", err, want)
				}
			}
		})
	}
}

func TestFlagsTakeTheKeysFromTheEnvironment(t *testing.T) {
	env := func(name string) string { return "of " + name }
	o, err := parse([]string{"--data", "d", "--s3-secret-key", "given"}, env)
	if err != nil {
		t.Fatal(err)
	}
	if o.accessKey != "of "+envAccessKey || o.secretKey != "given" {
		t.Errorf("keys %q %q", o.accessKey, o.secretKey)
	}
	if !filepath.IsAbs(o.data) {
		t.Errorf("data %q is not absolute, but the S3 store changes the working directory", o.data)
	}
	if _, err := parse([]string{"--help"}, noEnv); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("--help: %v", err)
	}
}

// TestServe runs everything once: one ready line, both servers answer, a second program is kept
// out, and the end of the context is the end of both.
func TestServe(t *testing.T) {
	t.Setenv(envAccessKey, "me")
	t.Setenv(envSecretKey, "secret")
	stdout := os.Stdout
	os.Stdout = os.Stderr // as main does: versitygw greets there
	t.Cleanup(func() { os.Stdout = stdout })

	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := serve(ctx, []string{"--data", dir}, in)
		_ = in.CloseWithError(err)
		ended <- err
	}()

	lines := bufio.NewReader(out)
	first, err := lines.ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var line struct {
		Kafka, S3 string
		Pid       int
	}
	if err := json.Unmarshal(first, &line); err != nil || line.Pid != os.Getpid() {
		t.Fatalf("ready line %q: %v", first, err)
	}
	conn, err := net.Dial("tcp", line.Kafka)
	if err != nil {
		t.Fatalf("the log: %v", err)
	}
	_ = conn.Close()
	res, err := http.Get(line.S3 + "/")
	if err != nil {
		t.Fatalf("the S3 store: %v", err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusForbidden {
		t.Errorf("the S3 store answers %s to somebody without a key", res.Status)
	}
	if err := serve(ctx, []string{"--data", dir, "--no-s3"}, io.Discard); err == nil || !strings.Contains(err.Error(), "another program is using") {
		t.Errorf("a second program on the same data: %v", err)
	}

	cancel()
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
	for _, addr := range []string{line.Kafka, strings.TrimPrefix(line.S3, "http://")} {
		if conn, err := net.Dial("tcp", addr); err == nil {
			_ = conn.Close()
			t.Errorf("%s still answers", addr)
		}
	}
	if rest, _ := io.ReadAll(lines); len(rest) > 0 {
		t.Errorf("more than one line: %q", rest)
	}
}

func TestServeSaysWhichAddressIsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	err = serve(t.Context(), []string{"--data", t.TempDir(), "--no-s3", "--log-addr", taken.Addr().String()}, io.Discard)
	if err == nil || !strings.Contains(err.Error(), taken.Addr().String()) || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("got %v", err)
	}
}
