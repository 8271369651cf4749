// One attempt: a signed POST, and what its answer means.

package webhooks

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	attemptTimeout = 15 * time.Second
	maxAnswer      = 64 << 10 // bytes of an answer that are read, so that its connection can be used again
	maxHeaders     = 16 << 10
	userAgent      = "MySpinBot-Webhooks/1 (+https://www.standardwebhooks.com)"
)

// Classes of what goes wrong with an attempt, for the column error_class.
const (
	ClassAddress  = "address_refused"
	ClassTimeout  = "timeout"
	ClassUnreach  = "unreachable"
	ClassRedirect = "redirect"
	ClassStatus   = "status"
	ClassGone     = "gone"
	ClassErased   = "content_erased" // the address and the secret went with the job's content
	ClassUnusable = "unusable"       // the job or its webhook cannot be read
)

// answer is what came of one attempt.
type answer struct {
	status  int // 0: none came
	took    time.Duration
	class   string // "": it was taken
	message string // what went wrong, in our words alone
	wish    time.Duration
}

// client sends messages. It follows no redirect, uses no proxy, and speaks to no
// address that its policy does not allow.
type client struct {
	policy Policy
	http   *http.Client
	now    func() time.Time
}

// trust and resolver are the system's when nil.
func newClient(policy Policy, trust *x509.CertPool, resolver *net.Resolver, now func() time.Time) *client {
	transport := &http.Transport{
		Proxy: nil, // a proxy would do the dialling
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return policy.dialer(address, resolver).DialContext(ctx, network, address)
		},
		TLSClientConfig:        &tls.Config{RootCAs: trust, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    dialTimeout,
		MaxResponseHeaderBytes: maxHeaders,
		MaxIdleConnsPerHost:    perEndpoint,
		MaxIdleConns:           256,
		IdleConnTimeout:        30 * time.Second,
		DisableCompression:     true, // nothing is to be unpacked here
		ForceAttemptHTTP2:      true,
	}
	return &client{policy: policy, now: now, http: &http.Client{
		Transport: transport, Timeout: attemptTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// post sends one message, signed for now with every secret.
func (c *client) post(ctx context.Context, address string, secrets []string, id string, body []byte) answer {
	began := c.now()
	a := c.attempt(ctx, address, secrets, id, body, began)
	a.took = c.now().Sub(began)
	return a
}

func (c *client) attempt(ctx context.Context, address string, secrets []string, id string, body []byte, now time.Time) answer {
	u, err := c.policy.Check(address) // a policy may have changed since the job was submitted
	if err != nil {
		return answer{class: ClassAddress, message: err.Error()}
	}
	signature, err := signatures(secrets, id, now, body)
	if err != nil {
		return answer{class: ClassUnusable, message: err.Error()}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return answer{class: ClassUnusable, message: "the request cannot be made"}
	}
	for name, value := range map[string]string{"Content-Type": "application/json", "User-Agent": userAgent, HeaderID: id,
		HeaderTimestamp: strconv.FormatInt(now.Unix(), 10), HeaderSignature: signature} {
		req.Header.Set(name, value)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return failure(err)
	}
	defer resp.Body.Close()
	// More than that is nobody's answer: the connection is given up with it.
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer)
	return c.judge(resp)
}

// judge says what a status means.
func (c *client) judge(resp *http.Response) answer {
	a := answer{status: resp.StatusCode, wish: retryAfter(resp.Header, c.now())}
	switch {
	case a.status >= 200 && a.status < 300:
		a.wish = 0
	case a.status == http.StatusGone:
		a.class, a.message = ClassGone, "the receiver answered 410: it wants nothing more of this job"
	case a.status >= 300 && a.status < 400:
		a.class, a.message = ClassRedirect, fmt.Sprintf("the receiver answered %d, and redirects are not followed; give the address that it leads to", a.status)
	default:
		a.class, a.message = ClassStatus, fmt.Sprintf("the receiver answered %d, not 2xx", a.status)
	}
	return a
}

// failure says why no answer came, without a word that the other side chose.
func failure(err error) answer {
	var outer *url.Error
	var refused *net.OpError
	var unknown *net.DNSError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.Is(err, ErrAddress):
		if errors.As(err, &refused) {
			err = refused.Err
		}
		return answer{class: ClassAddress, message: err.Error()}
	case errors.As(err, &outer) && outer.Timeout():
		return answer{class: ClassTimeout, message: fmt.Sprintf("no answer within %v", attemptTimeout)}
	case errors.As(err, &unknown):
		return answer{class: ClassUnreach, message: "the host's name cannot be resolved"}
	case errors.As(err, &certificate):
		return answer{class: ClassUnreach, message: "the receiver's certificate is not trusted, or not for its name"}
	case errors.As(err, &refused) && refused.Op == "dial":
		return answer{class: ClassUnreach, message: "the host does not take the connection"}
	}
	return answer{class: ClassUnreach, message: "the connection broke, or what came over it was not HTTP"}
}
