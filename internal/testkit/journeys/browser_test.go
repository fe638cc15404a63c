package journeys

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	devlog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/storage"
	"github.com/chromedp/chromedp"

	"github.com/fusionspim/steward/internal/app"
	"github.com/fusionspim/steward/internal/testkit/apptest"
	"github.com/fusionspim/steward/internal/testkit/journeys/steps"
)

// The hosts of the browser test. The first three are one site, to which the cookie's SameSite applies; the last is another.
const (
	apiHost      = "api.steward.test"
	frontendHost = "acme.steward.test"   // a customer's frontend, whose origin the service trusts
	siblingHost  = "rogue.steward.test"  // somebody else's subdomain, which it does not
	foreignHost  = "prizes.example.test" // another site
)

// TestBrowser shows in Chromium that a frontend on another subdomain works with the cookie, that its script never sees the cookie, and that pages of other
// origins neither change nor read anything.
func TestBrowser(t *testing.T) {
	t.Parallel()
	program := chromium(t)
	certificate := selfSigned(t, apiHost, frontendHost, siblingHost, foreignHost)
	web := map[string]*website{}
	for _, host := range []string{apiHost, frontendHost, siblingHost, foreignHost} {
		web[host] = newWebsite(t, host)
	}
	service := apptest.StartWith(t, func(settings *app.Settings) {
		settings.PublicURL = web[apiHost].origin
		settings.AllowedOrigins = []string{web[frontendHost].origin}
	})
	acme := service.Customer(t, "acme")
	web[apiHost].start(t, certificate, service.API)
	web[frontendHost].start(t, certificate, pagesIn(t, "testdata/frontend", web[apiHost].origin,
		"default-src 'none'; script-src 'self'; img-src data:; connect-src "+web[apiHost].origin+"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"))
	for _, host := range []string{siblingHost, foreignHost} {
		web[host].start(t, certificate, pagesIn(t, "testdata/foreign", web[apiHost].origin, ""))
	}

	visit := &visit{Service: service, acme: acme, api: web[apiHost], frontend: web[frontendHost], browser: newBrowser(t, program, certificate)}
	elsewhere := service.SignIn(t, "acme", acme.Admin)
	visit.signIn(t)
	visit.theCookie(t)
	visit.pagesOfOurOwn(t)
	// The cookie goes with what a sibling sends, and the service refuses; with what another site sends, the browser leaves it away.
	visit.attack(t, web[siblingHost], "same-site", true)
	visit.attack(t, web[foreignHost], "cross-site", false)
	visit.amend(t, elsewhere)
	visit.signOut(t)
	visit.browser.close(t)
	visit.browser.checkNetLog(t)
}

// visit is one person's way through the frontend, and what others try meanwhile.
type visit struct {
	*apptest.Service
	acme     apptest.Customer
	api      *website
	frontend *website
	browser  *browser
	cookie   string // its value
}

