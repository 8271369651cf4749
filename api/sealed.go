// Opening sealed text for its own tenant.

package api

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/objects"
)

// What became of the sealed texts of an answer.
const (
	contentAvailable   = "available"
	contentErased      = "erased"
	contentUnavailable = "unavailable" // the object store, which holds the keys, does not answer
)

// keyTimeout bounds the reading of one key: an answer is better without its texts than late.
const keyTimeout = 2 * time.Second

// opener opens the sealed texts of one answer and remembers what it could not open.
// A text that does not open is null: the rest of the answer is still worth having.
type opener struct {
	ctx     context.Context //nolint:containedctx // lives as long as one answer
	keyring *objects.Keyring
	content string
}

func (s *Server) opener(ctx context.Context) *opener {
	return &opener{ctx: ctx, keyring: s.cfg.Keyring, content: contentAvailable}
}

// text is the text in clear, or nil.
func (o *opener) text(sealed *events.Sealed) *string {
	if sealed == nil || o.content == contentUnavailable {
		return nil
	}
	ctx, cancel := context.WithTimeout(o.ctx, keyTimeout)
	defer cancel()
	text, err := o.keyring.Open(ctx, *sealed)
	switch {
	case err == nil:
		return &text
	case errors.Is(err, objects.ErrErased):
		if o.content == contentAvailable {
			o.content = contentErased
		}
	default:
		o.content = contentUnavailable
	}
	return nil
}

// document opens every sealed text within a JSON document.
func (o *opener) document(raw json.RawMessage) json.RawMessage {
	if !bytes.Contains(raw, []byte(`"sealed"`)) {
		return raw
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return raw
	}
	out, err := json.Marshal(o.walk(v))
	if err != nil {
		return raw
	}
	return out
}

func (o *opener) walk(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = o.walk(v[i])
		}
	case map[string]any:
		if s, ok := asSealed(v); ok {
			if text := o.text(s); text != nil {
				return *text
			}
			return nil
		}
		for k := range v {
			v[k] = o.walk(v[k])
		}
	}
	return v
}

// asSealed recognises events.Sealed in its JSON form.
func asSealed(v map[string]any) (*events.Sealed, bool) {
	text, ok := v["sealed"].(string)
	key, ok2 := v["key"].(string)
	if !ok || !ok2 || len(v) != 2 {
		return nil, false
	}
	b, err := base64.StdEncoding.DecodeString(text)
	return &events.Sealed{Bytes: b, Key: key}, err == nil
}

// event is the event with its texts opened.
func (o *opener) event(e *eventView) *eventView {
	opened := *e
	opened.Data = o.document(e.Data)
	return &opened
}
