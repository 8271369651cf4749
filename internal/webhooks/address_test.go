// Requests forged by way of this server (SSRF): every way to an address inside that we
// know of is refused, as text where it can be, and when dialling in any case.

package webhooks

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func TestAddressesThatAreRefusedAsText(t *testing.T) {
	t.Parallel()
	var public Policy
	for address, why := range map[string]string{
		"":                                      "must be a URL",
		"hooks":                                 "must be a URL",
		"https:example.com":                     "must be a URL",
		"https://":                              "must be a URL",
		"https://:443/":                         "must be a URL",
		"http://example.com/":                   "https://",
		"ftp://example.com/":                    "https://",
		"file:///etc/passwd":                    "must be a URL",
		"gopher://example.com:70/":              "https://",
		"https://user@example.com":              "name or password",
		"https://user:pass@example.com/":        "name or password",
		"https://example.com@127.0.0.1/":        "name or password",
		"https://example.com/#part":             "behind #",
		"https://example.com:22/":               "port 22",
		"https://example.com:25/":               "port 25",
		"https://example.com:80/":               "port 80",
		"https://example.com:0/":                "port 0",
		"https://example.com:99999/":            "port 99999",
		"https://exämple.com/":                  "ASCII",
		"https://127.0.0.1/":                    "not a public address",
		"https://127.1/":                        "no IPv4 address in its usual form",
		"https://127.0.1/":                      "no IPv4 address in its usual form",
		"https://2130706433/":                   "no IPv4 address in its usual form",
		"https://0x7f000001/":                   "no IPv4 address in its usual form",
		"https://0x7f.0.0.1/":                   "no IPv4 address in its usual form",
		"https://0177.0.0.1/":                   "no IPv4 address in its usual form",
		"https://017700000001/":                 "no IPv4 address in its usual form",
		"https://127.0.0.1./":                   "no IPv4 address in its usual form",
		"https://0/":                            "no IPv4 address in its usual form",
		"https://0.0.0.0/":                      "nowhere",
		"https://10.1.2.3/":                     "not a public address",
		"https://172.16.0.1/":                   "not a public address",
		"https://172.31.255.255/":               "not a public address",
		"https://192.168.1.1:8443/":             "not a public address",
		"https://100.64.0.1/":                   "not a public address",
		"https://169.254.169.254/latest/":       "nowhere",
		"https://168.63.129.16/":                "nowhere",
		"https://100.100.100.200/":              "nowhere",
		"https://192.0.0.192/":                  "nowhere",
		"https://224.0.0.1/":                    "nowhere",
		"https://255.255.255.255/":              "nowhere",
		"https://[::1]/":                        "not a public address",
		"https://[::]/":                         "nowhere",
		"https://[::ffff:127.0.0.1]/":           "not a public address",
		"https://[::ffff:7f00:1]/":              "not a public address",
		"https://[::ffff:a9fe:a9fe]/":           "nowhere",
		"https://[::127.0.0.1]/":                "not a public address",
		"https://[64:ff9b::7f00:1]/":            "not a public address",
		"https://[64:ff9b::a9fe:a9fe]/":         "nowhere",
		"https://[64:ff9b:1::1]/":               "not a public address",
		"https://[2002:7f00:1::]/":              "not a public address",
		"https://[2001:0:7f00:1::1]/":           "not a public address",
		"https://[fc00::1]/":                    "not a public address",
		"https://[fd00:ec2::254]/":              "nowhere",
		"https://[fe80::1]/":                    "nowhere",
		"https://[fe80::1%25eth0]/":             "nowhere",
		"https://[2606:4700::1111%25eth0]/":     "nowhere",
		"https://[ff02::1]/":                    "nowhere",
		"https://[fec0::1]/":                    "not a public address",
		"https://localhost/":                    "a name inside",
		"https://LOCALHOST./":                   "a name inside",
		"https://app.localhost/":                "a name inside",
		"https://nas.local/":                    "a name inside",
		"https://metadata.google.internal/":     "a name inside",
		"https://postgres/":                     "a name inside",
		"https://example.com/\r\nX-Injected: 1": "must be a URL",
	} {
		if _, err := public.Check(address); !errors.Is(err, ErrAddress) || !strings.Contains(err.Error(), why) {
			t.Errorf("Check(%q) = %v, want a sentence with %q", address, err, why)
		}
	}
	for _, address := range []string{"https://example.com", "https://hooks.example.com:8443/a?b=c", "https://8.8.8.8/", "https://[2606:4700::1111]:443/", "https://xn--exmple-cua.com/"} {
		if _, err := public.Check(address); err != nil {
			t.Errorf("Check(%q) = %v", address, err)
		}
	}
}

