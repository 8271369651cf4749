// Reading JSON bodies strictly: bounded, one object, no field twice, nothing unknown.

package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"
)

const (
	maxJSON      = 256 << 10 // bytes of a JSON body
	maxJSONDepth = 8
)

// readObject reads the body as one JSON object; an empty body is an empty object.
func readObject(c *fiber.Ctx) (map[string]any, error) {
	body, err := readBody(c, maxJSON)
	if err != nil {
		return nil, err
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return map[string]any{}, nil
	}
	if media, err := mediaType(c); err != nil || media != fiber.MIMEApplicationJSON {
		return nil, badMedia("Content-Type", "send the body as application/json")
	}
	return parseObject(body, "", "the body")
}

// mediaType is that of the body, without parameters.
func mediaType(c *fiber.Ctx) (string, error) {
	given := c.Get(fiber.HeaderContentType)
	if given == fiber.MIMEApplicationJSON { // as nearly every program writes it
		return given, nil
	}
	media, _, err := mime.ParseMediaType(given)
	return media, err
}

// parseObject reads text as one JSON object. It stands at a pointer, and is called what.
func parseObject(text []byte, at, what string) (map[string]any, error) {
	if !utf8.Valid(text) {
		return nil, refuse(codeJSONMalformed, "%s is not valid UTF-8", what)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	v, err := decodeValue(d, at, strings.Count(at, "/"))
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = refuse(codeJSONMalformed, "something follows the JSON object of %s, at byte %d", what, d.InputOffset())
		}
	}
	var r *refusal
	switch {
	case errors.As(err, &r):
		return nil, r
	case err != nil:
		return nil, refuse(codeJSONMalformed, "the JSON of %s breaks off or is wrong at byte %d", what, d.InputOffset())
	}
	object, ok := v.(map[string]any)
	if !ok {
		return nil, refuse(codeJSONMalformed, "%s must be a JSON object, not %s", what, typeName(v))
	}
	return object, nil
}

// decodeValue is encoding/json into any, but a field that comes twice is an error
// instead of the last one winning.
func decodeValue(d *json.Decoder, at string, depth int) (any, error) {
	if depth > maxJSONDepth {
		return nil, refuse(codeJSONMalformed, "the JSON is nested deeper than %d levels", maxJSONDepth)
	}
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('{'):
		return decodeObject(d, at, depth)
	case json.Delim('['):
		items := []any{}
		for d.More() {
			v, err := decodeValue(d, fmt.Sprintf("%s/%d", at, len(items)), depth+1)
			if err != nil {
				return nil, err
			}
			items = append(items, v)
		}
		_, err = d.Token()
		return items, err
	}
	return t, nil
}

func decodeObject(d *json.Decoder, at string, depth int) (any, error) {
	fields := map[string]any{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, _ := t.(string)
		where := at + "/" + escapePointer(name)
		if _, twice := fields[name]; twice {
			return nil, invalid(fault{Pointer: where, Code: "field_repeated", Detail: spoken(where) + " is given twice"})
		}
		if fields[name], err = decodeValue(d, where, depth+1); err != nil {
			return nil, err
		}
	}
	_, err := d.Token()
	return fields, err
}

// readBody reads at most limit bytes; more is a refusal that names the limit.
func readBody(c *fiber.Ctx, limit int) ([]byte, error) {
	if c.Request().Header.ContentLength() > limit {
		return nil, refuse(codeTooLarge, "the body may have at most %d KiB", limit>>10)
	}
	from := io.LimitReader(bodyStream(c), int64(limit)+1)
	if n := c.Request().Header.ContentLength(); n >= 0 { // then it is that long, or breaks off
		body := make([]byte, n)
		if _, err := io.ReadFull(from, body); err != nil {
			return nil, refuse(codeRequestMalformed, "the body broke off")
		}
		return body, nil
	}
	body, err := io.ReadAll(from)
	switch {
	case err != nil:
		return nil, refuse(codeRequestMalformed, "the body broke off")
	case len(body) > limit:
		return nil, refuse(codeTooLarge, "the body may have at most %d KiB", limit>>10)
	}
	return body, nil
}

// bodyStream is the request's body as it comes in, within the read time-out of the whole request.
func bodyStream(c *fiber.Ctx) io.Reader {
	if stream := c.Context().RequestBodyStream(); stream != nil {
		return stream
	}
	return bytes.NewReader(c.Request().Body())
}

// patientReader lets a body take until its end time, as long as it never pauses for long.
type patientReader struct {
	from    io.Reader
	conn    interface{ SetReadDeadline(time.Time) error }
	pause   time.Duration
	endTime time.Time
}

// Read implements io.Reader.
func (r *patientReader) Read(p []byte) (int, error) {
	until := time.Now().Add(r.pause)
	if until.After(r.endTime) {
		until = r.endTime
	}
	if err := r.conn.SetReadDeadline(until); err != nil {
		return 0, err
	}
	return r.from.Read(p)
}

// spelling are the pointers that a client wrote, by ours.
type spelling map[string]string

// snakeCase renames the specification's camelCase fields, at the top and within
// options and consent.
func snakeCase(object map[string]any, at string) (spelling, error) {
	written := spelling{}
	for name, v := range object {
		snake := toSnake(name)
		if inner, ok := v.(map[string]any); ok && at == "" {
			below, err := snakeCase(inner, "/"+snake)
			if err != nil {
				return nil, err
			}
			for ours, theirs := range below {
				written[ours] = "/" + name + strings.TrimPrefix(theirs, "/"+snake)
			}
		}
		if snake == name {
			written[at+"/"+name] = at + "/" + name
			continue
		}
		if _, twice := object[snake]; twice {
			return nil, invalid(fault{Pointer: at + "/" + escapePointer(name), Code: "field_repeated",
				Detail: fmt.Sprintf("%s is given twice, also as %s", snake, shortened(name))})
		}
		delete(object, name)
		object[snake] = v
		written[at+"/"+snake] = at + "/" + name
	}
	return written, nil
}

// respelled are faults in the client's own words: the names as it wrote them, and
// camelCase for what it left out.
func (w spelling) respelled(faults []fault) []fault {
	out := slices.Clone(faults)
	for i, f := range out {
		theirs, ok := w[f.Pointer]
		if !ok {
			theirs = toCamel(f.Pointer)
		}
		if theirs == f.Pointer {
			continue
		}
		ours := f.Pointer[strings.LastIndex(f.Pointer, "/")+1:]
		out[i].Pointer = theirs
		out[i].Detail = strings.ReplaceAll(f.Detail, ours, theirs[strings.LastIndex(theirs, "/")+1:])
	}
	return out
}

// toCamel is what toSnake turns back.
func toCamel(name string) string {
	parts := strings.Split(name, "_")
	for i, p := range parts {
		if i > 0 && p != "" {
			parts[i] = strings.ToUpper(p[:1]) + p[1:]
		}
	}
	return strings.Join(parts, "")
}

func toSnake(name string) string {
	var b strings.Builder
	for i, r := range name {
		if r >= 'A' && r <= 'Z' {
			if i > 0 {
				b.WriteByte('_')
			}
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}
