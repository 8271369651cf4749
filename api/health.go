// Liveness, and readiness by dependency.

package api

import (
	"context"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
)

const checkTimeout = 2 * time.Second

func (s *Server) health(c *fiber.Ctx) error { return c.JSON(map[string]string{"status": "ok"}) }

// ready is 200 as long as jobs can be accepted: that needs the log and the objects.
// Without tables, reads answer 503; without workers, submissions do.
func (s *Server) ready(c *fiber.Ctx) error {
	checks := map[string]func(context.Context) error{
		"log": s.cfg.Log.Ping, "tables": s.cfg.Tables.Ping, "objects": s.cfg.Objects.Check,
	}
	out := readiness{Status: "ready", Dependencies: map[string]string{}}
	var mu sync.Mutex
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(c.UserContext(), checkTimeout)
	defer cancel()
	for name, check := range checks {
		wg.Go(func() {
			err := check(ctx)
			mu.Lock()
			defer mu.Unlock()
			out.Dependencies[name] = "ok"
			if err != nil {
				out.Dependencies[name] = "unavailable"
			}
		})
	}
	wg.Wait()
	out.Dependencies["workers"] = "ok"
	if s.known.capabilities().alive == 0 {
		out.Dependencies["workers"] = "none is running"
	}
	status := fiber.StatusOK
	switch d := out.Dependencies; {
	case s.isStopping():
		out.Status, status = "stopping", fiber.StatusServiceUnavailable
	case d["log"] != "ok" || d["objects"] != "ok":
		out.Status, status = "unavailable", fiber.StatusServiceUnavailable
	case d["tables"] != "ok" || d["workers"] != "ok":
		out.Status = "degraded"
	}
	c.Set(fiber.HeaderCacheControl, "no-store")
	if status != fiber.StatusOK {
		c.Set(fiber.HeaderRetryAfter, "2")
	}
	return c.Status(status).JSON(out)
}
