// Package httpapi serves the HTTP API.
//
// Owns: routing, authentication and authorisation of requests, checking them against the contract,
// problem documents, headers, cursors, and the translation between the contract's types and the
// features'. It alone knows Echo and package api.
// Does not own: any rule about users, customers or the trail. A handler calls one method of one
// feature, fails with its error, or answers with its result.
//
// A request passes, from the outside in: request id, default headers, log, guard (authenticate,
// authorise, check against the contract), handler. Every error rises to one function,
// renderProblem.
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
	"github.com/fusionspim/steward/internal/record/receipt"
)

// Features are the services that the API exposes.
type Features struct {
	Customers     *customer.Service
	Users         *user.Service
	Receipts      *receipt.Service
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

// Settings configure the API.
type Settings struct {
	// base URL of the service as clients see it, such as https://steward.example; https sends HSTS
	PublicURL string
	// origins of frontends, such as https://acme.example; empty: the service's own only
	AllowedOrigins []string
	TrustedProxies []netip.Prefix // proxies whose X-Forwarded-For is trusted
}

// Server serves the contract. Safe for concurrent use.
type Server struct {
	features   Features
	settings   Settings
	contract   *contract.Contract
	operations map[route]*contract.Operation
	words      map[string]bool // fixed segments of the contract's paths
	db         *postgres.DB
	box        *seal.Box
	keys       *token.Keyring
	pages      *pages.Pages
	log        *slog.Logger
	metrics    *metrics
	echo       *echo.Echo
	shut       atomic.Pointer[fault.Fault] // why the service is closed; nil: open
	origins    *http.CrossOriginProtection
}

// route is a method and a path in Echo's notation.
type route struct{ method, path string }

// New builds the API. Request metrics are registered with the registry.
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

// Shut closes the service until Open: every operation but liveness answers 503 with the detail.
func (s *Server) Shut(detail string, retryAfter time.Duration) {
	f := fault.New(fault.ReplayingErasures, detail)
	f.RetryAfter = retryAfter
	s.shut.Store(f)
}

// Open admits requests again.
func (s *Server) Open() { s.shut.Store(nil) }

// ServeHTTP implements http.Handler. HEAD is handled as GET; net/http drops the body.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead {
		r = r.WithContext(context.WithValue(r.Context(), headKey{}, true))
		r.Method = http.MethodGet
	}
	s.echo.ServeHTTP(w, r)
}

// Operations returns the contract's operations, for tests that walk all of them.
func (s *Server) Operations() []*contract.Operation { return s.contract.Operations() }

// echoPath converts /v1/users/{id} to /v1/users/:id.
func echoPath(path string) string {
	return strings.NewReplacer("{", ":", "}", "").Replace(path)
}

// handlers implements the contract's operations, one file for each tag.
type handlers struct{ *Server }

var _ api.StrictServerInterface = handlers{}

// call is what a handler may know of a request besides its parameters.
type call struct {
	operation *contract.Operation
	request   *http.Request
	writer    http.ResponseWriter
	address   netip.Addr
	requestID string
	byCookie  bool // authenticated by cookie
}

type headKey struct{}

// headAlone reports whether the request is a HEAD, which must not use up what a GET does.
func headAlone(ctx context.Context) bool { return ctx.Value(headKey{}) != nil }

type callKey struct{}

func callOf(ctx context.Context) *call {
	found, _ := ctx.Value(callKey{}).(*call)
	return found
}