func TestHostsThatAnOperatorAllows(t *testing.T) {
	t.Parallel()
	p := Policy{Private: []string{"nas.local", "192.168.1.7", "[fd12::5]", "box:8123"}}
	for _, address := range []string{"http://nas.local/hook", "https://NAS.local:80/", "http://192.168.1.7:8123/", "http://[fd12::5]/", "http://box:8123/"} {
		if _, err := p.Check(address); err != nil {
			t.Errorf("Check(%q) = %v", address, err)
		}
	}
	for _, address := range []string{"http://nas.local.example.com/", "http://192.168.1.8/", "http://box/", "http://box:80/", "http://other.local/", "http://user@nas.local/"} {
		if _, err := p.Check(address); !errors.Is(err, ErrAddress) {
			t.Errorf("Check(%q) = %v, want ErrAddress", address, err)
		}
	}
	// What an allowed name resolves to may be private, but not where clouds keep their secrets.
	for ip, good := range map[string]bool{"192.168.1.7": true, "127.0.0.1": true, "fd12::5": true, "93.184.216.34": true,
		"169.254.169.254": false, "::ffff:169.254.169.254": false, "fd00:ec2::254": false, "0.0.0.0": false, "224.0.0.1": false, "fe80::1": false} {
		control := p.dialer("nas.local:80", nil).Control
		if err := control("tcp", net.JoinHostPort(ip, "80"), nil); (err == nil) != good {
			t.Errorf("nas.local at %s: %v", ip, err)
		}
	}
}

// Every address that is not for everybody is refused when dialling, in each form that
// can hold it.
func TestNoFormOfAnAddressInsideIsDialled(t *testing.T) {
	t.Parallel()
	control := (Policy{}).dialer("example.com:443", nil).Control
	inside := []string{"127.0.0.1", "127.255.255.254", "10.0.0.1", "172.20.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "198.18.0.1",
		"192.0.2.1", "203.0.113.9", "224.0.0.251", "240.0.0.1", "255.255.255.255", "168.63.129.16", "100.100.100.200"}
	for _, v4 := range inside {
		b := netip.MustParseAddr(v4).As4()
		forms := []netip.Addr{netip.AddrFrom4(b), netip.AddrFrom16([16]byte{10: 0xff, 11: 0xff, 12: b[0], 13: b[1], 14: b[2], 15: b[3]}),
			netip.AddrFrom16([16]byte{12: b[0], 13: b[1], 14: b[2], 15: b[3]}), netip.AddrFrom16([16]byte{0, 0x64, 0xff, 0x9b, 12: b[0], 13: b[1], 14: b[2], 15: b[3]}),
			netip.AddrFrom16([16]byte{0x20, 0x02, b[0], b[1], b[2], b[3], 15: 1}), netip.AddrFrom16([16]byte{0, 0x64, 0xff, 0x9b, 0, 1, 12: b[0], 13: b[1], 14: b[2], 15: b[3]})}
		for _, ip := range forms {
			if err := control("tcp", netip.AddrPortFrom(ip, 443).String(), nil); !errors.Is(err, ErrAddress) {
				t.Errorf("%s (%s) is dialled: %v", ip, v4, err)
			}
		}
	}
	for _, ip := range []string{"::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "fec0::1", "2001:db8::1", "2001::1", "100::1", "5f00::1"} {
		if err := control("tcp", net.JoinHostPort(ip, "443"), nil); !errors.Is(err, ErrAddress) {
			t.Errorf("%s is dialled: %v", ip, err)
		}
	}
	for _, ip := range []string{"93.184.216.34", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"} {
		if err := control("tcp", net.JoinHostPort(ip, "443"), nil); err != nil {
			t.Errorf("%s is refused: %v", ip, err)
		}
	}
	if control("udp", "8.8.8.8:443", nil) == nil || control("tcp", "example.com:443", nil) == nil {
		t.Error("what is no TCP address is dialled")
	}
}

