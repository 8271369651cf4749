// Reading records as this program writes them, without reflection. Whatever looks
// otherwise is left to encoding/json, whose word is final: a test compares the two.

package events

import (
	"encoding/base64"
	"encoding/binary"
	"math/bits"
	"strconv"
	"sync/atomic"
	"time"
)

// scanner reads JSON without blanks and escapes. bad says that something else came;
// what was read then means nothing.
type scanner struct {
	b   []byte
	i   int
	bad bool
	// dry checks values and keeps none: texts are empty, lists and maps nil.
	dry bool
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

// Bytes eight at a time: each constant has one in every byte.
const (
	ones  = 0x0101010101010101
	highs = 0x80 * ones
)

// unplain marks the high bit of the bytes that end a plain piece of a string: quotes,
// backslashes, control characters and what is not ASCII. Bytes behind the first that
// is marked may be marked as well.
func unplain(w uint64) uint64 {
	quote, backslash := w^('"'*ones), w^('\\'*ones)
	return ((quote-ones)&^quote | (backslash-ones)&^backslash | (w-' '*ones)&^w | w) & highs
}

// raw is a string's bytes, which belong to the record.
func (s *scanner) raw() []byte {
	if s.peek() != '"' {
		s.bad = true
		return nil
	}
	from := s.i + 1
	i := from
	for ; i+8 <= len(s.b); i += 8 {
		if m := unplain(binary.LittleEndian.Uint64(s.b[i:])); m != 0 {
			i += bits.TrailingZeros64(m) / 8
			break
		}
	}
	for ; i < len(s.b); i++ {
		switch c := s.b[i]; {
		case c == '"':
			s.i = i + 1
			return s.b[from:i]
		case c < ' ' || c == '\\' || c >= 0x80:
			s.bad = true
			return nil
		}
	}
	s.bad = true
	return nil
}

func (s *scanner) text() string { return s.keep(s.raw()) }

// keep is the text as a string, if it is wanted.
func (s *scanner) keep(b []byte) string {
	if s.dry {
		return ""
	}
	return shared(b)
}

// null takes a null, if one comes.
func (s *scanner) null() bool {
	if s.peek() != 'n' {
		return false
	}
	s.lit("null")
	return !s.bad
}

// int is a whole number of up to 18 digits.
func (s *scanner) int() int64 {
	negative := s.peek() == '-'
	if negative {
		s.i++
	}
	from, n := s.i, int64(0)
	for s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9' && s.i-from < 19 {
		n = n*10 + int64(s.b[s.i]-'0')
		s.i++
	}
	if digits := s.i - from; s.bad || digits == 0 || digits > 18 || digits > 1 && s.b[from] == '0' || !s.ends() {
		s.bad = true
		return 0
	}
	if negative {
		return -n
	}
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

// member is one of an object's, and where its value goes.
type member struct {
	name string
	into any // a pointer to one of the types that scanner.value knows
}

// fields reads an object that has some of the members, in that order and nothing
// else: what encoding/json writes of a struct.
func (s *scanner) fields(members ...member) {
	next := 0
	for ok := s.open('{', '}'); ok; ok = s.more('}') {
		for ; next < len(members); next++ {
			if s.key(members[next].name) {
				break
			}
		}
		if s.bad || next == len(members) {
			s.bad = true
			return
		}
		s.value(members[next].into)
		next++
	}
}

// key takes the name of a member and its colon, if they come.
func (s *scanner) key(name string) bool {
	rest, n := s.b[s.i:], len(name)
	if len(rest) < n+3 || rest[0] != '"' || rest[n+1] != '"' || rest[n+2] != ':' || string(rest[1:n+1]) != name {
		return false
	}
	s.i += n + 3
	return true
}

// time is RFC 3339 in UTC, to the nanosecond.
func (s *scanner) time() (t time.Time) {
	text := s.raw()
	if t, ok := parseTime(text); ok {
		return t
	}
	s.bad = s.bad || t.UnmarshalText(text) != nil
	return t
}

// parseTime reads times as Encode writes them; ok is false for any other.
func parseTime(b []byte) (t time.Time, ok bool) {
	const layout = "2006-01-02T15:04:05"
	if len(b) <= len(layout) || len(b) > len(layout)+11 || b[len(b)-1] != 'Z' ||
		b[4] != '-' || b[7] != '-' || b[10] != 'T' || b[13] != ':' || b[16] != ':' {
		return t, false
	}
	year, month, day := digits(b[0:4]), digits(b[5:7]), digits(b[8:10])
	hour, minute, second := digits(b[11:13]), digits(b[14:16]), digits(b[17:19])
	if year < 0 || month < 1 || month > 12 || day < 1 || day > 28 || hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59 {
		return t, false
	}
	nanos := 0
	if fraction := b[len(layout) : len(b)-1]; len(fraction) > 0 {
		if fraction[0] != '.' || len(fraction) == 1 {
			return t, false
		}
		if nanos = digits(fraction[1:]); nanos < 0 {
			return t, false
		}
		for range 10 - len(fraction) {
			nanos *= 10
		}
	}
	return time.Date(year, time.Month(month), day, hour, minute, second, nanos, time.UTC), true
}

// digits is a number of nothing but digits, -1 for anything else.
func digits(b []byte) int {
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return -1
		}
		n = n*10 + int(c-'0')
	}
	return n
}

func (s *scanner) base64() []byte {
	text := s.raw()
	out := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(out, text)
	s.bad = s.bad || err != nil
	return out[:n]
}

// words are short strings that come again and again: names of stages, states, engines.
// Equal ones share their memory, as far as the table reaches.
var words [1024]atomic.Pointer[string]

// shared is the text as a string.
func shared(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if len(b) > 34 { // an id or a digest
		return string(b)
	}
	at := &words[wordHash(b)%uint64(len(words))]
	if w := at.Load(); w != nil && *w == string(b) {
		return *w
	}
	w := string(b)
	at.Store(&w)
	return w
}

// wordHash tells words apart by their ends and their lengths.
func wordHash(b []byte) uint64 {
	h := uint64(len(b))
	if len(b) >= 8 {
		h ^= binary.LittleEndian.Uint64(b) ^ bits.RotateLeft64(binary.LittleEndian.Uint64(b[len(b)-8:]), 29)
	} else {
		for _, c := range b {
			h = h<<8 | uint64(c)
		}
	}
	h *= 0x9e3779b97f4a7c15
	return h ^ h>>32
}
