// The lines of the file, written and read.

package logfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/myspinbot/myspinbot/internal/eventlog"
)

const version = 1

// header is the first line.
type header struct {
	Version    int                `json:"myspinbot_history"`
	Partitions map[string]int     `json:"partitions"`
	Ends       map[string][]int64 `json:"ends,omitempty"` // of whole topics: the offset behind the last one taken, by partition
}

// footer is the last line.
type footer struct {
	End     bool  `json:"end"`
	Records int64 `json:"records"`
}

// line is a record's line, and, read, any other's.
type line struct {
	Topic     string          `json:"topic"`
	Partition int32           `json:"partition"`
	Offset    int64           `json:"offset"`
	Time      time.Time       `json:"time"`
	Key       string          `json:"key"`
	Headers   [][2]string     `json:"headers,omitempty"`
	Value     json.RawMessage `json:"value,omitempty"`
	Base64    *[]byte         `json:"value_base64,omitempty"`
}

// anyLine tells the three kinds apart.
type anyLine struct {
	line
	header
	footer
}

// writeRecord appends a record's line.
func writeRecord(to []byte, r eventlog.Record) ([]byte, error) {
	l := line{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Time: r.Time.UTC(), Key: r.Key}
	whole := utf8.ValidString(r.Key)
	for _, h := range r.Headers {
		l.Headers = append(l.Headers, [2]string{h.Key, h.Value})
		whole = whole && utf8.ValidString(h.Key) && utf8.ValidString(h.Value)
	}
	if !whole {
		return nil, fmt.Errorf("cannot write the record at %s offset %d: its key or a header is not UTF-8", r.At(), r.Offset)
	}
	plain := asItIs(r.Value)
	if !plain && r.Value != nil {
		l.Base64 = &r.Value
	}
	text, err := json.Marshal(l)
	if err != nil {
		return nil, fmt.Errorf("cannot write the record at %s offset %d: %w", r.At(), r.Offset, err)
	}
	if plain { // marshalling would escape and shorten it; every byte counts
		text = append(text[:len(text)-1], `,"value":`...)
		text = append(text, r.Value...)
		text = append(text, '}')
	}
	return append(append(to, text...), '\n'), nil
}

// asItIs says whether a value can stand in a line with every byte that it has.
func asItIs(value []byte) bool {
	return len(value) > 0 && !bytes.ContainsAny(value, "\r\n") && utf8.Valid(value) && json.Valid(value) && len(bytes.TrimSpace(value)) == len(value)
}

// readLine reads any line; the record is nil for the first and the last one.
func readLine(text []byte) (h header, f footer, r *eventlog.Record, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	var l anyLine
	if err := d.Decode(&l); err != nil {
		return h, f, nil, fmt.Errorf("it is no JSON line of a history: %w", err)
	}
	if d.More() {
		return h, f, nil, errors.New("something follows the JSON object")
	}
	switch {
	case l.header.Version != 0 || l.header.Partitions != nil:
		return l.header, f, nil, nil
	case l.footer.End:
		return h, l.footer, nil, nil
	case l.line.Topic == "":
		return h, f, nil, errors.New("it names no topic")
	case l.line.Value != nil && l.line.Base64 != nil:
		return h, f, nil, errors.New("it has value and value_base64")
	}
	r = &eventlog.Record{Topic: l.line.Topic, Partition: l.line.Partition, Offset: l.line.Offset, Time: l.line.Time, Key: l.line.Key, Value: l.line.Value}
	if l.line.Base64 != nil {
		r.Value = *l.line.Base64
	}
	for _, h := range l.line.Headers {
		r.Headers = append(r.Headers, eventlog.Header{Key: h[0], Value: h[1]})
	}
	return h, f, r, nil
}
