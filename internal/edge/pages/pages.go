// Package pages serves what people read: the start page, the documentation of the contract, a page
// for each problem, two password forms, the unsubscribe page, and the small files beside them (the
// contract itself, style sheet, security.txt).
//
// Owns: the wording and look of the pages, their caching, and the content security policy that each
// needs. Everything is embedded; no page contacts another host, sets a cookie or counts visitors.
// Does not own: the contract (openapi.yaml), the catalogue of problems (package fault), routing and
// all other headers (package httpapi).
package pages

import (
	"bytes"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/fusionspim/steward/internal/base/fault"
)

// ContentSecurityPolicy is for a page that is only read: our style sheet and icon, no script, no
// form.
const ContentSecurityPolicy = "default-src 'none'; style-src 'self'; img-src 'self'; " + closed

// docsPolicy is for the documentation, whose script fetches the contract from this host and sends
// the requests that users try. Its style sheet embeds images as data.
const docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"font-src 'self'; " + closed

// formPolicy is for a page whose script sends the form to this host. Without the script nothing is
// sent: the form itself may not submit.
const formPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " + closed

// SendingPolicy is for a page whose form submits to this host without a script.
const SendingPolicy = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

const closed = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

const (
	contact   = "privacy@fusionspim.com"
	htmlType  = "text/html; charset=utf-8"
	forAWhile = "public, max-age=300, must-revalidate"
)

// Settings configure the pages.
type Settings struct {
	Contract       []byte // openapi.yaml as written
	ContractJSON   []byte // the same in JSON
	ContractJSON30 []byte // its rendering as OpenAPI 3.0.3 in JSON
	// base URL of the service as people see it, such as https://steward.example
	PublicURL string
	StatusOf  func(fault.Kind) int // the HTTP status of a kind of fault
}

// Pages holds every page, rendered once. Safe for concurrent use.
type Pages struct {
	publicURL    string
	home         *document
	docs         *document
	setPassword  *document
	forgot       *document
	lost         []byte
	linkLost     []byte
	templates    *template.Template
	problemIndex []byte
	problems     map[string][]byte
	assets       map[string]*document
	contractYAML *document
	contract31   *document
	contract30   *document
}

// New renders the pages. It fails for incomplete settings, and for a page that cannot be rendered.
func New(s Settings) (*Pages, error) {
	if len(s.Contract) == 0 || len(s.ContractJSON) == 0 || len(s.ContractJSON30) == 0 || s.StatusOf == nil {
		return nil, errors.New("pages: the contract in its three forms and StatusOf are needed")
	}
	at, err := url.Parse(s.PublicURL)
	if err != nil || at.Host == "" || (at.Scheme != "https" && at.Scheme != "http") {
		return nil, errors.New("pages: the public URL must be an absolute http or https URL")
	}
	p := &Pages{
		publicURL:    strings.TrimRight(s.PublicURL, "/"),
		problems:     map[string][]byte{},
		contractYAML: newDocument("application/yaml", forAWhile, s.Contract),
		contract31:   newDocument("application/json", forAWhile, s.ContractJSON),
		contract30:   newDocument("application/json", forAWhile, s.ContractJSON30),
	}
	if p.assets, err = loadAssets(); err != nil {
		return nil, err
	}
	if err := p.render(s.StatusOf); err != nil {
		return nil, fmt.Errorf("pages: %w", err)
	}
	return p, nil
}

// view is the data of a template.
type view struct {
	Title   string
	Here    string // path of the page, which the navigation marks as current
	Contact string
	Asset   func(name string) (string, error)
	Problem problem
	Groups  []group
	Alerts  alerts
}

// alerts is the content of the unsubscribe page.
type alerts struct {
	CustomerName string
	OptedIn      bool
}

// group is the problems with one status.
type group struct {
	Status   int
	Reason   string
	Problems []problem
}

// problem is one entry of the catalogue.
type problem struct {
	fault.Entry
	Status  int
	Reason  string
	Example string
}

func (p *Pages) render(statusOf func(fault.Kind) int) error {
	templates, err := template.ParseFS(templateFiles, "templates/*.html")
	if err != nil {
		return err
	}
	p.templates = templates
	page := func(name string, v view) []byte {
		if err != nil {
			return nil
		}
		var content []byte
		content, err = p.filled(name, v)
		return content
	}
	groups, known := grouped(statusOf)
	for _, one := range known {
		p.problems[string(one.Code)] = page("problem.html", view{Title: one.Title, Problem: one})
	}
	p.problemIndex = page("problems.html", view{Title: "Problems", Here: "/problems", Groups: groups})
	p.lost = page("lost.html", view{Title: "Page not found"})
	p.linkLost = page("unsubscribe-lost.html", view{Title: "This link does not work"})
	p.home = newDocument(htmlType, forAWhile, page("home.html", view{Title: "Steward", Here: "/"}))
	p.docs = newDocument(htmlType, forAWhile, page("docs.html", view{Title: "API documentation", Here: "/docs"}))
	p.setPassword = newDocument(htmlType, forAWhile, page("set-password.html", view{Title: "Choose a password"}))
	p.forgot = newDocument(htmlType, forAWhile, page("forgot-password.html", view{Title: "Forgotten your password?"}))
	return err
}

