// Who sends a request, and whose things it is about.

package api

import "github.com/gofiber/fiber/v2"

// caller is who sends a request. What belongs to other tenants does not exist for it.
type caller struct {
	tenant string
	actor  string // as the log names who asked
}

// everybody is who sends requests while there is no access control.
var everybody = caller{tenant: "default", actor: "api"}

const localCaller = "caller"

// identify says who sends the request before anything else looks at it.
func (s *Server) identify(c *fiber.Ctx) error {
	c.Locals(localCaller, &everybody)
	return nil
}

// callerOf is who sends the request.
func callerOf(c *fiber.Ctx) *caller {
	who, _ := c.Locals(localCaller).(*caller)
	return who
}
