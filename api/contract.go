// The contract: openapi.yaml, embedded, served as JSON, and the source of the checks of request bodies.

package api

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"

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
	embedded := checker{doc}
	for _, p := range own {
		allow(embedded.resolve("#/components/schemas/Variant"), p.Variant)
		allow(asSchema(asSchema(embedded.resolve("#/components/schemas/JobRequest")["properties"])["pipeline"]), p.Workflow)
	}
	body, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("cannot write the contract as JSON: %w", err)
	}
	// Once through JSON, so that every number has the type that the checker knows.
	doc = nil
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, fmt.Errorf("cannot read the contract back: %w", err)
	}
	return &contract{json: body, checker: checker{doc}}, nil
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

func (s *Server) getContract(c *fiber.Ctx) error {
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	c.Set(fiber.HeaderCacheControl, "no-cache")
	return c.Send(s.contract.json)
}