// filled renders a template.
func (p *Pages) filled(name string, v view) ([]byte, error) {
	v.Contact, v.Asset = contact, p.assetPath
	var out bytes.Buffer
	err := p.templates.ExecuteTemplate(&out, name, v)
	return out.Bytes(), err
}

// grouped orders the catalogue by status.
func grouped(statusOf func(fault.Kind) int) (groups []group, all []problem) {
	for _, entry := range fault.Catalogue() {
		status := statusOf(entry.Kind)
		one := problem{Entry: entry, Status: status, Reason: http.StatusText(status)}
		one.Example = example(one)
		all = append(all, one)
	}
	slices.SortStableFunc(all, func(a, b problem) int { return a.Status - b.Status })
	for _, one := range all {
		if len(groups) == 0 || groups[len(groups)-1].Status != one.Status {
			groups = append(groups, group{Status: one.Status, Reason: one.Reason})
		}
		last := &groups[len(groups)-1]
		last.Problems = append(last.Problems, one)
	}
	return groups, all
}

// Home serves the start page.
func (p *Pages) Home() http.Handler { return withPolicy(ContentSecurityPolicy, p.home) }

// SetPassword serves the page behind mailed password links, for customers without a page of their
// own.
func (p *Pages) SetPassword() http.Handler { return withPolicy(formPolicy, p.setPassword) }

// ForgotPassword serves the page that requests such a link.
func (p *Pages) ForgotPassword() http.Handler { return withPolicy(formPolicy, p.forgot) }

// Docs serves /docs and the files below it, which all pages share.
func (p *Pages) Docs() http.Handler {
	page := withPolicy(docsPolicy, p.docs)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := strings.TrimPrefix(r.URL.Path, assetRoot)
		if path == r.URL.Path || path == "" {
			page.ServeHTTP(w, r)
			return
		}
		p.serveAsset(w, r, path)
	})
}

// Unsubscribe renders the page behind the unsubscribe link of an alert: it asks whether to switch
// the customer's alerts off, or confirms that they are.
func (p *Pages) Unsubscribe(customerName string, optedIn bool) ([]byte, error) {
	title := "Alerts are off"
	if optedIn {
		title = "Switch alerts off?"
	}
	return p.filled(
		"unsubscribe.html",
		view{Title: title, Alerts: alerts{CustomerName: customerName, OptedIn: optedIn}},
	)
}

// UnsubscribeLost renders the page behind an invalid unsubscribe link.
func (p *Pages) UnsubscribeLost() []byte { return p.linkLost }

// Problem returns the page of a problem, and whether there is one.
func (p *Pages) Problem(slug string) (html []byte, ok bool) {
	html, ok = p.problems[slug]
	return html, ok
}

// Problems returns the page that lists all problems.
func (p *Pages) Problems() []byte { return p.problemIndex }

// ContractYAML serves the contract as written.
func (p *Pages) ContractYAML() http.Handler { return p.contractYAML }

// ContractJSON serves the contract as JSON: OpenAPI 3.0.3 for the version "3.0", 3.1 otherwise.
func (p *Pages) ContractJSON(version string) http.Handler {
	if version == "3.0" {
		return p.contract30
	}
	return p.contract31
}

// SecurityTxt renders security.txt (RFC 9116). It expires in a little under a year, and stays the
// same for a month, so that it can be cached and compared.
func (p *Pages) SecurityTxt(now time.Time) []byte {
	now = now.UTC()
	expires := time.Date(now.Year()+1, now.Month(), 1, 0, 0, 0, 0, time.UTC)
	var out bytes.Buffer
	out.WriteString("# Tell us of a weakness here. Please leave other people's data alone and out of your message.\n")
	out.WriteString("Contact: mailto:" + contact + "\n")
	out.WriteString("Expires: " + expires.Format(time.RFC3339) + "\n")
	out.WriteString("Preferred-Languages: en\n")
	// RFC 9116 allows https only; a service under development has none
	if strings.HasPrefix(p.publicURL, "https://") {
		out.WriteString("Canonical: " + p.publicURL + "/.well-known/security.txt\n")
	}
	return out.Bytes()
}

// withPolicy sets the content security policy of a page.
func withPolicy(policy string, page http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		page.ServeHTTP(w, r)
	})
}
