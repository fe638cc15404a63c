// Package egress makes HTTP clients that call addresses which somebody outside chose.
//
// Owns: which addresses may be dialled, and the bounds of a call: time, redirects, length of the
// answer.
// Does not own: what is called and why (the features), and what comes of an answer.
//
// The address is looked at when it is dialled, after the name was resolved: what a name resolves to
// may change between a check and the call, and a literal has many spellings. Whatever is not
// plainly a public address is refused, by the special-purpose registries of IANA for IPv4 and IPv6
// (RFC 6890 and what was registered since), unless the settings allow its network.
package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Bounds of one call.
const (
	Timeout        = 10 * time.Second // of a call from its beginning to the end of the answer
	connectTimeout = 5 * time.Second
	tlsTimeout     = 5 * time.Second
	idleTimeout    = 30 * time.Second // after which a name is resolved anew at the latest
	headerBytes    = 16 << 10
	idlePerHost    = 64
	idleAltogether = 512
)

// ErrRefused is returned for an address that may not be dialled. It does not say which one.
var ErrRefused = errors.New("dial: the address is not a public one")

// The networks of the public Internet are those that are left when these are taken away. For IPv6
// only 2000::/3 is given out at all.
var (
	special4 = prefixes(
		"0.0.0.0/8",       // this network
		"10.0.0.0/8",      // private
		"100.64.0.0/10",   // shared by carriers
		"127.0.0.0/8",     // loopback
		"169.254.0.0/16",  // link-local, where clouds keep their metadata
		"172.16.0.0/12",   // private
		"192.0.0.0/24",    // protocol assignments
		"192.0.2.0/24",    // documentation
		"192.31.196.0/24", // AS112
		"192.52.193.0/24", // multicast tunnels
		"192.88.99.0/24",  // relays of 6to4
		"192.168.0.0/16",  // private
		"192.175.48.0/24", // AS112
		"198.18.0.0/15",   // benchmarks
		"198.51.100.0/24", // documentation
		"203.0.113.0/24",  // documentation
		"224.0.0.0/4",     // multicast
		"240.0.0.0/4",     // reserved, broadcast among them
	)
	global6  = netip.MustParsePrefix("2000::/3")
	special6 = prefixes(
		"2001::/23",         // protocol assignments: Teredo, benchmarks, ORCHID
		"2001:db8::/32",     // documentation
		"2002::/16",         // 6to4, which carries an address of IPv4
		"2620:4f:8000::/48", // AS112
		"3fff::/20",         // documentation
	)
	loopback = prefixes("127.0.0.0/8", "::1/128")
)

func prefixes(texts ...string) []netip.Prefix {
	made := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		made[i] = netip.MustParsePrefix(text)
	}
	return made
}

// Public tells whether an address is one of the public Internet.
func Public(address netip.Addr) bool {
	address = address.Unmap()
	switch {
	case !address.IsValid(), address.Zone() != "":
		return false
	case address.Is4():
		return !in(special4, address)
	default:
		return global6.Contains(address) && !in(special6, address)
	}
}

func in(networks []netip.Prefix, address netip.Addr) bool {
	return slices.ContainsFunc(networks, func(network netip.Prefix) bool { return network.Contains(address) })
}

// Policy says what may be dialled besides the public Internet. The zero value: nothing.
type Policy struct{ Allowed []netip.Prefix }

// ParsePolicy reads networks in CIDR notation, such as 10.20.0.0/16.
func ParsePolicy(texts []string) (Policy, error) {
	var policy Policy
	for _, text := range texts {
		network, err := netip.ParsePrefix(strings.TrimSpace(text))
		switch {
		case err != nil:
			return Policy{}, fmt.Errorf("%q is not a network in CIDR notation, such as 10.20.0.0/16", text)
		case network != network.Masked():
			return Policy{}, fmt.Errorf("%s has bits behind its prefix; the network is %s", network, network.Masked())
		case network.Addr().Is4In6():
			return Policy{}, fmt.Errorf("%s is a network of IPv4 written as one of IPv6", network)
		case network.Bits() == 0:
			return Policy{}, fmt.Errorf("%s would let customers reach every address that there is", network)
		}
		policy.Allowed = append(policy.Allowed, network)
	}
	return policy, nil
}

// Loopback allows the machine itself, for development.
func Loopback() Policy { return Policy{Allowed: loopback} }

// May tells whether the address may be dialled.
func (p Policy) May(address netip.Addr) bool {
	address = address.Unmap()
	return Public(address) || address.Zone() == "" && in(p.Allowed, address)
}

// PlainTo tells whether a host may be called without TLS: the machine itself, where the settings
// allow that. Everything else is on the way.
func (p Policy) PlainTo(host string) bool {
	if address, err := netip.ParseAddr(host); err == nil {
		address = address.Unmap()
		return in(loopback, address) && p.May(address)
	}
	return strings.EqualFold(host, "localhost") &&
		slices.ContainsFunc(loopback, func(network netip.Prefix) bool { return p.May(network.Addr()) })
}

