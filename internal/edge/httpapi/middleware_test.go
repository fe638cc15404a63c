package httpapi

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/contract"
)

func TestAuthorise(t *testing.T) {
	t.Parallel()
	person := id.New[id.User]()
	as := func(role principal.Role) principal.Principal { return principal.Principal{User: person, Role: role} }
	key := func(scopes ...principal.Scope) principal.Principal {
		return principal.Principal{APIKey: id.New[id.APIKey](), Scopes: scopes}
	}
	unenrolled := as(principal.Administrator)
	unenrolled.MustEnrol = true
	// A key never gains by a role, nor a person by a scope.
	keyWithRole := key(principal.AuditRead)
	keyWithRole.Role = principal.Administrator
	personWithScope := as(principal.User)
	personWithScope.Scopes = principal.Scopes()

	administer := &contract.Operation{ID: "updateUser", Roles: []string{"customer"}, Scope: "users:write"}
	operate := &contract.Operation{ID: "createCustomer", Roles: []string{"operator"}}
	enrol := &contract.Operation{ID: "enrolSecondFactor", Tag: secondFactorTag, Roles: []string{"customer", "user"}}
	leave := &contract.Operation{ID: "endCurrentSession", Roles: []string{"operator", "customer", "user"}}
	closed := &contract.Operation{ID: "closed"}
	const allowed fault.Code = ""
	for name, test := range map[string]struct {
		caller    principal.Principal
		operation *contract.Operation
		want      fault.Code
	}{
		"administrator":                   {as(principal.Administrator), administer, allowed},
		"user":                            {as(principal.User), administer, fault.RoleNotAllowed},
		"operator, customer's operation":  {as(principal.Operator), administer, fault.RoleNotAllowed},
		"operator":                        {as(principal.Operator), operate, allowed},
		"administrator, operators' alone": {as(principal.Administrator), operate, fault.RoleNotAllowed},
		"unknown role":                    {as("root"), operate, fault.RoleNotAllowed},
		"no role":                         {as(""), closed, fault.RoleNotAllowed},
		"key with the scope":              {key(principal.UsersWrite), administer, allowed},
		"key with several":                {key(principal.UsersRead, principal.UsersWrite), administer, allowed},
		"key with another scope":          {key(principal.UsersRead), administer, fault.InsufficientScope},
		"key without scopes":              {key(), administer, fault.InsufficientScope},
		"key where no key may":            {key(principal.Scopes()...), operate, fault.RoleNotAllowed},
		"key with an empty scope":         {key(""), operate, fault.RoleNotAllowed},
		"key with a role":                 {keyWithRole, administer, fault.InsufficientScope},
		"person with scopes":              {personWithScope, administer, fault.RoleNotAllowed},
		"no second factor yet":            {unenrolled, administer, fault.SecondFactorToSetUp},
		"no second factor, setting it up": {unenrolled, enrol, allowed},
		"no second factor, leaving":       {unenrolled, leave, allowed},
		"no second factor, wrong role":    {unenrolled, operate, fault.RoleNotAllowed},
		"nobody may":                      {as(principal.Operator), closed, fault.RoleNotAllowed},
	} {
		err := authorise(test.caller, test.operation)
		if test.want == allowed && err != nil || test.want != allowed && !fault.Is(err, test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
		var f *fault.Fault
		if errors.As(err, &f) && f.Code == fault.InsufficientScope && f.Scope != "users:write" {
			t.Errorf("%s: asks for the scope %q", name, f.Scope)
		}
	}
}

// What is refused before any feature is asked; the features are nil here.
func TestMalformedCredentialsAreRefused(t *testing.T) {
	t.Parallel()
	s := &Server{settings: Settings{PublicURL: "https://steward.example"}}
	for name, arrange := range map[string]func(*http.Request){
		"none":             func(*http.Request) {},
		"other scheme":     func(r *http.Request) { r.Header.Set("Authorization", "Basic YTpi") },
		"scheme alone":     func(r *http.Request) { r.Header.Set("Authorization", "Bearer") },
		"empty credential": func(r *http.Request) { r.Header.Set("Authorization", "Bearer ") },
		"empty header":     func(r *http.Request) { r.Header.Set("Authorization", "") },
		"two headers": func(r *http.Request) {
			r.Header.Add("Authorization", "Bearer a")
			r.Header.Add("Authorization", "Bearer b")
		},
		"two cookies": func(r *http.Request) {
			r.Header.Set("Cookie", "__Host-steward_session=a; __Host-steward_session=b")
		},
		"cookie of plain HTTP": func(r *http.Request) { r.Header.Set("Cookie", "steward_session=a") },
		"query":                func(r *http.Request) { r.URL.RawQuery = "access_token=a" },
	} {
		request := httptest.NewRequest("GET", "/v1/me", nil)
		arrange(request)
		if _, err := s.authenticate(request, &call{}); !fault.Is(err, fault.Unauthorized) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestClientAddress(t *testing.T) {
	t.Parallel()
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}
	for name, test := range map[string]struct {
		trusted   []netip.Prefix
		from      string
		forwarded string
		want      string
	}{
		"nobody trusted":              {nil, "192.0.2.1:1", "198.51.100.7", "192.0.2.1"},
		"nobody trusted, from inside": {nil, "127.0.0.1:1", "198.51.100.7", "127.0.0.1"},
		"trusted proxy":               {proxies, "10.1.2.3:1", "198.51.100.7", "198.51.100.7"},
		"trusted proxy, IPv6":         {proxies, "[2001:db8::1]:1", "198.51.100.7", "198.51.100.7"},
		"two trusted proxies":         {proxies, "10.1.2.3:1", "198.51.100.7, 10.9.9.9", "198.51.100.7"},
		"forged in front":             {proxies, "10.1.2.3:1", "203.0.113.9, 198.51.100.7", "198.51.100.7"},
		"untrusted sender":            {proxies, "192.0.2.1:1", "198.51.100.7", "192.0.2.1"},
		"loopback is not trusted":     {proxies, "127.0.0.1:1", "198.51.100.7", "127.0.0.1"},
		"private is not trusted":      {proxies, "192.168.0.1:1", "198.51.100.7", "192.168.0.1"},
		"link-local is not trusted":   {proxies, "169.254.0.1:1", "198.51.100.7", "169.254.0.1"},
		"no header":                   {proxies, "10.1.2.3:1", "", "10.1.2.3"},
	} {
		request := httptest.NewRequest("GET", "/", nil)
		request.RemoteAddr = test.from
		if test.forwarded != "" {
			request.Header.Set("X-Forwarded-For", test.forwarded)
		}
		request.Header.Set("X-Real-Ip", "203.0.113.66") // never read
		if got := extractAddress(test.trusted)(request); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

func TestRequestIDsAndTraces(t *testing.T) {
	t.Parallel()
	for text, ok := range map[string]bool{
		"a": true, "0195503a-4000.x_Y": true, strings.Repeat("a", 128): true,
		"": false, strings.Repeat("a", 129): false, "a b": false, "a\n": false, "ada@example.com": false, "ä": false,
	} {
		if saneRequestID.MatchString(text) != ok {
			t.Errorf("request id %q is sane: %t", text, !ok)
		}
	}
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	for text, want := range map[string]string{
		"00-" + trace + "-00f067aa0ba902b7-01": trace, "00-" + trace + "-00f067aa0ba902b7-01-more": trace,
		"": "", trace: "", "00-" + strings.ToUpper(trace) + "-00f067aa0ba902b7-01": "", "x00-" + trace + "-00f067aa0ba902b7-01": "",
	} {
		found := traceparent.FindStringSubmatch(text)
		if got := strings.Join(found[min(1, len(found)):], ""); got != want {
			t.Errorf("trace of %q: %q, want %q", text, got, want)
		}
	}
}

// The value of a panic may hold personal data.
func TestAPanicIsAnErrorWithoutItsValue(t *testing.T) {
	t.Parallel()
	s := newProblems()
	c := echo.New().NewContext(httptest.NewRequest("GET", "/", nil), httptest.NewRecorder())
	err := s.recovered(func(echo.Context) error { panic("ada@example.com") }, c)
	var crash *panicked
	if !errors.As(err, &crash) || strings.Contains(err.Error(), "ada") || !strings.Contains(crash.stack, "goroutine") {
		t.Errorf("got %v", err)
	}
	want := errors.New("ordinary")
	if err := s.recovered(func(echo.Context) error { return want }, c); !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
	defer func() {
		if reason := recover(); reason != http.ErrAbortHandler {
			t.Errorf("net/http gets %v", reason)
		}
	}()
	_ = s.recovered(func(echo.Context) error { panic(http.ErrAbortHandler) }, c)
}

func TestAClosedServiceRefusesEverythingButLiveness(t *testing.T) {
	t.Parallel()
	s := newProblems()
	visit := func(operation *contract.Operation) (reached bool, err error) {
		request := httptest.NewRequest("GET", "/", nil)
		c := echo.New().NewContext(request, httptest.NewRecorder())
		c.SetRequest(request.WithContext(listing(request.Context(), id.Customer{}, "", "/")))
		callOf(c.Request().Context()).operation = operation
		err = s.guard(func(echo.Context) error { reached = true; return nil })(c)
		return reached, err
	}
	page := &contract.Operation{ID: "getPage", Public: true, Tag: pagesTag}
	alive := &contract.Operation{ID: "getLiveness", Public: true, Tag: pagesTag}
	s.Shut("Replaying.", time.Minute)
	for name, operation := range map[string]*contract.Operation{"page": page, "no route": nil} {
		if reached, err := visit(operation); reached || !fault.Is(err, fault.ReplayingErasures) {
			t.Errorf("%s: reached %t, %v", name, reached, err)
		}
	}
	if reached, err := visit(alive); !reached || err != nil {
		t.Errorf("liveness: reached %t, %v", reached, err)
	}
	s.Open()
	for name, operation := range map[string]*contract.Operation{"page": page, "no route": nil, "liveness": alive} {
		if reached, err := visit(operation); !reached || err != nil {
			t.Errorf("open, %s: reached %t, %v", name, reached, err)
		}
	}
}

func TestTheSessionCookie(t *testing.T) {
	t.Parallel()
	for public, test := range map[string]struct{ set, cleared string }{
		"https://steward.example": {
			"__Host-steward_session=v; Path=/; Max-Age=60; HttpOnly; Secure; SameSite=Lax",
			"__Host-steward_session=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Lax",
		},
		"http://localhost:8080": {
			"steward_session=v; Path=/; Max-Age=60; HttpOnly; SameSite=Lax",
			"steward_session=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax",
		},
	} {
		s := &Server{settings: Settings{PublicURL: public}}
		if got := s.sessionCookie("v", time.Minute); got != test.set {
			t.Errorf("%s: set by %s", public, got)
		}
		if got := s.sessionCookie("", 0); got != test.cleared {
			t.Errorf("%s: cleared by %s", public, got)
		}
	}
}
