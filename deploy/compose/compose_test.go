// redpanda-compose.yml against the Compose specification (its own schema and loader) and against
// what the system promises. Every rule is shown to fail on a file that breaks it.

package compose

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v3"
)

const root = "../.."

// stack is the compose file as it would run, and Redpanda's settings.
type stack struct {
	project   *types.Project
	bootstrap map[string]any
}

// load reads the compose file, with edits made to its text first, beside fresh secrets. Broken
// references and anything that the specification's schema does not know are errors.
func load(t *testing.T, edits ...[2]string) (stack, error) {
	t.Helper()
	dir := t.TempDir()
	secrets := filepath.Join(dir, "deploy", "secrets")
	if err := os.Mkdir(filepath.Join(dir, "deploy"), 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(filepath.Join(root, "deploy", "make-secrets"), secrets).CombinedOutput(); err != nil {
		t.Fatalf("make-secrets: %v: %s", err, out)
	}
	texts := map[string]string{"redpanda-compose.yml": "", "deploy/redpanda-bootstrap.yaml": ""}
	for name := range texts {
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		texts[name] = string(data)
	}
	for _, e := range edits {
		changed := false
		for name, text := range texts {
			texts[name] = strings.Replace(text, e[0], e[1], 1)
			changed = changed || texts[name] != text
		}
		if !changed {
			t.Fatalf("nothing reads %q", e[0])
		}
	}
	s := stack{}
	if err := yaml.Unmarshal([]byte(texts["deploy/redpanda-bootstrap.yaml"]), &s.bootstrap); err != nil {
		t.Fatal(err)
	}
	details := types.ConfigDetails{WorkingDir: dir, Environment: types.Mapping{},
		ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(dir, "redpanda-compose.yml"), Content: []byte(texts["redpanda-compose.yml"])}}}
	project, err := loader.LoadWithContext(context.Background(), details)
	s.project = project
	return s, err
}

var version = regexp.MustCompile(`:v?\d+\.\d+`)

// faults lists the promises that the stack breaks.
func (s stack) faults() []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	roles := map[string]int{}
	for _, name := range slices.Sorted(maps.Keys(s.project.Services)) {
		svc := s.project.Services[name]
		if svc.Build == nil && !version.MatchString(svc.Image) {
			say("%s: the image %q is not pinned to a version", name, svc.Image)
		}
		for _, p := range svc.Ports {
			if name != "api" || p.HostIP != "127.0.0.1" {
				say("%s: port %s is published on %q", name, p.Published, p.HostIP)
			}
		}
		_, private := svc.Networks["private"]
		if name != "edge" && !private {
			say("%s: not on the private network", name)
		}
		if _, edge := svc.Networks["edge"]; edge && name != "api" && name != "notifier" {
			say("%s: reaches beyond the private network", name)
		}
		if svc.HealthCheck == nil && svc.Build == nil {
			say("%s: no health check", name)
		}
		for _, v := range svc.Volumes {
			if v.Type == types.VolumeTypeBind && !v.ReadOnly {
				say("%s: writes to the host at %s", name, v.Source)
			}
		}
		if svc.Build != nil {
			if len(svc.Command) != 3 || svc.Command[0] != "run" || svc.Command[1] != "--roles" {
				say("%s: runs %q instead of one role", name, svc.Command)
				continue
			}
			roles[svc.Command[2]]++
			if instance := svc.Environment["MYSPINBOT_INSTANCE"]; instance == nil || *instance == "" {
				say("%s: has no name that survives the container", name)
			}
			if !svc.ReadOnly || svc.Privileged || !slices.Contains(svc.CapDrop, "ALL") {
				say("%s: has more rights than it needs", name)
			}
		}
	}
	if !maps.Equal(roles, map[string]int{"api": 1, "handler": 1, "projector": 1, "notifier": 1, "gpu": 1}) {
		say("the roles are %v", roles)
	}
	if !s.project.Networks["private"].Internal {
		say("the private network is not internal")
	}
	return append(out, s.redpandaFaults()...)
}

func (s stack) redpandaFaults() []string {
	var out []string
	redpanda := s.project.Services["redpanda"]
	for _, arg := range redpanda.Command {
		if strings.Contains(arg, "dev-container") || strings.Contains(arg, "--mode") || strings.Contains(arg, "bypass-fsync") {
			out = append(out, "redpanda: "+arg+" acknowledges what is not on disk")
		}
	}
	if got := s.bootstrap["group_offset_retention_sec"]; got != 30*24*60*60 {
		out = append(out, fmt.Sprintf("redpanda: group offsets are kept for %v s", got))
	}
	if s.bootstrap["write_caching_default"] != "false" {
		out = append(out, "redpanda: writes are cached")
	}
	mounted := slices.ContainsFunc(redpanda.Volumes, func(v types.ServiceVolumeConfig) bool {
		return v.Target == "/etc/redpanda/.bootstrap.yaml" && strings.HasSuffix(v.Source, "deploy/redpanda-bootstrap.yaml")
	})
	if !mounted {
		out = append(out, "redpanda: the settings are not mounted")
	}
	return out
}

func TestTheStackKeepsItsPromises(t *testing.T) {
	t.Parallel()
	s, err := load(t)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range s.faults() {
		t.Error(f)
	}
	if n := len(s.project.Services); n != 9 {
		t.Errorf("%d services, want 9", n)
	}
}

