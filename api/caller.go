// Who sends a request, whose things it is about, and whether it may be asked.

package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/myspinbot/myspinbot/internal/access"
)

// caller is who sends a request. What belongs to other tenants does not exist for it.
type caller struct {
	tenant string
	actor  string // as the log names who asked
	scopes access.Scopes
	grant  *access.Grant // nil: there is no access control
}

// everybody is who sends requests while there is no access control.
var everybody = caller{tenant: "default", actor: "api", scopes: access.All}

const localCaller = "caller"

// sessionCookie holds a key or token for browsers, which send no header of ours with
// streams, WebSockets and videos.
const sessionCookie = "myspinbot_session"

// identified has a route asked by whom the contract allows alone.
func (s *Server) identified(need access.Scopes, handle fiber.Handler) fiber.Handler {
	return func(c *fiber.Ctx) error {
		if err := s.identifying(c, need); err != nil {
			return err
		}
		return handle(c)
	}
}

// identify says who sends the request, and refuses who may not.
func (s *Server) identify(c *fiber.Ctx, need access.Scopes) error {
	if s.access == nil {
		c.Locals(localCaller, &everybody)
		return nil
	}
	credential, byCookie := credentialOf(c)
	who, err := s.whose(c, credential)
	if err != nil {
		return err
	}
	c.Locals(localCaller, who)
	if byCookie && fromElsewhere(c) {
		return &refusal{code: codeOriginForbidden}
	}
	if unlimited[c.Path()] {
		return who.may(need)
	}
	if wait := who.grant.Take(s.now()); wait > 0 {
		s.metrics.turnedAway.WithLabelValues(codeRate).Inc()
		r := refuse(codeRate, "this key may send %v requests a second", who.grant.PerSecond())
		r.retryAfter = int(math.Ceil(wait.Seconds()))
		return r
	}
	return who.may(need)
}

// may refuses a caller who lacks a scope.
func (who *caller) may(need access.Scopes) error {
	lacks := need &^ who.scopes
	if lacks == 0 {
		return nil
	}
	return &refusal{code: codeScopeMissing, detail: fmt.Sprintf("this needs the scope %s, which the key or token does not have: it has %s", lacks, orNone(who.scopes)), scope: lacks.String()}
}

// whose asks whom a credential names.
func (s *Server) whose(c *fiber.Ctx, credential []byte) (*caller, error) {
	if len(credential) == 0 {
		return nil, &refusal{code: codeKeyMissing}
	}
	grant, err := s.access.Ask(c.UserContext(), credential, s.now())
	var claim *access.ClaimError
	switch {
	case err == nil:
		return &caller{grant.Tenant, grant.Actor, grant.Scopes, grant}, nil
	case errors.As(err, &claim):
		return nil, &refusal{code: codeTenantMissing, detail: claim.Detail}
	case errors.Is(err, access.ErrUnread):
		return nil, &refusal{code: codeKeysUnread, cause: err}
	case errors.Is(err, access.ErrIssuer):
		return nil, &refusal{code: codeIssuerDown, cause: err}
	}
	if unlimited[c.Path()] { // nobody may try keys there as often as they like
		if err := s.takeTurn(c); err != nil {
			return nil, err
		}
	}
	return nil, &refusal{code: codeKeyUnknown}
}

// credentialOf is the key or token that came with the request: a bearer's, else the cookie's.
// It is good until the request has been answered. Other schemes are for who stands in front.
func credentialOf(c *fiber.Ctx) (credential []byte, byCookie bool) {
	const scheme = "bearer "
	header := c.Request().Header.Peek(fiber.HeaderAuthorization)
	if len(header) >= len(scheme) && bytes.EqualFold(header[:len(scheme)], []byte(scheme)) {
		return bytes.TrimSpace(header[len(scheme):]), false
	}
	return c.Request().Header.Cookie(sessionCookie), true
}

// fromElsewhere says whether a browser tells that a page of another site, or of another
// server on this one, asks for a change. It comes beside ownPages, for a cookie goes along
// to every port of its host.
func fromElsewhere(c *fiber.Ctx) bool {
	if c.Method() == fiber.MethodGet && c.Get("Sec-WebSocket-Key") == "" || c.Method() == fiber.MethodHead {
		return false
	}
	site := c.Get("Sec-Fetch-Site")
	return site != "" && site != "same-origin" && site != "none"
}

func orNone(scopes access.Scopes) string {
	if scopes == 0 {
		return "none"
	}
	return scopes.String()
}

// callerOf is who sends the request; nil on a route that is for everybody.
func callerOf(c *fiber.Ctx) *caller {
	who, _ := c.Locals(localCaller).(*caller)
	return who
}

// lasts is a context that ends when the caller may not be served any more: the key is
// revoked, or has expired. The caller of lasts must call cancel.
func (who *caller) lasts() (context.Context, context.CancelFunc) {
	if who.grant == nil {
		return context.WithCancel(context.Background())
	}
	return who.grant.Lasts()
}

// challenge is what WWW-Authenticate says to a refusal (RFC 6750, section 3); empty: nothing.
func challenge(r *refusal) string {
	const scheme = `Bearer realm="myspinbot"`
	switch r.code {
	case codeKeyMissing:
		return scheme
	case codeKeyUnknown:
		return scheme + `, error="invalid_token"`
	case codeScopeMissing:
		return scheme + `, error="insufficient_scope", scope="` + strings.ReplaceAll(r.scope, ",", " ") + `"`
	case codeTenantMissing:
		return scheme + `, error="insufficient_scope"`
	}
	return ""
}

// expiry is when the caller's key or token expires; nil: never.
func (who *caller) expiry() *time.Time {
	if who.grant == nil || who.grant.Expires.IsZero() {
		return nil
	}
	at := who.grant.Expires.UTC()
	return &at
}
