// What doctor says of access control: who may ask the API, and whether anybody can.

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/myspinbot/myspinbot/internal/access"
)

// accessChecks look at how the API knows who asks.
func accessChecks(cfg Config) (checks []check) {
	a := cfg.Access
	if !a.control().On() {
		return []check{{"access control", false, func(context.Context) (string, error) {
			return "off: whoever can connect to " + cfg.HTTP.Listen + ", which is on this machine alone, may do everything", nil
		}, ""}}
	}
	if a.Keys {
		checks = append(checks, check{"API keys", a.OIDC.Issuer == "", func(ctx context.Context) (string, error) { return lookAtKeys(ctx, cfg, time.Now()) }, "myspinbot keys issue NAME"})
	}
	if a.OIDC.Issuer != "" {
		checks = append(checks, check{"issuer of tokens", true, func(ctx context.Context) (string, error) {
			n, err := access.CheckIssuer(ctx, a.OIDC.Issuer)
			return fmt.Sprintf("%s, %d keys", a.OIDC.Issuer, n), err
		}, "set access.oidc.issuer right, or have the issuer reached from here"})
	}
	return checks
}

// lookAtKeys counts the keys that hold. A log that cannot be read is another check's.
func lookAtKeys(ctx context.Context, cfg Config, now time.Time) (string, error) {
	log, err := openLog(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return "", err
	}
	defer log.Close()
	unread := 0
	keys, err := access.List(ctx, log, func(string, error) { unread++ })
	if err != nil {
		return "not known: they cannot be read from the log", nil
	}
	valid := 0
	for _, k := range keys {
		if !k.Revoked && !k.Expired(now) {
			valid++
		}
	}
	switch {
	case unread > 0:
		return "", fmt.Errorf("%d of them cannot be read and open nothing: a newer program may have issued them", unread)
	case valid == 0:
		return "", errors.New("access control is on, and there is no key that holds")
	}
	return fmt.Sprintf("%d hold", valid), nil
}
