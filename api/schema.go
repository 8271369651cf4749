// The part of JSON Schema (2020-12) that the contract uses, as a checker that
// finds everything wrong with a value and says it in sentences.

package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// schema is a JSON Schema as parsed JSON.
type schema map[string]any

// checker resolves references within one document.
type checker struct {
	doc   map[string]any
	found *sync.Map // schemas by reference
}

func newChecker(doc map[string]any) checker { return checker{doc, &sync.Map{}} }

// check lists what is wrong with v. Pointers begin with at.
func (k checker) check(s schema, v any, at string) []fault {
	if ref, ok := s["$ref"].(string); ok {
		return k.check(k.resolve(ref), v, at)
	}
	var faults []fault
	for _, part := range list(s["allOf"]) {
		faults = append(faults, k.check(asSchema(part), v, at)...)
	}
	if options := list(s["oneOf"]); len(options) > 0 {
		faults = append(faults, k.oneOf(options, v, at)...)
	}
	if want, ok := s["type"]; ok && !typeAllowed(want, v) {
		return append(faults, fault{Pointer: at, Code: "type_wrong", Detail: fmt.Sprintf("%s must be %s, not %s", spoken(at), typeNames(want), typeName(v))})
	}
	if enum := list(s["enum"]); len(enum) > 0 && v != nil && !slices.Contains(enum, v) {
		return append(faults, fault{Pointer: at, Code: "value_unknown", Detail: spoken(at) + " must be one of " + joined(enum)})
	}
	switch v := v.(type) {
	case string:
		faults = append(faults, checkString(s, v, at)...)
	case json.Number, float64:
		faults = append(faults, checkNumber(s, v, at)...)
	case []any:
		faults = append(faults, k.array(s, v, at)...)
	case map[string]any:
		faults = append(faults, k.object(s, v, at)...)
	}
	return faults
}

func (k checker) oneOf(options []any, v any, at string) []fault {
	var closest []fault
	for i, o := range options {
		faults := k.check(asSchema(o), v, at)
		if len(faults) == 0 {
			return nil
		}
		if i == 0 || len(faults) < len(closest) {
			closest = faults
		}
	}
	return closest
}

// resolve follows a reference. Most schemas are one, so that those found are kept.
func (k checker) resolve(ref string) schema {
	if s, ok := k.found.Load(ref); ok {
		return s.(schema)
	}
	var v any = k.doc
	for _, part := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
		m, _ := v.(map[string]any)
		v = m[part]
	}
	s := asSchema(v)
	k.found.Store(ref, s)
	return s
}

func (k checker) object(s schema, v map[string]any, at string) []fault {
	var faults []fault
	props := asSchema(s["properties"])
	for _, name := range list(s["required"]) {
		name, _ := name.(string)
		if _, ok := v[name]; !ok {
			faults = append(faults, fault{Pointer: at + "/" + name, Code: "field_missing", Detail: spoken(at+"/"+name) + " is missing"})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v)) {
		where := at + "/" + escapePointer(name)
		if p, known := props[name]; known {
			faults = append(faults, k.check(asSchema(p), v[name], where)...)
			continue
		}
		switch more := s["additionalProperties"].(type) {
		case map[string]any:
			faults = append(faults, k.check(more, v[name], where)...)
		case bool:
			if !more {
				faults = append(faults, fault{Pointer: where, Code: "field_unknown",
					Detail: fmt.Sprintf("there is no field %q; allowed are %s", shortened(name), strings.Join(slices.Sorted(maps.Keys(props)), ", "))})
			}
		}
	}
	return faults
}

func (k checker) array(s schema, v []any, at string) []fault {
	var faults []fault
	if n, ok := number(s["maxItems"]); ok && float64(len(v)) > n {
		return []fault{{Pointer: at, Code: "too_many", Detail: fmt.Sprintf("%s may hold at most %s items, not %d", spoken(at), plain(n), len(v))}}
	}
	if n, ok := number(s["minItems"]); ok && float64(len(v)) < n {
		faults = append(faults, fault{Pointer: at, Code: "too_few", Detail: fmt.Sprintf("%s must hold at least %s items", spoken(at), plain(n))})
	}
	items, ok := s["items"].(map[string]any)
	if !ok {
		return faults
	}
	for i, item := range v {
		faults = append(faults, k.check(items, item, at+"/"+strconv.Itoa(i))...)
	}
	return faults
}

