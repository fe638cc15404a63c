// Package httpapi is the edge: HTTP on the one side, the features on the other.
//
// Owns: routing, who is calling and whether the caller may, checking requests against the contract,
// problem documents, headers, cursors, and the translation between the contract's types and the
// features'. It alone knows Echo and package api.
// Does not own: any rule about people, customers or the trail. A handler is three thoughts: call
// one method of one feature, fail with what it returned, answer.
//
// A request passes, from the outside in: the request id, the headers that every answer has, the
// log, the guard (authenticate, authorise, check against the contract), the handler. Whatever goes
// wrong on the way rises as an error to one function, renderProblem.
package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fusionspim/steward/api"
	"github.com/fusionspim/steward/internal/account/apikey"
	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/account/operator"
	"github.com/fusionspim/steward/internal/account/passwordlink"
	"github.com/fusionspim/steward/internal/account/secondfactor"
	"github.com/fusionspim/steward/internal/account/session"
	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/account/userimport"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/compliance/offboarding"
	"github.com/fusionspim/steward/internal/compliance/replay"
	"github.com/fusionspim/steward/internal/compliance/subjectrequest"
	"github.com/fusionspim/steward/internal/compliance/trail"
	"github.com/fusionspim/steward/internal/edge/pages"
	"github.com/fusionspim/steward/internal/infra/contract"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/seal"
	"github.com/fusionspim/steward/internal/infra/token"
	"github.com/fusionspim/steward/internal/integration/alert"
	"github.com/fusionspim/steward/internal/integration/webhook"
	"github.com/fusionspim/steward/internal/record/audit"
	"github.com/fusionspim/steward/internal/record/backup"
	"github.com/fusionspim/steward/internal/record/event"
)

// Features are what the API opens up.
type Features struct {
	Customers     *customer.Service
	Users         *user.Service
	Sessions      *session.Service
	APIKeys       *apikey.Service
	Audit         *audit.Service
	Backups       *backup.Service
	Replays       *replay.Runner
	Trail         *trail.Service
	SecondFactors *secondfactor.Service
	Operators     *operator.Service
	Offboardings  *offboarding.Service
	PasswordLinks *passwordlink.Service
	Alerts        *alert.Service
	Imports       *userimport.Service
	Events        *event.Service
	Webhooks      *webhook.Service
	Requests      *subjectrequest.Service
}

// Settings of the API.
type Settings struct {
	// where clients reach the service, such as https://steward.example; decides whether HSTS is
	// sent
	PublicURL string
	// of frontends that browsers may call the API from, such as https://acme.example; none but the
	// own origin if empty
	AllowedOrigins []string
	TrustedProxies []netip.Prefix // whose X-Forwarded-For is believed; empty: nobody's
}

// Server answers the contract. Safe for concurrent use.
type Server struct {
	features   Features
	settings   Settings
	contract   *contract.Contract
	operations map[route]*contract.Operation
	words      map[string]bool // the fixed parts of the contract's paths
	db         *postgres.DB
	box        *seal.Box
	keys       *token.Keyring
	pages      *pages.Pages
	log        *slog.Logger
	metrics    *metrics
	echo       *echo.Echo
	shut       atomic.Pointer[fault.Fault] // why nobody is let in; nil: open
	origins    *http.CrossOriginProtection
}

// route is a method and a path as Echo writes it.
type route struct{ method, path string }

// New makes the API. The registry receives the metrics of requests.
func New(
	features Features,
	settings Settings,
	checked *contract.Contract,
	db *postgres.DB,
	box *seal.Box,
	keys *token.Keyring,
	log *slog.Logger,
	registry prometheus.Registerer,
) (*Server, error) {
	documents, err := newPages(checked, settings.PublicURL)
	if err != nil {
		return nil, err
	}
	measured, err := newMetrics(registry)
	if err != nil {
		return nil, err
	}
	s := &Server{
		features:   features,
		settings:   settings,
		contract:   checked,
		operations: make(map[route]*contract.Operation),
		words:      make(map[string]bool),
		db:         db,
		box:        box,
		keys:       keys,
		pages:      documents,
		log:        log,
		metrics:    measured,
		echo:       echo.New(),
	}
	for _, operation := range checked.Operations() {
		s.operations[route{operation.Method, echoPath(operation.Path)}] = operation
		for word := range strings.SplitSeq(operation.Path, "/") {
			s.words[word] = true
		}
	}
	if s.origins, err = newOrigins(settings); err != nil {
		return nil, err
	}
	s.echo.HideBanner, s.echo.HidePort = true, true
	s.echo.Binder = bodyBinder{}
	s.echo.IPExtractor = extractAddress(settings.TrustedProxies)
	s.echo.HTTPErrorHandler = s.renderProblem
	s.echo.Use(s.observe, s.guard)
	api.RegisterHandlers(s.echo, api.NewStrictHandler(handlers{s}, nil))
	s.servePages()
	return s, nil
}

// Shut lets nobody in until Open, whatever is asked for, but for the question whether the process
// lives. The detail says why.
func (s *Server) Shut(detail string, retryAfter time.Duration) {
	f := fault.New(fault.ReplayingErasures, detail)
	f.RetryAfter = retryAfter
	s.shut.Store(f)
}

// Open lets requests in.
func (s *Server) Open() { s.shut.Store(nil) }

// ServeHTTP implements http.Handler. HEAD is answered like GET; net/http leaves the body away.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead {
		r = r.WithContext(context.WithValue(r.Context(), headKey{}, true))
		r.Method = http.MethodGet
	}
	s.echo.ServeHTTP(w, r)
}

// Operations lists what the contract has, for tests that go through all of it.
func (s *Server) Operations() []*contract.Operation { return s.contract.Operations() }

// echoPath turns /v1/users/{id} into /v1/users/:id.
func echoPath(path string) string {
	return strings.NewReplacer("{", ":", "}", "").Replace(path)
}

// handlers implements the operations of the contract, in one file for each of its tags.
type handlers struct{ *Server }

var _ api.StrictServerInterface = handlers{}

// call is what a handler may know of the request besides its parameters.
type call struct {
	operation *contract.Operation
	request   *http.Request
	writer    http.ResponseWriter
	address   netip.Addr
	requestID string
	byCookie  bool // the credential was the cookie
}

type headKey struct{}

// headAlone tells whether the caller asked for the head of the answer alone: what a GET uses up,
// this does not.
func headAlone(ctx context.Context) bool { return ctx.Value(headKey{}) != nil }

type callKey struct{}

func callOf(ctx context.Context) *call {
	found, _ := ctx.Value(callKey{}).(*call)
	return found
}
