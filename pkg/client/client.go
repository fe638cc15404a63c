package client

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"github.com/fusionspim/steward/pkg/client/api"
)

// Client calls one service with one credential. Make one with [New] and keep it: it is safe for
// concurrent use and reuses connections.
type Client struct {
	raw     *api.Client
	session *session // nil without WithSession
}

// Option is a setting of a client.
type Option func(*settings) error

type settings struct {
	http      *http.Client
	userAgent string
	apiKey    string
	signIn    *api.SignIn
	retries   Retries
}

// WithAPIKey calls with an API key, which looks like "stw_...".
func WithAPIKey(key string) Option {
	return func(s *settings) error {
		if key == "" || strings.ContainsFunc(key, func(char rune) bool { return char <= ' ' || char > '~' }) {
			return errors.New("steward: the API key is empty or holds characters that no key has")
		}
		s.apiKey = key
		return nil
	}
}

// Login is what a person signs in with. Printing one shows no password.
type Login struct {
	Customer string // the slug of the customer; that of operators is "fusions"
	Email    string
	Password string
}

// String implements fmt.Stringer, without the address and the password.
func (l Login) String() string { return "login of " + l.Customer }

// GoString implements fmt.GoStringer, as String does.
func (l Login) GoString() string { return l.String() }

// WithSession calls as a person: an administrator or user of a customer.
//
// Nothing is sent before the first request needs a token, so a wrong login fails there, with the
// problem [ProblemInvalidCredentials].
func WithSession(login Login) Option {
	return func(s *settings) error {
		if login.Customer == "" || login.Email == "" || login.Password == "" {
			return errors.New("steward: a session needs a customer, an e-mail address and a password")
		}
		s.signIn = &api.SignIn{Customer: login.Customer, Email: login.Email, Password: login.Password}
		return nil
	}
}

// WithHTTPClient sends requests with the given client, for proxies, certificates, tracing and the
// like. Its Timeout, if any, is for one try.
//
// The default is a client of its own that gives up a try after a minute and follows no redirects.
func WithHTTPClient(client *http.Client) Option {
	return func(s *settings) error {
		if client == nil {
			return errors.New("steward: no HTTP client was given")
		}
		s.http = client
		return nil
	}
}

// WithUserAgent names the calling program to the service, such as "acme-sync/2.1". It stands before
// the name of this SDK.
func WithUserAgent(name string) Option {
	return func(s *settings) error {
		if strings.ContainsFunc(name, func(char rune) bool { return char < ' ' || char > '~' }) {
			return errors.New("steward: the user agent holds characters that a header cannot have")
		}
		s.userAgent = strings.TrimSpace(name + " " + s.userAgent)
		return nil
	}
}

// WithRetries says how often and how patiently a request is tried again. The default is
// [DefaultRetries].
func WithRetries(retries Retries) Option {
	return func(s *settings) error {
		if retries.Attempts < 1 || retries.FirstWait <= 0 || retries.LongestWait < retries.FirstWait {
			return errors.New("steward: retries take at least one attempt, and waits above zero of which the longest is not below the first")
		}
		s.retries = retries
		return nil
	}
}

// New makes a client of the service at a base URL, such as "https://steward.example". It sends
// nothing yet.
func New(baseURL string, options ...Option) (*Client, error) {
	base, err := url.Parse(baseURL)
	if err != nil || (base.Scheme != "http" && base.Scheme != "https") || base.Host == "" || base.User != nil || base.RawQuery != "" || base.Fragment != "" {
		return nil, errors.New("steward: the base URL is not one of the form https://host[:port][/path]")
	}
	base.Path = strings.TrimSuffix(base.Path, "/") + "/"

	chosen := settings{userAgent: "steward-go/" + sdkVersion(), retries: DefaultRetries()}
	for _, option := range options {
		if err := option(&chosen); err != nil {
			return nil, err
		}
	}
	if chosen.apiKey != "" && chosen.signIn != nil {
		return nil, errors.New("steward: a client has an API key or a session, not both")
	}
	if chosen.http == nil {
		chosen.http = defaultHTTPClient()
	}

	sender := &transport{http: chosen.http, base: base.Path, userAgent: chosen.userAgent, retries: chosen.retries}
	client := &Client{}
	switch {
	case chosen.apiKey != "":
		sender.credential = apiKey(hide(chosen.apiKey))
	case chosen.signIn != nil:
		unauthenticated := *sender
		client.session = &session{raw: &api.Client{Server: base.String(), Client: &unauthenticated}, signIn: hide(*chosen.signIn)}
		sender.credential = client.session
	}
	client.raw = &api.Client{Server: base.String(), Client: sender}
	return client, nil
}

// Raw has every operation of the contract, with this client's credential and retries. Use it for
// what has no method here.
func (c *Client) Raw() *api.Client { return c.raw }

// String names the service, and no secret.
func (c *Client) String() string { return fmt.Sprintf("steward client of %s", c.raw.Server) }

func defaultHTTPClient() *http.Client {
	client := &http.Client{
		Timeout: time.Minute,
		// The service redirects nothing. Following somebody else's redirect would turn a POST into
		// a GET.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if standard, ok := http.DefaultTransport.(*http.Transport); ok {
		pool := standard.Clone()
		pool.MaxIdleConnsPerHost = 64 // one host is all there is
		client.Transport = pool
	}
	return client
}

// sdkVersion is the version of the module that this package came with.
func sdkVersion() string {
	const module = "github.com/fusionspim/steward/pkg/client"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dependency := range info.Deps {
			if dependency.Path == module {
				return dependency.Version
			}
		}
	}
	return "devel"
}

// CallOption is a setting of one call.
type CallOption func(*call)

type call struct {
	ifMatch        *string
	idempotencyKey *string
	etag           *string
}

// IfMatch makes a change only if the resource still is the version with this ETag; otherwise the
// call fails with the problem [ProblemPreconditionFailed] and changes nothing. It counts where the
// contract knows If-Match: UpdateUser, DeleteUser, RedactUser, SetUserAlerts, SetMyAlerts,
// UpdateCustomer.
func IfMatch(etag string) CallOption { return func(c *call) { c.ifMatch = &etag } }

// StoreETag stores the ETag of the resource that the call returns, for [IfMatch]. A call that fails
// stores nothing; one whose resource has no ETag stores "".
func StoreETag(into *string) CallOption { return func(c *call) { c.etag = into } }

// IdempotencyKey gives a POST a key of the caller's own: 1 to 255 visible ASCII characters. Within
// 24 hours, another call with the same key and content answers what the first answered, also from
// another process, so a job that died can simply be run again. Without it the client makes a key
// for each call.
//
// It counts where the contract knows Idempotency-Key: CreateUser, RedactUser, CreateAPIKey,
// ImportUsers.
func IdempotencyKey(key string) CallOption { return func(c *call) { c.idempotencyKey = &key } }

func gather(options []CallOption) *call {
	gathered := &call{}
	for _, option := range options {
		option(gathered)
	}
	return gathered
}