// nameServer answers each question with the next list of addresses, and the last one for ever.
type nameServer struct {
	conn net.PacketConn

	mu      sync.Mutex
	answers [][]string
}

func names(t *testing.T, answers ...[]string) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	s := &nameServer{conn: conn, answers: answers}
	go s.serve()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func (s *nameServer) serve() {
	buf := make([]byte, 1500)
	for {
		n, from, err := s.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if answer := s.answer(buf[:n]); answer != nil {
			_, _ = s.conn.WriteTo(answer, from)
		}
	}
}

// answer is a reply of RFC 1035. Of the two questions that a lookup asks, the one for
// IPv4 moves on to the next list.
func (s *nameServer) answer(q []byte) []byte {
	end := 12
	for end < len(q) && q[end] != 0 {
		end += int(q[end]) + 1
	}
	end += 5
	if end > len(q) {
		return nil
	}
	kind := binary.BigEndian.Uint16(q[end-4:])
	s.mu.Lock()
	list := s.answers[0]
	if kind == 1 && len(s.answers) > 1 {
		s.answers = s.answers[1:]
	}
	s.mu.Unlock()
	out := append([]byte{q[0], q[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, q[12:end]...)
	n := uint16(0)
	for _, text := range list {
		ip := netip.MustParseAddr(text)
		raw := ip.AsSlice()
		if (kind == 1) != (len(raw) == 4) || kind != 1 && kind != 28 {
			continue
		}
		n++
		out = append(out, 0xc0, 12)
		out = binary.BigEndian.AppendUint16(out, kind)
		out = append(out, 0, 1, 0, 0, 0, 0, 0, byte(len(raw)))
		out = append(out, raw...)
	}
	binary.BigEndian.PutUint16(out[6:], n)
	return out
}

var errNoNetwork = errors.New("the address was allowed; the test has no network")

// A name that is public when it is looked at and private when it is dialled (DNS
// rebinding) wins nothing, because there is no look before the one when dialling.
func TestRebindingIsRefused(t *testing.T) {
	t.Parallel()
	for inside, want := range map[string]error{"127.0.0.1": ErrAddress, "169.254.169.254": ErrAddress, "10.0.0.5": ErrAddress, "8.8.8.8": errNoNetwork} {
		d := (Policy{}).dialer("rebind.example.com:443", names(t, []string{"93.184.216.34"}, []string{inside}))
		guard := d.Control
		var dialled []string
		d.Control = func(network, address string, c syscall.RawConn) error {
			dialled = append(dialled, address)
			if err := guard(network, address, c); err != nil {
				return err
			}
			return errNoNetwork
		}
		for i, want := range []error{errNoNetwork, want} {
			if _, err := d.DialContext(t.Context(), "tcp", "rebind.example.com:443"); !errors.Is(err, want) {
				t.Errorf("dialling %d of %s: %v, want %v", i+1, inside, err, want)
			}
		}
		if want := "93.184.216.34:443 " + inside + ":443"; strings.Join(dialled, " ") != want {
			t.Errorf("dialled %v, want %s", dialled, want)
		}
	}
}
