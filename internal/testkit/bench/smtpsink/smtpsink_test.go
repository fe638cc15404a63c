package smtpsink_test

import (
	"errors"
	"net/smtp"
	"net/textproto"
	"testing"

	"github.com/fusionspim/steward/internal/testkit/bench/smtpsink"
)

// A test that relies on a failure of the sink proves nothing if the sink does not fail.
func TestTheSinkMisbehavesAsItIsTold(t *testing.T) {
	t.Parallel()
	faults := map[string]smtpsink.Fault{
		"taken@x.example": smtpsink.None, "later@x.example": smtpsink.Greylist, "never@x.example": smtpsink.Refuse,
		"content@x.example": smtpsink.RefuseContent, "lost@x.example": smtpsink.Drop,
	}
	sink, err := smtpsink.Start(smtpsink.Settings{
		Keep: true,
		Fault: func(recipient string, earlier int) smtpsink.Fault {
			if earlier > 0 {
				return smtpsink.None
			}
			return faults[recipient]
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := sink.Close(); err != nil {
			t.Error(err)
		}
	}()
	send := func(to string) (code int) {
		content := []byte("To: " + to + "\r\nMessage-ID: <1@x.example>\r\n\r\nHello\r\n")
		err := smtp.SendMail(sink.Address(), nil, "sender@x.example", []string{to}, content)
		var reply *textproto.Error
		if errors.As(err, &reply) {
			return reply.Code
		} else if err != nil {
			return -1
		}
		return 0
	}
	for to, want := range map[string]int{
		"taken@x.example": 0, "later@x.example": 451, "never@x.example": 550, "content@x.example": 554, "lost@x.example": -1,
	} {
		if got := send(to); got != want {
			t.Errorf("%s: reply %d, want %d", to, got, want)
		}
		if got := send(to); got != 0 {
			t.Errorf("%s, the second time: reply %d", to, got)
		}
	}
	told := map[string]int{}
	for _, mail := range sink.Mails() {
		if len(mail.Content) == 0 || mail.MessageID == "" {
			t.Errorf("a mail to %s is kept without its content", mail.To)
		}
		if mail.Told {
			told[mail.To]++
		}
	}
	if len(sink.Mails()) != 7 || told["taken@x.example"] != 2 || told["lost@x.example"] != 1 {
		t.Errorf("%d mails were taken, told of %v", len(sink.Mails()), told)
	}
}
