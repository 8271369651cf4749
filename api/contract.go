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
	"github.com/myspinbot/myspinbot/internal/access"
)

//go:embed openapi.yaml
var contractYAML []byte

// contract is the parsed document, with the names of the installation's own pipelines
// among those that may be asked for.
type contract struct {
	json    []byte
	checker checker
	needs   map[string]access.Scopes // by method and path; not there: everybody may ask it
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
	delete(doc, "x-scopes")
	body, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("cannot write the contract as JSON: %w", err)
	}
	// Once through JSON, so that every number has the type that the checker knows.
	doc = nil
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, fmt.Errorf("cannot read the contract back: %w", err)
	}
	k := &contract{json: body, checker: newChecker(doc)}
	k.needs, err = k.needsOf()
	return k, err
}

// operation is one of the contract; nil: there is none.
func (k *contract) operation(method, path string) schema {
	return asSchema(asSchema(asSchema(k.checker.doc["paths"])[path])[strings.ToLower(method)])
}

// needsOf are the scopes that each operation takes, by method and path, but for those that
// everybody may ask. One that does not say who may is refused: to forget it must not open a door.
func (k *contract) needsOf() (map[string]access.Scopes, error) {
	needs := map[string]access.Scopes{}
	for path, operations := range asSchema(k.checker.doc["paths"]) {
		for method, v := range asSchema(operations) {
			ways, says := asSchema(v)["security"].([]any)
			if !says {
				return nil, fmt.Errorf("the contract does not say who may ask %s %s", method, path)
			}
			for _, way := range ways { // by header or by cookie: they take the same
				for _, scopes := range asSchema(way) {
					need, err := access.ParseScopes(texts(scopes))
					if err != nil {
						return nil, fmt.Errorf("the contract of %s %s: %w", method, path, err)
					}
					needs[strings.ToUpper(method)+" "+path] |= need
				}
			}
		}
	}
	return needs, nil
}

func texts(v any) (out []string) {
	for _, item := range list(v) {
		out = append(out, fmt.Sprint(item))
	}
	return out
}

// open takes out what asks for keys, for a server that asks nobody.
func (k *contract) open() (err error) {
	delete(asSchema(k.checker.doc["components"]), "securitySchemes")
	for _, operations := range asSchema(k.checker.doc["paths"]) {
		for _, v := range asSchema(operations) {
			delete(asSchema(v), "security")
		}
	}
	if k.json, err = json.Marshal(k.checker.doc); err != nil {
		return fmt.Errorf("cannot write the contract as JSON: %w", err)
	}
	return nil
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
	for _, p := range list(k.operation(method, path)["parameters"]) {
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
