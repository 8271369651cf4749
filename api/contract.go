// The contract: openapi.yaml, embedded, served as JSON, and the source of the checks of request bodies.

package api

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"
	"go.yaml.in/yaml/v3"

	"github.com/myspinbot/myspinbot/aggregates"
)

//go:embed openapi.yaml
var contractYAML []byte

// contract is the parsed document, with the names of the installation's own pipelines
// among those that may be asked for.
type contract struct {
	json    []byte
	checker checker
}

func loadContract(own ...aggregates.Pipeline) (*contract, error) {
	var doc map[string]any
	if err := yaml.Unmarshal(contractYAML, &doc); err != nil {
		return nil, fmt.Errorf("cannot read the embedded contract: %w", err)
	}
	embedded := newChecker(doc)
	for _, p := range own {
		allow(embedded.resolve("#/components/schemas/Variant"), p.Variant)
		for _, request := range []string{"JobRequest", "JobForm"} {
			allow(asSchema(asSchema(embedded.resolve("#/components/schemas/" + request)["properties"])["pipeline"]), p.Workflow)
		}
	}
	delete(doc, "x-answers") // parts that the paths are put together from
	body, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("cannot write the contract as JSON: %w", err)
	}
	// Once through JSON, so that every number has the type that the checker knows.
	doc = nil
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, fmt.Errorf("cannot read the contract back: %w", err)
	}
	return &contract{json: body, checker: newChecker(doc)}, nil
}

// allow adds a word to those of an enumeration.
func allow(s schema, word string) {
	if words := list(s["enum"]); !slices.Contains(words, any(word)) {
		s["enum"] = append(words, word)
	}
}

// check holds a value against a schema of the contract's components.
func (k *contract) check(name string, v any) []fault {
	return k.checker.check(schema{"$ref": "#/components/schemas/" + name}, v, "")
}

// field is the schema of a member of an object among the contract's components; nil: it has none of that name.
func (k *contract) field(object, name string) schema {
	return k.resolved(asSchema(k.checker.resolve("#/components/schemas/" + object)["properties"])[name])
}

// valueForm is what a query parameter or a header of an operation must look like.
type valueForm struct {
	name, in string
	pattern  *regexp.Regexp
	allowed  string // in words
}

// forms are those of an operation's parameters that have one. Handlers read the values,
// and say what else is wrong with them. The Idempotency-Key has a code of its own.
func (k *contract) forms(method, path string) (out []valueForm) {
	operation := asSchema(asSchema(asSchema(k.checker.doc["paths"])[path])[strings.ToLower(method)])
	for _, p := range list(operation["parameters"]) {
		p := k.resolved(p)
		s := k.resolved(p["schema"])
		pattern, hasForm := s["pattern"].(string)
		name, in := fmt.Sprint(p["name"]), fmt.Sprint(p["in"])
		if !hasForm || in == "path" || name == "Idempotency-Key" {
			continue
		}
		out = append(out, valueForm{name, in, regexp.MustCompile(pattern), fmt.Sprint(s["x-allowed"])})
	}
	return out
}

// resolved follows a reference, if it is one.
func (k *contract) resolved(v any) schema {
	s := asSchema(v)
	if ref, isRef := s["$ref"].(string); isRef {
		return k.checker.resolve(ref)
	}
	return s
}

// fitting refuses what does not have the form that the contract gives it.
func fitting(forms []valueForm, handle fiber.Handler) fiber.Handler {
	return func(c *fiber.Ctx) error {
		for _, f := range forms {
			values := c.Request().Header.PeekAll(f.name)
			if f.in == "query" {
				values = c.Context().QueryArgs().PeekMulti(f.name)
			}
			for _, value := range values {
				if !f.pattern.Match(value) {
					return badParameter(f.name, "%s must %s", f.name, f.allowed)
				}
			}
		}
		return handle(c)
	}
}

func (s *Server) getContract(c *fiber.Ctx) error {
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	c.Set(fiber.HeaderCacheControl, "no-cache")
	return c.Send(s.contract.json)
}