// patterns are the contract's, each compiled once.
var patterns sync.Map

func compiled(pattern string) (*regexp.Regexp, error) {
	if re, ok := patterns.Load(pattern); ok {
		return re.(*regexp.Regexp), nil
	}
	re, err := regexp.Compile(pattern)
	if err == nil {
		patterns.Store(pattern, re)
	}
	return re, err
}

func checkString(s schema, v, at string) []fault {
	n := float64(utf8.RuneCountInString(v))
	if most, ok := number(s["maxLength"]); ok && n > most {
		return []fault{{Pointer: at, Code: "too_long", Detail: fmt.Sprintf("%s may have at most %s characters, not %s", spoken(at), plain(most), plain(n))}}
	}
	if least, ok := number(s["minLength"]); ok && n < least {
		return []fault{{Pointer: at, Code: "too_short", Detail: fmt.Sprintf("%s must not be empty", spoken(at))}}
	}
	if p, ok := s["pattern"].(string); ok {
		if re, err := compiled(p); err != nil || !re.MatchString(v) {
			hint, _ := s["x-allowed"].(string)
			if hint == "" {
				hint = "match " + p
			}
			return []fault{{Pointer: at, Code: "format_wrong", Detail: spoken(at) + " must " + hint}}
		}
	}
	return nil
}

func checkNumber(s schema, v any, at string) []fault {
	f, ok := number(v)
	least, hasLeast := number(s["minimum"])
	most, hasMost := number(s["maximum"])
	switch {
	case hasLeast && hasMost && (!ok || f < least || f > most):
		return []fault{{Pointer: at, Code: "out_of_range", Detail: fmt.Sprintf("%s must lie from %s to %s", spoken(at), plain(least), plain(most))}}
	case hasLeast && f < least:
		return []fault{{Pointer: at, Code: "out_of_range", Detail: fmt.Sprintf("%s must be at least %s", spoken(at), plain(least))}}
	case hasMost && f > most:
		return []fault{{Pointer: at, Code: "out_of_range", Detail: fmt.Sprintf("%s must be at most %s", spoken(at), plain(most))}}
	}
	return nil
}

// plain writes a number without an exponent.
func plain(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

func typeAllowed(want, v any) bool {
	for _, w := range append(list(want), want) {
		switch w {
		case "null":
			if v == nil {
				return true
			}
		case "integer":
			if f, ok := number(v); ok && f == math.Trunc(f) {
				return true
			}
		case typeName(v): // also numbers beyond float64
			return true
		}
	}
	return false
}

func typeName(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case string:
		return "string"
	case bool:
		return "boolean"
	case []any:
		return "array"
	case map[string]any:
		return "object"
	}
	return "number"
}

func typeNames(want any) string {
	if l := list(want); len(l) > 0 {
		return joined(l)
	}
	return "of type " + fmt.Sprint(want)
}

func joined(values []any) string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = fmt.Sprint(v)
	}
	return strings.Join(out, ", ")
}

// number reads the kinds of number that the two decoders give.
func number(v any) (float64, bool) {
	switch n := v.(type) {
	case float64:
		return n, true
	case int:
		return float64(n), true
	case json.Number:
		f, err := n.Float64()
		return f, err == nil
	}
	return 0, false
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}

func asSchema(v any) schema {
	switch m := v.(type) {
	case map[string]any:
		return m
	case schema:
		return m
	}
	return nil
}

// spoken is a pointer as a name in a sentence.
func spoken(pointer string) string {
	if pointer == "" {
		return "the body"
	}
	return strings.ReplaceAll(strings.TrimPrefix(pointer, "/"), "/", ".")
}

var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")

func escapePointer(name string) string { return pointerEscapes.Replace(shortened(name)) }

// shortened keeps an answer small, whatever the client called its field.
func shortened(name string) string {
	if utf8.RuneCountInString(name) > 64 {
		return string([]rune(name)[:64]) + "…"
	}
	return name
}
