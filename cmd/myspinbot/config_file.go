// The configuration file: TOML in which an unknown key is a fault.

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// defaultConfigFile is read when it is there and no other file is named.
const defaultConfigFile = "myspinbot.toml"

// readFile reads the file named by the flag, else by the environment, else the
// default one if it is there.
func (l *loader) readFile(byFlag, byEnv string) {
	path, optional := byFlag, false
	if path == "" {
		path = byEnv
	}
	if path == "" {
		path, optional = defaultConfigFile, true
	}
	data, err := os.ReadFile(path)
	if err != nil {
		if !optional || !errors.Is(err, fs.ErrNotExist) {
			l.fail("file "+path, err.Error(), "a readable TOML file")
		}
		return
	}
	var doc map[string]any
	if err := toml.Unmarshal(data, &doc); err != nil {
		where := "file " + path
		if syntax := (*toml.DecodeError)(nil); errors.As(err, &syntax) {
			line, column := syntax.Position()
			where = fmt.Sprintf("file %s, line %d, column %d", path, line, column)
		}
		l.fail(where, err.Error(), "TOML 1.0")
		return
	}
	l.readTable(doc, "", path, keyLines(data))
}

// readTable takes over the keys of one table and the tables in it.
func (l *loader) readTable(table map[string]any, prefix, path string, lines map[string]int) {
	for _, name := range slices.Sorted(maps.Keys(table)) {
		key, from := prefix+name, path
		if line, ok := lines[key]; ok {
			from = fmt.Sprintf("%s, line %d", path, line)
		}
		i := slices.IndexFunc(l.settings, func(s setting) bool { return s.key == key })
		inner, isTable := table[name].(map[string]any)
		known := slices.ContainsFunc(l.settings, func(s setting) bool { return strings.HasPrefix(s.key, key+".") })
		switch {
		case key == receiversKey:
			l.readReceivers(table[name], from, path, lines)
		case i >= 0:
			l.assignTOML(l.settings[i], table[name], from)
		case isTable && known:
			l.readTable(inner, key+".", path, lines)
		case known:
			l.fail(key+" ("+from+")", "a value", "a table ["+key+"] with "+l.keysBelow(key+"."))
		default:
			l.fail(key+" ("+from+")", "an unknown key", l.keysBelow(prefix))
		}
	}
}

// keysBelow lists what may stand in a table.
func (l *loader) keysBelow(prefix string) string {
	var names []string
	for _, s := range append(slices.Clone(l.settings), settings(withReceiver())...) {
		if rest, ok := strings.CutPrefix(s.key, prefix); ok {
			name, _, _ := strings.Cut(rest, ".")
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return strings.Join(names, ", ")
}

// assignTOML holds the file to its types: a number is no text.
func (l *loader) assignTOML(s setting, v any, from string) {
	text, ok := "", false
	switch v := v.(type) {
	case string:
		text, ok = v, s.kind == "text" || s.kind == "secret" || s.kind == "duration" || s.kind == "list"
	case int64:
		text, ok = strconv.FormatInt(v, 10), s.kind == "integer" || s.kind == "number"
	case float64:
		text, ok = strconv.FormatFloat(v, 'g', -1, 64), s.kind == "number"
	case bool:
		text, ok = strconv.FormatBool(v), s.kind == "switch"
	case []any:
		items := make([]string, 0, len(v))
		for _, item := range v {
			if word, isText := item.(string); isText {
				items = append(items, word)
			}
		}
		text, ok = strings.Join(items, ","), s.kind == "list" && len(items) == len(v)
	}
	switch {
	case !ok && s.kind == "secret":
		l.fail(s.key+" ("+from+")", "something that is no text", s.allowed())
	case !ok:
		l.fail(s.key+" ("+from+")", fmt.Sprintf("%v", v), s.allowed())
	default:
		l.assign(s, text, from)
	}
}

// keyLines finds the line of every key of a TOML document, for messages alone:
// the values come through the decoder.
func keyLines(data []byte) map[string]int {
	lines := map[string]int{}
	var p unstable.Parser
	p.Reset(data)
	table := ""
	for p.NextExpression() {
		e := p.Expression()
		key, line := dotted(&p, e.Key())
		if e.Kind == unstable.KeyValue {
			lines[table+key] = line
			inlineLines(&p, table+key+".", e.Value(), lines)
			continue
		}
		if key != "" {
			lines[key], table = line, key+"."
		}
	}
	return lines
}

func inlineLines(p *unstable.Parser, prefix string, v *unstable.Node, lines map[string]int) {
	if v.Kind != unstable.InlineTable {
		return
	}
	for it := v.Children(); it.Next(); {
		key, line := dotted(p, it.Node().Key())
		lines[prefix+key] = line
		inlineLines(p, prefix+key+".", it.Node().Value(), lines)
	}
}

func dotted(p *unstable.Parser, it unstable.Iterator) (key string, line int) {
	var parts []string
	for it.Next() {
		parts = append(parts, string(it.Node().Data))
		line = p.Shape(it.Node().Raw).Start.Line
	}
	return strings.Join(parts, "."), line
}
