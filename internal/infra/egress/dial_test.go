package egress_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fusionspim/steward/internal/infra/egress"
)

func TestAddresses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"1.1.1.1": true, "9.255.255.255": true, "11.0.0.0": true, "93.184.215.14": true, "100.63.255.255": true, "100.128.0.0": true,
		"172.15.255.255": true, "172.32.0.0": true, "191.255.255.255": true, "192.0.1.0": true, "198.17.255.255": true, "198.20.0.0": true, "223.255.255.255": true,
		"2606:4700:4700::1111": true, "2a00:1450:4001:831::200e": true, "2001:200::1": true, "3ffe::1": true, "::ffff:1.1.1.1": true,

		"0.0.0.0": false, "0.1.2.3": false, "10.0.0.1": false, "10.255.255.255": false, "100.64.0.1": false, "100.127.255.255": false,
		"127.0.0.1": false, "127.255.255.255": false, "169.254.169.254": false, "172.16.0.1": false, "172.31.255.255": false,
		"192.0.0.1": false, "192.0.0.170": false, "192.0.2.1": false, "192.31.196.1": false, "192.52.193.1": false, "192.88.99.1": false,
		"192.168.1.1": false, "192.175.48.1": false, "198.18.0.1": false, "198.19.255.255": false, "198.51.100.1": false, "203.0.113.1": false,
		"224.0.0.1": false, "239.255.255.255": false, "240.0.0.1": false, "255.255.255.255": false,

		"::": false, "::1": false, "::7f00:1": false, "::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false, "::ffff:0:127.0.0.1": false,
		"64:ff9b::7f00:1": false, "64:ff9b::101:101": false, "64:ff9b:1::1": false, "100::1": false, "100:0:0:1::1": false,
		"2001::1": false, "2001:0:53aa:64c:0:5efe:7f00:1": false, "2001:2::1": false, "2001:10::1": false, "2001:20::1": false, "2001:1ff:ffff::1": false,
		"2001:db8::1": false, "2002:7f00:1::": false, "2002:101:101::1": false, "2620:4f:8000::1": false, "3fff::1": false, "3fff:fff::1": false,
		"4000::1": false, "5f00::1": false, "fc00::1": false, "fd12:3456::1": false, "fe80::1": false, "fe80::1%eth0": false, "fec0::1": false,
		"ff02::1": false, "2a00:1450::1%eth0": false,
	} {
		if got := egress.Public(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: public is %v", text, got)
		}
	}
	if egress.Public(netip.Addr{}) {
		t.Error("no address at all is public")
	}
}

func TestPolicies(t *testing.T) {
	t.Parallel()
	policy, err := egress.ParsePolicy([]string{"10.20.0.0/16", " fd00:1::/32"})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		"10.20.1.1": true, "::ffff:10.20.1.1": true, "fd00:1::7": true, "1.1.1.1": true, "10.21.0.1": false, "127.0.0.1": false, "fd00:2::1": false, "fd00:1::7%eth0": false,
	} {
		if got := policy.May(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: may be dialled is %v", text, got)
		}
	}
	for _, wrong := range []string{"", "10.0.0.1", "10.0.0.1/8", "0.0.0.0/0", "::/0", "::ffff:10.0.0.0/104", "localhost", "10.0.0.0/33"} {
		if _, err := egress.ParsePolicy([]string{wrong}); err == nil {
			t.Errorf("%q was taken for a network", wrong)
		}
	}
	for host, want := range map[string]bool{"localhost": true, "LocalHost": true, "127.0.0.1": true, "::1": true, "::ffff:127.0.0.1": true, "10.20.1.1": false, "example.com": false, "1.1.1.1": false} {
		if got := egress.Loopback().PlainTo(host); got != want {
			t.Errorf("%s: may be called without TLS is %v", host, got)
		}
		if policy.PlainTo(host) {
			t.Errorf("%s may be called without TLS where the machine itself is not allowed", host)
		}
	}
}

