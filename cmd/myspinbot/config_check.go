// What no single key can say: addresses, keys, and values that must fit together.

package main

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/myspinbot/myspinbot/events"
)

// finish fills what depends on the machine and holds the values against each other.
func (l *loader) finish() {
	c := &l.config
	if c.Instance == "" {
		c.Instance = "local"
		if host, err := os.Hostname(); err == nil && host != "" {
			c.Instance = host
		}
	}
	for _, address := range c.Kafka.Brokers {
		l.checkAddress("kafka.brokers", address)
	}
	if c.S3.Endpoint != "" {
		l.checkAddress("s3.endpoint", strings.TrimPrefix(strings.TrimPrefix(c.S3.Endpoint, "http://"), "https://"))
	}
	l.checkAddress("http.listen", c.HTTP.Listen)
	l.access()
	l.checkURL("postgres.url", c.Postgres.URL.Reveal(), true, "postgres", "postgresql")
	l.checkURL("engines.ollama.url", c.Engines.Ollama.URL, false, "http", "https")
	l.checkURL("engines.chat.url", c.Engines.Chat.URL, false, "http", "https")
	if c.Engines.Chat.URL != "" && c.Engines.Chat.Model == "" {
		l.failKey("engines.chat.model", "nothing", "the name of a model that the server at engines.chat.url has")
	}
	if s := c.Engines.Safety; s.Model != "" && c.Engines.Ollama.URL == "" && c.Engines.Chat.URL == "" {
		l.failKey("engines.safety.model", strconv.Quote(s.Model), "a model of the server at engines.ollama.url or engines.chat.url, one of which must be set")
	}
	l.checkURL("engines.speech.openai.url", c.Engines.Speech.OpenAI.URL, false, "http", "https")
	l.checkURL("engines.speech.sovits.url", c.Engines.Speech.SoVITS.URL, false, "http", "https")
	l.checkURL("engines.comfyui.url", c.Engines.ComfyUI.URL, false, "http", "https")
	for _, host := range c.Webhooks.AllowPrivate {
		if strings.ContainsAny(host, "/@#?* ") {
			l.failKey("webhooks.allow_private", strconv.Quote(host), "a host without a scheme, such as nas.local, 192.168.1.7 or nas.local:8123")
		}
	}
	l.masterKey()
	l.webhookEndpoints()
}

func (l *loader) failKey(key, found, allowed string) {
	if from := l.from[key]; from != "" {
		key += " (" + from + ")"
	}
	l.fail(key, found, allowed)
}

func (l *loader) checkAddress(key, address string) {
	host, port, err := net.SplitHostPort(address)
	n, portErr := strconv.Atoi(port)
	if err != nil || portErr != nil || n < 0 || n > 65535 || strings.ContainsAny(host, "/ ") {
		l.failKey(key, strconv.Quote(address), "host:port without a scheme, such as localhost:9092")
	}
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (l *loader) checkURL(key, text string, secret bool, schemes ...string) {
	if text == "" {
		return
	}
	u, err := url.Parse(text)
	if err == nil && u.Host != "" && slices.Contains(schemes, u.Scheme) {
		return
	}
	found := strconv.Quote(text)
	if secret {
		found = fmt.Sprintf("a secret of %d characters", len(text))
	}
	l.failKey(key, found, "a URL that begins with "+schemes[0]+":// and a host")
}

// masterKey takes the key from its file if one is named, and checks it.
func (l *loader) masterKey() {
	s := &l.config.Secrets
	key := "secrets.master_key"
	if s.MasterKeyFile != "" {
		if s.MasterKey != "" {
			l.failKey(key, "a key here and another in secrets.master_key_file", "one of the two")
			return
		}
		key = "secrets.master_key_file"
		data, err := os.ReadFile(s.MasterKeyFile)
		if err != nil {
			l.failKey(key, err.Error(), "a readable file")
			return
		}
		s.MasterKey = Secret(strings.TrimSpace(string(data)))
	} else if s.MasterKey == "" {
		return
	}
	if raw, err := base64.StdEncoding.DecodeString(s.MasterKey.Reveal()); err != nil || len(raw) != events.KeySize {
		l.failKey(key, fmt.Sprintf("a secret of %d characters", len(s.MasterKey)), "32 bytes in base64, as `head -c 32 /dev/urandom | base64` makes them")
	}
}
