package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/contract"
)

var saneRequestID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)

// traceparent matches the W3C Trace Context header, whose trace id goes to the log.
var traceparent = regexp.MustCompile(`^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}`)

// everyAnswer holds the default headers of every response. Handlers may replace them.
var everyAnswer = http.Header{
	"X-Content-Type-Options":       {"nosniff"},
	"X-Frame-Options":              {"DENY"},
	"Referrer-Policy":              {"no-referrer"},
	"Content-Security-Policy":      {"default-src 'none'; frame-ancestors 'none'"},
	"Cross-Origin-Resource-Policy": {"same-origin"},
	"Cache-Control":                {"no-store"},
}

// observe assigns the request id, sets the default headers, and logs and measures the outcome. The
// log holds the route, never the path, the query or the address, which may identify a person.
func (s *Server) observe(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		began := time.Now() // a duration, so by the machine's own clock
		request := c.Request()
		header := c.Response().Header()
		now := &call{operation: s.operations[route{request.Method, c.Path()}], request: request, writer: c.Response()}
		if now.requestID = request.Header.Get("X-Request-Id"); !saneRequestID.MatchString(now.requestID) {
			now.requestID = id.New[id.Request]().String()
		}
		header.Set("X-Request-Id", now.requestID)
		maps.Copy(header, everyAnswer)
		if strings.HasPrefix(s.settings.PublicURL, "https://") {
			header.Set("Strict-Transport-Security", "max-age=63072000; includeSubDomains")
		}
		address, err := netip.ParseAddr(c.RealIP())
		if err != nil {
			address = netip.IPv6Unspecified()
		}
		// PostgreSQL's inet takes no zone, and a zone means nothing beyond this host.
		now.address = address.Unmap().WithZone("")
		c.SetRequest(request.WithContext(context.WithValue(request.Context(), callKey{}, now)))

		if s.share(c) {
			err = c.NoContent(http.StatusNoContent)
		} else {
			err = s.recovered(next, c)
		}
		if err != nil {
			s.renderProblem(err, c)
		}
		s.report(c, now, err, time.Since(began))
		return nil
	}
}

// recovered turns a panic into an error. A panic's value may hold personal data, so only its type
// and the stack are passed on.
func (s *Server) recovered(next echo.HandlerFunc, c echo.Context) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			if reason == http.ErrAbortHandler { //nolint:errorlint // net/http compares it so
				panic(reason)
			}
			err = &panicked{kind: fmt.Sprintf("%T", reason), stack: string(debug.Stack())}
		}
	}()
	return next(c)
}

type panicked struct{ kind, stack string }

func (p *panicked) Error() string { return "panic of a " + p.kind }

func (s *Server) report(c echo.Context, now *call, err error, took time.Duration) {
	status := c.Response().Status
	path := c.Path()
	if now.operation == nil && status >= http.StatusNotFound {
		path = "none"
	}
	s.metrics.observe(now.request.Method, path, status, took)
	attributes := append(
		make([]slog.Attr, 0, 12),
		slog.String(
			"method",
			now.request.Method,
		),
		slog.String("route", path),
		slog.Int("status", status),
		slog.Int64("bytes", c.Response().Size),
		slog.Float64("ms", float64(took.Microseconds())/1000),
		slog.String("request_id", now.requestID),
	)
	if trace := traceparent.FindStringSubmatch(now.request.Header.Get("Traceparent")); trace != nil {
		attributes = append(attributes, slog.String("trace_id", trace[1]))
	}
	if caller, ok := principal.FromContext(c.Request().Context()); ok {
		attributes = append(
			attributes,
			slog.String("customer_id", caller.Customer.String()),
			slog.String("authority", caller.Authority()),
		)
	}
	level := slog.LevelInfo
	// The closed state is logged once, when it begins.
	if status >= http.StatusInternalServerError && !fault.Is(err, fault.ReplayingErasures) {
		level = slog.LevelError
		attributes = append(attributes, slog.String("error", err.Error()))
		if crash, ok := err.(*panicked); ok { //nolint:errorlint // made a few lines above, never wrapped
			attributes = append(attributes, slog.String("stack", crash.stack))
		}
	}
	s.log.LogAttrs(c.Request().Context(), level, "request", attributes...)
}

// guard admits a request to its handler if the caller is authenticated (else 401) and authorised
// (else 403, independent of what exists), and the request follows the contract.
func (s *Server) guard(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		now := callOf(c.Request().Context())
		operation := now.operation
		if shut := s.shut.Load(); shut != nil && (operation == nil || operation.ID != "getLiveness") {
			return shut
		}
		if operation == nil {
			return next(c) // no such route or method; Echo reports which
		}
		if !operation.Public {
			caller, err := s.authenticate(c.Request(), now)
			if err != nil {
				return err
			}
			// First, so that every failure is logged with its caller.
			c.SetRequest(c.Request().WithContext(principal.NewContext(c.Request().Context(), caller)))
			if err := authorise(caller, operation); err != nil {
				return err
			}
		}
		// Browsers send the cookie by themselves, even for pages of other sites; an Authorization
		// header is always deliberate. Pages read no cookie, and mail programs post to one of them
		// without an origin (RFC 8058).
		if c.Request().Header.Get("Authorization") == "" && operation.Tag != pagesTag {
			if err := s.origins.Check(c.Request()); err != nil {
				return fault.Because(err, fault.CrossOrigin, "A page of another origin may not do this.")
			}
		}
		if err := acceptable(c.Request().Header.Values("Accept"), operation); err != nil {
			return err
		}
		if operation.Tag == pagesTag && operation.ID != "getContractJSON" {
			return next(c)
		}
		parameters := make(map[string]string, len(c.ParamNames()))
		for i, name := range c.ParamNames() {
			parameters[name] = c.ParamValues()[i]
		}
		if err := operation.Check(c.Request(), parameters); err != nil {
			return err
		}
		// Media types compare without regard to case; the generated code compares them exactly.
		if kind := c.Request().Header.Get("Content-Type"); kind != "" && kind != "application/json" {
			if plain, _, err := mime.ParseMediaType(kind); err == nil {
				c.Request().Header.Set("Content-Type", plain)
			}
		}
		return next(c)
	}
}

