// The contract: openapi.yaml, embedded, served as JSON, and the source of the checks of request bodies.

package api

import (
	_ "embed"
	"encoding/json"
	"fmt"

	"github.com/gofiber/fiber/v2"
	"go.yaml.in/yaml/v3"
)

//go:embed openapi.yaml
var contractYAML []byte

// contract is the parsed document.
type contract struct {
	json    []byte
	checker checker
}

func loadContract() (*contract, error) {
	var doc map[string]any
	if err := yaml.Unmarshal(contractYAML, &doc); err != nil {
		return nil, fmt.Errorf("cannot read the embedded contract: %w", err)
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
	return &contract{json: body, checker: checker{doc}}, nil
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
