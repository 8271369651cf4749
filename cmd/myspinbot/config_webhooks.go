// The part of the configuration that says whom to tell of every job: the addresses that
// share one secret, and receivers with names, each with what it does not share.

package main

import (
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/webhooks"
)

//go:embed config_webhooks.go
var webhooksConfigSource string // the comments below, for the schema

// ReceiverConfig is one of those who are told of every job. Any number of them can be named.
type ReceiverConfig struct {
	// Address that is told of every job: https, and public or allowed by webhooks.allow_private. Required. NAME is yours, of small letters and digits.
	URL Secret `key:"url"`
	// What this receiver is told of, such as job.submitted, job.failed. Empty: webhooks.endpoint_events.
	Events []string `key:"events"`
	// Secret that its messages are signed with: whsec_ and 24 to 64 bytes in base64. Several, with blanks or commas between them, sign every message each: put the next one before the present one, change it at the receiver, then take the former one out. Empty: webhooks.endpoint_secret.
	Secret Secret `key:"secret"`
	// File that holds the secret, or several, one a line; for secrets that are mounted as files.
	SecretFile string `key:"secret_file"`
	// Least time between two messages to it about one job's progress, if it is told of that. Empty: webhooks.progress.
	Progress time.Duration `key:"progress" min:"1s" max:"1h"`
}

const (
	receiversKey  = "webhooks.receivers"
	receiversEnv  = "MYSPINBOT_WEBHOOKS_RECEIVERS_"
	receiversFlag = "webhooks-receivers-"
	// receiversExample stands for a name in the schema.
	receiversExample = "NAME"
)

var receiverName = regexp.MustCompile(`^[a-z0-9]{1,32}$`)

// withReceiver is a configuration that shows the keys of a receiver.
func withReceiver() *Config {
	return &Config{Webhooks: WebhooksConfig{Receivers: map[string]*ReceiverConfig{receiversExample: {}}}}
}

// adopt makes room for a receiver of that name, whose keys are settings from then on.
func (l *loader) adopt(name string) {
	w := &l.config.Webhooks
	if w.Receivers[name] != nil {
		return
	}
	if w.Receivers == nil {
		w.Receivers = map[string]*ReceiverConfig{}
	}
	w.Receivers[name] = &ReceiverConfig{}
	l.settings = append(l.settings, walk(reflect.ValueOf(w.Receivers[name]).Elem(), receiversKey+"."+name+".")...)
}

// receiverKeys are the keys of a receiver as the environment or a flag writes them.
func receiverKeys(write func(setting) string) (keys []string) {
	for _, s := range walk(reflect.ValueOf(&ReceiverConfig{}).Elem(), "") {
		keys = append(keys, write(s))
	}
	return keys
}

// adoptFlag makes room for the receiver that a flag names, and says whether it names one.
func (l *loader) adoptFlag(flag string) bool {
	rest, ours := strings.CutPrefix(flag, receiversFlag)
	name, key, _ := strings.Cut(rest, "-")
	if !ours || !receiverName.MatchString(name) || !slices.Contains(receiverKeys(func(s setting) string { return s.flag }), key) {
		return false
	}
	l.adopt(name)
	return true
}

// adoptVariables makes room for the receivers that the environment names.
func (l *loader) adoptVariables(variables map[string]string) {
	keys := receiverKeys(func(s setting) string { return strings.ToUpper(s.key) })
	for _, variable := range slices.Sorted(maps.Keys(variables)) {
		rest, ours := strings.CutPrefix(variable, receiversEnv)
		name, key, _ := strings.Cut(rest, "_")
		if name = strings.ToLower(name); ours && variables[variable] != "" && receiverName.MatchString(name) && slices.Contains(keys, key) {
			l.adopt(name)
		}
	}
}

// readReceivers takes over the receivers of the file.
func (l *loader) readReceivers(value any, from, path string, lines map[string]int) {
	tables, ok := value.(map[string]any)
	if !ok {
		l.fail(receiversKey+" ("+from+")", "a value", "a table ["+receiversKey+"."+receiversExample+"] for each receiver")
		return
	}
	for _, name := range slices.Sorted(maps.Keys(tables)) {
		key, from := receiversKey+"."+name, path
		if line, known := lines[key]; known {
			from = fmt.Sprintf("%s, line %d", path, line)
		}
		table, isTable := tables[name].(map[string]any)
		switch {
		case !receiverName.MatchString(name):
			l.fail(key+" ("+from+")", strconv.Quote(name), "a name of up to 32 small letters and digits")
		case !isTable:
			l.fail(key+" ("+from+")", "a value", "a table ["+key+"] with "+strings.Join(receiverKeys(func(s setting) string { return s.key }), ", "))
		default:
			l.adopt(name)
			l.readTable(table, key+".", path, lines)
		}
	}
}