func (v *visit) signIn(t *testing.T) {
	t.Helper()
	v.browser.do(t, "opening the frontend", chromedp.Navigate(v.frontend.origin+"/"), chromedp.WaitVisible(chromedp.CSS("#sign-in")))
	v.browser.says(t, "Please sign in.")
	v.browser.do(t, "signing in",
		chromedp.SendKeys(chromedp.CSS("[name=customer]"), "acme"), chromedp.SendKeys(chromedp.CSS("[name=email]"), v.acme.Admin.Email),
		chromedp.SendKeys(chromedp.CSS("[name=password]"), "not the password, by far"), chromedp.Click(chromedp.CSS("#sign-in button")))
	// The page reads a refusal, and the id of the request with it: both are shared with it.
	refusal := v.browser.says(t, "401: ")
	if strings.Contains(refusal, "no answer") {
		t.Errorf("the page does not see the request's id: %s", refusal)
	}
	v.browser.do(t, "signing in again", chromedp.SendKeys(chromedp.CSS("[name=password]"), apptest.Password), chromedp.Click(chromedp.CSS("#sign-in button")),
		chromedp.WaitVisible(chromedp.CSS("#me")))
	v.browser.says(t, "You are signed in.")
	v.browser.shows(t, "#name", "First admin")
	v.browser.shows(t, "#email", v.acme.Admin.Email)
	v.browser.shows(t, "#customer", "The acme company")
	v.browser.shows(t, "#alerts", "You get alerts.")
	// It is the cookie that keeps somebody signed in, not the page.
	v.browser.do(t, "loading the page again", chromedp.Reload(), chromedp.WaitVisible(chromedp.CSS("#me")))
	v.browser.says(t, "Welcome back.")

	for _, seen := range v.api.requests("") {
		if seen.Origin != v.frontend.origin || seen.Site != "same-site" {
			t.Errorf("the page's request %+v is not one across origins of one site: the test shows nothing", seen)
		}
	}
	if asked := v.api.requests("GET /v1/me"); len(asked) != 3 || asked[0].Cookie || !asked[1].Cookie || !asked[2].Cookie || asked[2].Status != 200 {
		t.Errorf("GET /v1/me: %+v", asked)
	}
	v.noComplaint(t)
	if asked := v.api.requests("OPTIONS /v1/sessions"); len(asked) == 0 || asked[0].Cookie || asked[0].Status != 204 {
		t.Errorf("the preflight of the sign-in: %+v", asked)
	}
}

// noComplaint checks that the browser found nothing wrong with the frontend, whose console tells of each 401 besides.
func (v *visit) noComplaint(t *testing.T) {
	t.Helper()
	for _, complaint := range v.browser.complaints() {
		if !strings.Contains(complaint, "responded with a status of 401") {
			t.Errorf("the frontend: the browser complains: %s", complaint)
		}
	}
}

// theCookie checks that the browser holds one cookie, as narrow as can be, that no script of the frontend sees.
func (v *visit) theCookie(t *testing.T) {
	t.Helper()
	cookies := v.browser.cookies(t)
	if len(cookies) != 1 {
		t.Fatalf("%d cookies", len(cookies))
	}
	cookie := cookies[0]
	v.cookie = cookie.Value
	if cookie.Name != "__Host-steward_session" || cookie.Domain != apiHost || cookie.Path != "/" || !cookie.HTTPOnly || !cookie.Secure ||
		cookie.SameSite != network.CookieSameSiteLax || cookie.PartitionKey != nil {
		cookie.Value = "left out"
		t.Errorf("the cookie: %+v", cookie)
	}
	if days := time.Until(time.Unix(int64(cookie.Expires), 0)).Hours() / 24; cookie.Session || days < 29.9 || days > 30.1 {
		t.Errorf("the cookie lasts for %.1f days", days)
	}
	kept := read(t, v.browser, "looking for secrets", chromedp.Evaluate[string](
		`document.cookie + JSON.stringify({...localStorage, ...sessionStorage}) + document.documentElement.outerHTML + "|" + document.cookie.length`))
	if !strings.HasSuffix(kept, "|0") || strings.Contains(kept, v.cookie) || strings.Contains(kept, apptest.Password) {
		t.Error("a script of the frontend can see a secret")
	}
}

// pagesOfOurOwn opens the pages of the service itself: they break no rule that they come with, and not even they see the cookie.
func (v *visit) pagesOfOurOwn(t *testing.T) {
	t.Helper()
	for path, shown := range map[string]string{"/": "main h1", "/docs": ".opblock-summary", "/problems": "main h1", "/problems/cross-origin": "main h1"} {
		v.browser.do(t, "opening "+path, chromedp.Navigate(v.api.origin+path), chromedp.WaitVisible(chromedp.CSS(shown)))
		if read(t, v.browser, "reading cookies", chromedp.Evaluate[string]("document.cookie")) != "" {
			t.Errorf("%s: a script sees the cookie", path)
		}
		for _, complaint := range v.browser.complaints() {
			t.Errorf("%s: the browser complains: %s", path, complaint)
		}
	}
}

