// Tests of the configuration of receivers, who are told of every job.

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/internal/webhooks"
)

// hookSecret is a secret of a webhook.
func hookSecret(b byte) string { return webhooks.NewSecret(bytes.Repeat([]byte{b}, 32)) }

func TestReceiversHaveWhatTheyDoNotShare(t *testing.T) {
	t.Parallel()
	file := writeConfig(t, `
[webhooks]
endpoints = ["https://all.example.com/hooks"]
endpoint_events = ["job.failed"]
endpoint_secret = "`+hookSecret(1)+`"
[webhooks.receivers.ops]
url = "https://ops.example.com/canary"
events = ["job.succeeded", "job.progress"]
secret_file = "`+writeFile(t, "secrets", hookSecret(3)+"\n"+hookSecret(2)+"\n")+`"
progress = "1m"
[webhooks.receivers.plain]
url = "https://plain.example.com/"
`)
	args := []string{"--config", file, "--webhooks-receivers-flag7-url", "https://flag.example.com/", "--webhooks-receivers-flag7-secret=" + hookSecret(4) + "," + hookSecret(5), "--webhooks-receivers-plain-events", "job.rejected"}
	env := []string{"MYSPINBOT_WEBHOOKS_RECEIVERS_ENV_URL=https://env.example.com/", "MYSPINBOT_WEBHOOKS_RECEIVERS_ENV_SECRET_FILE=" + writeFile(t, "secret", hookSecret(6)),
		"MYSPINBOT_WEBHOOKS_RECEIVERS_PLAIN_PROGRESS=2m", "MYSPINBOT_WEBHOOKS_RECEIVERS_UNSET_URL="}
	c, _, err := loadConfig(args, env)
	if err != nil {
		t.Fatal(err)
	}
	want := []webhooks.Endpoint{
		{URL: "https://all.example.com/hooks", Secrets: []string{hookSecret(1)}, Events: []string{"job.failed"}},
		{URL: "https://env.example.com/", Secrets: []string{hookSecret(6)}, Events: []string{"job.failed"}},
		{URL: "https://flag.example.com/", Secrets: []string{hookSecret(4), hookSecret(5)}, Events: []string{"job.failed"}},
		{URL: "https://ops.example.com/canary", Secrets: []string{hookSecret(3), hookSecret(2)}, Events: []string{"job.succeeded", "job.progress"}, Progress: time.Minute},
		{URL: "https://plain.example.com/", Secrets: []string{hookSecret(1)}, Events: []string{"job.rejected"}, Progress: 2 * time.Minute},
	}
	got := c.Webhooks.endpoints()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("told are %+v\nwant %+v", got, want)
	}
	for _, e := range got {
		if err := e.Check(webhooks.Policy{}); err != nil {
			t.Errorf("%s: %v", e.URL, err)
		}
	}
	printed, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if s := fmt.Sprintf("%+v %#v %s", *c.Webhooks.Receivers["ops"], *c.Webhooks.Receivers["ops"], printed); strings.Contains(s, "whsec_") || strings.Contains(s, "canary") {
		t.Errorf("a secret is printed: %s", s)
	}
}

func TestReceiversThatCannotBeToldAreNamed(t *testing.T) {
	t.Parallel()
	good := "[webhooks.receivers.ops]\nurl = 'https://ops.example.com/canary'\nsecret = '" + hookSecret(1) + "'\n"
	absent := writeFile(t, "secret", "") + ".absent"
	for says, text := range map[string]string{
		"webhooks.receivers.ops.url: found nothing":                                           "[webhooks.receivers.ops]\nsecret = '" + hookSecret(1) + "'\n",
		"webhooks.receivers.ops.secret: found nothing, nor in webhooks.endpoint_secret":       "[webhooks.receivers.ops]\nurl = 'https://ops.example.com/canary'\n",
		"line 4): found a secret of 14 characters, number 2 of 2":                             "[webhooks.receivers.ops]\nurl = 'https://ops.example.com/canary'\nprogress = '9s'\nsecret = '" + hookSecret(1) + " canary-hunter2'\n",
		"webhooks.receivers.ops.secret_file (":                                                "[webhooks.receivers.ops]\nurl = 'https://ops.example.com/canary'\nsecret_file = '" + writeFile(t, "secrets", hookSecret(1)+"\nhunter2\n") + "'\n",
		"number 2 of 2":                                                                       "[webhooks.receivers.ops]\nurl = 'https://ops.example.com/canary'\nsecret_file = '" + writeFile(t, "secrets", hookSecret(1)+"\nhunter2\n") + "'\n",
		"absent: no such file":                                                                "[webhooks.receivers.ops]\nurl = 'https://ops.example.com/canary'\nsecret_file = '" + absent + "'\n",
		"a secret here and another in webhooks.receivers.ops.secret_file":                     good + "secret_file = '" + absent + "'\n",
		`webhooks.receivers.ops.events (`:                                                     good + "events = ['job.finished']\n",
		"webhooks.receivers.ops.progress (":                                                   good + "progress = '2h'\n",
		`webhooks.receivers.ops.url (`:                                                        strings.Replace(good, "https", "http", 1),
		`found "ops.example.com"; allowed: the address is not allowed: it must begin with ht`: strings.Replace(good, "https", "http", 1),
		"webhooks.receivers.two.url (":                                                        good + strings.Replace(good, "ops]", "two]", 1),
		"found the address that webhooks.receivers.ops has":                                   good + strings.Replace(good, "ops]", "two]", 1),
		"found the address that webhooks.endpoints has":                                       "[webhooks]\nendpoints = ['https://ops.example.com/canary']\nendpoint_secret = '" + hookSecret(1) + "'\n" + good,
		"webhooks.receivers.Ops-1 (":                                                          strings.Replace(good, "ops]", "Ops-1]", 1),
		"a name of up to 32 small letters and digits":                                         strings.Replace(good, "ops]", "Ops-1]", 1),
		"webhooks.receivers.ops.uri (":                                                        good + "uri = 'x'\n",
		"allowed: url, events, secret, secret_file, progress":                                 good + "uri = 'x'\n",
		"webhooks.receivers.ops (":                                                            "[webhooks.receivers]\nops = 'x'\n",
		"a table [webhooks.receivers.NAME] for each receiver":                                 "[webhooks]\nreceivers = ['x']\n",
		"progress, receivers":                                                                 "[webhooks]\nreceiver = 'x'\n",
	} {
		_, _, err := loadConfig([]string{"--config", writeConfig(t, text)}, nil)
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), hookSecret(1)) {
			t.Errorf("%q: %v, want %q", text, err, says)
		}
	}
	for _, flag := range []string{"--webhooks-receivers-ops-uri", "--webhooks-receivers-Ops-url", "--webhooks-receivers-url"} {
		if _, _, err := loadConfig([]string{flag, "x"}, nil); err == nil || !strings.Contains(err.Error(), "no such flag") || strings.Contains(err.Error(), "found nothing") {
			t.Errorf("%s: %v", flag, err)
		}
	}
}

func TestTheSchemaShowsAReceiver(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	if err := printSchema(&text, false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"webhooks.receivers.NAME.secret secret", "MYSPINBOT_WEBHOOKS_RECEIVERS_NAME_URL", "--webhooks-receivers-NAME-progress", "Required. NAME is yours"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the schema lacks %q", want)
		}
	}
}
