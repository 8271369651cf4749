// The small schema type that pipelines and tasks describe their parameters with.

package aggregates

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/myspinbot/myspinbot/events"
)

// Param describes one parameter of a task.
type Param struct {
	Name    string
	Kind    string   // "integer", "number", "string" (one of Enum), "boolean" or "language"
	Min     float64  // for numbers, inclusive
	Max     float64  // for numbers, inclusive
	Enum    []string // allowed strings, or whole numbers written out
	Default any      // nil: no value unless given
	Doc     string
}

// kindLanguage is the kind of a parameter that is a language.
const kindLanguage = "language"

// Check gives the value in its canonical Go type (float64, string, bool, which
// are also what a fact read back from the log holds), or the reason why it is
// not allowed.
func (p Param) Check(v any) (any, *events.Reason) {
	switch p.Kind {
	case "integer", "number":
		f, ok := asFloat(v)
		if ok && p.allowsNumber(f) {
			return f, nil
		}
	case "boolean":
		if b, ok := v.(bool); ok {
			return b, nil
		}
	case "string":
		if s, ok := v.(string); ok && slices.Contains(p.Enum, s) {
			return s, nil
		}
	case kindLanguage:
		s, _ := v.(string)
		if l, ok := events.Language(s); ok {
			return l, nil
		}
	}
	return nil, p.refuse()
}

func (p Param) allowsNumber(f float64) bool {
	if p.Kind == "integer" && f != math.Trunc(f) || f < p.Min || f > p.Max {
		return false
	}
	return len(p.Enum) == 0 || slices.Contains(p.Enum, plain(f))
}

func (p Param) refuse() *events.Reason {
	return &events.Reason{Code: "option_invalid", Field: "/options/" + p.Name, Detail: "option " + p.Name + " must be " + p.Allowed()}
}

// Allowed says in words which values the parameter takes.
func (p Param) Allowed() string {
	switch {
	case p.Kind == kindLanguage:
		return "a language by its code of ISO 639-1, with or without a region, such as de or pt-BR"
	case len(p.Enum) > 0:
		return "one of " + strings.Join(p.Enum, ", ")
	case p.Kind == "integer":
		return "a whole number from " + plain(p.Min) + " to " + plain(p.Max)
	case p.Kind == "number":
		return "a number from " + plain(p.Min) + " to " + plain(p.Max)
	}
	return "true or false"
}

// plain writes a number without an exponent, for sentences.
func plain(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// Schema is the parameter as JSON Schema (draft-07).
func (p Param) Schema() map[string]any {
	s := map[string]any{"type": p.Kind, "description": p.Doc}
	switch p.Kind {
	case "integer", "number":
		s["minimum"], s["maximum"] = p.Min, p.Max
		if len(p.Enum) > 0 {
			s["enum"] = p.numbers()
		}
	case "string":
		s["enum"] = p.Enum
	case kindLanguage:
		s["type"], s["format"], s["pattern"] = "string", kindLanguage, events.LanguagePattern
	}
	if p.Default != nil {
		s["default"] = p.Default
	}
	return s
}

func (p Param) numbers() []float64 {
	ns := make([]float64, len(p.Enum))
	for i, e := range p.Enum {
		ns[i], _ = strconv.ParseFloat(e, 64) // the catalogue's own digits, held by a test
	}
	return ns
}

func asFloat(v any) (float64, bool) {
	switch n := v.(type) {
	case float64:
		return n, !math.IsNaN(n) && !math.IsInf(n, 0)
	case int:
		return float64(n), true
	case int64:
		return float64(n), true
	case json.Number:
		f, err := n.Float64()
		return f, err == nil
	}
	return 0, false
}