// attack tries from a page of another origin whatever a page can send: the victim is an administrator who is signed in. Nothing may come of it.
func (v *visit) attack(t *testing.T, from *website, site string, cookieIsSent bool) {
	t.Helper()
	asProgram := apptest.As(v.acme.APIKey)
	before := v.state(t, asProgram)
	target := v.api.origin
	redaction := "/v1/users/" + v.acme.User.ID.String() + "/redaction"
	seen := func(request string) (all []arrival) {
		for _, one := range v.api.requests(request) {
			if one.Site == site && one.Origin == from.origin {
				all = append(all, one)
			}
		}
		return all
	}

	// Forms, which need no leave of the service's. The name of a field and the "=" behind it make JSON out of text/plain.
	user := `{"first_name":"Eve","last_name":"Forged","email":"eve@acme.example","role":"customer","x":"`
	signIn := `{"customer":"acme","email":"` + v.acme.User.Email + `","password":"` + apptest.Password + `","transport":"cookie","one_time_code":"`
	for _, form := range []struct {
		path, enctype string
		fields        map[string]string
	}{
		{"/v1/users", "text/plain", map[string]string{user: `"}`}},
		{"/v1/users", "application/x-www-form-urlencoded", map[string]string{"first_name": "Eve", "last_name": "Forged", "email": "eve@acme.example"}},
		{redaction, "application/x-www-form-urlencoded", nil},
		{redaction, "text/plain", nil},
		{redaction, "multipart/form-data", nil},
		{"/v1/sessions", "text/plain", map[string]string{signIn: `"}`}},
	} {
		name := fmt.Sprintf("a form from %s to %s as %s", from.host, form.path, form.enctype)
		arrived := len(seen("POST " + form.path))
		v.browser.do(t, name, chromedp.Navigate(from.origin+"/"))
		read(t, v.browser, name, chromedp.WaitEvent(page.LoadEventFired, func(page.EventLoadEventFired) bool { return true }, chromedp.Evaluate[chromedp.Void](
			fmt.Sprintf("forge(%s, %s, %s)", encoded(t, target+form.path), encoded(t, form.enctype), encoded(t, form.fields)))))
		steps.Await(t, name, func() bool { return len(seen("POST "+form.path)) > arrived })
		one := seen("POST " + form.path)[arrived]
		public := form.path == "/v1/sessions" // refused for the origin alone
		want := 401
		if cookieIsSent || public {
			want = 403
		}
		if one.Cookie != cookieIsSent || one.Status != want {
			t.Errorf("%s: %+v", name, one)
		}
	}

	// Scripts. The page sees nothing of any answer, and what needs leave (a preflight) is not even sent.
	optOut := `{method: "PUT", headers: {"Content-Type": "application/json"}, body: '{"opted_in":false}'`
	for _, script := range []struct {
		request, options, want string
		status                 int // 0 if it must not arrive
	}{
		{"GET /v1/me", `{}`, "TypeError", 200},
		{"GET /v1/users", `{mode: "no-cors"}`, "TypeError", 200},
		{"PUT /v1/me/alerts", optOut + `}`, "TypeError", 0},
		{"PUT /v1/me/alerts", optOut + `, mode: "no-cors"}`, "TypeError", 0},
		{"DELETE /v1/sessions/current", `{method: "DELETE"}`, "TypeError", 0},
		{"POST " + redaction, `{method: "POST"}`, "TypeError", 403},
		{"POST " + redaction, `{method: "POST", mode: "no-cors"}`, "TypeError", 403},
	} {
		name := fmt.Sprintf("a script of %s: %s %s", from.host, script.request, script.options)
		_, path, _ := strings.Cut(script.request, " ")
		arrived := len(v.api.requests(script.request))
		v.browser.do(t, name, chromedp.Navigate(from.origin+"/"))
		got := read(t, v.browser, name, chromedp.Evaluate[string](fmt.Sprintf("ask(%s, %s)", encoded(t, target+path), script.options), chromedp.EvalAwaitPromise))
		if got != script.want {
			t.Errorf("%s: the page learns %q, want %q", name, got, script.want)
		}
		requests := v.api.requests(script.request)[arrived:]
		want := script.status
		if want != 0 && !cookieIsSent {
			want = 401
		}
		switch {
		case want == 0 && len(requests) == 0:
		case want != 0 && len(requests) == 1 && requests[0].Status == want && requests[0].Cookie == cookieIsSent && requests[0].Site == site:
		default:
			t.Errorf("%s: %+v arrived, want %d", name, requests, want)
		}
	}

	if after := v.state(t, asProgram); after != before {
		t.Errorf("pages of %s changed something:\n%s\n%s", from.host, before, after)
	}
	// Nobody was signed out, or in as somebody else.
	if cookies := v.browser.cookies(t); len(cookies) != 1 || cookies[0].Value != v.cookie {
		t.Errorf("%d cookies, or another one, after what %s tried", len(cookies), from.host)
	}
	v.browser.complaints() // with good reason
}

