// Tests of the configuration: precedence, faults, secrets, the schema.

package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/webhooks"
)

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "myspinbot.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	c, rest, err := loadConfig(nil, nil)
	if err != nil || len(rest) != 0 {
		t.Fatalf("loadConfig() = %v, %v", rest, err)
	}
	policy := aggregates.DefaultPolicy()
	if c.Kafka.Prefix != "myspinbot." || c.Kafka.Partitions != 12 || c.HTTP.Listen != "127.0.0.1:8080" || c.Instance == "" {
		t.Errorf("unexpected defaults: %+v", c)
	}
	if c.Job.MaxAttempts != policy.MaxAttempts || c.Job.BackOff != policy.BackOff || c.Job.Deadline != policy.JobDeadline {
		t.Errorf("the defaults %+v are not the policy's own %+v", c.Job, policy)
	}
}

func TestFlagWinsOverEnvironmentOverFileOverDefault(t *testing.T) {
	t.Parallel()
	path := writeConfig(t, "instance = 'file'\n[kafka]\nbrokers = ['file:1', 'file:2']\nprefix = 'file.'\npartitions = 7\n[job]\nback_off = '9s'\n")
	env := []string{"MYSPINBOT_CONFIG=" + path, "MYSPINBOT_KAFKA_PREFIX=env.", "MYSPINBOT_KAFKA_PARTITIONS=8", "MYSPINBOT_INSTANCE="}
	c, rest, err := loadConfig([]string{"first", "--kafka-partitions=9", "--roles", "api, gpu", "second", "--s3-secure", "--", "--third"}, env)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprintf("%v %s %d %d %s", c.Kafka.Brokers, c.Kafka.Prefix, c.Kafka.Partitions, c.Kafka.Replication, c.Instance), "[file:1 file:2] env. 9 -1 file"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if !slices.Equal(rest, []string{"first", "second", "--third"}) || !slices.Equal(c.Roles, []string{"api", "gpu"}) || !c.S3.Secure || c.Job.BackOff != 9*time.Second {
		t.Errorf("rest %q, roles %q, secure %t, back-off %s", rest, c.Roles, c.S3.Secure, c.Job.BackOff)
	}
}

func TestAllFaultsAtOnce(t *testing.T) {
	t.Parallel()
	path := writeConfig(t, `
[kafka]
partitions = "twelve"
broker = ["a:1"]
[http]
listen = "0.0.0.0:80"
[lanes.tts]
slot = 3
[colour]
[job]
back_off = 5
[s3]
endpoint = "ftp://store"
`)
	env := []string{"MYSPINBOT_LOG_LEVEL=loud", "MYSPINBOT_SECRETS_MASTER_KEY=c2hvcnQ=", "MYSPINBOT_POSTGRES_URL=mysql://u:hunter2@h/d"}
	_, _, err := loadConfig([]string{"--config", path, "--engines-ollama-temperature", "3", "--no-such", "--lanes", "tts,dance", "--job-deadline"}, env)
	if err == nil {
		t.Fatal("every fault was let through")
	}
	for _, want := range []string{
		`kafka.partitions (` + path + `, line 3): found twelve; allowed: a whole number from 1 to 1000`,
		`kafka.broker (` + path + `, line 4): found an unknown key; allowed: brokers, prefix, partitions, replication`,
		`http.listen (` + path + `, line 6): found "0.0.0.0:80"; allowed: an address of this machine alone`,
		`lanes.tts.slot (` + path + `, line 8): found an unknown key; allowed: partitions, slots`,
		`colour (` + path + `, line 9): found an unknown key`,
		`job.back_off (` + path + `, line 11): found 5; allowed: a duration`,
		`s3.endpoint (` + path + `, line 13): found "ftp://store"; allowed: host:port`,
		`log.level (environment MYSPINBOT_LOG_LEVEL): found "loud"; allowed: one of debug, info, warn, error`,
		`secrets.master_key (environment MYSPINBOT_SECRETS_MASTER_KEY): found a secret of 8 characters; allowed: 32 bytes`,
		`postgres.url (environment MYSPINBOT_POSTGRES_URL): found a secret of 21 characters; allowed: a URL that begins with postgres://`,
		`engines.ollama.temperature (flag --engines-ollama-temperature): found "3"; allowed: a number from 0 to 2`,
		`flag --no-such: found no such flag`,
		`gpu.lanes (flag --lanes): found "tts,dance"; allowed: a list, separated by commas, of script, train`,
		`flag --job-deadline: found no value behind it`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q", want)
		}
	}
	if n := strings.Count(err.Error(), "; allowed: "); n != 14 {
		t.Errorf("%d faults, want 14:\n%v", n, err)
	}
	if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "c2hvcnQ") {
		t.Errorf("the error shows a secret: %v", err)
	}
}

