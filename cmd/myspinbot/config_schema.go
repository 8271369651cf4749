// `myspinbot config schema`: every key with its type, default, environment
// variable, flag and sentence.

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// keyDoc is one key as the schema prints it.
type keyDoc struct {
	Key     string `json:"key"`
	Type    string `json:"type"`
	Default string `json:"default"`
	Allowed string `json:"allowed"`
	Env     string `json:"env"`
	Flag    string `json:"flag"`
	Secret  bool   `json:"secret"`
	Doc     string `json:"doc"`
}

// configKeys describes every key, in the order of the file.
func configKeys() ([]keyDoc, error) {
	comments, err := configComments()
	if err != nil {
		return nil, err
	}
	var docs []keyDoc
	for _, s := range settings(withReceiver()) {
		docs = append(docs, keyDoc{Key: s.key, Type: s.kind, Default: s.initial, Allowed: s.allowed(),
			Env: s.env, Flag: "--" + s.flag, Secret: s.kind == "secret", Doc: comments[s.owner]})
	}
	return docs, nil
}

// printSchema writes every key, as JSON or for people.
func printSchema(w io.Writer, asJSON bool) error {
	docs, err := configKeys()
	if err != nil {
		return err
	}
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(docs)
	}
	var b strings.Builder
	b.WriteString("Flags win over the environment, that over the file (--config FILE, MYSPINBOT_CONFIG, or ./myspinbot.toml), that over defaults.\n")
	for _, d := range docs {
		initial := d.Default
		if initial == "" {
			initial = "(none)"
		}
		fmt.Fprintf(&b, "\n%-28s %s\n", d.Key, d.Type)
		fmt.Fprintf(&b, "  default  %s\n  allowed  %s\n  env      %s\n  flag     %s\n  %s\n", initial, d.Allowed, d.Env, d.Flag, d.Doc)
	}
	_, err = io.WriteString(w, b.String())
	return err
}
