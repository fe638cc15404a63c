package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"strings"

	"github.com/lmittmann/tint"
	"github.com/mattn/go-isatty"

	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/infra/mail"
)

// databaseSettings configure the database.
type databaseSettings struct {
	DatabaseURL     sensitive.String `name:"database-url" env:"STEWARD_DATABASE_URL" placeholder:"URL" help:"PostgreSQL database (14 or newer), such as postgres://user:password@host:5432/steward."`
	DatabaseURLFile string           `name:"database-url-file" env:"STEWARD_DATABASE_URL_FILE" placeholder:"FILE" help:"File with the database URL."`
}

func (d databaseSettings) url() (sensitive.String, error) {
	return secret("STEWARD_DATABASE_URL", d.DatabaseURL, d.DatabaseURLFile)
}

// maintenanceSettings configure the user that vacuums.
type maintenanceSettings struct {
	MaintenanceURL     sensitive.String `name:"maintenance-database-url" env:"STEWARD_MAINTENANCE_DATABASE_URL" placeholder:"URL" help:"The database as a user that owns the tables, for vacuuming after erasures. Without it, erasure receipts stay pending."`
	MaintenanceURLFile string           `name:"maintenance-database-url-file" env:"STEWARD_MAINTENANCE_DATABASE_URL_FILE" placeholder:"FILE" help:"File with that URL."`
}

func (m maintenanceSettings) maintenance() (sensitive.String, error) {
	if m.MaintenanceURL.IsEmpty() && m.MaintenanceURLFile == "" {
		return sensitive.String{}, nil
	}
	return secret("STEWARD_MAINTENANCE_DATABASE_URL", m.MaintenanceURL, m.MaintenanceURLFile)
}

// secret reads a secret from its setting, or from the file named by the setting beside it.
func secret(name string, value sensitive.String, file string) (sensitive.String, error) {
	switch {
	case !value.IsEmpty() && file != "":
		return sensitive.String{}, fmt.Errorf("%s and %s_FILE are both set; set one", name, name)
	case !value.IsEmpty():
		return value, nil
	case file == "":
		return sensitive.String{}, fmt.Errorf("%s is not set (nor %s_FILE)", name, name)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return sensitive.String{}, fmt.Errorf("%s_FILE: %w", name, err)
	}
	return sensitive.New(strings.TrimSpace(string(content))), nil
}

// mailSettings configure mail.
type mailSettings struct {
	SMTPURL         sensitive.String `name:"smtp-url" env:"STEWARD_SMTP_URL" placeholder:"URL" help:"Mail server: smtp://user:password@host:587 (STARTTLS) or smtps://user:password@host:465; none disables mail."`
	SMTPURLFile     string           `name:"smtp-url-file" env:"STEWARD_SMTP_URL_FILE" placeholder:"FILE" help:"File with the URL of the mail server."`
	MailFrom        string           `name:"mail-from" env:"STEWARD_MAIL_FROM" placeholder:"ADDRESS" help:"Sender of mails, such as Steward <no-reply@steward.example>."`
	PasswordPageURL string           `name:"password-page-url" env:"STEWARD_PASSWORD_PAGE_URL" default:"{public_url}/set-password" placeholder:"URL" help:"Page that mailed links lead to; {public_url} and {customer} (the slug) are replaced."`
	Workers         int              `name:"workers" env:"STEWARD_WORKERS" default:"8" help:"Concurrent background jobs of this replica; 0 leaves jobs to other replicas."`
}

// noMail disables mail: no user is invited, and no password is reset by mail.
const noMail = "none"

// sending parses the mail settings; nil disables mail.
func (m mailSettings) sending() (*mail.Settings, error) {
	text, err := secret("STEWARD_SMTP_URL", m.SMTPURL, m.SMTPURLFile)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w; to run without mail, and so without invitations, set it to %s", err, noMail)
	case m.Workers < 0 || m.Workers > 1000:
		return nil, errors.New("STEWARD_WORKERS must be from 0 to 1000")
	case text.Reveal() == noMail:
		return nil, nil
	}
	settings, err := mail.ParseURL(text)
	if err != nil {
		return nil, fmt.Errorf("STEWARD_SMTP_URL: %w", err)
	}
	if m.MailFrom != "" {
		settings.From = m.MailFrom
	}
	if settings.From == "" {
		return nil, errors.New(
			"STEWARD_MAIL_FROM is not set: mails need a sender, such as Steward <no-reply@steward.example>",
		)
	}
	return &settings, nil
}

// logSettings configure the log.
type logSettings struct {
	LogFormat string     `name:"log-format" env:"STEWARD_LOG_FORMAT" enum:"json,text" default:"json" help:"Log format: json or text."`
	LogLevel  slog.Level `name:"log-level" env:"STEWARD_LOG_LEVEL" default:"INFO" help:"Minimum log level: DEBUG, INFO, WARN or ERROR."`
}

func (l logSettings) logger(to io.Writer) *slog.Logger {
	if l.LogFormat == "text" {
		file, ok := to.(*os.File)
		colour := ok && isatty.IsTerminal(file.Fd())
		return slog.New(
			tint.NewTextHandler(to, &tint.Options{Level: l.LogLevel, TimeFormat: "15:04:05.000", NoColor: !colour}),
		)
	}
	return slog.New(slog.NewJSONHandler(to, &slog.HandlerOptions{Level: l.LogLevel}))
}

// checkPublicURL checks that links and tokens can be built from the public URL.
func checkPublicURL(text string) error {
	parsed, err := url.Parse(text)
	if err != nil || (parsed.Scheme != "https" && parsed.Scheme != "http") || parsed.Host == "" || parsed.Path != "" ||
		parsed.RawQuery != "" ||
		parsed.User != nil {
		return errors.New("STEWARD_PUBLIC_URL must be a scheme and a host, such as https://steward.example")
	}
	return nil
}

// parseProxies parses the networks of trusted proxies. A network that contains every address is
// refused.
func parseProxies(texts []string) ([]netip.Prefix, error) {
	networks := make([]netip.Prefix, 0, len(texts))
	for _, text := range texts {
		network, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf(
				"STEWARD_TRUSTED_PROXIES: %q is not a network in CIDR notation, such as 10.0.0.0/8",
				text,
			)
		}
		if network.Bits() == 0 {
			return nil, fmt.Errorf(
				"STEWARD_TRUSTED_PROXIES: %s would let anybody choose the address that is recorded",
				network,
			)
		}
		networks = append(networks, network)
	}
	return networks, nil
}