// state is everything that the attacks would change.
func (v *visit) state(t *testing.T, as apptest.Option) string {
	t.Helper()
	users := v.Call(t, "GET", "/v1/users", as).Want(t, 200).Body
	trail := v.Call(t, "GET", "/v1/audit-entries", as).Want(t, 200).Body
	return string(users) + string(trail)
}

// amend changes the password and opts out, as the person whom nobody signed out meanwhile.
func (v *visit) amend(t *testing.T, elsewhere apptest.Credential) {
	t.Helper()
	v.browser.do(t, "coming back", chromedp.Navigate(v.frontend.origin+"/"), chromedp.WaitVisible(chromedp.CSS("#me")))
	v.browser.says(t, "Welcome back.")
	v.browser.do(t, "changing the password", chromedp.SendKeys(chromedp.CSS("[name=current_password]"), apptest.Password),
		chromedp.SendKeys(chromedp.CSS("[name=new_password]"), anotherPassword), chromedp.Click(chromedp.CSS("#password button")))
	v.browser.says(t, "Your password is changed.")
	v.Database.Clock.Advance(time.Second)
	v.Call(t, "GET", "/v1/me", apptest.As(elsewhere)).Want(t, 401) // the other session ended; this one goes on

	v.browser.do(t, "opting out", chromedp.Click(chromedp.CSS("#opt-out")))
	v.browser.says(t, "Your choice is kept.")
	v.browser.shows(t, "#alerts", "You get no alerts.")
	var alerts struct {
		OptedIn bool   `json:"opted_in"`
		SetBy   string `json:"set_by"`
	}
	v.Call(t, "GET", "/v1/users/"+v.acme.Admin.ID.String()+"/alerts", apptest.As(v.acme.APIKey)).Want(t, 200).Into(t, &alerts)
	if alerts.OptedIn || alerts.SetBy != "user" {
		t.Errorf("%+v", alerts)
	}
}

func (v *visit) signOut(t *testing.T) {
	t.Helper()
	v.browser.do(t, "signing out", chromedp.Click(chromedp.CSS("#sign-out")), chromedp.WaitVisible(chromedp.CSS("#sign-in")))
	v.browser.says(t, "You are signed out.")
	if cookies := v.browser.cookies(t); len(cookies) != 0 {
		t.Errorf("%d cookies after signing out", len(cookies))
	}
	v.browser.do(t, "loading the page again", chromedp.Reload(), chromedp.WaitVisible(chromedp.CSS("#sign-in")))
	v.browser.says(t, "Please sign in.")
	v.noComplaint(t)
	// Whoever kept the cookie has nothing, and the new password is the one that counts.
	v.Database.Clock.Advance(time.Second)
	v.Call(t, "GET", "/v1/me", withCookie(&http.Cookie{Name: "__Host-steward_session", Value: v.cookie})).Want(t, 401)
	trySignIn(t, v.Service, "acme", v.acme.Admin.Email, anotherPassword, "").Want(t, 201)
}

