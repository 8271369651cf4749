// Signing in: a browser keeps the key in a cookie that no script can read. The cookie is the
// key and nothing beside it, so that it ends with the key, in every process.

package api

import (
	"errors"
	"net/url"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

const (
	accessOpen = "open"
	accessKeys = "keys"
)

func (s *Server) signIn(c *fiber.Ctx) error {
	if err := checkQuery(c); err != nil {
		return err
	}
	object, err := readObject(c)
	if err != nil {
		return err
	}
	var body SessionRequest
	if faults, err := s.contract.take("SessionRequest", object, &body); err != nil || len(faults) > 0 {
		return errors.Join(err, invalid(faults...))
	}
	c.Set(fiber.HeaderCacheControl, "no-store")
	if s.access == nil {
		return c.JSON(s.viewSession(&everybody))
	}
	who, err := s.whose(c, []byte(body.Key))
	if err != nil {
		return err
	}
	cookie := sessionOf(c, body.Key)
	if at := who.expiry(); at != nil {
		cookie.Expires = *at
	}
	c.Cookie(cookie)
	return c.JSON(s.viewSession(who))
}

func (s *Server) getSession(c *fiber.Ctx) error {
	if err := checkQuery(c); err != nil {
		return err
	}
	c.Set(fiber.HeaderCacheControl, "no-store")
	return c.JSON(s.viewSession(callerOf(c)))
}

// signOut needs no key that holds: a browser must be able to forget one that does not.
func (s *Server) signOut(c *fiber.Ctx) error {
	if err := checkQuery(c); err != nil {
		return err
	}
	cookie := sessionOf(c, "")
	cookie.Expires = fasthttp.CookieExpireDelete
	c.Cookie(cookie)
	return c.SendStatus(fiber.StatusNoContent)
}

// sessionOf is the cookie. It goes to no other site and to no script, and where the page
// came over https to no server without it.
func sessionOf(c *fiber.Ctx, value string) *fiber.Cookie {
	origin, err := url.Parse(c.Get(fiber.HeaderOrigin))
	return &fiber.Cookie{Name: sessionCookie, Value: value, Path: "/", HTTPOnly: true, SameSite: fiber.CookieSameSiteStrictMode, Secure: err == nil && origin.Scheme == "https"}
}

func (s *Server) viewSession(who *caller) Session {
	v := Session{Access: accessKeys, Tenant: who.tenant, Actor: who.actor, Scopes: who.scopes.Names(), ExpiresAt: who.expiry()}
	if s.access == nil {
		v.Access = accessOpen
	}
	return v
}
