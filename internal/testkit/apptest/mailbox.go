package apptest

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/dev/devmail"
	"github.com/fusionspim/steward/internal/infra/mail"
	"github.com/fusionspim/steward/internal/testkit/dbtest"
)

// Mailbox catches the mails of all replicas on one database.
type Mailbox struct{ server *devmail.Server }

// Mail is one mail that was caught.
type Mail struct {
	To      string `json:"to"`
	Subject string `json:"subject"`
	Text    string `json:"text"`
	HTML    string `json:"html"`
}

// mailboxes holds the mailbox of each database: whichever replica sends a mail, it is found in the same place.
var mailboxes sync.Map

func mailboxOf(t testing.TB, database *dbtest.Database) *Mailbox {
	t.Helper()
	if there, ok := mailboxes.Load(database); ok {
		return there.(*Mailbox)
	}
	server, err := devmail.Start(context.WithoutCancel(t.Context()), database.Log.Logger())
	if err != nil {
		t.Fatal(err)
	}
	made := &Mailbox{server: server}
	mailboxes.Store(database, made)
	t.Cleanup(func() {
		mailboxes.Delete(database)
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return made
}

// Settings sends mails to the mailbox.
func (m *Mailbox) Settings(t testing.TB) *mail.Settings {
	t.Helper()
	settings, err := mail.ParseURL(sensitive.New(m.server.SMTPURL()))
	if err != nil {
		t.Fatal(err)
	}
	settings.From = "Steward <no-reply@steward.test>"
	return &settings
}

// To returns the mails to an address that have come by now, newest first.
func (m *Mailbox) To(t testing.TB, address string) (mails []Mail) {
	t.Helper()
	request := httptest.NewRequest(http.MethodGet, "/?to="+url.QueryEscape(address), http.NoBody)
	request.Header.Set("Accept", "application/json")
	answer := httptest.NewRecorder()
	m.server.Handler().ServeHTTP(answer, request)
	var list struct {
		Data []Mail `json:"data"`
	}
	if err := json.Unmarshal(answer.Body.Bytes(), &list); err != nil {
		t.Fatalf("the mailbox: %v: %s", err, answer.Body)
	}
	return list.Data
}

// MailTo waits for a mail to an address whose subject has the words in it, and returns the newest.
func (s *Service) MailTo(t testing.TB, address, words string) Mail {
	t.Helper()
	for began := time.Now(); time.Since(began) < 2*time.Minute; time.Sleep(20 * time.Millisecond) {
		for _, one := range s.Mailbox.To(t, address) {
			if strings.Contains(one.Subject, words) {
				return one
			}
		}
	}
	t.Fatalf("no mail about %q came to %s; there are %v\n%s", words, address, s.Mailbox.To(t, address), s.Database.Log.String())
	return Mail{}
}

// Token is the token of the link in a mail.
func (m Mail) Token(t testing.TB) string {
	t.Helper()
	_, rest, found := strings.Cut(m.Text, "#token=")
	if !found {
		t.Fatalf("no link in %s", m.Text)
	}
	return strings.Fields(rest)[0]
}