// website is a host of its own that tells what was asked of it.
type website struct {
	host   string
	origin string
	server *httptest.Server

	mutex sync.Mutex
	seen  []arrival
}

// arrival is what arrived and how it was answered.
type arrival struct {
	What         string // method and path
	Origin, Site string // the headers Origin and Sec-Fetch-Site
	Cookie       bool
	Status       int
}

// newWebsite listens, so that the address is known, and does not answer before start.
func newWebsite(t *testing.T, host string) *website {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return &website{host: host, origin: "https://" + net.JoinHostPort(host, port), server: server}
}

func (w *website) start(t *testing.T, certificate tls.Certificate, handler http.Handler) {
	t.Helper()
	w.server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13}
	w.server.EnableHTTP2 = true
	w.server.Config.ErrorLog = log.New(io.Discard, "", 0) // a browser drops connections as it likes
	w.server.Config.Handler = http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		answer := &statusWriter{ResponseWriter: out, status: http.StatusOK}
		handler.ServeHTTP(answer, in)
		w.mutex.Lock()
		defer w.mutex.Unlock()
		w.seen = append(w.seen, arrival{
			What: in.Method + " " + in.URL.Path, Origin: in.Header.Get("Origin"), Site: in.Header.Get("Sec-Fetch-Site"), Cookie: in.Header.Get("Cookie") != "",
			Status: answer.status,
		})
	})
	w.server.StartTLS()
	t.Cleanup(w.server.Close) // before the service closes, whose cleanup is older
}

// requests returns what arrived of one kind, or everything.
func (w *website) requests(what string) (all []arrival) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	for _, one := range w.seen {
		if what == "" || one.What == what {
			all = append(all, one)
		}
	}
	return all
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// pagesIn serves a folder's page and script, the page told where the API is.
func pagesIn(t *testing.T, folder, api, policy string) http.Handler {
	t.Helper()
	parsed, err := template.ParseFiles(filepath.Join(folder, "index.html"))
	if err != nil {
		t.Fatal(err)
	}
	var index bytes.Buffer
	if err := parsed.Execute(&index, struct{ API string }{api}); err != nil {
		t.Fatal(err)
	}
	files := http.FileServer(http.Dir(folder))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if policy != "" {
			w.Header().Set("Content-Security-Policy", policy)
		}
		if r.URL.Path != "/" {
			files.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(index.Bytes())
	})
}

// selfSigned makes a certificate that nobody but the browser of this test is told to trust.
func selfSigned(t *testing.T, hosts ...string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "browser test"}, DNSNames: hosts,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	made, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(made)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{made}, PrivateKey: key, Leaf: leaf}
}

// chromium finds the browser. Its absence fails the test: what is not tried is not shown.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{
		"chromium", "chromium-browser", "google-chrome", "google-chrome-stable",
		"/Applications/Chromium.app/Contents/MacOS/Chromium", "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
	} {
		if program, err := exec.LookPath(name); err == nil {
			return program
		}
	}
	t.Fatal("the browser test needs Chromium: run scripts/need-chromium, or apt-get install chromium")
	return ""
}

// browser is a Chromium with one page open.
type browser struct {
	tab    context.Context
	netLog string

	mutex  sync.Mutex
	heard  []string     // what the console says
	output bytes.Buffer // what the program says, for a failure
}

// Write implements io.Writer for the output of the program.
func (b *browser) Write(p []byte) (int, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.output.Write(p)
}

