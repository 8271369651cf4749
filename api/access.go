// Who may send requests: loopback listeners only, and no foreign web page.

package api

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"
)

// checkLoopback refuses an address that others could reach.
func checkLoopback(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("cannot listen on %q: give host:port, such as 127.0.0.1:8080", addr)
	}
	if isLoopback(host) {
		return nil
	}
	return fmt.Errorf("cannot listen on %q: without access control only this machine may connect; use 127.0.0.1 or localhost, and reach it from elsewhere through an SSH tunnel or a proxy that checks who asks", addr)
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// ownName refuses requests that were sent to a name which is not this server's: a
// web page may point a name of its own at 127.0.0.1.
func (s *Server) ownName(c *fiber.Ctx) error {
	host := string(c.Request().Host())
	if !s.isOwn(host) {
		return refuse(codeHostForbidden, "this server is not called %q; use its address, or add the name to http.hosts", shortened(host))
	}
	return c.Next()
}

// ownPages refuses changes that another web site's page asks for; programs send no Origin.
func (s *Server) ownPages(c *fiber.Ctx) error {
	origin := c.Get(fiber.HeaderOrigin)
	if origin == "" || c.Method() == fiber.MethodGet || c.Method() == fiber.MethodHead {
		return c.Next()
	}
	u, err := url.Parse(origin)
	if err != nil || !s.isOwn(u.Host) {
		return &refusal{code: codeOriginForbidden}
	}
	return c.Next()
}

func (s *Server) isOwn(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	return isLoopback(host) || slices.ContainsFunc(s.cfg.Hosts, func(h string) bool { return strings.EqualFold(h, host) })
}
