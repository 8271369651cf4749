// Tokens of an OpenID Connect issuer (OpenID Connect Discovery 1.0, RFC 7519): who they
// name, once their signature, issuer, audience and expiry are proved.

package access

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"github.com/myspinbot/myspinbot/internal/objects"
)

// OIDC says whose tokens are taken.
type OIDC struct {
	Issuer      string // its URL, as it stands in the tokens; empty: no tokens are taken
	Audience    string // that a token must be for
	TenantClaim string // default "tenant"
	ScopeClaim  string // default "scope": a list, or words with spaces between them
}

// ClaimError says that a token is genuine and does not say what is needed here.
type ClaimError struct {
	Claim  string
	Detail string
}

func (e *ClaimError) Error() string { return e.Detail }

// signatures are by keys of which the public half alone is known here: with "none" or HS256
// whoever knows a public key could make tokens.
var signatures = []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA}

// longestSubject is that of OpenID Connect Core 1.0, section 2.
const longestSubject = 255

type issuer struct {
	cfg    OIDC
	keys   *issuerKeys
	logger *slog.Logger
}

func newIssuer(cfg OIDC, logger *slog.Logger) *issuer {
	if cfg.TenantClaim == "" {
		cfg.TenantClaim = "tenant"
	}
	if cfg.ScopeClaim == "" {
		cfg.ScopeClaim = "scope"
	}
	return &issuer{cfg: cfg, keys: newIssuerKeys(cfg.Issuer, logger), logger: logger}
}

// verify says whom the token names. The error is ErrInvalid, ErrIssuer or a *ClaimError;
// what exactly is wrong with a token is for the log alone.
func (i *issuer) verify(ctx context.Context, token string, now time.Time) (*Grant, error) {
	algorithms := make([]jose.SignatureAlgorithm, len(signatures))
	for n, name := range signatures {
		algorithms[n] = jose.SignatureAlgorithm(name)
	}
	// What has no form needs no word of the issuer.
	signed, err := jose.ParseSignedCompact(token, algorithms)
	if err != nil {
		return nil, i.refused(ctx, err)
	}
	public, err := i.keys.of(ctx, signed.Signatures[0].Header.KeyID, now)
	if err != nil {
		return nil, err
	}
	proved, err := oidc.NewVerifier(i.cfg.Issuer, &oidc.StaticKeySet{PublicKeys: public},
		&oidc.Config{ClientID: i.cfg.Audience, SupportedSigningAlgs: signatures, Now: func() time.Time { return now }}).Verify(ctx, token)
	if err != nil {
		return nil, i.refused(ctx, err)
	}
	if !plainName(proved.Subject) {
		return nil, i.refused(ctx, fmt.Errorf("its subject is not 1 to %d visible ASCII characters", longestSubject))
	}
	var claims map[string]json.RawMessage
	if err := proved.Claims(&claims); err != nil {
		return nil, i.refused(ctx, err)
	}
	return i.grant(proved.Subject, proved.Expiry, claims)
}

func (i *issuer) refused(ctx context.Context, why error) error {
	i.logger.DebugContext(ctx, "a token is refused", "error", why) // which never holds the token
	return ErrInvalid
}

func (i *issuer) grant(subject string, expires time.Time, claims map[string]json.RawMessage) (*Grant, error) {
	var tenant string
	raw, there := claims[i.cfg.TenantClaim]
	if !there {
		return nil, &ClaimError{i.cfg.TenantClaim, fmt.Sprintf("the token has no claim %q, which says whose things it is about", i.cfg.TenantClaim)}
	}
	if err := json.Unmarshal(raw, &tenant); err != nil {
		return nil, &ClaimError{i.cfg.TenantClaim, fmt.Sprintf("the token's claim %q is not a text", i.cfg.TenantClaim)}
	}
	if err := objects.CheckTenant(tenant); err != nil {
		return nil, &ClaimError{i.cfg.TenantClaim, fmt.Sprintf("the token's claim %q cannot be used: %v", i.cfg.TenantClaim, err)}
	}
	return &Grant{Tenant: tenant, Actor: "oidc:" + subject, Scopes: scopesIn(claims[i.cfg.ScopeClaim]), Expires: expires, held: context.Background()}, nil
}

// scopesIn are those of ours in a claim; what else the issuer knows is not for us.
func scopesIn(claim json.RawMessage) (all Scopes) {
	var words []string
	var text string
	if json.Unmarshal(claim, &text) == nil {
		words = strings.Fields(text)
	} else if json.Unmarshal(claim, &words) != nil {
		return 0
	}
	for _, w := range words {
		all |= scopeOf(w)
	}
	return all
}

// plainName says whether a subject may stand on the log and in answers as it is.
func plainName(s string) bool {
	return s != "" && len(s) <= longestSubject && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}
