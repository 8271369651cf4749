// Writing JSON objects member by member, for the few that are written so often that
// reflection shows. Each member becomes what encoding/json would make of it, byte for
// byte, which the tests of those who use it compare.

package events

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// JSONWriter appends members to the object it is in. Bad says that something was met that it
// cannot write.
type JSONWriter struct {
	B   []byte
	Bad bool
}

// Key begins a member whose name is plain ASCII.
func (w *JSONWriter) Key(k string) {
	w.Comma()
	w.B = append(w.B, '"')
	w.B = append(w.B, k...)
	w.B = append(w.B, '"', ':')
}

// Name begins a member whose name may be anything.
func (w *JSONWriter) Name(k string) {
	w.Comma()
	w.B = append(appendText(w.B, k), ':')
}

// Comma parts a member or an element from the one before, if there is one.
func (w *JSONWriter) Comma() {
	if last := w.B[len(w.B)-1]; last != '{' && last != '[' {
		w.B = append(w.B, ',')
	}
}

// Must writes a string, also an empty one.
func (w *JSONWriter) Must(k, v string) {
	w.Key(k)
	w.B = appendText(w.B, v)
}

// Text writes a string that is left out when empty.
func (w *JSONWriter) Text(k, v string) {
	if v != "" {
		w.Must(k, v)
	}
}

// Pointed writes what a pointer points at, or null.
func (w *JSONWriter) Pointed(k string, v *string) {
	if v == nil {
		w.Null(k)
		return
	}
	w.Must(k, *v)
}

// Null writes null.
func (w *JSONWriter) Null(k string) {
	w.Key(k)
	w.B = append(w.B, "null"...)
}

// Int writes a whole number.
func (w *JSONWriter) Int(k string, v int64) {
	w.Key(k)
	w.B = strconv.AppendInt(w.B, v, 10)
}

// OptInt writes a whole number that is left out when 0.
func (w *JSONWriter) OptInt(k string, v int64) {
	if v != 0 {
		w.Int(k, v)
	}
}

// Truth writes true or false.
func (w *JSONWriter) Truth(k string, v bool) {
	w.Key(k)
	w.B = strconv.AppendBool(w.B, v)
}

// Bool writes a truth that is left out when false.
func (w *JSONWriter) Bool(k string, v bool) {
	if v {
		w.Truth(k, v)
	}
}

// Float writes a number.
func (w *JSONWriter) Float(k string, v float64) {
	w.Key(k)
	w.number(v)
}

// number writes whole numbers itself.
func (w *JSONWriter) number(f float64) {
	if f == math.Trunc(f) && math.Abs(f) < 1e15 && (f != 0 || !math.Signbit(f)) {
		w.B = strconv.AppendInt(w.B, int64(f), 10)
		return
	}
	w.value(f)
}

// Time writes a time.
func (w *JSONWriter) Time(k string, t time.Time) {
	w.Key(k)
	if y := t.Year(); y < 0 || y > 9999 { // which encoding/json refuses
		w.Bad = true
		return
	}
	w.B = append(t.AppendFormat(append(w.B, '"'), time.RFC3339Nano), '"')
}

// Texts writes a list of strings; nil is null.
func (w *JSONWriter) Texts(k string, vs []string) {
	if vs == nil {
		w.Null(k)
		return
	}
	w.Key(k)
	w.B = append(w.B, '[')
	for _, v := range vs {
		w.Comma()
		w.B = appendText(w.B, v)
	}
	w.B = append(w.B, ']')
}

// OptNames writes strings by name, which are left out when there are none.
func (w *JSONWriter) OptNames(k string, m map[string]string) {
	if len(m) == 0 {
		return
	}
	w.Key(k)
	w.B = append(w.B, '{')
	var few [8]string
	for _, name := range sorted(m, few[:0]) {
		w.Name(name)
		w.B = appendText(w.B, m[name])
	}
	w.B = append(w.B, '}')
}

// Params writes values by name; nil is null.
func (w *JSONWriter) Params(k string, m map[string]any) {
	if m == nil {
		w.Null(k)
		return
	}
	w.Key(k)
	w.B = append(w.B, '{')
	var few [8]string
	for _, name := range sorted(m, few[:0]) {
		w.Name(name)
		switch v := m[name].(type) {
		case string:
			w.B = appendText(w.B, v)
		case float64:
			w.number(v)
		case bool:
			w.B = strconv.AppendBool(w.B, v)
		default:
			w.value(v)
		}
	}
	w.B = append(w.B, '}')
}

// Other writes what encoding/json makes of it.
func (w *JSONWriter) Other(k string, v any) {
	w.Key(k)
	w.value(v)
}

func (w *JSONWriter) value(v any) {
	text, err := json.Marshal(v)
	w.Bad = w.Bad || err != nil
	w.B = append(w.B, text...)
}

// sorted are a map's keys in order, appended to keys; few need no memory of their own.
func sorted[V any](m map[string]V, keys []string) []string {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// appendText is a string as encoding/json writes it, which escapes HTML as well.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' || c >= utf8.RuneSelf {
			quoted, _ := json.Marshal(s) // a string always encodes; invalid UTF-8 becomes U+FFFD
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
