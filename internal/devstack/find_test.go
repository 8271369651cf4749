// Tests of where the binaries are looked for.

package devstack

import (
	"os"
	"path/filepath"
	"testing"
)

// place makes an executable file.
func place(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

func environment(values map[string]string) func(string) string {
	return func(name string) string { return values[name] }
}

func TestTheNewestPostgresWins(t *testing.T) {
	t.Parallel()
	packages := t.TempDir()
	for _, version := range []string{"9.6", "15", "18", "main"} {
		place(t, filepath.Join(packages, version, "bin", "postgres"))
		if version != "18" { // a client package alone is no server
			place(t, filepath.Join(packages, version, "bin", "initdb"))
		}
	}
	got, err := findPostgres(packages, environment(nil))
	if want := filepath.Join(packages, "15", "bin"); err != nil || got != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}

func TestPostgresOnPathMustBeAServer(t *testing.T) {
	t.Parallel()
	none, wrapper, server, links := t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()
	place(t, filepath.Join(wrapper, "postgres"))
	place(t, filepath.Join(server, "postgres"))
	place(t, filepath.Join(server, "initdb"))
	if err := os.Symlink(filepath.Join(server, "postgres"), filepath.Join(links, "postgres")); err != nil {
		t.Fatal(err)
	}
	got, err := findPostgres(none, environment(map[string]string{"PATH": wrapper + ":" + links}))
	if err != nil || got != server {
		t.Errorf("got %s, %v, want %s", got, err, server)
	}
}

func TestPostgresFromTheEnvironmentIsChecked(t *testing.T) {
	t.Parallel()
	empty := t.TempDir()
	_, err := findPostgres(t.TempDir(), environment(map[string]string{"MYSPINBOT_POSTGRES_BIN": empty}))
	mustContain(t, err, "$MYSPINBOT_POSTGRES_BIN", empty, "initdb")
}

func TestAMissingFileComesWithItsRemedy(t *testing.T) {
	_, err := find("the moon", "MYSPINBOT_TEST_MOON", ".deps/moon", "run `make deps`")
	mustContain(t, err, "cannot find the moon", "$MYSPINBOT_TEST_MOON is not set", ".deps/moon is missing", "run `make deps`")

	t.Setenv("MYSPINBOT_TEST_MOON", "/nowhere/moon")
	_, err = find("the moon", "MYSPINBOT_TEST_MOON", ".deps/moon", "")
	mustContain(t, err, "$MYSPINBOT_TEST_MOON names", "/nowhere/moon")

	there := t.TempDir()
	t.Setenv("MYSPINBOT_TEST_MOON", there)
	if got, err := find("the moon", "MYSPINBOT_TEST_MOON", ".deps/moon", ""); err != nil || got != there {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestTheCheckoutIsFound(t *testing.T) {
	t.Parallel()
	root, err := checkout()
	if err != nil {
		t.Fatal(err)
	}
	if !isFile(filepath.Join(root, "internal", "devstack", "find.go")) {
		t.Errorf("%s is not this checkout", root)
	}
	if isCheckout(filepath.Join(root, "cmd", "myspinbot-devstack")) {
		t.Error("the helper's own module is taken for the checkout")
	}
}

func TestWhatTheTestsNeedIsInstalled(t *testing.T) {
	t.Parallel()
	for _, look := range []func() (string, error){KafkaLibs, HelperBin, FaceWeights, SpeechPython, PostgresBin} {
		if _, err := look(); err != nil {
			t.Error(err)
		}
	}
}