func newBrowser(t *testing.T, program string, certificate tls.Certificate) *browser {
	t.Helper()
	home, err := os.MkdirTemp("", "steward-browser-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// A child of the browser may still be writing as it ends.
		for range 20 {
			if err = os.RemoveAll(home); err == nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Error(err)
	})
	b := &browser{netLog: filepath.Join(home, "netlog.json")}
	pin := sha256.Sum256(certificate.Leaf.RawSubjectPublicKeyInfo)
	allocator, stop := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()),
		chromedp.ExecPath(program), chromedp.UserDataDir(filepath.Join(home, "profile")), chromedp.Env("HOME="+home), chromedp.CombinedOutput(b),
		chromedp.WSURLReadTimeout(time.Minute), chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck, chromedp.Headless, chromedp.DisableGPU,
		chromedp.NoSandbox, // which root and many containers do not have; every page here is ours
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.Flag("disable-default-apps", true),
		chromedp.Flag("disable-extensions", true), chromedp.Flag("disable-breakpad", true), chromedp.Flag("metrics-recording-only", true),
		chromedp.Flag("password-store", "basic"), chromedp.Flag("use-mock-keychain", true),
		// Only this certificate, so that every other check of TLS is done.
		chromedp.Flag("ignore-certificate-errors-spki-list", base64.StdEncoding.EncodeToString(pin[:])),
		chromedp.Flag("host-resolver-rules", "MAP *.steward.test 127.0.0.1, MAP *.example.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
		chromedp.Flag("no-proxy-server", true),
		chromedp.Flag("log-net-log", b.netLog), chromedp.Flag("log-level", "3"), // fatal ones, or it speaks of D-Bus alone
	)
	t.Cleanup(stop)
	quiet := func(string, ...any) {} // it complains of every message newer than itself
	tab, closeTab := chromedp.NewContext(allocator, chromedp.WithErrorf(quiet), chromedp.WithLogf(quiet))
	t.Cleanup(closeTab)
	b.tab = tab
	// The first use starts the program and ties it to its context, which therefore has no deadline.
	if _, err := chromedp.Call(tab, audits.Enable, cdp.Empty{}); err != nil {
		t.Fatalf("starting %s: %v\n%s", program, err, b.said())
	}
	err = chromedp.Listen(tab, func(event any) {
		switch event := event.(type) {
		case *runtime.EventExceptionThrown:
			b.hear("exception: " + (&chromedp.ExceptionError{ExceptionDetails: event.ExceptionDetails}).Error())
		case *runtime.EventConsoleAPICalled:
			if event.Type == runtime.ConsoleAPICalledTypeError || event.Type == runtime.ConsoleAPICalledTypeWarning {
				words := make([]string, len(event.Args))
				for i, word := range event.Args {
					words[i] = string(word.Value) + word.Description
				}
				b.hear("console: " + strings.Join(words, " "))
			}
		case *devlog.EventEntryAdded:
			if event.Entry.Level == devlog.EntryLevelError || event.Entry.Level == devlog.EntryLevelWarning {
				b.hear(fmt.Sprintf("%s: %s %s", event.Entry.Source, event.Entry.Text, event.Entry.URL))
			}
		case *audits.EventIssueAdded:
			switch event.Issue.Code {
			case audits.InspectorIssueCodeContentSecurityPolicyIssue, audits.InspectorIssueCodeMixedContentIssue, audits.InspectorIssueCodeCookieIssue:
				b.hear("issue: " + string(event.Issue.Code))
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *browser) hear(what string) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.heard = append(b.heard, what)
}

func (b *browser) said() string {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.output.String() + strings.Join(b.heard, "\n")
}

// complaints returns what the console said since the last time.
func (b *browser) complaints() []string {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	heard := b.heard
	b.heard = nil
	return heard
}

// do does one thing in the page, within a time that is long for it.
func (b *browser) do(t *testing.T, what string, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	read(t, b, what, chromedp.Steps(steps...))
}

// read does so and returns what the page answers.
func read[T any](t *testing.T, b *browser, what string, action chromedp.Action[T]) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.tab, time.Minute)
	defer cancel()
	answer, err := chromedp.Run(ctx, action)
	if err != nil {
		still, stop := context.WithTimeout(b.tab, 5*time.Second)
		defer stop()
		shown, _ := chromedp.Run(still, chromedp.Evaluate[string]("location.href + ' ' + document.body.innerText"))
		t.Fatalf("%s: %v\n%s\n%s", what, err, shown, b.said())
	}
	return answer
}