// post calls with a client and returns the status, or why there was none.
func post(t *testing.T, client *egress.Client, address string) (int, egress.Reason, error) {
	t.Helper()
	target, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.Post(t.Context(), target, http.Header{"Content-Type": {"application/json"}}, []byte(`{}`), 1000)
	if err != nil {
		return 0, egress.ReasonOf(err), err
	}
	return answer.Status, "", nil
}

// Whatever the spelling of an address, and whatever a name resolves to: it is the address that
// counts.
func TestTheAddressIsLookedAtWhenDialled(t *testing.T) {
	t.Parallel()
	var reached atomic.Int32
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	guarded := egress.NewClient(egress.Policy{}, nil)
	t.Cleanup(guarded.Close)
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "[::1]", "0.0.0.0", "[::]"} {
		_, reason, err := post(t, guarded, "https://"+host+":"+port+"/secret-path")
		if reason != egress.AddressRefused || !errors.Is(err, egress.ErrRefused) {
			t.Errorf("%s: %v", host, err)
		}
		if err != nil && (strings.Contains(err.Error(), port) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("the error tells the address: %v", err)
		}
	}
	// Without TLS not even with the machine itself allowed, unless it is the machine itself.
	if _, reason, _ := post(t, egress.NewClient(egress.Loopback(), nil), "http://example.com/"); reason == "" {
		t.Error("a call without TLS left the machine")
	}
	if reached.Load() != 0 {
		t.Error("the server was reached")
	}
}

// trusting is the client for a server with a certificate of httptest's.
func trusting(server *httptest.Server) *egress.Client {
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return egress.NewClient(egress.Loopback(), &tls.Config{RootCAs: roots}) //nolint:gosec // only its roots are taken
}

func TestNoProxyNoRedirectNoLongAnswer(t *testing.T) {
	var reached atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	t.Cleanup(elsewhere.Close)
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"} {
		t.Setenv(name, elsewhere.URL)
	}
	long := strings.Repeat("x", 1<<20)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/redirect":
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		case "/long":
			_, _ = w.Write([]byte(long))
		case "/headers":
			w.Header().Set("X-Long", long)
		case "/drop":
			panic(http.ErrAbortHandler)
		}
	}))
	t.Cleanup(server.Close)
	client := trusting(server)
	t.Cleanup(client.Close)
	for path, want := range map[string]int{"/": 200, "/redirect": 307, "/long": 200} {
		if status, _, err := post(t, client, server.URL+path); status != want {
			t.Errorf("%s: %d %v", path, status, err)
		}
	}
	for path, want := range map[string]egress.Reason{"/headers": egress.BrokenOff, "/drop": egress.BrokenOff} {
		if _, reason, _ := post(t, client, server.URL+path); reason != want {
			t.Errorf("%s: %s, want %s", path, reason, want)
		}
	}
	if reached.Load() != 0 {
		t.Error("a proxy or a redirect was followed")
	}
}

var longAgo = time.Unix(0, 0)

func TestReasons(t *testing.T) {
	t.Parallel()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	client := egress.NewClient(egress.Loopback(), nil)
	t.Cleanup(client.Close)
	for address, want := range map[string]egress.Reason{
		secure.URL: egress.TLSFailed, // a certificate of nobody's
		"https://" + plain.Listener.Addr().String(): egress.TLSFailed,
		"https://" + gone:                         egress.Unreachable,
		"https://no-such-host.invalid/":           egress.NameUnknown,
		"https://10.0.0.1/":                       egress.AddressRefused,
		"ftp://" + plain.Listener.Addr().String(): egress.AddressRefused,
	} {
		if _, reason, err := post(t, client, address); reason != want {
			t.Errorf("%s: %s (%v), want %s", address, reason, err, want)
		}
	}
	if status, _, err := post(t, client, plain.URL); status != http.StatusNotFound {
		t.Errorf("the machine itself without TLS: %d %v", status, err)
	}
	ended, cancel := context.WithDeadline(t.Context(), longAgo)
	defer cancel()
	target, _ := url.Parse(plain.URL)
	if _, err := client.Post(ended, target, http.Header{}, nil, 0); egress.ReasonOf(err) != egress.TimedOut {
		t.Errorf("past its time: %v", err)
	}
}
