// Who may send requests: without access control loopback listeners only, and never a foreign web page.

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
	return fmt.Errorf("cannot listen on %q: without access control only this machine may connect; switch it on with access.keys = true or access.oidc.issuer, or use 127.0.0.1 or localhost, and reach it from elsewhere through an SSH tunnel or a proxy that checks who asks", addr)
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
	if lately := s.ownHost.Load(); lately != nil && *lately == host {
		return c.Next()
	}
	if !s.isOwn(c, host) {
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
	if err != nil || !s.isOwn(c, u.Host) {
		return &refusal{code: codeOriginForbidden}
	}
	return c.Next()
}

// isOwn says whether a name is this server's: a loopback one, the address that the client has
// connected to, or one that the operator has named.
func (s *Server) isOwn(c *fiber.Ctx, hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if isLoopback(host) || slices.ContainsFunc(s.cfg.Hosts, func(h string) bool { return strings.EqualFold(h, host) }) {
		own := strings.Clone(hostport) // it may lie in a buffer of this request
		s.ownHost.Store(&own)          // whichever way it was reached, and most requests name the same
		return true
	}
	return isAddress(c.Context().LocalAddr(), host)
}

// isAddress says whether a host is written as the address itself, which no foreign name is.
func isAddress(local net.Addr, host string) bool {
	tcp, ok := local.(*net.TCPAddr)
	return ok && tcp.IP.Equal(net.ParseIP(host))
}
