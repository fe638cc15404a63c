package pages_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	stdhtml "html"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"golang.org/x/net/html"

	steward "github.com/fusionspim/steward"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/edge/pages"
	"github.com/fusionspim/steward/internal/infra/contract"
)

// statusOf stands for the table in package httpapi, which lies above this one.
func statusOf(kind fault.Kind) int {
	return []int{500, 400, 401, 403, 404, 405, 406, 409, 410, 412, 413, 415, 422, 428, 429, 500, 503}[kind]
}

// loaded reads the contract once for all tests: that takes far longer than making the pages.
var loaded = sync.OnceValues(func() (pages.Settings, error) {
	asJSON, err := contract.JSON(steward.Contract)
	if err != nil {
		return pages.Settings{}, err
	}
	checked, err := contract.Load(steward.Contract)
	if err != nil {
		return pages.Settings{}, err
	}
	older, err := checked.Rendering30()
	return pages.Settings{
		Contract:       steward.Contract,
		ContractJSON:   asJSON,
		ContractJSON30: older,
		PublicURL:      "https://steward.example/",
		StatusOf:       statusOf,
	}, err
})

func settings(t *testing.T) pages.Settings {
	t.Helper()
	s, err := loaded()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func made(t *testing.T) *pages.Pages {
	t.Helper()
	p, err := pages.New(settings(t))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ask makes one request; headers are given as name, value, name, value.
func ask(handler http.Handler, method, path string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w
}

// every returns every page by its path.
func every(t *testing.T, p *pages.Pages) map[string][]byte {
	t.Helper()
	all := map[string][]byte{
		"/":                ask(p.Home(), "GET", "/").Body.Bytes(),
		"/docs":            ask(p.Docs(), "GET", "/docs").Body.Bytes(),
		"/docs/lost":       ask(p.Docs(), "GET", "/docs/lost").Body.Bytes(),
		"/set-password":    ask(p.SetPassword(), "GET", "/set-password").Body.Bytes(),
		"/forgot-password": ask(p.ForgotPassword(), "GET", "/forgot-password").Body.Bytes(),
		"/problems":        p.Problems(),
	}
	for _, entry := range fault.Catalogue() {
		page, ok := p.Problem(string(entry.Code))
		if !ok {
			t.Errorf("%s has no page", entry.Code)
		}
		all["/problems/"+string(entry.Code)] = page
	}
	return all
}

func TestSettingsAreNeeded(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*pages.Settings){
		"no contract":     func(s *pages.Settings) { s.Contract = nil },
		"no JSON":         func(s *pages.Settings) { s.ContractJSON = nil },
		"no older JSON":   func(s *pages.Settings) { s.ContractJSON30 = nil },
		"no statuses":     func(s *pages.Settings) { s.StatusOf = nil },
		"no URL":          func(s *pages.Settings) { s.PublicURL = "" },
		"not a whole URL": func(s *pages.Settings) { s.PublicURL = "steward.example" },
		"a line too many": func(s *pages.Settings) { s.PublicURL = "https://steward.example/\nContact: mailto:x@example.com" },
	} {
		s := settings(t)
		spoil(&s)
		if _, err := pages.New(s); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestEveryProblemHasAPage(t *testing.T) {
	t.Parallel()
	p := made(t)
	index := string(p.Problems())
	for _, entry := range fault.Catalogue() {
		page, ok := p.Problem(string(entry.Code))
		if !ok {
			t.Errorf("%s has no page", entry.Code)
			continue
		}
		text := stdhtml.UnescapeString(string(page))
		for _, wanted := range []string{
			"<h1>" + entry.Title + "</h1>", entry.Means, entry.ToDo, string(entry.Code), http.StatusText(statusOf(entry.Kind)),
			`href="/problems"`, `href="/docs"`,
		} {
			if !strings.Contains(text, wanted) {
				t.Errorf("%s does not say %q", entry.Code, wanted)
			}
		}
		if !strings.Contains(index, `href="/problems/`+string(entry.Code)+`"`) {
			t.Errorf("the index does not lead to %s", entry.Code)
		}
	}
	for _, slug := range []string{"", "nothing", "../docs", "User-Redacted", "user-redacted/"} {
		if _, ok := p.Problem(slug); ok {
			t.Errorf("%q has a page", slug)
		}
	}
}

// TestExamplesFollowTheContract holds each example against the schema that the service's answers
// are held against.
func TestExamplesFollowTheContract(t *testing.T) {
	t.Parallel()
	s := settings(t)
	document, err := openapi3.NewLoader().LoadFromData(s.ContractJSON30)
	if err != nil {
		t.Fatal(err)
	}
	schema := document.Components.Schemas["Problem"].Value
	p := made(t)
	for _, entry := range fault.Catalogue() {
		page, _ := p.Problem(string(entry.Code))
		_, rest, _ := strings.Cut(string(page), "<pre><code>")
		text, _, found := strings.Cut(rest, "</code></pre>")
		if !found {
			t.Errorf("%s has no example", entry.Code)
			continue
		}
		var example map[string]any
		if err := json.Unmarshal([]byte(stdhtml.UnescapeString(text)), &example); err != nil {
			t.Errorf("%s: %v", entry.Code, err)
			continue
		}
		if err := schema.VisitJSON(example); err != nil {
			t.Errorf("%s: %v", entry.Code, err)
		}
		if example["type"] != "/problems/"+string(entry.Code) || example["title"] != entry.Title {
			t.Errorf("%s: %v", entry.Code, example)
		}
	}
}

// TestPagesAreSoundHTML looks for what the policy would refuse, for addresses of other hosts, and
// for what people who hear a page rely on.
func TestPagesAreSoundHTML(t *testing.T) {
	t.Parallel()
	p := made(t)
	all := every(t, p)
	for path, page := range all {
		balanced(t, path, page)
		root, err := html.Parse(bytes.NewReader(page))
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		seen := map[string]int{}
		for node := range root.Descendants() {
			if node.Type != html.ElementNode {
				continue
			}
			seen[node.Data]++
			if (node.Data == "script" && attribute(node, "src") == "") || node.Data == "style" {
				t.Errorf("%s: an inline <%s>", path, node.Data)
			}
			for _, a := range node.Attr {
				if a.Key == "style" || strings.HasPrefix(a.Key, "on") {
					t.Errorf("%s: the attribute %s", path, a.Key)
				}
				if a.Key == "href" || a.Key == "src" {
					address(t, p, all, path, a.Val)
				}
			}
			if node.Data == "html" && attribute(node, "lang") != "en" {
				t.Errorf("%s: no language", path)
			}
		}
		for _, element := range []string{"title", "main", "header", "nav", "footer", "h1"} {
			if seen[element] != 1 {
				t.Errorf("%s: %d <%s>", path, seen[element], element)
			}
		}
		if !bytes.Contains(page, []byte(`<a class="skip" href="#main">`)) ||
			!bytes.Contains(page, []byte(`<main id="main"`)) {
			t.Errorf("%s: nothing to skip to the content with", path)
		}
	}
}

func attribute(node *html.Node, name string) string {
	for _, a := range node.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// address makes sure that what a page refers to is ours and there.
func address(t *testing.T, p *pages.Pages, all map[string][]byte, path, target string) {
	t.Helper()
	switch {
	case strings.HasPrefix(target, "#"), target == "mailto:privacy@fusionspim.com":
	case strings.HasPrefix(target, "/docs/"):
		w := ask(p.Docs(), "GET", target)
		if w.Code != http.StatusOK || w.Body.Len() == 0 ||
			!strings.Contains(w.Header().Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %s is answered with %d, %q", path, target, w.Code, w.Header().Get("Cache-Control"))
		}
	case slices.Contains([]string{"/openapi.yaml", "/openapi.json", "/openapi.json?version=3.0"}, target):
	case slices.Contains([]string{"/livez", "/readyz", "/.well-known/security.txt"}, target):
	default:
		if _, ok := all[target]; !ok {
			t.Errorf("%s: leads to %q", path, target)
		}
	}
}

// balanced makes sure that what is opened is closed in its order. The parser is too forgiving to
// tell.
func balanced(t *testing.T, path string, page []byte) {
	t.Helper()
	void := []string{"meta", "link", "br", "hr", "img", "input"}
	var open []string
	tokens := html.NewTokenizer(bytes.NewReader(page))
	for {
		kind := tokens.Next()
		if kind == html.ErrorToken {
			if tokens.Err() != io.EOF || len(open) != 0 {
				t.Errorf("%s: %v, left open: %v", path, tokens.Err(), open)
			}
			return
		}
		name, _ := tokens.TagName()
		switch {
		case kind == html.StartTagToken && !slices.Contains(void, string(name)):
			open = append(open, string(name))
		case kind == html.EndTagToken:
			if len(open) == 0 || open[len(open)-1] != string(name) {
				t.Errorf("%s: </%s> closes %v", path, name, open)
				return
			}
			open = open[:len(open)-1]
		}
	}
}

func TestPoliciesAreStrict(t *testing.T) {
	t.Parallel()
	p := made(t)
	policies := map[string]string{
		"/":                ask(p.Home(), "GET", "/").Header().Get("Content-Security-Policy"),
		"/docs":            ask(p.Docs(), "GET", "/docs").Header().Get("Content-Security-Policy"),
		"/docs/":           ask(p.Docs(), "GET", "/docs/").Header().Get("Content-Security-Policy"),
		"/docs/lost":       ask(p.Docs(), "GET", "/docs/lost").Header().Get("Content-Security-Policy"),
		"problems":         pages.ContentSecurityPolicy,
		"/set-password":    ask(p.SetPassword(), "GET", "/set-password").Header().Get("Content-Security-Policy"),
		"/forgot-password": ask(p.ForgotPassword(), "GET", "/forgot-password").Header().Get("Content-Security-Policy"),
	}
	for path, policy := range policies {
		for _, wanted := range []string{"default-src 'none'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "style-src 'self'"} {
			if !strings.Contains(policy, wanted) {
				t.Errorf("%s: %q lacks %s", path, policy, wanted)
			}
		}
		for _, loose := range []string{"unsafe", "*", "http:", "https:", "blob:"} {
			if strings.Contains(policy, loose) {
				t.Errorf("%s: %q has %s", path, policy, loose)
			}
		}
		if strings.Contains(
			policy,
			"script-src",
		) != (strings.HasSuffix(strings.TrimSuffix(path, "/"), "/docs") || strings.HasSuffix(path, "-password")) {
			t.Errorf("%s: %q", path, policy)
		}
	}
	for _, w := range []*httptest.ResponseRecorder{ask(p.Home(), "GET", "/"), ask(p.Docs(), "GET", "/docs")} {
		if len(w.Result().Cookies()) != 0 {
			t.Error("a page sets a cookie")
		}
	}
}

// TestDocsAskNothingElsewhere reads our script: the settings in it are what keeps Swagger UI from
// asking a validator and keeping credentials.
func TestDocsAskNothingElsewhere(t *testing.T) {
	t.Parallel()
	script := ask(made(t).Docs(), "GET", "/docs/docs.js").Body.String()
	for _, wanted := range []string{
		"validatorUrl: null", "persistAuthorization: false", "queryConfigEnabled: false", `fetch("/openapi.json?version=3.1")`,
	} {
		if !strings.Contains(script, wanted) {
			t.Errorf("docs.js lacks %s", wanted)
		}
	}
	if strings.Contains(script, "//cdn") || strings.Contains(script, "https:") || strings.Contains(script, "http:") {
		t.Error("docs.js names another host")
	}
}

func TestCompressionIsNegotiated(t *testing.T) {
	t.Parallel()
	p := made(t)
	for path, handler := range map[string]http.Handler{
		"/": p.Home(), "/docs": p.Docs(), "/docs/swagger-ui-bundle.js": p.Docs(), "/docs/steward.css": p.Docs(), "/openapi.yaml": p.ContractYAML(),
	} {
		plain := ask(handler, "GET", path)
		zipped := ask(handler, "GET", path, "Accept-Encoding", "br, gzip;q=0.8")
		if plain.Header().Get("Content-Encoding") != "" || zipped.Header().Get("Content-Encoding") != "gzip" {
			t.Errorf(
				"%s: encoded as %q and %q",
				path,
				plain.Header().Get("Content-Encoding"),
				zipped.Header().Get("Content-Encoding"),
			)
			continue
		}
		if !bytes.Equal(unzipped(t, zipped.Body.Bytes()), plain.Body.Bytes()) {
			t.Errorf("%s: the two forms differ", path)
		}
		if plain.Header().Get("ETag") == zipped.Header().Get("ETag") ||
			zipped.Header().Get("Vary") != "Accept-Encoding" {
			t.Errorf("%s: the two forms cannot be told apart", path)
		}
		for header, wanted := range map[string]bool{
			"gzip;q=0": false, "*": true, "*;q=0": false, "*, gzip;q=0": false, "GZIP": true, "identity": false,
			"gzip;q=x": false, "gzip; q=1.0": true, "": false,
		} {
			if got := ask(
				handler,
				"HEAD",
				path,
				"Accept-Encoding",
				header,
			).Header().
				Get("Content-Encoding") ==
				"gzip"; got != wanted {
				t.Errorf("%s: Accept-Encoding %q: %t", path, header, got)
			}
		}
	}
}

func unzipped(t *testing.T, packed []byte) []byte {
	t.Helper()
	reader, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

func TestUnchangedIsNotSentAgain(t *testing.T) {
	t.Parallel()
	p := made(t)
	for path, handler := range map[string]http.Handler{
		"/": p.Home(), "/docs": p.Docs(), "/docs/docs.js": p.Docs(), "/docs/swagger-ui.css": p.Docs(), "/openapi.yaml": p.ContractYAML(),
		"/openapi.json": p.ContractJSON(""),
	} {
		for _, coding := range []string{"", "gzip"} {
			first := ask(handler, "GET", path, "Accept-Encoding", coding)
			tag := first.Header().Get("ETag")
			for _, named := range []string{tag, "W/" + tag, `"other", ` + tag, "*"} {
				again := ask(handler, "GET", path, "Accept-Encoding", coding, "If-None-Match", named)
				if again.Code != http.StatusNotModified || again.Body.Len() != 0 || again.Header().Get("ETag") != tag {
					t.Errorf("%s: If-None-Match %s is answered with %d", path, named, again.Code)
				}
			}
			if other := ask(
				handler,
				"GET",
				path,
				"Accept-Encoding",
				coding,
				"If-None-Match",
				`"other"`,
			); other.Code != http.StatusOK {
				t.Errorf("%s: another tag is answered with %d", path, other.Code)
			}
			head := ask(handler, "HEAD", path, "Accept-Encoding", coding)
			if head.Body.Len() != 0 || head.Header().Get("Content-Length") != first.Header().Get("Content-Length") {
				t.Errorf(
					"%s: HEAD has %d bytes and the length %s",
					path,
					head.Body.Len(),
					head.Header().Get("Content-Length"),
				)
			}
		}
	}
}

func TestContract(t *testing.T) {
	t.Parallel()
	s, p := settings(t), made(t)
	for _, one := range []struct {
		handler     http.Handler
		contentType string
		wanted      []byte
	}{
		{p.ContractYAML(), "application/yaml", s.Contract},
		{p.ContractJSON(""), "application/json", s.ContractJSON},
		{p.ContractJSON("3.1"), "application/json", s.ContractJSON},
		{p.ContractJSON("3.0"), "application/json", s.ContractJSON30},
	} {
		w := ask(one.handler, "GET", "/")
		if w.Code != http.StatusOK || !bytes.Equal(w.Body.Bytes(), one.wanted) ||
			w.Header().Get("Content-Type") != one.contentType {
			t.Errorf("%d, %d bytes of %s", w.Code, w.Body.Len(), w.Header().Get("Content-Type"))
		}
		if w.Header().Get("Cache-Control") != "public, max-age=300, must-revalidate" || w.Header().Get("ETag") == "" {
			t.Errorf("cached as %q under %q", w.Header().Get("Cache-Control"), w.Header().Get("ETag"))
		}
	}
}

func TestAssets(t *testing.T) {
	t.Parallel()
	docs := made(t).Docs()
	for path, wanted := range map[string]int{
		"/docs/nothing.js": 404, "/docs/README": 404, "/docs/assets/docs.js/": 404, "/docs/a/b/docs.js": 404, "/docs/../pages.go": 404,
		"/docs/swagger-ui.css.gz": 404, "/docs/docs.js": 200, "/docs/0123456789abcdef/docs.js": 200,
	} {
		w := ask(docs, "GET", path)
		if w.Code != wanted {
			t.Errorf("%s: %d", path, w.Code)
		}
		if strings.Contains(w.Header().Get("Cache-Control"), "immutable") {
			t.Errorf("%s is kept for ever under a path that may come to mean something else", path)
		}
	}
}

// TestForeignFilesAreWhatTheReadmeSays compares the files with the digests written beside them, and
// their sizes with what a repository bears.
func TestForeignFilesAreWhatTheReadmeSays(t *testing.T) {
	t.Parallel()
	docs := made(t).Docs()
	readme, err := os.ReadFile(filepath.Join("assets", "README"))
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`^  ([0-9a-f]{64})  (\S+)$`)
	compared := 0
	scanner := bufio.NewScanner(bytes.NewReader(readme))
	for scanner.Scan() {
		found := line.FindStringSubmatch(scanner.Text())
		if found == nil {
			continue
		}
		compared++
		sum := sha256.Sum256(ask(docs, "GET", "/docs/"+found[2]).Body.Bytes())
		if hex.EncodeToString(sum[:]) != found[1] {
			t.Errorf("%s is not what it was", found[2])
		}
	}
	if compared != 5 {
		t.Errorf("compared %d files", compared)
	}
	files, err := os.ReadDir("assets")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		info, err := file.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > 1_500_000 {
			t.Errorf("%s has %d bytes", file.Name(), info.Size())
		}
	}
}

func TestSecurityTxt(t *testing.T) {
	t.Parallel()
	p := made(t)
	now := time.Date(2026, 11, 24, 23, 30, 0, 0, time.UTC)
	text := string(p.SecurityTxt(now))
	for _, wanted := range []string{
		"\nContact: mailto:privacy@fusionspim.com\n", "\nExpires: 2027-11-01T00:00:00Z\n", "\nPreferred-Languages: en\n",
		"\nCanonical: https://steward.example/.well-known/security.txt\n",
	} {
		if strings.Count(text, wanted) != 1 {
			t.Errorf("%q lacks %q", text, wanted)
		}
	}
	if first := string(p.SecurityTxt(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC))); first != text {
		t.Error("it changes within a month")
	}
	if leap := string(
		p.SecurityTxt(time.Date(2028, 2, 29, 0, 0, 0, 0, time.UTC)),
	); !strings.Contains(
		leap,
		"Expires: 2029-02-01T00:00:00Z",
	) {
		t.Errorf("on a leap day: %q", leap)
	}
	s := settings(t)
	s.PublicURL = "http://127.0.0.1:8080"
	plain, err := pages.New(s)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(plain.SecurityTxt(now)), "Canonical") {
		t.Error("RFC 9116 asks for https")
	}
}
