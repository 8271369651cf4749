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

// views shows what lies on the log and in the tables: it opens texts, and knows the
// names of profiles.
type views struct {
	known   *knowledge
	keyring *objects.Keyring
}

// answering is what all texts of one answer share: one end time, and whether the
// keys could be read at all. A text that does not open is null: the rest of the
// answer is still worth having.
type answering struct {
	ctx     context.Context //nolint:containedctx // lives as long as one answer
	keyring *objects.Keyring
	until   time.Time
	down    bool // the key store does not answer; no text is tried again
}

// opener opens the sealed texts of one item of an answer, and remembers what became of them.
type opener struct {
	*answering
	content string
}

func (w *views) answering(ctx context.Context) *answering {
	return &answering{ctx: ctx, keyring: w.keyring, until: time.Now().Add(textTimeout)}
}

// opener is for an answer of one item.
func (w *views) opener(ctx context.Context) *opener { return w.answering(ctx).item() }

func (a *answering) item() *opener { return &opener{answering: a, content: contentAvailable} }

// text is the text in clear, or nil.
func (o *opener) text(sealed *events.Sealed) *string {
	if sealed == nil {
		return nil
	}
	if o.down {
		o.content = contentUnavailable
		return nil
	}
	ctx, cancel := context.WithDeadline(o.ctx, o.until)
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
		o.down = ctx.Err() != nil || errors.Is(err, objects.ErrUnavailable)
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
		if hook, ok := v["webhook"].(map[string]any); ok && hook["secret"] != nil {
			hook["secret"] = nil // it was told once, to who submitted the job
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