// webhookEndpoints takes secrets from their files if those are named, and checks whom to tell of every job.
func (l *loader) webhookEndpoints() {
	w := &l.config.Webhooks
	if !l.secretFile("webhooks.endpoint_secret", &w.EndpointSecret, w.EndpointSecretFile) {
		return
	}
	shared := webhooks.Endpoint{Secrets: w.EndpointSecret.words()}
	if len(w.Endpoints) > 0 || len(shared.Secrets) > 0 {
		l.checkSecrets("webhooks.endpoint_secret", shared)
	}
	l.checkEvents("webhooks.endpoint_events", w.EndpointEvents)
	told := map[string]string{} // the key of who is told, by its address
	for _, address := range w.Endpoints {
		told[address] = "webhooks.endpoints"
		l.checkReceiverURL("webhooks.endpoints", address)
	}
	for _, name := range slices.Sorted(maps.Keys(w.Receivers)) {
		r, key := w.Receivers[name], receiversKey+"."+name
		if !l.secretFile(key+".secret", &r.Secret, r.SecretFile) {
			continue
		}
		switch other := told[r.URL.Reveal()]; {
		case r.URL == "":
			l.failKey(key+".url", "nothing", "an address that is told of every job, such as https://ops.example.com/hooks")
		case other != "":
			l.failKey(key+".url", "the address that "+other+" has", "another address, which is told once")
		default:
			told[r.URL.Reveal()] = key
			l.checkReceiverURL(key+".url", r.URL.Reveal())
		}
		l.checkEvents(key+".events", r.Events)
		if own := r.endpoint(*w); r.Secret != "" || len(own.Secrets) == 0 { // the shared one is checked above
			l.checkSecrets(key+".secret", own)
		}
	}
}

// secretFile takes a secret from its file if that is named; false says that it failed.
func (l *loader) secretFile(key string, secret *Secret, file string) bool {
	if file == "" {
		return true
	}
	if *secret != "" {
		l.failKey(key, "a secret here and another in "+key+"_file", "one of the two")
		return false
	}
	data, err := os.ReadFile(file)
	if err != nil {
		l.failKey(key+"_file", err.Error(), "a readable file")
		return false
	}
	*secret = Secret(strings.TrimSpace(string(data)))
	return true
}

func (l *loader) checkReceiverURL(key, address string) {
	policy := webhooks.Policy{Private: l.config.Webhooks.AllowPrivate}
	if err := (webhooks.Endpoint{URL: address}).CheckAddress(policy); err != nil {
		where := "an address"
		if u, bad := url.Parse(address); bad == nil && u.Host != "" {
			where = strconv.Quote(u.Host) // its path may hold a secret
		}
		l.failKey(key, where, err.Error())
	}
}

func (l *loader) checkSecrets(key string, e webhooks.Endpoint) {
	file := key + "_file"
	allowed := "whsec_ and 24 to 64 bytes in base64, as `echo whsec_$(head -c 32 /dev/urandom | base64)` makes them; or name a file that holds it: " + file
	if l.from[file] != "" {
		key = file
	}
	err := e.CheckSecrets()
	switch {
	case errors.Is(err, webhooks.ErrNoSecret) && strings.HasPrefix(key, receiversKey):
		l.failKey(key, "nothing, nor in webhooks.endpoint_secret", allowed)
	case errors.Is(err, webhooks.ErrNoSecret):
		l.failKey(key, "nothing", allowed)
	case err != nil:
		for i, secret := range e.Secrets {
			if _, bad := webhooks.SecretKey(secret); bad != nil {
				l.failKey(key, fmt.Sprintf("a secret of %d characters, number %d of %d", len(secret), i+1, len(e.Secrets)), allowed)
			}
		}
	}
}

func (l *loader) checkEvents(key string, asked []string) {
	for _, kind := range asked {
		if !slices.Contains(events.WebhookEvents(), kind) {
			l.failKey(key, strconv.Quote(kind), "some of "+strings.Join(events.WebhookEvents(), ", "))
		}
	}
}

// words are the secrets in one text, with blanks, line ends or commas between them.
func (s Secret) words() []string {
	return strings.FieldsFunc(s.Reveal(), func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
}

// endpoint is the receiver with what it shares.
func (r ReceiverConfig) endpoint(shared WebhooksConfig) webhooks.Endpoint {
	e := webhooks.Endpoint{URL: r.URL.Reveal(), Secrets: r.Secret.words(), Events: r.Events, Progress: r.Progress}
	if r.Secret == "" {
		e.Secrets = shared.EndpointSecret.words()
	}
	if len(r.Events) == 0 {
		e.Events = shared.EndpointEvents
	}
	return e
}

// endpoints are whom to tell of every job.
func (w WebhooksConfig) endpoints() (out []webhooks.Endpoint) {
	for _, address := range w.Endpoints {
		out = append(out, ReceiverConfig{URL: Secret(address)}.endpoint(w))
	}
	for _, name := range slices.Sorted(maps.Keys(w.Receivers)) {
		out = append(out, w.Receivers[name].endpoint(w))
	}
	return out
}
