// The walk over Config: from its fields and tags to the list of keys, and from a
// text to a checked value.

package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// setting is one key of the configuration, bound to its field.
type setting struct {
	key     string // kafka.brokers
	env     string // MYSPINBOT_KAFKA_BROKERS
	flag    string // kafka-brokers
	kind    string // text, secret, list, integer, number, switch or duration
	initial string // default, as text
	oneOf   []string
	min     string
	max     string
	owner   string // name of the struct and field, under which the comment is found
	field   reflect.Value
}

// settings lists every key of c in the order of the struct. Setting a value
// through the list changes c.
func settings(c *Config) []setting {
	return walk(reflect.ValueOf(c).Elem(), "")
}

func walk(v reflect.Value, prefix string) []setting {
	var out []setting
	for i := range v.NumField() {
		f := v.Type().Field(i)
		key := prefix + f.Tag.Get("key")
		if f.Type.Kind() == reflect.Map { // tables with names that the configuration gives them
			for _, name := range v.Field(i).MapKeys() {
				out = append(out, walk(v.Field(i).MapIndex(name).Elem(), key+"."+name.String()+".")...)
			}
			continue
		}
		kind := kindOf(f.Type)
		if kind == "" {
			out = append(out, walk(v.Field(i), key+".")...)
			continue
		}
		s := setting{key: key, kind: kind, initial: f.Tag.Get("default"), oneOf: strings.Fields(f.Tag.Get("oneof")),
			min: f.Tag.Get("min"), max: f.Tag.Get("max"), owner: v.Type().Name() + "." + f.Name, field: v.Field(i)}
		s.env = "MYSPINBOT_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
		s.flag = strings.NewReplacer(".", "-", "_", "-").Replace(key)
		if short, ok := f.Tag.Lookup("flag"); ok {
			s.flag = short
		}
		out = append(out, s)
	}
	return out
}

// kindOf names what a field holds; "" is a table of further keys.
func kindOf(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Secret]():
		return "secret"
	case reflect.TypeFor[time.Duration]():
		return "duration"
	case reflect.TypeFor[[]string]():
		return "list"
	}
	switch t.Kind() {
	case reflect.String:
		return "text"
	case reflect.Int:
		return "integer"
	case reflect.Float64:
		return "number"
	case reflect.Bool:
		return "switch"
	default:
		return ""
	}
}

// allowed says in words what the key takes.
func (s setting) allowed() string {
	choice := "one of " + strings.Join(s.oneOf, ", ")
	switch s.kind {
	case "integer":
		return fmt.Sprintf("a whole number from %s to %s", s.min, s.max)
	case "number":
		return fmt.Sprintf("a number from %s to %s", s.min, s.max)
	case "duration":
		return fmt.Sprintf("a duration such as 90s, 5m or 24h, from %s to %s", s.min, s.max)
	case "switch":
		return "true or false"
	case "list":
		if len(s.oneOf) > 0 {
			return "a list, separated by commas, of " + strings.Join(s.oneOf, ", ")
		}
		return "a list of words, separated by commas"
	default:
		if len(s.oneOf) > 0 {
			return choice
		}
		return "a text"
	}
}

// set parses text and stores it; false means that text is not allowed, and the
// field keeps what it had.
func (s setting) set(text string) bool {
	switch s.kind {
	case "integer":
		n, err := strconv.Atoi(text)
		if err != nil || !within(n, s.min, s.max, strconv.Atoi) {
			return false
		}
		s.field.SetInt(int64(n))
	case "number":
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || !within(n, s.min, s.max, parseFloat) {
			return false
		}
		s.field.SetFloat(n)
	case "duration":
		d, err := time.ParseDuration(text)
		if err != nil || !within(d, s.min, s.max, time.ParseDuration) {
			return false
		}
		s.field.SetInt(int64(d))
	case "switch":
		if text != "true" && text != "false" {
			return false
		}
		s.field.SetBool(text == "true")
	case "list":
		return s.setList(splitList(text))
	default:
		if len(s.oneOf) > 0 && !slices.Contains(s.oneOf, text) {
			return false
		}
		s.field.SetString(text)
	}
	return true
}

func (s setting) setList(items []string) bool {
	for _, item := range items {
		if item == "" || len(s.oneOf) > 0 && !slices.Contains(s.oneOf, item) {
			return false
		}
	}
	s.field.Set(reflect.ValueOf(items))
	return true
}

// within compares n with limits that parse like n itself; NaN is within nothing.
func within[T int | float64 | time.Duration](n T, low, high string, parse func(string) (T, error)) bool {
	lo, err := parse(low)
	if err != nil {
		return false
	}
	hi, err := parse(high)
	return err == nil && n >= lo && n <= hi
}

func parseFloat(s string) (float64, error) { return strconv.ParseFloat(s, 64) }

func splitList(text string) []string {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	items := strings.Split(text, ",")
	for i := range items {
		items[i] = strings.TrimSpace(items[i])
	}
	return items
}

// configComments reads the comments of Config's fields from the source that is
// embedded for this purpose, by struct and field name, each as one line.
func configComments() (map[string]string, error) {
	comments := map[string]string{}
	for name, source := range map[string]string{"config.go": configSource, "config_speech.go": speechConfigSource, "config_text.go": textConfigSource,
		"config_programs.go": programsConfigSource, "config_webhooks.go": webhooksConfigSource, "config_access.go": accessConfigSource} {
		file, err := parser.ParseFile(token.NewFileSet(), name, source, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("cannot read the comments of the configuration: %w", err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if st, ok := spec.Type.(*ast.StructType); ok {
				for _, f := range st.Fields.List {
					for _, name := range f.Names {
						comments[spec.Name.Name+"."+name.Name] = strings.Join(strings.Fields(f.Doc.Text()), " ")
					}
				}
			}
			return true
		})
	}
	return comments, nil
}
