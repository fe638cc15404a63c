package mail

import (
	"context"
	"errors"
	"testing"

	"github.com/emersion/go-smtp"
)

// Many mails in a row leave a connection to single ones, and a place that nobody gives back keeps
// nobody beyond the end of a context.
func TestLinesLeaveAConnectionToSingleMails(t *testing.T) {
	t.Parallel()
	there := serve(t, serving{encryption: EncryptionNone})
	there.settings.Connections = 3
	s := newSender(t, there.settings)
	var lines []*Line
	for range 2 {
		line, err := s.Line(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	over, end := context.WithCancel(t.Context())
	end()
	if _, err := s.Line(over); !errors.Is(err, context.Canceled) || !Temporary(err) {
		t.Errorf("a third line: %v", err)
	}
	if err := s.Send(t.Context(), Composed(invitation(t, "ada@acme.example")), messageID); err != nil {
		t.Errorf("a single mail beside two lines: %v", err)
	}
	for _, line := range lines {
		if err := line.Send(t.Context(), Composed(alert(t, "grace@acme.example")), messageID); err != nil {
			t.Error(err)
		}
		line.Close()
	}
	if got := len(there.received()); got != 3 {
		t.Errorf("%d mails came", got)
	}
	for range 2 {
		line, err := s.Line(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer line.Close()
	}
}

func TestWhatWasRefused(t *testing.T) {
	t.Parallel()
	there := serve(t, serving{encryption: EncryptionNone})
	s := newSender(t, there.settings)
	refuse := func(code int) func(*smtp.Conn, string) error {
		return func(*smtp.Conn, string) error { return &smtp.SMTPError{Code: code, Message: "no"} }
	}
	for code, want := range map[int]Refusal{550: RefusedRecipient, 451: ""} {
		there.mu.Lock()
		there.rcpt = refuse(code)
		there.mu.Unlock()
		if got := RefusalOf(s.Send(t.Context(), Composed(alert(t, "ada@acme.example")), messageID)); got != want {
			t.Errorf("%d at the recipient is %q", code, got)
		}
	}
	if got := RefusalOf(s.Send(t.Context(), Composed(Message{}), messageID)); got != RefusedMessage {
		t.Errorf("an empty message is %q", got)
	}
	if got := RefusalOf(errors.New("of another kind")); got != "" {
		t.Errorf("another error is %q", got)
	}
}