// control is asked by the dialer for each address that it is about to connect to.
func (p Policy) control(network, address string, _ syscall.RawConn) error {
	target, err := netip.ParseAddrPort(address)
	if err != nil || !strings.HasPrefix(network, "tcp") || !p.May(target.Addr()) {
		return ErrRefused
	}
	return nil
}

// controlPlain is control for calls without TLS.
func (p Policy) controlPlain(network, address string, connection syscall.RawConn) error {
	target, err := netip.ParseAddrPort(address)
	if err != nil || !in(loopback, target.Addr().Unmap()) {
		return ErrRefused
	}
	return p.control(network, address, connection)
}

// Client calls. Safe for concurrent use.
type Client struct {
	policy Policy
	tls    *http.Client
	plain  *http.Client // for the machine itself
}

// NewClient makes a client. It follows no redirect, asks no proxy, and trusts the certificate
// authorities of the machine, or those given.
func NewClient(policy Policy, roots *tls.Config) *Client {
	secure := &tls.Config{MinVersion: tls.VersionTLS12}
	if roots != nil {
		secure.RootCAs = roots.RootCAs
	}
	made := func(control func(string, string, syscall.RawConn) error) *http.Client {
		dialer := &net.Dialer{Timeout: connectTimeout, Control: control, KeepAlive: 15 * time.Second}
		return &http.Client{
			Timeout:       Timeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{
				Proxy:                  nil,
				DialContext:            dialer.DialContext,
				TLSClientConfig:        secure,
				TLSHandshakeTimeout:    tlsTimeout,
				ResponseHeaderTimeout:  Timeout,
				ForceAttemptHTTP2:      true,
				MaxIdleConns:           idleAltogether,
				MaxIdleConnsPerHost:    idlePerHost,
				IdleConnTimeout:        idleTimeout,
				MaxResponseHeaderBytes: headerBytes,
				DisableCompression:     true,
			},
		}
	}
	return &Client{policy: policy, tls: made(policy.control), plain: made(policy.controlPlain)}
}

// Close ends the connections that are kept for the next call.
func (c *Client) Close() {
	c.tls.CloseIdleConnections()
	c.plain.CloseIdleConnections()
}

// Answer is what came back, without its body.
type Answer struct {
	Status int
	Header http.Header
}

// Post sends a body and returns the answer once it is there; its body is read to the limit, so that
// the connection can be used again, and thrown away. What went wrong is told by Reason; no error
// holds the address.
func (c *Client) Post(
	ctx context.Context,
	target *url.URL,
	header http.Header,
	body []byte,
	limit int64,
) (Answer, error) {
	client := c.tls
	switch {
	case target.Scheme == "http" && c.policy.PlainTo(target.Hostname()):
		client = c.plain
	case target.Scheme != "https":
		return Answer{}, ErrRefused
	}
	// The request is made by hand, for NewRequest would parse the text of the address again.
	request := (&http.Request{
		Method: http.MethodPost, URL: target, Host: target.Host, Header: header, ContentLength: int64(len(body)),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body:    io.NopCloser(strings.NewReader(string(body))),
		GetBody: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(string(body))), nil },
	}).WithContext(ctx)
	response, err := client.Do(request)
	if err != nil {
		return Answer{}, &callError{reasonOf(err), errors.Is(err, ErrRefused)}
	}
	defer response.Body.Close() //nolint:errcheck // thrown away
	_, _ = io.CopyN(io.Discard, response.Body, limit)
	return Answer{Status: response.StatusCode, Header: response.Header}, nil
}

// Reason is why there was no answer. The set is closed.
type Reason string

// The reasons.
const (
	AddressRefused Reason = "address_refused"
	NameUnknown    Reason = "name_unknown"
	TimedOut       Reason = "timed_out"
	TLSFailed      Reason = "tls_failed"
	Unreachable    Reason = "unreachable"
	BrokenOff      Reason = "broken_off"
)

// callError says why without saying where to: the library's errors repeat the address, and it may
// hold a secret of the customer's.
type callError struct {
	reason  Reason
	refused bool
}

func (e *callError) Error() string { return "dial: " + string(e.reason) }

// Is implements the protocol of errors.Is.
func (e *callError) Is(target error) bool { return e.refused && target == ErrRefused }

// ReasonOf says why a call had no answer.
func ReasonOf(err error) Reason {
	var known *callError
	if errors.As(err, &known) {
		return known.reason
	}
	return reasonOf(err)
}

func reasonOf(err error) Reason {
	var name *net.DNSError
	var certificate *tls.CertificateVerificationError
	var alert tls.AlertError
	var record tls.RecordHeaderError
	var slow net.Error
	var dialling *net.OpError
	switch {
	case errors.Is(err, ErrRefused):
		return AddressRefused
	case errors.As(err, &name) && !name.IsTimeout:
		return NameUnknown
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &slow) && slow.Timeout():
		return TimedOut
	case errors.As(err, &certificate),
		errors.As(err, &alert),
		errors.As(err, &record),
		errors.Is(err, http.ErrSchemeMismatch):
		return TLSFailed
	case errors.As(err, &dialling) && dialling.Op == "dial":
		return Unreachable
	}
	return BrokenOff
}
