// Where the binaries and files of the development stack lie. Each has an environment variable
// that wins, and a place below the checkout; a missing one is an error that says how to get it.

package devstack

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// modulePath tells the checkout from other Go modules on the way up.
const modulePath = "github.com/myspinbot/myspinbot"

// KafkaLibs returns the directory of Apache Kafka's jars: $MYSPINBOT_KAFKA_LIBS, else
// .deps/kafka/libs in the checkout.
func KafkaLibs() (string, error) {
	return find("the jars of Apache Kafka", "MYSPINBOT_KAFKA_LIBS", ".deps/kafka/libs", "run `make deps-test`")
}

// HelperBin returns the path of myspinbot-devstack: $MYSPINBOT_DEVSTACK_BIN, else
// bin/myspinbot-devstack in the checkout.
func HelperBin() (string, error) {
	return find("the program myspinbot-devstack", "MYSPINBOT_DEVSTACK_BIN", "bin/myspinbot-devstack",
		"run `make deps` and `make build`, or `go -C cmd/myspinbot-devstack build -o ../../bin/myspinbot-devstack .`")
}

// FaceWeights returns the directory of the face detector's weights: $MYSPINBOT_FACE_WEIGHTS, else
// .deps/face in the checkout.
func FaceWeights() (string, error) {
	return find("the weights of the face detector", "MYSPINBOT_FACE_WEIGHTS", ".deps/face", "run `make deps`")
}

// SpeechPython returns the Python interpreter that has the speech recogniser of the tests:
// $MYSPINBOT_SPEECH_PYTHON, else .deps/asr/bin/python in the checkout.
func SpeechPython() (string, error) {
	return find("the speech recogniser of the tests", "MYSPINBOT_SPEECH_PYTHON", ".deps/asr/bin/python", "run `make deps-test`")
}

// find returns an absolute path that exists.
func find(what, variable, inCheckout, remedy string) (string, error) {
	if p := os.Getenv(variable); p != "" {
		if _, err := os.Stat(p); err != nil {
			return "", fmt.Errorf("cannot use %s that $%s names: %w", what, variable, err)
		}
		return filepath.Abs(p)
	}
	root, err := checkout()
	if err != nil {
		return "", fmt.Errorf("cannot find %s: $%s is not set and %w", what, variable, err)
	}
	p := filepath.Join(root, filepath.FromSlash(inCheckout))
	if _, err := os.Stat(p); err != nil {
		return "", fmt.Errorf("cannot find %s: $%s is not set and %s is missing; %s", what, variable, p, remedy)
	}
	return p, nil
}

// checkout finds the root of the source tree above the working directory (tests run in their
// package's directory), else above this program (bin/myspinbot).
func checkout() (string, error) {
	var starts []string
	if wd, err := os.Getwd(); err == nil {
		starts = append(starts, wd)
	}
	if exe, err := os.Executable(); err == nil {
		starts = append(starts, filepath.Dir(exe))
	}
	for _, dir := range starts {
		for ; ; dir = filepath.Dir(dir) {
			if isCheckout(dir) {
				return dir, nil
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return "", errors.New("there is no checkout of MySpinBot above the working directory or this program")
}

func isCheckout(dir string) bool {
	f, err := os.Open(filepath.Join(dir, "go.mod"))
	if err != nil {
		return false
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "module "); ok {
			return strings.TrimSpace(rest) == modulePath
		}
	}
	return false
}

// PostgresBin returns a directory with PostgreSQL's initdb and postgres: $MYSPINBOT_POSTGRES_BIN,
// else the newest of /usr/lib/postgresql/*/bin, else the server on PATH, else .deps/postgres/bin
// in the checkout.
func PostgresBin() (string, error) {
	return findPostgres("/usr/lib/postgresql", os.Getenv)
}

func findPostgres(packages string, getenv func(string) string) (string, error) {
	if dir := getenv("MYSPINBOT_POSTGRES_BIN"); dir != "" {
		if !isPostgres(dir) {
			return "", fmt.Errorf("cannot use $MYSPINBOT_POSTGRES_BIN: %s does not hold the programs initdb and postgres", dir)
		}
		return filepath.Abs(dir)
	}
	if dir := newestPostgres(packages); dir != "" {
		return dir, nil
	}
	for _, dir := range filepath.SplitList(getenv("PATH")) {
		// On PATH there may be a link to the server, or a wrapper that is none: follow the first,
		// refuse the second.
		real, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres"))
		if err == nil && isPostgres(filepath.Dir(real)) {
			return filepath.Dir(real), nil
		}
	}
	if root, err := checkout(); err == nil {
		if dir := filepath.Join(root, ".deps", "postgres", "bin"); isPostgres(dir) {
			return dir, nil
		}
	}
	return "", fmt.Errorf("cannot find PostgreSQL: no server in $MYSPINBOT_POSTGRES_BIN, %s, PATH or .deps/postgres; run `make deps`", packages)
}

// newestPostgres picks among the directories that distributions name by version: 9.6, 15, 18.
func newestPostgres(packages string) string {
	var best string
	var bestVersion float64
	entries, err := os.ReadDir(packages)
	if err != nil {
		return ""
	}
	for _, e := range entries {
		version, err := strconv.ParseFloat(e.Name(), 64)
		dir := filepath.Join(packages, e.Name(), "bin")
		if err == nil && version > bestVersion && isPostgres(dir) {
			best, bestVersion = dir, version
		}
	}
	return best
}

func isPostgres(dir string) bool {
	return !slices.ContainsFunc([]string{"initdb", "postgres"}, func(name string) bool {
		info, err := os.Stat(filepath.Join(dir, name))
		return err != nil || info.IsDir() || info.Mode()&0o111 == 0
	})
}

// javaBin returns the java of $JAVA_HOME, else of PATH.
func javaBin() (string, error) {
	if home := os.Getenv("JAVA_HOME"); home != "" {
		if p := filepath.Join(home, "bin", "java"); isFile(p) {
			return p, nil
		}
	}
	p, err := exec.LookPath("java")
	if err != nil {
		return "", fmt.Errorf("cannot find Java, which Apache Kafka needs (17 or later): install the package default-jre-headless or set JAVA_HOME: %w", err)
	}
	return filepath.Abs(p)
}

func isFile(p string) bool {
	info, err := os.Stat(p)
	return err == nil && info.Mode().IsRegular()
}
