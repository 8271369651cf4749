// Reading records as this program writes them, without reflection. Whatever looks
// otherwise is left to encoding/json, whose word is final: a test compares the two.

package events

import (
	"encoding/base64"
	"hash/maphash"
	"strconv"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// scanner reads JSON without blanks and escapes. bad says that something else came;
// what was read then means nothing.
type scanner struct {
	b   []byte
	i   int
	bad bool
}

// lit takes exactly that text.
func (s *scanner) lit(text string) {
	if s.bad || len(s.b)-s.i < len(text) || string(s.b[s.i:s.i+len(text)]) != text {
		s.bad = true
		return
	}
	s.i += len(text)
}

// peek is the next byte, 0 at the end.
func (s *scanner) peek() byte {
	if s.bad || s.i >= len(s.b) {
		return 0
	}
	return s.b[s.i]
}

// raw is a string's bytes, which belong to the record.
func (s *scanner) raw() []byte {
	s.lit(`"`)
	if s.bad {
		return nil
	}
	for i := s.i; i < len(s.b); i++ {
		switch c := s.b[i]; {
		case c == '"':
			text := s.b[s.i:i]
			s.i = i + 1
			return text
		case c < ' ' || c == '\\' || c >= utf8.RuneSelf:
			s.bad = true
			return nil
		}
	}
	s.bad = true
	return nil
}

func (s *scanner) text() string { return shared(s.raw()) }

// null takes a null, if one comes.
func (s *scanner) null() bool {
	if s.peek() != 'n' {
		return false
	}
	s.lit("null")
	return !s.bad
}

func (s *scanner) int() int64 {
	from := s.i
	if s.peek() == '-' {
		s.i++
	}
	digits := s.i
	for s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9' {
		s.i++
	}
	if n := s.i - digits; s.bad || n == 0 || n > 18 || n > 1 && s.b[digits] == '0' || !s.ends() {
		s.bad = true
		return 0
	}
	n, err := strconv.ParseInt(string(s.b[from:s.i]), 10, 64)
	s.bad = s.bad || err != nil
	return n
}

func (s *scanner) int32() int32 {
	n := s.int()
	s.bad = s.bad || n != int64(int32(n)) //nolint:gosec // that is the question
	return int32(n)                       //nolint:gosec // see above
}

// ends says whether a value has ended here.
func (s *scanner) ends() bool {
	switch s.peek() {
	case ',', '}', ']':
		return true
	}
	return false
}

func (s *scanner) float() float64 {
	from := s.i
	for s.i < len(s.b) && (s.b[s.i] >= '0' && s.b[s.i] <= '9' || s.b[s.i] == '.') {
		s.i++
	}
	text := s.b[from:s.i]
	// A number of JSON begins and ends with a digit, and has no zero before others.
	if n := len(text); s.bad || n == 0 || text[0] == '.' || text[n-1] == '.' || n > 1 && text[0] == '0' && text[1] != '.' || !s.ends() {
		s.bad = true
		return 0
	}
	f, err := strconv.ParseFloat(string(text), 64)
	s.bad = s.bad || err != nil
	return f
}

func (s *scanner) boolean() bool {
	if s.peek() == 't' {
		s.lit("true")
		return true
	}
	s.lit("false")
	return false
}

// open takes the bracket that opens a list or an object, and says whether it has members.
func (s *scanner) open(bracket, end byte) bool {
	if s.peek() != bracket {
		s.bad = true
		return false
	}
	s.i++
	if s.peek() == end {
		s.i++
		return false
	}
	return !s.bad
}

// more says whether another member follows, and takes what lies between.
func (s *scanner) more(end byte) bool {
	switch s.peek() {
	case ',':
		s.i++
		return true
	case end:
		s.i++
		return false
	}
	s.bad = true
	return false
}

// object calls member with every key, the value of which it has to take. The second
// of two equal keys is left to encoding/json, which has rules for it.
func (s *scanner) object(member func(key string)) {
	var seen [24]string
	n := 0
	for ok := s.open('{', '}'); ok; ok = s.more('}') {
		key := shared(s.raw())
		s.lit(":")
		for _, k := range seen[:n] {
			s.bad = s.bad || k == key
		}
		if s.bad || n == len(seen) {
			s.bad = true
			return
		}
		seen[n] = key
		n++
		member(key)
		if s.bad {
			return
		}
	}
}

func (s *scanner) list(item func()) {
	for ok := s.open('[', ']'); ok && !s.bad; ok = s.more(']') {
		item()
	}
}

func (s *scanner) time() (t time.Time) {
	s.bad = s.bad || t.UnmarshalText(s.raw()) != nil
	return t
}

func (s *scanner) base64() []byte {
	text := s.raw()
	out := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(out, text)
	s.bad = s.bad || err != nil
	return out[:n]
}

func (s *scanner) texts() []string {
	out := []string{}
	s.list(func() { out = append(out, s.text()) })
	return out
}

func (s *scanner) names() map[string]string {
	out := map[string]string{}
	s.object(func(k string) { out[k] = s.text() })
	return out
}

func (s *scanner) params() map[string]any {
	out := map[string]any{}
	s.object(func(k string) {
		switch s.peek() {
		case '"':
			out[k] = s.text()
		case 't', 'f':
			out[k] = s.boolean()
		default:
			out[k] = s.float()
		}
	})
	return out
}

// words are short strings that come again and again: names of stages, states, engines.
// Equal ones share their memory, as far as the table reaches.
var words [1024]atomic.Pointer[string]

var wordSeed = maphash.MakeSeed()

// shared is the text as a string.
func shared(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if len(b) > 34 { // an id or a digest
		return string(b)
	}
	at := &words[maphash.Bytes(wordSeed, b)%uint64(len(words))]
	if w := at.Load(); w != nil && *w == string(b) {
		return *w
	}
	w := string(b)
	at.Store(&w)
	return w
}
