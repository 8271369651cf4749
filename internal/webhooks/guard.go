// Addresses as numbers: what a name resolved to, looked at when its connection is
// about to be made.

package webhooks

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"
)

func prefixes(list ...string) (out []netip.Prefix) {
	for _, text := range list {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

var (
	// notPublic are the special-purpose blocks of IANA's registries (RFC 6890 and its
	// updates) that are not reachable for everybody, and what can hide such an address.
	notPublic = prefixes(
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
		"192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
		"2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
	)
	// global is all of IPv6 that is given to anybody to be reached at.
	global = netip.MustParsePrefix("2000::/3")
	// nat64 holds an IPv4 address in its last four bytes (RFC 6052).
	nat64 = netip.MustParsePrefix("64:ff9b::/96")
	// never are what no configuration opens: where clouds keep their secrets, and what is
	// no single host.
	never = prefixes("169.254.0.0/16", "fe80::/10", "168.63.129.16/32", "100.100.100.200/32", "192.0.0.192/32", "fd00:ec2::254/128",
		"0.0.0.0/8", "::/128", "224.0.0.0/4", "ff00::/8", "255.255.255.255/32")
)

func within(list []netip.Prefix, ip netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// plain is the address that is meant: the IPv4 address in an IPv6 form that holds one.
func plain(ip netip.Addr) netip.Addr {
	ip = ip.Unmap()
	if nat64.Contains(ip) {
		b := ip.As16()
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return ip
}

// checkIP refuses an address that is not public, unless its host is allowed to be private.
func (p Policy) checkIP(ip netip.Addr, private bool) error {
	meant := plain(ip)
	public := !within(notPublic, meant) && (meant.Is4() || global.Contains(meant))
	switch {
	case ip.Zone() != "", within(never, meant):
		return fmt.Errorf("%w: %s is nowhere to send messages to", ErrAddress, ip)
	case !public && !private:
		return fmt.Errorf("%w: %s is not a public address; an operator can allow the host: webhooks.allow_private", ErrAddress, ip)
	}
	return nil
}

// dialTimeout bounds one connection.
const dialTimeout = 5 * time.Second

// dialer connects to what host resolves to. It refuses, for each address anew, what the
// policy does not allow: the kernel is asked for exactly the address that was checked,
// so that a name which resolves differently from one moment to the next wins nothing.
func (p Policy) dialer(hostport string, resolver *net.Resolver) *net.Dialer {
	private := p.allows(hostport)
	return &net.Dialer{Timeout: dialTimeout, Resolver: resolver, Control: func(network, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil || !strings.HasPrefix(network, "tcp") {
			return fmt.Errorf("%w: %s %s", ErrAddress, network, address)
		}
		return p.checkIP(to.Addr(), private)
	}}
}
