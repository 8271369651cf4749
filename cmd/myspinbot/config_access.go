// Who may ask the API: the keys of the configuration about access control.

package main

import (
	_ "embed"
	"net"
	"net/url"
	"strconv"

	"github.com/myspinbot/myspinbot/internal/access"
)

//go:embed config_access.go
var accessConfigSource string // the comments below, for the schema

// AccessConfig switches access control on; api reads it.
type AccessConfig struct {
	// Ask everybody for an API key; `myspinbot keys issue` makes them. Set it before http.listen is an address that others reach. Leave it off on a machine of one's own, where everybody who can connect may do everything.
	Keys bool       `key:"keys" default:"false"`
	OIDC OIDCConfig `key:"oidc"`
}

// OIDCConfig says whose tokens are taken in place of keys.
type OIDCConfig struct {
	// URL of the OpenID Connect issuer whose tokens are taken, exactly as it stands in them (iss), https://… Its keys are found by discovery, when the first token comes. Empty: no tokens are taken. It switches access control on, also without access.keys.
	Issuer string `key:"issuer"`
	// Whom a token must be for (aud), such as myspinbot. Needed with access.oidc.issuer: a token that the issuer made for somebody else must open nothing here.
	Audience string `key:"audience"`
	// Claim of a token that names the tenant. A token without it is refused.
	TenantClaim string `key:"tenant_claim" default:"tenant"`
	// Claim of a token that lists its scopes, of which read, write and operate count here: a list, or a text with spaces between them.
	ScopeClaim string `key:"scope_claim" default:"scope"`
}

func (c AccessConfig) control() access.Config {
	return access.Config{Keys: c.Keys, OIDC: access.OIDC{Issuer: c.OIDC.Issuer, Audience: c.OIDC.Audience, TenantClaim: c.OIDC.TenantClaim, ScopeClaim: c.OIDC.ScopeClaim}}
}

// access holds the address of the API against who may ask it.
func (l *loader) access() {
	c := &l.config
	if host, _, err := net.SplitHostPort(c.HTTP.Listen); err == nil && !isLoopback(host) && !c.Access.control().On() {
		l.failKey("http.listen", strconv.Quote(c.HTTP.Listen), "an address of this machine alone, such as 127.0.0.1:8080; or any with access control, which access.keys = true or access.oidc.issuer switches on")
	}
	o := c.Access.OIDC
	if o.Issuer == "" {
		if o.Audience != "" {
			l.failKey("access.oidc.audience", strconv.Quote(o.Audience), "nothing without access.oidc.issuer, which says whose tokens are meant")
		}
		return
	}
	l.checkURL("access.oidc.issuer", o.Issuer, false, "https", "http")
	if u, err := url.Parse(o.Issuer); err == nil && u.Scheme == "http" && !isLoopback(u.Hostname()) {
		l.failKey("access.oidc.issuer", strconv.Quote(o.Issuer), "an https:// URL: over plain http anybody on the way could put in keys of their own")
	}
	if o.Audience == "" {
		l.failKey("access.oidc.audience", "nothing", "the audience of tokens that are for this server, as the issuer writes it (aud)")
	}
	for key, claim := range map[string]string{"access.oidc.tenant_claim": o.TenantClaim, "access.oidc.scope_claim": o.ScopeClaim} {
		if claim == "" {
			l.failKey(key, "nothing", "the name of a claim")
		}
	}
}