// shows waits until an element says so and returns all that it says.
func (b *browser) shows(t *testing.T, selector, want string) string {
	t.Helper()
	return read(t, b, fmt.Sprintf("waiting for %q in %s", want, selector), chromedp.PollFunction[string](
		"(selector, want) => { const text = document.querySelector(selector)?.innerText; return text?.startsWith(want) && text; }",
		chromedp.WithPollingArgs(selector, want), chromedp.WithPollingTimeout(0))) // read sets the bound
}

// says waits until the frontend says so of what was asked for last.
func (b *browser) says(t *testing.T, want string) string {
	t.Helper()
	return b.shows(t, "#status", want)
}

// cookies returns every cookie that the browser holds, of whatever site.
func (b *browser) cookies(t *testing.T) []*network.Cookie {
	t.Helper()
	answer, err := chromedp.Call(b.tab, storage.GetCookies, storage.GetCookiesParams{})
	if err != nil {
		t.Fatal(err)
	}
	return answer.Cookies
}

// close ends the program in good order, so that its log of the network is whole.
func (b *browser) close(t *testing.T) {
	t.Helper()
	if err := chromedp.Cancel(b.tab); err != nil {
		t.Fatalf("closing the browser: %v\n%s", err, b.said())
	}
}

// checkNetLog reads the browser's own log of the network: nothing went to another machine, neither for a page nor for the program itself.
func (b *browser) checkNetLog(t *testing.T) {
	t.Helper()
	file, err := os.Open(b.netLog)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // only read
	content, err := io.ReadAll(file)
	if err != nil {
		t.Fatal(err)
	}
	var whole struct {
		Constants struct {
			LogEventTypes map[string]int `json:"logEventTypes"`
		}
		Events []struct {
			Type   int
			Source struct{ ID int }
			Params struct {
				Address   string
				URL       string
				Initiator string
			}
		}
	}
	if err := json.Unmarshal(content, &whole); err != nil {
		t.Fatalf("the browser's log of the network: %v", err)
	}
	kinds := whole.Constants.LogEventTypes
	kind := func(name string) int {
		number, ok := kinds[name]
		if !ok {
			t.Fatalf("the browser's log of the network knows no %s any more", name)
		}
		return number
	}
	connect, connectUDP, sentUDP, begun := kind("TCP_CONNECT_ATTEMPT"), kind("UDP_CONNECT"), kind("UDP_BYTES_SENT"), kind("URL_REQUEST_START_JOB")
	far := map[int]string{} // UDP sockets to other machines: making one sends nothing, and the browser does so to learn whether there is IPv6
	connections, hosts := 0, []string{}
	for _, event := range whole.Events {
		address, _ := netip.ParseAddrPort(event.Params.Address)
		switch event.Type {
		case connect:
			if event.Params.Address == "" {
				continue // the end of an attempt
			}
			connections++
			if !address.Addr().IsLoopback() {
				t.Errorf("the browser connected to %s", event.Params.Address)
			}
		case connectUDP:
			if event.Params.Address != "" && !address.Addr().IsLoopback() {
				far[event.Source.ID] = event.Params.Address
			}
		case sentUDP:
			if to, ok := far[event.Source.ID]; ok {
				t.Errorf("the browser sent to %s", to)
			}
		case begun:
			// What no page began is the test's own navigation, or the program's wish for updates and the like, for which there is no such host.
			at, err := url.Parse(event.Params.URL)
			if err == nil && strings.HasPrefix(event.Params.Initiator, "https://") && !slices.Contains(hosts, at.Hostname()) {
				hosts = append(hosts, at.Hostname())
			}
		}
	}
	slices.Sort(hosts)
	if want := []string{frontendHost, apiHost, foreignHost, siblingHost}; connections == 0 || !slices.Equal(hosts, want) {
		t.Errorf("%d connections; pages asked %q, want %q", connections, hosts, want)
	}
}
