// The body of a submission: held against the contract, its names in our spelling,
// faulty fields left out so that everything wrong is said at once.

package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"

	"github.com/gofiber/fiber/v2"

	"github.com/myspinbot/myspinbot/events"
)

// read takes the body. Fields with a fault are left out of it, so that the planner
// can say at the same time what else is wrong.
func (sub *submitting) read(c *fiber.Ctx) ([]fault, error) {
	object, err := readObject(c)
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
	sub.digest = events.Digest(sub.server.cfg.Keyring.DigestKey(tenant), sub.route+"\n"+string(canonical))
	faults := sub.server.contract.check("JobRequest", object)
	for _, f := range faults {
		leaveOut(object, f.Pointer)
	}
	clean, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("cannot write the request's clean form: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(clean))
	d.UseNumber() // a number may lie beyond float64: the planner says what is allowed
	if err := d.Decode(&sub.body); err != nil {
		return nil, fmt.Errorf("cannot read a request that passed the contract: %w", err)
	}
	return append(faults, sub.silence()...), nil
}

// silence are texts in which there is nothing to say aloud; they are left out.
func (sub *submitting) silence() []fault {
	var faults []fault
	for _, text := range []struct {
		name  string
		value **string
	}{{"prompt", &sub.body.Prompt}, {"script", &sub.body.Script}} {
		said := *text.value
		if said == nil || strings.TrimSpace(*said) == "" || strings.ContainsFunc(*said, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }) {
			continue
		}
		*text.value = nil
		faults = append(faults, fault{Pointer: "/" + text.name, Code: "text_empty", Detail: text.name + " holds no word: there must be at least one letter or digit"})
	}
	return faults
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
