package devmail

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fusionspim/steward/internal/base/clock"
	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/infra/mail"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type box struct {
	*Server
	sender *mail.Sender
	log    *strings.Builder
}

func start(t *testing.T) box {
	t.Helper()
	log := &strings.Builder{}
	var mu sync.Mutex
	server, err := Start(t.Context(), slog.New(slog.NewTextHandler(locked{&mu, log}, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	settings, err := mail.ParseURL(sensitive.New(server.SMTPURL()))
	if err != nil {
		t.Fatal(err)
	}
	settings.From = "Steward <no-reply@steward.example>"
	sender, err := mail.NewSender(settings, clock.System())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = sender.Close()
		_ = server.Close()
	})
	return box{server, sender, log}
}

type locked struct {
	mu  *sync.Mutex
	out io.Writer
}

func (l locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(p)
}

func (b box) send(t *testing.T, to, name string) {
	t.Helper()
	m, err := mail.NewInvitation(to, mail.Invitation{
		PersonName: name, CustomerName: "Acmé", Link: "http://127.0.0.1:8080/set-password?token=abc", ValidFor: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.sender.Send(t.Context(), mail.Composed(m), "0198f5d2@steward.example"); err != nil {
		t.Fatal(err)
	}
}

func (b box) call(method, target, accept string) *http.Response {
	r := httptest.NewRequest(method, target, nil)
	r.Header.Set("Accept", accept)
	w := httptest.NewRecorder()
	http.StripPrefix("/mailbox", b.Handler()).ServeHTTP(w, r)
	return w.Result()
}

func (b box) page(t *testing.T, target string, status int) string {
	t.Helper()
	response := b.call(http.MethodGet, target, "text/html,application/xhtml+xml,*/*;q=0.8")
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != status {
		t.Fatalf("%s: %d, %v\n%s", target, response.StatusCode, err, body)
	}
	policy := response.Header.Get("Content-Security-Policy")
	if strings.Contains(policy, "unsafe") || !strings.HasPrefix(policy, "default-src 'none'") || response.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s: headers %v", target, response.Header)
	}
	if strings.Contains(policy, "'self'; img-src") && regexp.MustCompile(`(?i)<style|style="|<script`).MatchString(string(body)) {
		t.Errorf("%s holds what its policy forbids", target)
	}
	return string(body)
}

type listing struct {
	Data []struct {
		ID, To, Subject, Text, HTML string
		At                          time.Time
	}
}

func (b box) list(t *testing.T, query string) (l listing) {
	t.Helper()
	response := b.call(http.MethodGet, "/mailbox/"+query, "application/json")
	if response.Header.Get("Content-Type") != "application/json" || json.NewDecoder(response.Body).Decode(&l) != nil || l.Data == nil {
		t.Fatalf("%v", response)
	}
	return l
}

func TestMailsAreListedNewestFirst(t *testing.T) {
	t.Parallel()
	b := start(t)
	if l := b.list(t, ""); len(l.Data) != 0 {
		t.Fatal(l)
	}
	b.send(t, "Ada@acme.example", "Ada")
	b.send(t, "zoë@exämple.example", "Zoë")
	l := b.list(t, "")
	if len(l.Data) != 2 || l.Data[0].To != "zoë@exämple.example" || l.Data[1].To != "Ada@acme.example" || l.Data[0].At.Before(l.Data[1].At) {
		t.Fatalf("%+v", l)
	}
	first := l.Data[0]
	if first.Subject != "Choose a password for your Acmé account" || !strings.Contains(first.Text, "Hello Zoë,\n") ||
		!strings.Contains(first.HTML, `href="http://127.0.0.1:8080/set-password?token=abc"`) || time.Since(first.At) > time.Minute {
		t.Fatalf("%+v", first)
	}
	for query, want := range map[string]int{
		"?to=ada@acme.example": 1, "?to=ADA@ACME.EXAMPLE": 1, "?to=eve@acme.example": 0, "?to=zoë@xn--exmple-cua.example": 1, "?to=Zoë@exämple.example": 1,
	} {
		if got := len(b.list(t, query).Data); got != want {
			t.Errorf("%s gives %d", query, got)
		}
	}
	if strings.Contains(b.log.String(), "acme") || strings.Contains(b.log.String(), "Zo") {
		t.Error(b.log.String())
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	b := start(t)
	if page := b.page(t, "/mailbox/", 200); !strings.Contains(page, "There are no mails yet") {
		t.Error(page)
	}
	b.send(t, "ada@acme.example", `<script>alert(1)</script>`)
	id := b.list(t, "").Data[0].ID
	if page := b.page(t, "/mailbox/", 200); !strings.Contains(page, `href="mails/`+id+`"`) {
		t.Error(page)
	}
	html := b.page(t, "/mailbox/mails/"+id, 200)
	if !strings.Contains(html, `src="`+id+`/html" sandbox="allow-popups allow-popups-to-escape-sandbox"`) || strings.Contains(html, "alert(1)") {
		t.Error(html)
	}
	if page := b.page(t, "/mailbox/mails/"+id+"?view=text", 200); !strings.Contains(page, "&lt;script&gt;") || strings.Contains(page, "<iframe") {
		t.Error(page)
	}
	mail := b.call(http.MethodGet, "/mailbox/mails/"+id+"/html", "text/html")
	policy := mail.Header.Get("Content-Security-Policy")
	body, _ := io.ReadAll(mail.Body)
	if !strings.Contains(policy, "style-src 'sha256-") || !strings.Contains(policy, "sandbox allow-popups") || strings.Contains(policy, "script") ||
		!strings.Contains(string(body), `<base target="_blank">`) {
		t.Errorf("%s\n%s", policy, body)
	}
	for _, target := range []string{"/mailbox/mails/nothing", "/mailbox/mails/nothing/html", "/mailbox/x/y/z"} {
		b.page(t, target, 404)
	}
	for _, target := range []string{"/mailbox/mailbox.css", "/mailbox/icon.svg"} {
		if response := b.call(http.MethodGet, target, "*/*"); response.StatusCode != 200 {
			t.Errorf("%s: %d", target, response.StatusCode)
		}
	}
	if response := b.call(http.MethodPost, "/mailbox/", "*/*"); response.StatusCode != 405 {
		t.Error(response.StatusCode)
	}
	if response := b.call(http.MethodDelete, "/mailbox/", "*/*"); response.StatusCode != 204 || len(b.list(t, "").Data) != 0 {
		t.Error(response.StatusCode)
	}
}

func TestErasureReachesTheMailbox(t *testing.T) {
	t.Parallel()
	b := start(t)
	for _, to := range []string{"ada@exämple.example", "eve@acme.example", "ADA@exämple.example"} {
		b.send(t, to, "X")
	}
	if n := b.RemoveTo("Ada@EXÄMPLE.example"); n != 2 {
		t.Errorf("removed %d", n)
	}
	if l := b.list(t, ""); len(l.Data) != 1 || l.Data[0].To != "eve@acme.example" || b.RemoveTo("ada@exämple.example") != 0 {
		t.Errorf("%+v", l)
	}
}

func TestTheLastThousandAreKept(t *testing.T) {
	t.Parallel()
	b := start(t)
	for i := range mostMails + 5 {
		b.keep([]string{fmt.Sprintf("u%d@acme.example", i)}, []byte("Subject: s\r\n\r\ntext"))
	}
	all := b.newestFirst("")
	if len(all) != mostMails || all[0].to[0] != "u1004@acme.example" || all[mostMails-1].to[0] != "u5@acme.example" {
		t.Fatalf("%d, %v", len(all), all[0].to)
	}
}

func TestItEndsWithItsContext(t *testing.T) {
	t.Parallel()
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		server, err := Start(ctx, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		<-server.done
		_ = server.Close()
	}
}

func TestOddMailsAreShown(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]content{
		"no mail at all":          {Subject: "(not a well-formed mail)", Text: "no mail at all"},
		"Subject: s\r\n\r\nplain": {Subject: "s", Text: "plain"},
		"Subject: s\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\nPGI+": {Subject: "s", HTML: "<b>"},
		"Subject: s\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: multipart/alternative; boundary=y\r\n\r\n" +
			"--y\r\n\r\na\r\n--y\r\nContent-Type: text/html\r\n\r\n<i>\r\n--y--\r\n--x\r\n\r\nb\r\n--x--": {Subject: "s", Text: "a", HTML: "<i>"},
		"Subject: s\r\nContent-Type: multipart/mixed\r\n\r\n--x": {Subject: "s"},
	} {
		if got := parse([]byte(raw)); got.Subject != want.Subject || got.Text != want.Text || got.HTML != want.HTML {
			t.Errorf("%q is %+v", raw, got)
		}
	}
}

func TestWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	for accept, want := range map[string]bool{
		"": false, "*/*": false, "application/json": true, "application/json, */*;q=0.5": true, "text/html,application/json;q=0.9": false,
	} {
		if wantsJSON(accept) != want {
			t.Errorf("%q", accept)
		}
	}
}
