// Addresses of webhooks as text: what can be refused before anything is looked up.

package webhooks

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// ErrAddress says that an address is not allowed; the text says why.
var ErrAddress = errors.New("the address is not allowed")

// Policy says which addresses may be told. The zero value allows public ones, over
// https.
type Policy struct {
	// Private are hosts, as "name" or "name:port", that may have private addresses and be
	// spoken to over plain http. Names are compared without regard to case.
	Private []string
}

// leastPort is the first port beside 443 that may be named: below lie other protocols.
const leastPort = 1024

// Check reads the address and refuses what must not be told, whatever its name resolves
// to. What it does resolve to is checked when dialling.
func (p Policy) Check(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Hostname() == "" || u.Opaque != "" {
		return nil, fmt.Errorf("%w: it must be a URL such as https://example.com/hooks", ErrAddress)
	}
	host, private := u.Hostname(), p.allows(u.Host)
	switch {
	case u.User != nil:
		return nil, fmt.Errorf("%w: it must not hold a name or password; messages are signed instead", ErrAddress)
	case u.Fragment != "":
		return nil, fmt.Errorf("%w: a part behind # is sent to nobody; leave it out", ErrAddress)
	case u.Scheme != "https" && (u.Scheme != "http" || !private):
		return nil, fmt.Errorf("%w: it must begin with https:// (an operator can allow http for a host of this network: webhooks.allow_private)", ErrAddress)
	case strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return nil, fmt.Errorf("%w: the host must be written in ASCII (xn--…)", ErrAddress)
	}
	if text := u.Port(); text != "" {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n != 443 && n < leastPort && !private {
			return nil, fmt.Errorf("%w: port %s; 443 and ports from %d are allowed", ErrAddress, text, leastPort)
		}
	}
	return u, p.checkHost(host, private)
}

// allows says whether the operator allows the host, with or without a port, to be private.
func (p Policy) allows(hostport string) bool {
	hostport = strings.ToLower(hostport)
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	bare := strings.Trim(host, "[]")
	return slices.ContainsFunc(p.Private, func(allowed string) bool {
		allowed = strings.ToLower(allowed)
		return allowed == hostport || strings.Trim(allowed, "[]") == bare
	})
}

func (p Policy) checkHost(host string, private bool) error {
	if ip, err := netip.ParseAddr(host); err == nil {
		return p.checkIP(ip, private)
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	labels := strings.Split(name, ".")
	last := labels[len(labels)-1]
	switch {
	case numeric(last): // 127.1, 0x7f.1, 2130706433: some resolvers take them for IPv4
		return fmt.Errorf("%w: %q is no IPv4 address in its usual form", ErrAddress, host)
	case private:
		return nil
	case last == "localhost", last == "local", last == "internal", len(labels) == 1:
		return fmt.Errorf("%w: %q is a name inside; an operator can allow it: webhooks.allow_private", ErrAddress, host)
	}
	return nil
}

// numeric says whether a label reads as a number, in any base that resolvers know.
func numeric(label string) bool {
	_, err := strconv.ParseUint(label, 0, 64)
	return err == nil || label != "" && strings.Trim(label, "0123456789") == ""
}

// Server is where an address that Check has passed leads: scheme, host and port.
func Server(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	return u.Scheme + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}
