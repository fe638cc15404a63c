package mail

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"go.uber.org/goleak"

	"github.com/fusionspim/steward/internal/base/address"
	"github.com/fusionspim/steward/internal/base/clock"
	"github.com/fusionspim/steward/internal/base/sensitive"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const messageID = "0198f5d2-1c5e-7c3a-9c1e-000000000001@steward.example"

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func newSender(t *testing.T, settings Settings) *Sender {
	t.Helper()
	s, err := NewSender(settings, clock.NewManual(noon).Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func invitation(t *testing.T, to string) Message {
	t.Helper()
	m, err := NewInvitation(to, Invitation{
		PersonName: "Ada Lovelace", CustomerName: "Acme", Link: "https://steward.example/set-password#token=abc", ValidFor: 72 * time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func alert(t *testing.T, to string) Message {
	t.Helper()
	m, err := NewAlert(to, Alert{
		Severity: SeverityCritical, Subject: "Übertragung nach Łódź fehlgeschlagen 🚨", Body: "Line 1\n  Line 2\n\nLine 4", CustomerName: "Acme", At: noon,
		UnsubscribeLink: "https://steward.example/alerts/off?token=abc", Why: "Alerts are switched on for your account at Acme.",
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func parsed(t *testing.T, content []byte) *mail.Message {
	t.Helper()
	m, err := mail.ReadMessage(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestSendsUnderEachEncryption(t *testing.T) {
	t.Parallel()
	for _, encryption := range []Encryption{EncryptionNone, EncryptionStartTLS, EncryptionImplicit} {
		for _, password := range []string{"", "p@ss:wörd/?#"} {
			t.Run(fmt.Sprintf("%s signed in %t", encryption, password != ""), func(t *testing.T) {
				t.Parallel()
				there := serve(t, serving{encryption: encryption, password: password})
				s := newSender(t, there.settings)
				if err := s.Send(t.Context(), Composed(alert(t, "ada@acme.example")), messageID); err != nil {
					t.Fatal(err)
				}
				got := there.received()
				if len(got) != 1 || got[0].from != "no-reply@steward.example" || got[0].to != "ada@acme.example" {
					t.Fatalf("received %v", got)
				}
				m := parsed(t, got[0].content)
				for header, want := range map[string]string{
					"Message-Id": "<" + messageID + ">", "Date": "Tue, 24 Nov 2026 12:00:00 +0000", "Auto-Submitted": "auto-generated",
					"From": `"Steward" <no-reply@steward.example>`, "To": "<ada@acme.example>",
					"List-Unsubscribe": "<https://steward.example/alerts/off?token=abc>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
				} {
					if m.Header.Get(header) != want {
						t.Errorf("%s is %q, not %q", header, m.Header.Get(header), want)
					}
				}
				if subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject")); err != nil || subject != alert(t, "ada@acme.example").Subject() {
					t.Errorf("subject %q, %v", subject, err)
				}
				if there.utf8 != 0 {
					t.Error("SMTPUTF8 was asked for without need")
				}
			})
		}
	}
}

func TestOnlyAlertsCanBeUnsubscribed(t *testing.T) {
	t.Parallel()
	content, err := encoded(invitation(t, "ada@acme.example"), sender{address: address.Address{Local: "a", Domain: "b.example"}}, messageID, noon)
	if err != nil || strings.Contains(string(content), "Unsubscribe") {
		t.Fatalf("%v\n%s", err, content)
	}
}

func TestRefusesToTalkInTheClear(t *testing.T) {
	t.Parallel()
	there := serve(t, serving{encryption: EncryptionNone})
	settings := there.settings
	settings.Encryption = EncryptionStartTLS // which this server does not offer
	err := newSender(t, settings).Send(t.Context(), Composed(invitation(t, "ada@acme.example")), messageID)
	if err == nil || !Temporary(err) || !strings.Contains(err.Error(), "STARTTLS") || len(there.received()) != 0 {
		t.Fatal(err)
	}
}

func TestRefusesAnUnknownCertificate(t *testing.T) {
	t.Parallel()
	for _, encryption := range []Encryption{EncryptionStartTLS, EncryptionImplicit} {
		there := serve(t, serving{encryption: encryption})
		settings := there.settings
		settings.RootCAs = nil
		err := newSender(t, settings).Send(t.Context(), Composed(invitation(t, "ada@acme.example")), messageID)
		if err == nil || !Temporary(err) || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("%s: %v", encryption, err)
		}
	}
}

// Credentials are ours, not the mail's: a mail must survive a password that was changed at the mail
// server.
func TestWrongPasswordIsTemporary(t *testing.T) {
	t.Parallel()
	there := serve(t, serving{encryption: EncryptionStartTLS, password: "right"})
	settings := there.settings
	settings.Password = sensitive.New("wrong-but-secret")
	err := newSender(t, settings).Send(t.Context(), Composed(invitation(t, "ada@acme.example")), messageID)
	var failure *Error
	if !errors.As(err, &failure) || !Temporary(err) || Permanent(err) || failure.Code() < 500 || strings.Contains(err.Error(), "secret") {
		t.Fatal(err)
	}
}

func TestAnswersAreClassified(t *testing.T) {
	t.Parallel()
	gossip := "mailbox of ada@acme.example, née Byron"
	type refusal struct {
		at        string
		code      int
		enhanced  smtp.EnhancedCode
		permanent bool
	}
	for _, c := range []refusal{
		{"rcpt", 450, smtp.EnhancedCode{4, 2, 0}, false}, // greylisting
		{"rcpt", 421, smtp.EnhancedCode{4, 3, 2}, false},
		{"rcpt", 550, smtp.EnhancedCode{5, 1, 1}, true},
		{"rcpt", 530, smtp.EnhancedCode{5, 7, 0}, false}, // wants us to sign in
		{"from", 550, smtp.EnhancedCode{5, 7, 1}, false}, // of the sender, not of this mail
		{"data", 451, smtp.EnhancedCode{4, 7, 1}, false},
		{"data", 554, smtp.EnhancedCode{5, 6, 0}, true},
	} {
		t.Run(fmt.Sprintf("%s %d", c.at, c.code), func(t *testing.T) {
			t.Parallel()
			there := serve(t, serving{encryption: EncryptionNone})
			answer := &smtp.SMTPError{Code: c.code, EnhancedCode: c.enhanced, Message: gossip}
			refused := true
			say := func() error {
				if !refused {
					return nil
				}
				return answer
			}
			switch c.at {
			case "rcpt":
				there.rcpt = func(*smtp.Conn, string) error { return say() }
			case "from":
				there.from = func(*smtp.Conn) error { return say() }
			case "data":
				there.data = func(_ *smtp.Conn, content io.Reader) error {
					_, _ = io.Copy(io.Discard, content)
					return say()
				}
			}
			s := newSender(t, there.settings)
			err := s.Send(t.Context(), Composed(invitation(t, "ada@acme.example")), messageID)
			var failure *Error
			if !errors.As(err, &failure) || failure.Code() != c.code || Permanent(err) != c.permanent || Temporary(err) == c.permanent {
				t.Fatalf("%v", err)
			}
			if want := fmt.Sprintf("%d.%d.%d", c.enhanced[0], c.enhanced[1], c.enhanced[2]); failure.EnhancedCode() != want {
				t.Errorf("enhanced code %q", failure.EnhancedCode())
			}
			for _, personal := range []string{"ada", "acme", "Byron", "mailbox"} {
				if strings.Contains(err.Error(), personal) {
					t.Errorf("the error holds %q: %v", personal, err)
				}
			}
			there.mu.Lock()
			refused = false
			there.mu.Unlock()
			if err := s.Send(t.Context(), Composed(invitation(t, "eve@acme.example")), messageID); err != nil {
				t.Fatalf("the next mail: %v", err)
			}
		})
	}
}

func TestHangEndsWithTheDeadline(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"command", "deadline", "cancel"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			there := serve(t, serving{encryption: EncryptionNone})
			hanging, release := make(chan struct{}), make(chan struct{})
			defer close(release)
			there.rcpt = func(*smtp.Conn, string) error {
				close(hanging)
				<-release
				return nil
			}
			settings := there.settings
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var want error
			switch end {
			case "command":
				settings.CommandTimeout = 100 * time.Millisecond
			case "deadline":
				ctx, cancel = context.WithTimeout(ctx, 100*time.Millisecond)
				defer cancel()
				want = context.DeadlineExceeded
			case "cancel":
				go func() {
					<-hanging
					cancel()
				}()
				want = context.Canceled
			}
			began := time.Now()
			err := newSender(t, settings).Send(ctx, Composed(invitation(t, "ada@acme.example")), messageID)
			if err == nil || !Temporary(err) || !errors.Is(err, want) && want != nil || time.Since(began) > 30*time.Second {
				t.Fatalf("%v after %v", err, time.Since(began))
			}
		})
	}
}

// A server that takes the connection and never says a word.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	for _, encryption := range []Encryption{EncryptionNone, EncryptionImplicit} {
		err = newSender(t, Settings{
			Host: "127.0.0.1", Port: listener.Addr().(*net.TCPAddr).Port, Encryption: encryption, From: "a@b.example", CommandTimeout: 80 * time.Millisecond,
		}).Send(t.Context(), Composed(invitation(t, "ada@acme.example")), messageID)
		if err == nil || !Temporary(err) || !strings.Contains(err.Error(), "in time") {
			t.Fatal(err)
		}
	}
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	_ = listener.Close()
	err = newSender(t, Settings{Host: "127.0.0.1", Port: port, Encryption: EncryptionNone, From: "a@b.example"}).
		Send(t.Context(), Composed(invitation(t, "ada@acme.example")), messageID)
	if err == nil || !Temporary(err) || !strings.Contains(err.Error(), "refused") {
		t.Fatal(err)
	}
}

func TestDropInTheMiddleOfTheContent(t *testing.T) {
	t.Parallel()
	there := serve(t, serving{encryption: EncryptionNone})
	there.data = func(c *smtp.Conn, content io.Reader) error {
		_, _ = content.Read(make([]byte, 10))
		return c.Conn().Close()
	}
	s := newSender(t, there.settings)
	err := s.Send(t.Context(), Composed(invitation(t, "ada@acme.example")), messageID)
	if err == nil || !Temporary(err) || !strings.Contains(err.Error(), "lost") {
		t.Fatal(err)
	}
	if there.connections() != 1 {
		t.Fatal("what may have been taken must not be sent again without the caller")
	}
	there.mu.Lock()
	there.data = nil
	there.mu.Unlock()
	if err := s.Send(t.Context(), Composed(invitation(t, "ada@acme.example")), messageID); err != nil {
		t.Fatal(err)
	}
	if got := there.received(); len(got) != 1 || parsed(t, got[0].content).Header.Get("Message-Id") != "<"+messageID+">" {
		t.Fatalf("%v", got)
	}
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	t.Parallel()
	there := serve(t, serving{encryption: EncryptionImplicit, password: "secret"})
	settings := there.settings
	settings.PerConnection = 10
	s := newSender(t, settings)
	for i := range 25 {
		if err := s.Send(t.Context(), Composed(invitation(t, fmt.Sprintf("user-%d@acme.example", i))), messageID); err != nil {
			t.Fatal(err)
		}
	}
	if len(there.received()) != 25 || there.connections() != 3 {
		t.Fatalf("%d mails over %d connections", len(there.received()), there.connections())
	}
}

// A refused recipient must not stay in the conversation, or the next mail would go to both.
func TestRefusedRecipientIsForgotten(t *testing.T) {
	t.Parallel()
	there := serve(t, serving{encryption: EncryptionNone})
	there.rcpt = func(_ *smtp.Conn, to string) error {
		if strings.HasPrefix(to, "gone") {
			return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no"}
		}
		return nil
	}
	s := newSender(t, there.settings)
	for i := range 3 {
		if err := s.Send(t.Context(), Composed(invitation(t, "gone@acme.example")), messageID); !Permanent(err) {
			t.Fatal(err)
		}
		if err := s.Send(t.Context(), Composed(invitation(t, fmt.Sprintf("user-%d@acme.example", i))), messageID); err != nil {
			t.Fatal(err)
		}
	}
	if len(there.received()) != 3 || there.connections() != 1 {
		t.Fatalf("%d mails over %d connections", len(there.received()), there.connections())
	}
}

func TestUnusedConnectionsAreClosed(t *testing.T) {
	t.Parallel()
	there := serve(t, serving{encryption: EncryptionNone})
	settings := there.settings
	settings.IdleTimeout = 30 * time.Millisecond
	if err := newSender(t, settings).Send(t.Context(), Composed(invitation(t, "ada@acme.example")), messageID); err != nil {
		t.Fatal(err)
	}
	select {
	case <-there.ended:
	case <-time.After(30 * time.Second):
		t.Fatal("the connection is still there")
	}
}

// The server ends a connection that is unused: the next mail finds out, and goes over another one
// without an error.
func TestStaleConnectionIsReplaced(t *testing.T) {
	t.Parallel()
	there := serve(t, serving{encryption: EncryptionNone})
	var mu sync.Mutex
	var conns []*smtp.Conn
	there.rcpt = func(c *smtp.Conn, _ string) error {
		mu.Lock()
		conns = append(conns, c)
		mu.Unlock()
		return nil
	}
	s := newSender(t, there.settings)
	for range 3 {
		if err := s.Send(t.Context(), Composed(invitation(t, "ada@acme.example")), messageID); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		for _, c := range conns {
			_ = c.Conn().Close()
		}
		mu.Unlock()
	}
	if len(there.received()) != 3 || there.connections() != 3 {
		t.Fatalf("%d mails over %d connections", len(there.received()), there.connections())
	}
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	there := serve(t, serving{encryption: EncryptionNone})
	var mu sync.Mutex
	under, most := 0, 0
	there.data = func(_ *smtp.Conn, content io.Reader) error {
		mu.Lock()
		under++
		most = max(most, under)
		mu.Unlock()
		all, err := io.ReadAll(content)
		mu.Lock()
		under--
		mu.Unlock()
		there.mu.Lock()
		there.got = append(there.got, received{content: all})
		there.mu.Unlock()
		return err
	}
	settings := there.settings
	settings.Connections = 3
	s := newSender(t, settings)
	var group sync.WaitGroup
	for i := range 200 {
		group.Go(func() {
			id := fmt.Sprintf("%d@steward.example", i)
			if err := s.Send(context.Background(), Composed(invitation(t, fmt.Sprintf("user-%d@acme.example", i))), id); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	seen := map[string]bool{}
	for _, one := range there.received() {
		m := parsed(t, one.content)
		if local, _, _ := strings.Cut(m.Header.Get("Message-Id"), "@"); !strings.Contains(m.Header.Get("To"), "user-"+strings.Trim(local, "<")+"@") {
			t.Errorf("%s went to %s", m.Header.Get("Message-Id"), m.Header.Get("To"))
		}
		seen[m.Header.Get("Message-Id")] = true
	}
	// 200 mails, 100 for each connection
	if len(seen) != 200 || most > 3 || there.connections() > 9 {
		t.Fatalf("%d mails, %d at once, %d connections", len(seen), most, there.connections())
	}
}

func TestWaitingForAConnectionEndsWithTheContext(t *testing.T) {
	t.Parallel()
	there := serve(t, serving{encryption: EncryptionNone})
	hanging, release := make(chan struct{}), make(chan struct{})
	there.rcpt = func(*smtp.Conn, string) error {
		close(hanging)
		<-release
		return nil
	}
	settings := there.settings
	settings.Connections = 1
	s := newSender(t, settings)
	first := make(chan error, 1)
	go func() { first <- s.Send(context.Background(), Composed(invitation(t, "ada@acme.example")), messageID) }()
	<-hanging
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Send(ctx, Composed(invitation(t, "eve@acme.example")), messageID); !errors.Is(err, context.DeadlineExceeded) || !Temporary(err) {
		t.Error(err)
	}
	close(release)
	if err := <-first; err != nil {
		t.Error(err)
	}
	_ = s.Close()
	if err := s.Send(t.Context(), Composed(invitation(t, "eve@acme.example")), messageID); err == nil || !Temporary(err) {
		t.Error(err)
	}
}

func TestAddressesOfTheWorld(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		to, want string
		noUTF8   bool
		asked    int
	}{
		{to: "zoe@exämple.example", want: "zoe@xn--exmple-cua.example", noUTF8: true},
		{to: "zoe@exämple.example", want: "zoe@xn--exmple-cua.example"},
		{to: "zoë@exämple.example", want: "zoë@xn--exmple-cua.example", asked: 1},
		{to: "用户@例子.example", want: "用户@xn--fsqu00a.example", asked: 1},
		{to: "zoë@acme.example", noUTF8: true},
	} {
		there := serve(t, serving{encryption: EncryptionNone, noUTF8: c.noUTF8})
		err := newSender(t, there.settings).Send(t.Context(), Composed(invitation(t, c.to)), messageID)
		if c.want == "" {
			if !Permanent(err) || strings.Contains(err.Error(), "zo") || len(there.received()) != 0 {
				t.Errorf("%s: %v", c.to, err)
			}
			continue
		}
		if got := there.received(); err != nil || len(got) != 1 || got[0].to != c.want || there.utf8 != c.asked {
			t.Errorf("%s: %v, %d asked, %v", c.to, err, there.utf8, got)
		} else if to := parsed(t, got[0].content).Header.Get("To"); to != "<"+c.want+">" {
			t.Errorf("%s: the header says %s", c.to, to)
		}
	}
}

func TestNothingIsSentThatWasNotComposed(t *testing.T) {
	t.Parallel()
	there := serve(t, serving{encryption: EncryptionNone})
	s := newSender(t, there.settings)
	if err := s.Send(t.Context(), Composed(Message{}), messageID); !Permanent(err) {
		t.Error(err)
	}
	for _, id := range []string{"", "no-at", "<a@b.example>", "a b@c.example", "a@b.example\r\nBcc: eve@evil.example", "a@b@c"} {
		if err := s.Send(t.Context(), Composed(invitation(t, "ada@acme.example")), id); !Permanent(err) {
			t.Errorf("%q: %v", id, err)
		}
	}
	if got := there.received(); len(got) != 0 {
		t.Errorf("it was sent: %v", got)
	}
}

// What one alert costs, worded, encoded and taken by a mail server in the same process, over four
// connections.
func BenchmarkSend(b *testing.B) {
	there := serve(b, serving{encryption: EncryptionNone})
	there.data = func(_ *smtp.Conn, content io.Reader) error {
		_, err := io.Copy(io.Discard, content)
		return err
	}
	s, err := NewSender(there.settings, clock.System())
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	b.ReportAllocs()
	b.SetParallelism(8)
	b.RunParallel(func(each *testing.PB) {
		for each.Next() {
			m, err := NewAlert("ada@acme.example", Alert{
				Severity: SeverityError, Subject: "Import failed", Body: "Row 17", CustomerName: "Acme", UnsubscribeLink: off, Why: why,
			})
			if err == nil {
				err = s.Send(context.Background(), Composed(m), messageID)
			}
			if err != nil {
				b.Error(err)
			}
		}
	})
}