func TestBrokenFiles(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ args, want string }{
		"syntax":  {writeConfig(t, "instance = 'a'\n[kafka\n"), "line 2"},
		"twice":   {writeConfig(t, "instance = 'a'\ninstance = 'b'\n"), "line 2"},
		"missing": {filepath.Join(t.TempDir(), "absent.toml"), "no such file"},
		"scalar":  {writeConfig(t, "kafka = 3\n"), "kafka ("},
		"inline":  {writeConfig(t, "\n\nlanes = { tts = { slots = 0 } }\n"), "lanes.tts.slots ("},
		"secret":  {writeConfig(t, "[s3]\nsecret_key = 777123\n"), "something that is no text"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := loadConfig([]string{"--config", tc.args}, nil)
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "777123") {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}

func TestMasterKey(t *testing.T) {
	t.Parallel()
	key := bytes.Repeat([]byte{7}, events.KeySize)
	text := base64.StdEncoding.EncodeToString(key)
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, env := range [][]string{{"MYSPINBOT_SECRETS_MASTER_KEY=" + text}, {"MYSPINBOT_SECRETS_MASTER_KEY_FILE=" + file}} {
		c, _, err := loadConfig(nil, env)
		if err != nil || !bytes.Equal(c.Secrets.MasterKeyBytes(), key) {
			t.Errorf("%.40s: key %x, error %v", env[0], c.Secrets.MasterKeyBytes(), err)
		}
	}
	_, _, err := loadConfig(nil, []string{"MYSPINBOT_SECRETS_MASTER_KEY=" + text, "MYSPINBOT_SECRETS_MASTER_KEY_FILE=" + file})
	if err == nil || !strings.Contains(err.Error(), "one of the two") {
		t.Errorf("two keys: %v", err)
	}
	_, _, err = loadConfig([]string{"--secrets-master-key-file", file + ".absent"}, nil)
	if err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("a missing file: %v", err)
	}
	if (SecretsConfig{}).MasterKeyBytes() != nil {
		t.Error("no key is not nil")
	}
}

func TestACommandsOwnFlags(t *testing.T) {
	t.Parallel()
	own := flag.NewFlagSet("dev", flag.ContinueOnError)
	data, keep, port := own.String("data", "", ""), own.Bool("keep", false, ""), own.Int("port", 1, "")
	c, rest, err := loadConfig([]string{"--data", "d", "--keep", "x", "--log-level=debug", "--port", "5"}, nil, own)
	if err != nil || *data != "d" || !*keep || *port != 5 || c.Log.Level != "debug" || !slices.Equal(rest, []string{"x"}) {
		t.Errorf("data %q, keep %t, port %d, level %s, rest %q, error %v", *data, *keep, *port, c.Log.Level, rest, err)
	}
	if _, _, err := loadConfig([]string{"--port", "five"}, nil, own); err == nil || !strings.Contains(err.Error(), "--port") {
		t.Errorf("a wrong flag of the command: %v", err)
	}
	if _, _, err := loadConfig([]string{"--help"}, nil, own); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("help: %v", err)
	}
}

