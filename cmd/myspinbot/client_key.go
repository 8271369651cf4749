// The key that the commands show to the API.

package main

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"strings"
)

const keyVariable = "MYSPINBOT_API_KEY"

const whereKeysComeFrom = "the key is taken from " + keyVariable + ", or from the file that --api-key-file names"

// defineServer adds the flags that say which server to ask, and as whom. There is none for the
// key itself: every user of a machine sees the command lines of all programs, and shells keep them.
func defineServer(f *flag.FlagSet, server, keyFile *string) {
	f.StringVar(server, "server", "", "address of the API; default $MYSPINBOT_SERVER, else "+defaultServer)
	f.StringVar(keyFile, "api-key-file", "", "file that holds the API key, where the server asks for one; default: the key in $"+keyVariable)
}

// apiKey reads the key from the file, else from the environment; empty: none is sent.
func apiKey(file string) (string, error) {
	key, from := os.Getenv(keyVariable), keyVariable
	if file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("the API key cannot be read: %w", err)
		}
		if key, from = strings.TrimSpace(string(data)), file; key == "" {
			return "", fmt.Errorf("%s holds no API key", file)
		}
	}
	if strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("%s holds no API key: one is a single word, as `myspinbot keys issue` prints it", from)
	}
	return key, nil
}

// keyed sends the key to the server that was asked, and to none that it leads to.
type keyed struct{ host, key string }

// RoundTrip implements http.RoundTripper.
func (k keyed) RoundTrip(r *http.Request) (*http.Response, error) {
	if k.key != "" && r.URL.Host == k.host {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+k.key)
	}
	return http.DefaultTransport.RoundTrip(r)
}
