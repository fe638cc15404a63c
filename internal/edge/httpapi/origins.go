package httpapi

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/labstack/echo/v4"
)

// secondFactorTag is the contract's tag of the operations that are allowed before a required second
// factor is enrolled.
const secondFactorTag = "second-factor"

// newOrigins returns the check that requests authenticated by cookie come from the service's own
// origin or a trusted one.
func newOrigins(settings Settings) (*http.CrossOriginProtection, error) {
	origins := http.NewCrossOriginProtection()
	for _, origin := range settings.AllowedOrigins {
		if err := origins.AddTrustedOrigin(origin); err != nil {
			return nil, fmt.Errorf("httpapi: %q is not an origin, such as https://acme.example: %w", origin, err)
		}
	}
	return origins, nil
}

// share sets the CORS headers for trusted origins. It names the requesting origin, never a
// wildcard, because requests carry credentials. Without trusted origins it does nothing.
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