func TestBrokenFilesAreRefused(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string][2]string{
		"unknown key":       {"    shm_size: 256m", "    shm_sizes: 256m"},
		"wrong type":        {"      retries: 24", "      retries: many times"},
		"unknown volume":    {"      - s3-meta:/meta", "      - s3-data:/meta"},
		"unknown network":   {"    networks: [private, edge]", "    networks: [private, world]"},
		"unknown service":   {"    network_mode: \"service:api\"", "    network_mode: \"service:web\""},
		"missing env file":  {"deploy/secrets/s3.env", "deploy/secrets/s4.env"},
		"unknown condition": {"condition: service_started", "condition: service_ready"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := load(t, edit); err == nil {
				t.Errorf("%q is accepted", edit[1])
			}
		})
	}
}

func TestEveryRuleCanFail(t *testing.T) {
	t.Parallel()
	for want, edit := range map[string][2]string{
		"is not pinned":              {"versitygw:v1.8.0", "versitygw:latest"},
		"is published on \"\"":       {"127.0.0.1:8080:8081", "8080:8081"},
		"s3: port 7070":              {"    command: [\"--health\"", "    ports: [\"127.0.0.1:7070:7070\"]\n    command: [\"--health\""},
		"s3: reaches beyond":         {"      - s3-meta:/meta\n    networks: [private]", "      - s3-meta:/meta\n    networks: [private, edge]"},
		"private network is not":     {"    internal: true", "    internal: false"},
		"not on the private network": {"      - postgres:/var/lib/postgresql\n    networks: [private]", "      - postgres:/var/lib/postgresql\n    networks: [edge]"},
		"not on disk":                {"      - --smp=1", "      - --smp=1\n      - --mode=dev-container"},
		"kept for 604800 s":          {"group_offset_retention_sec: 2592000", "group_offset_retention_sec: 604800"},
		"writes are cached":          {"write_caching_default: \"false\"", "write_caching_default: \"true\""},
		"are not mounted":            {"/etc/redpanda/.bootstrap.yaml:ro", "/etc/redpanda/bootstrap.yaml:ro"},
		"writes to the host":         {".bootstrap.yaml:ro", ".bootstrap.yaml"},
		"the roles are":              {"[\"run\", \"--roles\", \"gpu\"]", "[\"run\", \"--roles\", \"handler\"]"},
		"instead of one role":        {"[\"run\", \"--roles\", \"gpu\"]", "[\"dev\"]"},
		"survives the container":     {"      MYSPINBOT_INSTANCE: gpu-1\n", ""},
		"more rights":                {"  read_only: true", "  read_only: false"},
		"no health check":            {"    healthcheck:\n      test: [\"CMD-SHELL\", \"pg_isready", "    x-healthcheck:\n      test: [\"CMD-SHELL\", \"pg_isready"},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			s, err := load(t, edit)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(s.faults(), "\n"); !strings.Contains(got, want) {
				t.Errorf("%q goes unnoticed; faults: %s", edit[1], got)
			}
		})
	}
}

func TestSecretsReachWhomTheyAreFor(t *testing.T) {
	t.Parallel()
	s, err := load(t)
	if err != nil {
		t.Fatal(err)
	}
	get := func(service, name string) string {
		if v := s.project.Services[service].Environment[name]; v != nil {
			return *v
		}
		return ""
	}
	key, err := base64.StdEncoding.DecodeString(get("api", "MYSPINBOT_SECRETS_MASTER_KEY"))
	if err != nil || len(key) != 32 {
		t.Errorf("the master key has %d bytes, error %v", len(key), err)
	}
	if pw := get("postgres", "POSTGRES_PASSWORD"); len(pw) < 32 || !strings.Contains(get("projector", "MYSPINBOT_POSTGRES_URL"), ":"+pw+"@postgres:5432/") {
		t.Error("the roles have another password than the database")
	}
	if get("s3", "ROOT_ACCESS_KEY_ID") != get("gpu", "MYSPINBOT_S3_ACCESS_KEY") || get("s3", "ROOT_SECRET_ACCESS_KEY") != get("gpu", "MYSPINBOT_S3_SECRET_KEY") || get("gpu", "MYSPINBOT_S3_SECRET_KEY") == "" {
		t.Error("the roles have other keys than the object store")
	}
	for _, service := range []string{"redpanda", "postgres", "s3", "edge"} {
		for name := range s.project.Services[service].Environment {
			if strings.HasPrefix(name, "MYSPINBOT_") {
				t.Errorf("%s sees %s", service, name)
			}
		}
	}
}

func TestSecretsAreMadeOnce(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "secrets")
	script := filepath.Join(root, "deploy", "make-secrets")
	if out, err := exec.Command(script, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	file := filepath.Join(dir, "myspinbot.env")
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("others may read the secrets: %v, %v", info.Mode(), err)
	}
	if out, err := exec.Command(script, dir).CombinedOutput(); err == nil || !strings.Contains(string(out), "left as it is") {
		t.Errorf("the second run: %v: %s", err, out)
	}
	if after, err := os.ReadFile(file); err != nil || string(after) != string(before) {
		t.Errorf("the second run changed the secrets, error %v", err)
	}
}

// The image takes the face networks from where `make deps` does.
func TestTheImageHasTheSameWeights(t *testing.T) {
	t.Parallel()
	named := regexp.MustCompile(`@vladmandic/face-api@[0-9.]+[0-9]`)
	var found []string
	for _, file := range []string{"deploy/deps/install.sh", "deploy/Dockerfile"} {
		data, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, named.FindString(string(data)))
	}
	if found[0] == "" || found[0] != found[1] {
		t.Errorf("install.sh takes %q, the image %q", found[0], found[1])
	}
}
