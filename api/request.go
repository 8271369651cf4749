// The body of a submission: held against the contract, its names in our spelling,
// faulty fields left out so that everything wrong is said at once.

package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/gofiber/fiber/v2"
)

// maxAhead is how far ahead a job may be scheduled.
const maxAhead = 30 * 24 * time.Hour

// read takes the body. Fields with a fault are left out of it, so that the planner
// can say at the same time what else is wrong.
func (sub *submitting) read(c *fiber.Ctx) ([]fault, error) {
	object, err := sub.object(c)
	if err != nil {
		return nil, err
	}
	if sub.camel {
		if sub.written, err = snakeCase(object, ""); err != nil {
			return nil, err
		}
	}
	canonical, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("cannot write the request's canonical form: %w", err)
	}
	sub.digest = sub.server.textDigest(sub.who.tenant, sub.route+"\n"+string(canonical))
	name, body := "JobRequest", any(&sub.body)
	if sub.again != nil {
		name, body = sub.again.schema, &sub.again.body
	}
	faults, err := sub.server.contract.takeText(name, object, canonical, body)
	if err != nil {
		return nil, err
	}
	return append(faults, append(append(sub.silence(), sub.when()...), sub.hookFaults()...)...), nil
}

// object is the body of whichever kind.
func (sub *submitting) object(c *fiber.Ctx) (map[string]any, error) {
	if sub.again != nil {
		return readObject(c)
	}
	if isForm(c) {
		return sub.readForm(c)
	}
	object, err := readObject(c)
	if err != nil && asRefusal(err).code == codeMediaType {
		return nil, badMedia("Content-Type", "send the body as application/json, or as multipart/form-data with the files in it")
	}
	return object, err
}

// take reads what is right of an object held against a schema, and says what is wrong.
func (k *contract) take(name string, object map[string]any, body any) ([]fault, error) {
	text, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("cannot write the request's canonical form: %w", err)
	}
	return k.takeText(name, object, text, body)
}

// takeText is take of an object whose text is there already.
func (k *contract) takeText(name string, object map[string]any, text []byte, body any) (faults []fault, err error) {
	if faults = k.check(name, object); len(faults) > 0 {
		for _, f := range faults {
			leaveOut(object, f.Pointer)
		}
		if text, err = json.Marshal(object); err != nil {
			return nil, fmt.Errorf("cannot write the request's clean form: %w", err)
		}
	}
	read := json.Unmarshal
	if _, ok := object["options"]; ok { // a number in them may lie beyond float64: the planner says what is allowed
		read = unmarshalNumbers
	}
	if err := read(text, body); err != nil {
		return nil, fmt.Errorf("cannot read a request that passed the contract: %w", err)
	}
	return faults, nil
}

// unmarshalNumbers is json.Unmarshal with numbers as they are written.
func unmarshalNumbers(text []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return d.Decode(v)
}

// when reads the time before which the job must not start. One that has passed is at once.
func (sub *submitting) when() []fault {
	if sub.body.NotBefore == "" {
		return nil
	}
	now := sub.server.now()
	at, err := time.Parse(time.RFC3339, sub.body.NotBefore)
	switch {
	case err != nil:
		return []fault{{Pointer: "/not_before", Code: "format_wrong", Detail: "not_before must be a time that exists, such as " + now.UTC().Add(time.Hour).Format(time.RFC3339)}}
	case at.After(now.Add(maxAhead)):
		return []fault{{Pointer: "/not_before", Code: "out_of_range", Detail: "not_before may lie at most 30 days ahead"}}
	case at.After(now):
		sub.notBefore = at.UnixMilli()
	}
	return nil
}

// silence are texts in which there is nothing to say aloud; they are left out.
func (sub *submitting) silence() []fault {
	var faults []fault
	for _, text := range []struct {
		name  string
		value **string
	}{{"prompt", &sub.body.Prompt}, {"script", &sub.body.Script}} {
		said := *text.value
		if said == nil || strings.TrimSpace(*said) == "" || hasWord(*said) {
			continue
		}
		*text.value = nil
		faults = append(faults, wordless(text.name))
	}
	return faults
}

// hasWord says whether there is something in the text to say aloud.
func hasWord(text string) bool {
	return strings.ContainsFunc(text, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) })
}

func wordless(name string) fault {
	return fault{Pointer: "/" + name, Code: "text_empty", Detail: name + " holds no word: there must be at least one letter or digit"}
}

// leaveOut deletes the field at a fault's pointer: an option alone, and otherwise the
// whole field at the top, for half an object is of no use.
func leaveOut(object map[string]any, pointer string) {
	top := topField(pointer)
	options, ok := object[top].(map[string]any)
	if rest := strings.TrimPrefix(pointer, "/options/"); ok && top == "options" && rest != pointer {
		delete(options, topField("/"+rest))
		return
	}
	delete(object, top)
}

func topField(pointer string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(pointer, "/"), "/")
	return strings.NewReplacer("~1", "/", "~0", "~").Replace(name)
}

// labelsOf are a job's labels as they lie on the log: sorted, each once.
func labelsOf(given []string) []string {
	labels := slices.Clone(given)
	slices.Sort(labels)
	return slices.Compact(labels)
}
