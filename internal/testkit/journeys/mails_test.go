package journeys

import (
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/fusionspim/steward/internal/app"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/infra/mail"
	"github.com/fusionspim/steward/internal/integration/alert"
	"github.com/fusionspim/steward/internal/testkit/apptest"
	"github.com/fusionspim/steward/internal/testkit/bench/smtpsink"
	"github.com/fusionspim/steward/internal/testkit/journeys/steps"
)

// door stands before a mail server, and lets connections through when it is opened.
type door struct {
	listener net.Listener
	knocked  chan struct{} // closed at the first connection
	opened   chan struct{}
	passing  sync.WaitGroup
}

func newDoor(t *testing.T, to *smtpsink.Sink) *door {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &door{listener: listener, knocked: make(chan struct{}), opened: make(chan struct{})}
	var knock sync.Once
	d.passing.Go(func() {
		for {
			outside, err := listener.Accept()
			if err != nil {
				return
			}
			knock.Do(func() { close(d.knocked) })
			d.passing.Go(func() {
				defer outside.Close() //nolint:errcheck // both sides have ended
				<-d.opened
				inside, err := net.Dial("tcp", to.Address())
				if err != nil {
					return
				}
				defer inside.Close() //nolint:errcheck // both sides have ended
				d.passing.Go(func() {
					_, _ = io.Copy(inside, outside)
					_ = inside.(*net.TCPConn).CloseWrite()
				})
				_, _ = io.Copy(outside, inside)
			})
		}
	})
	return d
}

func (d *door) close(t *testing.T) {
	t.Helper()
	if err := d.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	d.passing.Wait()
}

// knocks waits until somebody comes.
func (d *door) knocks(t *testing.T) {
	t.Helper()
	select {
	case <-d.knocked:
	case <-time.After(steps.Patience):
		t.Fatal("nobody came to the mail server")
	}
}

// slowMail starts a service whose mail server stands behind a door that is shut.
func slowMail(t *testing.T) (s *apptest.Service, sink *smtpsink.Sink, before *door) {
	t.Helper()
	sink = steps.NewSink(t, smtpsink.Settings{})
	before = newDoor(t, sink)
	t.Cleanup(func() { before.close(t) })
	settings, err := mail.ParseURL(sensitive.New("smtp://" + before.listener.Addr().String() + "?from=steward@steward.test&command_timeout=1m"))
	if err != nil {
		t.Fatal(err)
	}
	return apptest.StartWith(t, func(of *app.Settings) { of.Mail = &settings }), sink, before
}

// Who leaves while the mail server makes an alert wait gets nothing of it, but for what was read within the last second.
func TestWhoOptsOutWhileTheMailServerIsSlowGetsNoAlert(t *testing.T) {
	t.Parallel()
	s, sink, before := slowMail(t)
	acme := s.Customer(t, "acme")
	if _, err := s.Alerts.Raise(t.Context(), principal.Principal{Customer: acme.ID}, alert.New{Severity: alert.Critical, Subject: "It broke", Body: "Twice."}, nil); err != nil {
		t.Fatal(err)
	}
	before.knocks(t)
	// The oldest account is the first whose mail waits.
	s.Call(t, http.MethodPut, "/v1/users/"+acme.Admin.ID.String()+"/alerts", apptest.As(acme.APIKey), apptest.JSON(map[string]bool{"opted_in": false})).Want(t, http.StatusOK)
	time.Sleep(1100 * time.Millisecond) // longer than what was read is good for
	close(before.opened)
	steps.Await(t, "the mail to who stays", func() bool { return len(sink.To(acme.User.Email)) == 1 })
	steps.Await(t, "the alert to be done", func() bool {
		var left int
		peek(t, s, "select count(*) from alert_deliveries where state = 'pending'", &left)
		return left == 0
	})
	if mails := sink.To(acme.Admin.Email); len(mails) != 0 {
		t.Errorf("who opted out got %d mails", len(mails))
	}
}

// A mail is worded when the mail server listens: who is erased while that makes everybody wait gets none.
func TestWhoIsErasedWhileTheMailServerIsSlowGetsNothing(t *testing.T) {
	t.Parallel()
	s, sink, before := slowMail(t)
	acme := s.Customer(t, "acme")
	key := apptest.As(acme.APIKey)
	invite := func(email string) (path string) {
		t.Helper()
		return "/v1/users/" + s.Call(t, http.MethodPost, "/v1/users", key, apptest.JSON(map[string]string{"first_name": "Mira", "last_name": "Okonkwo", "email": email})).
			Want(t, http.StatusCreated).Text(t, "id")
	}
	leaving := invite("leaving@acme.example")
	before.knocks(t)
	s.Call(t, http.MethodPost, leaving+"/redaction", key).Want(t, http.StatusOK)
	invite("staying@acme.example")
	close(before.opened)
	steps.Await(t, "the mail to who stays", func() bool { return len(sink.To("staying@acme.example")) == 1 })
	steps.Await(t, "every job to be done", func() bool {
		var left int
		peek(t, s, "select count(*) from jobs.river_job where kind = 'password_mail' and state <> 'completed'", &left)
		return left == 0
	})
	if mails := sink.Mails(); len(mails) != 1 {
		t.Errorf("%d mails were sent", len(mails))
	}
}
