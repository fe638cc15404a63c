package steps

import (
	"testing"

	"github.com/fusionspim/steward/internal/app"
	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/infra/mail"
	"github.com/fusionspim/steward/internal/testkit/bench/smtpsink"
)

// NewSink starts a mail server that ends with the test.
func NewSink(t testing.TB, settings smtpsink.Settings) *smtpsink.Sink {
	t.Helper()
	sink, err := smtpsink.Start(settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sink.Close(); err != nil {
			t.Error(err)
		}
	})
	return sink
}

// MailInto returns the settings of a service whose mails go to a sink.
func MailInto(t testing.TB, sink *smtpsink.Sink) func(*app.Settings) {
	t.Helper()
	settings, err := mail.ParseURL(sensitive.New("smtp://" + sink.Address() + "?from=steward@steward.test&command_timeout=1s"))
	if err != nil {
		t.Fatal(err)
	}
	return func(s *app.Settings) { s.Mail = &settings }
}
