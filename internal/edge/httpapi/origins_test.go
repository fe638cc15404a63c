package httpapi

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/labstack/echo/v4"
)

func TestRequestsOfOtherSitesAreRefused(t *testing.T) {
	t.Parallel()
	origins, err := newOrigins(Settings{AllowedOrigins: []string{"https://acme.example"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		method string
		header map[string]string
		ok     bool
	}{
		"no browser":                   {http.MethodPost, nil, true},
		"same origin":                  {http.MethodPost, map[string]string{"Sec-Fetch-Site": "same-origin"}, true},
		"typed into the address bar":   {http.MethodPost, map[string]string{"Sec-Fetch-Site": "none"}, true},
		"trusted origin":               {http.MethodPost, map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://acme.example"}, true},
		"reading":                      {http.MethodGet, map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, true},
		"other site":                   {http.MethodPost, map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, false},
		"same site, other origin":      {http.MethodPost, map[string]string{"Sec-Fetch-Site": "same-site", "Origin": "https://www.steward.example"}, false},
		"old browser, same origin":     {http.MethodPost, map[string]string{"Origin": "https://steward.example"}, true},
		"old browser, other origin":    {http.MethodPost, map[string]string{"Origin": "https://evil.example"}, false},
		"null origin":                  {http.MethodDelete, map[string]string{"Origin": "null"}, false},
		"trusted origin, other scheme": {http.MethodPut, map[string]string{"Origin": "http://acme.example"}, false},
		"trusted origin as a prefix":   {http.MethodPatch, map[string]string{"Origin": "https://acme.example.evil.example"}, false},
	} {
		request := httptest.NewRequest(test.method, "https://steward.example/v1/me", nil)
		for key, value := range test.header {
			request.Header.Set(key, value)
		}
		if err := origins.Check(request); (err == nil) != test.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, bad := range []string{"acme.example", "https://acme.example/", "https://acme.example/a", "*", ""} {
		if _, err := newOrigins(Settings{AllowedOrigins: []string{bad}}); err == nil {
			t.Errorf("%q is taken for an origin", bad)
		}
	}
}

func TestCORSNamesTrustedOriginsOnly(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		trusted   []string
		method    string
		origin    string
		asks      string // Access-Control-Request-Method
		allowed   string
		preflight bool
		varies    bool
	}{
		"none trusted":          {nil, http.MethodGet, "https://acme.example", "", "", false, false},
		"trusted":               {[]string{"https://acme.example"}, http.MethodGet, "https://acme.example", "", "https://acme.example", false, true},
		"preflight":             {[]string{"https://acme.example"}, http.MethodOptions, "https://acme.example", "POST", "https://acme.example", true, true},
		"options, no preflight": {[]string{"https://acme.example"}, http.MethodOptions, "https://acme.example", "", "https://acme.example", false, true},
		"other origin":          {[]string{"https://acme.example"}, http.MethodOptions, "https://evil.example", "POST", "", false, true},
		"no origin":             {[]string{"https://acme.example"}, http.MethodGet, "", "", "", false, true},
	} {
		s := &Server{settings: Settings{AllowedOrigins: test.trusted}}
		request := httptest.NewRequest(test.method, "/v1/me", nil)
		if test.origin != "" {
			request.Header.Set("Origin", test.origin)
		}
		if test.asks != "" {
			request.Header.Set("Access-Control-Request-Method", test.asks)
		}
		c := echo.New().NewContext(request, httptest.NewRecorder())
		preflight := s.share(c)
		header := c.Response().Header()
		if preflight != test.preflight || header.Get("Access-Control-Allow-Origin") != test.allowed {
			t.Errorf("%s: preflight %t, allowed %q", name, preflight, header.Get("Access-Control-Allow-Origin"))
		}
		if credentials := header.Get(
			"Access-Control-Allow-Credentials",
		); (credentials == "true") != (test.allowed != "") {
			t.Errorf("%s: credentials %q", name, credentials)
		}
		if (header.Get("Access-Control-Allow-Methods") != "") != test.preflight {
			t.Errorf("%s: methods %q", name, header.Get("Access-Control-Allow-Methods"))
		}
		if (header.Get("Vary") == "Origin") != test.varies {
			t.Errorf("%s: Vary is %q", name, header.Get("Vary"))
		}
	}
}