func TestLanesAreTheLogsLanes(t *testing.T) {
	t.Parallel()
	c, _, err := loadConfig([]string{"--lanes", "tts", "--lanes-tts-slots", "5", "--lanes-media-partitions", "9"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := events.Lanes()
	for i, f := range settings(&c) {
		if f.key == "gpu.lanes" && !reflect.DeepEqual(f.oneOf, want) {
			t.Errorf("setting %d allows the lanes %q, the log has %q", i, f.oneOf, want)
		}
	}
	parts := c.Lanes.Partitions()
	for _, lane := range want {
		if parts[lane] < 1 {
			t.Errorf("lane %s has no partitions", lane)
		}
	}
	if len(parts) != len(want) || parts["media"] != 9 || !reflect.DeepEqual(c.Lanes.Slots(c.GPU.Lanes), map[string]int{"tts": 5}) || len(c.Lanes.Slots(nil)) != len(want) {
		t.Errorf("partitions %v, slots %v", parts, c.Lanes.Slots(c.GPU.Lanes))
	}
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	t.Parallel()
	c, _, err := loadConfig(nil, []string{"MYSPINBOT_S3_SECRET_KEY=hunter2", "MYSPINBOT_POSTGRES_URL=postgres://u:hunter2@h/d"})
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		fmt.Fprintf(&out, verb+"\n", c)
		fmt.Fprintf(&out, verb+"\n", c.S3.SecretKey)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("config", "all", c, "key", c.S3.SecretKey)
	j, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(j)
	if s := out.String(); strings.Contains(s, "hunter2") || strings.Contains(s, fmt.Sprintf("%x", "hunter2")) || !strings.Contains(s, hidden) {
		t.Errorf("a secret is printed: %s", s)
	}
	if c.S3.SecretKey.Reveal() != "hunter2" {
		t.Error("the secret is lost")
	}
}

func TestSchemaDescribesEveryKey(t *testing.T) {
	t.Parallel()
	docs, err := configKeys()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, d := range docs {
		if len(d.Doc) < 20 || !strings.HasSuffix(d.Doc, ".") && !strings.HasSuffix(d.Doc, "`.") {
			t.Errorf("%s is not described by a sentence: %q", d.Key, d.Doc)
		}
		for _, name := range []string{d.Key, d.Env, d.Flag} {
			if seen[name] {
				t.Errorf("%s names two keys", name)
			}
			seen[name] = true
		}
	}
	for _, want := range []string{"kafka.brokers", "MYSPINBOT_KAFKA_BROKERS", "--kafka-brokers", "lanes.tts.slots", "--lanes", "engines.face.weights", "MYSPINBOT_JOB_MAX_ATTEMPTS"} {
		if !seen[want] {
			t.Errorf("the schema lacks %s", want)
		}
	}
	var text, asJSON bytes.Buffer
	if err := errors.Join(printSchema(&text, false), printSchema(&asJSON, true)); err != nil {
		t.Fatal(err)
	}
	var back []keyDoc
	if err := json.Unmarshal(asJSON.Bytes(), &back); err != nil || !reflect.DeepEqual(back, docs) {
		t.Errorf("the JSON form reads back as %d keys, error %v", len(back), err)
	}
	if !strings.Contains(text.String(), "MYSPINBOT_S3_SECRET_KEY") || !strings.Contains(text.String(), "Least important lines") {
		t.Errorf("the text form: %s", text.String())
	}
}

// Every place outside of this program that names a key must name one that exists.
func TestDeploymentNamesRealKeys(t *testing.T) {
	t.Parallel()
	if _, _, err := loadConfig([]string{"--config", "../../deploy/myspinbot.toml"}, nil); err != nil {
		t.Errorf("the example configuration: %v", err)
	}
	known := map[string]bool{"MYSPINBOT_CONFIG": true}
	for _, s := range settings(withReceiver()) {
		known[s.env], known["`"+s.key+"`"] = true, true
	}
	names := regexp.MustCompile(`MYSPINBOT_[A-Z0-9_]+|` + "`(?:kafka|postgres|s3|secrets|http|gpu|lanes|engines|limits|log)\\.[a-z0-9_.]+`")
	for _, file := range []string{"redpanda-compose.yml", "deploy/Dockerfile", "deploy/make-secrets", "deploy/myspinbot.toml", "docs/operator.md", "docs/engines-voices.md"} {
		data, err := os.ReadFile(filepath.Join("../..", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names.FindAllString(string(data), -1) {
			if !known[name] {
				t.Errorf("%s names %s, which is no key", file, name)
			}
		}
	}
}

func TestSettingsOfModelsMustFitTogether(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"[engines.chat]\nurl = 'http://127.0.0.1:8080'\n":                                 "engines.chat.model",
		"[engines.safety]\nmodel = 'llama3.2'\n":                                          "engines.safety.model",
		"[engines.chat]\nurl = 'localhost'\nmodel = 'm'\n":                                "engines.chat.url",
		"[engines.safety]\npolicy = 'none'\n":                                             "engines.safety.policy",
		"[engines.ollama]\nfirst_token = '0s'\n":                                          "engines.ollama.first_token",
		"[engines.chat]\nurl = 'http://x'\nmodel = 'm'\n[engines.script]\nprompt = 'x'\n": "engines.script.prompt",
	} {
		if _, _, err := loadConfig([]string{"--config", writeConfig(t, path)}, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s in it", path, err, want)
		}
	}
	c, _, err := loadConfig([]string{"--config", writeConfig(t, "[engines.chat]\nurl = 'http://x'\nkey = 'k'\nmodel = 'm'\nidle = '9s'\n[engines.ollama]\nurl = 'http://y'\nkeep_alive = '0'\n[engines.safety]\nmodel = 'n'\npolicy = 'strict'\n")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	text := c.Engines.text()
	if text.Chat.Key != "k" || text.Chat.Idle != 9*time.Second || text.Ollama.KeepAlive != "0" || text.Ollama.FirstByte != 5*time.Minute || !text.Safety.Strict || text.Safety.Model != "n" || text.Safety.Fallback {
		t.Errorf("the engines get %+v", text)
	}
}

func TestWebhookEndpoints(t *testing.T) {
	t.Parallel()
	secret := "whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	address := "MYSPINBOT_WEBHOOKS_ENDPOINTS=https://ops.example.com/hooks/path-canary"
	for _, env := range []string{"MYSPINBOT_WEBHOOKS_ENDPOINT_SECRET=" + secret, "MYSPINBOT_WEBHOOKS_ENDPOINT_SECRET_FILE=" + file} {
		c, _, err := loadConfig(nil, []string{address, env, "MYSPINBOT_WEBHOOKS_ENDPOINT_EVENTS=job.failed"})
		if err != nil {
			t.Fatalf("%.50s: %v", env, err)
		}
		if got := c.Webhooks.endpoints(); len(got) != 1 || !slices.Equal(got[0].Secrets, []string{secret}) || got[0].Check(webhooks.Policy{}) != nil {
			t.Errorf("%.50s: %d endpoints", env, len(got))
		}
	}
	for says, env := range map[string][]string{
		"webhooks.endpoint_secret (": {address, "MYSPINBOT_WEBHOOKS_ENDPOINT_SECRET=hunter2"},
		"webhooks.endpoint_secret:":  {address},
		"one of the two":             {address, "MYSPINBOT_WEBHOOKS_ENDPOINT_SECRET=" + secret, "MYSPINBOT_WEBHOOKS_ENDPOINT_SECRET_FILE=" + file},
		"no such file":               {address, "MYSPINBOT_WEBHOOKS_ENDPOINT_SECRET_FILE=" + file + ".absent"},
		"must begin with https":      {"MYSPINBOT_WEBHOOKS_ENDPOINTS=http://ops.example.com/path-canary", "MYSPINBOT_WEBHOOKS_ENDPOINT_SECRET=" + secret},
		"a name inside":              {"MYSPINBOT_WEBHOOKS_ENDPOINTS=https://grafana/path-canary", "MYSPINBOT_WEBHOOKS_ENDPOINT_SECRET=" + secret},
		"some of job.submitted":      {address, "MYSPINBOT_WEBHOOKS_ENDPOINT_SECRET=" + secret, "MYSPINBOT_WEBHOOKS_ENDPOINT_EVENTS=job.finished"},
	} {
		_, _, err := loadConfig(nil, env)
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v, want %q", env, err, says)
		}
	}
}
