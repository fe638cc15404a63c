package mail

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fusionspim/steward/internal/base/clock"
	"github.com/fusionspim/steward/internal/base/sensitive"
)

func TestURLs(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"smtp://relay.example":                              "relay.example:587 starttls ",
		"smtp://relay.example:2525/":                        "relay.example:2525 starttls ",
		"smtps://u:p%40%3A%2F%3F%23@relay.example":          "relay.example:465 implicit u/p@:/?#",
		"smtps://relay.example:8465?connections=8":          "relay.example:8465 implicit ",
		"smtp://127.0.0.1:1025":                             "127.0.0.1:1025 none ",
		"smtp://localhost:1025?starttls=required":           "localhost:1025 starttls ",
		"smtp://[::1]:1025?starttls=off":                    "[::1]:1025 none ",
		"smtp://relay.example?starttls=required":            "relay.example:587 starttls ",
		"smtp://relay.example?from=S+%3Ca%40b.example%3E":   "relay.example:587 starttls ",
		"smtp://relay.example?dial_timeout=2s&hello=x.test": "relay.example:587 starttls ",
	} {
		s, err := ParseURL(sensitive.New(url))
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		got := fmt.Sprintf("%s %s %s", s.address(), s.Encryption, s.User)
		if s.User != "" {
			got += "/" + s.Password.Reveal()
		}
		if got != want {
			t.Errorf("%s is %q, not %q", url, got, want)
		}
	}
	s, err := ParseURL(sensitive.New("smtp://h.example?from=S+%3Ca%40b.example%3E&dial_timeout=2s&command_timeout=3s&idle_timeout=1m&connections=9&hello=x"))
	if err != nil || s.From != "S <a@b.example>" || s.DialTimeout != 2*time.Second || s.CommandTimeout != 3*time.Second || s.IdleTimeout != time.Minute ||
		s.Connections != 9 || s.Hello != "x" {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestWrongURLsAreNamedWithoutTheirSecrets(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"":                               "begin with smtp://",
		"http://relay.example":           "begin with smtp://",
		"smtp:relay.example":             "of the form",
		"smtp://":                        "of the form",
		"smtp://relay.example/inbox":     "of the form",
		"smtp://relay.example#hunter2":   "of the form",
		"smtp://relay.example:0":         "port",
		"smtp://relay.example:99999":     "port",
		"smtp://u:hunter2/x@relay:587":   "%2F",
		"smtp://u:hun%ter2@relay":        "%40",
		"smtp://u:12?hunter2@relay":      "%3F",
		"smtp://u:12/hunter2@relay":      "of the form",
		"smtp://u@relay.example":         "without a password",
		"smtp://:hunter2@relay.example":  "without a user",
		"smtp://relay?starttls=off":      "loopback",
		"smtp://10.0.0.1?starttls=off":   "loopback",
		"smtps://relay?starttls=off":     "smtp:// only",
		"smtp://relay?starttls=maybe":    "required or off",
		"smtp://relay?connections=0":     "from 1 to 64",
		"smtp://relay?dial_timeout=5":    "1s to 10m",
		"smtp://relay?from=nobody":       "not an e-mail address",
		"smtp://relay?from=a@b&from=c@d": "more than once",
		"smtp://relay?hello=a+b":         "without spaces",
		"smtp://relay?tls=hunter2":       "does not exist",
		"smtp://relay?a=%zz":             "cannot be read",
	} {
		_, err := ParseURL(sensitive.New(url))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hun") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestSendersNeedWholeSettings(t *testing.T) {
	t.Parallel()
	good := Settings{Host: "relay.example", Port: 587, Encryption: EncryptionStartTLS, From: "Steward <no-reply@steward.example>"}
	for name, change := range map[string]func(*Settings){
		"no sender":       func(s *Settings) { s.From = "" },
		"odd sender":      func(s *Settings) { s.From = "Steward <no-reply@steward.example>, <b@c.example>" },
		"header":          func(s *Settings) { s.From = "Steward\r\nBcc: x <no-reply@steward.example>" },
		"not ASCII":       func(s *Settings) { s.From = "zoë@steward.example" },
		"no host":         func(s *Settings) { s.Host = "" },
		"no port":         func(s *Settings) { s.Port = 0 },
		"no encryption":   func(s *Settings) { s.Encryption = "" },
		"in the clear":    func(s *Settings) { s.Encryption = EncryptionNone },
		"odd name":        func(s *Settings) { s.Hello = "a\r\nMAIL FROM:<x>" },
		"too many at all": func(s *Settings) { s.Connections = 1000 },
	} {
		settings := good
		change(&settings)
		if _, err := NewSender(settings, clock.System()); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	s, err := NewSender(good, clock.System())
	if err != nil || s.settings.Hello != "steward.example" || s.settings.CommandTimeout != 15*time.Second || s.settings.DialTimeout != 5*time.Second {
		t.Fatalf("%+v, %v", s, err)
	}
	if shown := fmt.Sprintf("%+v", Settings{Password: sensitive.New("hunter2")}); strings.Contains(shown, "hunter2") {
		t.Error(shown)
	}
}
