package httpapi

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/labstack/echo/v4"
)

// secondFactorTag is the contract's tag of what somebody may do before a required second factor is
// set up.
const secondFactorTag = "second-factor"

// newOrigins knows the origins whose pages may change something with the session's cookie: the
// service's own and the trusted ones.
func newOrigins(settings Settings) (*http.CrossOriginProtection, error) {
	origins := http.NewCrossOriginProtection()
	for _, origin := range settings.AllowedOrigins {
		if err := origins.AddTrustedOrigin(origin); err != nil {
			return nil, fmt.Errorf("httpapi: %q is not an origin, such as https://acme.example: %w", origin, err)
		}
	}
	return origins, nil
}

// share lets pages of the trusted origins read answers (CORS, the fetch standard). It names the one
// origin that asked and never all, for credentials go with the requests. Without trusted origins it
// does nothing.
func (s *Server) share(c echo.Context) (preflight bool) {
	origin := c.Request().Header.Get("Origin")
	if len(s.settings.AllowedOrigins) == 0 {
		return false
	}
	header := c.Response().Header()
	header.Add("Vary", "Origin")
	if !slices.Contains(s.settings.AllowedOrigins, origin) {
		return false
	}
	header.Set("Access-Control-Allow-Origin", origin)
	header.Set("Access-Control-Allow-Credentials", "true")
	header.Set("Access-Control-Expose-Headers", "ETag, Idempotency-Replayed, Link, Location, Retry-After, X-Request-Id")
	header.Set("Cross-Origin-Resource-Policy", "cross-origin")
	if c.Request().Method != http.MethodOptions || c.Request().Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	header.Set("Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE")
	header.Set(
		"Access-Control-Allow-Headers",
		"Authorization, Content-Type, Idempotency-Key, If-Match, One-Time-Code, X-Request-Id, Traceparent",
	)
	header.Set("Access-Control-Max-Age", "600")
	return true
}