// authenticate identifies the caller by Authorization: Bearer (RFC 6750, section 2.1), with an
// access token or an API key, or else by the session cookie.
func (s *Server) authenticate(r *http.Request, now *call) (principal.Principal, error) {
	values := r.Header.Values("Authorization")
	if len(values) == 0 {
		if cookies := r.CookiesNamed(s.cookieName()); len(cookies) == 1 {
			now.byCookie = true
			return s.features.Sessions.AuthenticateCookie(r.Context(), cookies[0].Value)
		}
		return principal.Principal{}, fault.New(fault.Unauthorized, "Send a credential as Authorization: Bearer.")
	}
	scheme, credential, _ := strings.Cut(values[0], " ")
	if len(values) > 1 || !strings.EqualFold(scheme, "Bearer") || credential == "" {
		return principal.Principal{}, fault.New(fault.Unauthorized, "Send one credential, as Authorization: Bearer.")
	}
	if strings.HasPrefix(credential, "stw_") {
		return s.features.APIKeys.Authenticate(r.Context(), credential, now.address)
	}
	return s.features.Sessions.Authenticate(r.Context(), credential)
}

// authorise checks the caller against the roles and scopes of the operation.
func authorise(caller principal.Principal, operation *contract.Operation) error {
	if !caller.IsAPIKey() {
		for _, role := range operation.Roles {
			if principal.Role(role) == caller.Role {
				if caller.MustEnrol && operation.Tag != secondFactorTag && operation.ID != "endCurrentSession" {
					return fault.New(
						fault.SecondFactorToSetUp,
						"Set up a second factor with POST /v1/me/second-factor. Until then nothing else can be done.",
					)
				}
				return nil
			}
		}
		return fault.New(fault.RoleNotAllowed, "Your role may not do this.")
	}
	if operation.Scope == "" {
		return fault.New(fault.RoleNotAllowed, "An API key may not do this, whatever its scopes.")
	}
	if !caller.Has(principal.Scope(operation.Scope)) {
		f := fault.New(fault.InsufficientScope, "The API key needs the scope "+operation.Scope+".")
		f.Scope = operation.Scope
		return f
	}
	return nil
}

// acceptable checks the Accept header. Pages are never refused, because a person who follows a link
// should see one. Neither are operations without a response body, nor probes, for which the
// contract has no 406.
func acceptable(values []string, operation *contract.Operation) error {
	if len(values) == 0 || operation.Tag == pagesTag || !operation.Declares(http.StatusNotAcceptable) {
		return nil
	}
	answers := operation.Answers
	if len(answers) == 0 { // problem documents only
		answers = []string{"application/json"}
	}
	for _, value := range values {
		if value == "*/*" || slices.Contains(answers, value) {
			return nil
		}
		for choice := range strings.SplitSeq(value, ",") {
			kind, parameters, err := mime.ParseMediaType(choice)
			if err != nil {
				continue
			}
			if quality, err := strconv.ParseFloat(parameters["q"], 64); err == nil && quality == 0 {
				continue
			}
			family, _, _ := strings.Cut(kind, "/")
			if kind == "*/*" || slices.ContainsFunc(answers, func(answer string) bool {
				return kind == answer || kind == family+"/*" && strings.HasPrefix(answer, family+"/")
			}) {
				return nil
			}
		}
	}
	return fault.New(
		fault.NotAcceptableType,
		"The answer is "+strings.Join(answers, " or ")+". Accept it, or leave the Accept header away.",
	)
}

// extractAddress returns an extractor of the client's address. X-Forwarded-For counts as far as
// trusted proxies wrote it, from the right; without trusted proxies the address is the
// connection's. Echo's default would trust any sender.
func extractAddress(trusted []netip.Prefix) echo.IPExtractor {
	if len(trusted) == 0 {
		return echo.ExtractIPDirect()
	}
	options := []echo.TrustOption{echo.TrustLoopback(false), echo.TrustLinkLocal(false), echo.TrustPrivateNet(false)}
	for _, network := range trusted {
		_, parsed, err := net.ParseCIDR(network.String())
		if err == nil {
			options = append(options, echo.TrustIPRange(parsed))
		}
	}
	return echo.ExtractIPFromXFFHeader(options...)
}

// bodyBinder decodes bodies for the generated handlers, after the contract check. Echo binds
// nothing else.
type bodyBinder struct{}

// Bind implements echo.Binder.
func (bodyBinder) Bind(into any, c echo.Context) (err error) {
	if whole, ok := into.(*json.RawMessage); ok {
		*whole, err = io.ReadAll(c.Request().Body)
		return err
	}
	return json.NewDecoder(c.Request().Body).Decode(into)
}
