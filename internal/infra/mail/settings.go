package mail

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/fusionspim/steward/internal/base/sensitive"
)

// Encryption is how the connection to the mail server is protected.
type Encryption string

const (
	// EncryptionImplicit speaks TLS from the first byte (RFC 8314), as on port 465.
	EncryptionImplicit Encryption = "implicit"
	// EncryptionStartTLS begins in the clear and insists on TLS before anything is said, as on port
	// 587. A server that does not offer it is left.
	EncryptionStartTLS Encryption = "starttls"
	// EncryptionNone is for a mail server on the same machine, and refused for any other.
	EncryptionNone Encryption = "none"
)

// Settings is how mail is sent. ParseURL makes it; what is zero gets the default that is named
// here.
type Settings struct {
	Host       string
	Port       int
	Encryption Encryption
	User       string           // empty: no signing in
	Password   sensitive.String //
	From       string           // "Steward <no-reply@steward.example>" or the bare address
	Hello      string           // how we name ourselves to the mail server; the domain of From

	Connections    int           // at once, and so how many mails are under way at most; 4
	PerConnection  int           // mails before a connection is renewed; 100
	DialTimeout    time.Duration // 5 s
	CommandTimeout time.Duration // for each answer; 15 s
	// for the answer to a whole mail, during which servers look for spam; 4 × CommandTimeout
	AcceptTimeout time.Duration
	IdleTimeout   time.Duration // after which an unused connection is closed; 30 s

	RootCAs *x509.CertPool // whom to trust instead of the system's authorities; nil: the system's
}

const mostConnections = 64

// ParseURL reads smtp://user:password@host:587 (STARTTLS) or smtps://user:password@host:465 (TLS
// from the start). The ports may be left out. On a loopback host smtp:// is not encrypted. The
// query takes
//
//	from=Steward <no-reply@steward.example>   starttls=required|off   hello=NAME
//	connections=4   dial_timeout=5s   command_timeout=15s   idle_timeout=30s
//
// starttls=off is refused for a host that is not loopback. Errors name what is wrong and hold
// neither the URL nor the password.
func ParseURL(secret sensitive.String) (Settings, error) {
	at, err := url.Parse(secret.Reveal())
	if err != nil { // its text repeats the URL
		return Settings{}, errors.New(
			"mail: the SMTP URL cannot be read; characters such as @ : / # in a password must be written as %40 %3A %2F %23",
		)
	}
	s := Settings{Host: at.Hostname()}
	switch at.Scheme {
	case "smtp":
		s.Port, s.Encryption = 587, EncryptionStartTLS
		if isLoopback(s.Host) {
			s.Encryption = EncryptionNone
		}
	case "smtps":
		s.Port, s.Encryption = 465, EncryptionImplicit
	default:
		return Settings{}, errors.New("mail: the SMTP URL must begin with smtp:// or smtps://")
	}
	if at.Opaque != "" || s.Host == "" || at.Fragment != "" || (at.Path != "" && at.Path != "/") {
		return Settings{}, errors.New(
			"mail: the SMTP URL must be of the form smtp://user:password@host:port?from=address",
		)
	}
	if text := at.Port(); text != "" {
		if s.Port, err = strconv.Atoi(text); err != nil || s.Port < 1 || s.Port > 65535 {
			return Settings{}, errors.New("mail: the port of the SMTP URL must be from 1 to 65535")
		}
	}
	if at.User != nil {
		password, has := at.User.Password()
		if s.User, s.Password = at.User.Username(), sensitive.New(password); s.User == "" || !has || password == "" {
			return Settings{}, errors.New(
				"mail: the SMTP URL has a user without a password, or a password without a user",
			)
		}
	}
	query, err := url.ParseQuery(at.RawQuery)
	if err != nil {
		return Settings{}, errors.New("mail: the options of the SMTP URL cannot be read")
	}
	for name, values := range query {
		if len(values) != 1 {
			return Settings{}, errors.New("mail: the SMTP URL has an option more than once")
		}
		if err := s.set(at.Scheme, name, values[0]); err != nil {
			return Settings{}, err
		}
	}
	return s, nil
}

// set takes one option of the URL.
func (s *Settings) set(scheme, name, value string) (err error) {
	switch name {
	case "from":
		s.From = value
		_, err = parseSender(value)
	case "hello":
		s.Hello = value
		err = checkHello(value)
	case "starttls":
		switch {
		case scheme != "smtp":
			err = errors.New("is for smtp:// only")
		case value == "required":
			s.Encryption = EncryptionStartTLS
		case value != "off":
			err = errors.New("must be required or off")
		case !isLoopback(s.Host):
			err = errors.New(
				"off would send passwords and people's addresses over the network in the clear; it is for a loopback host only",
			)
		default:
			s.Encryption = EncryptionNone
		}
	case "connections":
		if s.Connections, err = strconv.Atoi(
			value,
		); err != nil || s.Connections < 1 ||
			s.Connections > mostConnections {
			err = fmt.Errorf("must be from 1 to %d", mostConnections)
		}
	case "dial_timeout":
		s.DialTimeout, err = parseTimeout(value)
	case "command_timeout":
		s.CommandTimeout, err = parseTimeout(value)
	case "idle_timeout":
		s.IdleTimeout, err = parseTimeout(value)
	default:
		// Not by its name, which is the end of the password when that holds a question mark.
		return errors.New(
			"mail: the SMTP URL has an option that does not exist; a ? in a password must be written as %3F",
		)
	}
	if err != nil {
		return fmt.Errorf("mail: the option %q of the SMTP URL %w", name, err)
	}
	return nil
}

func parseTimeout(value string) (time.Duration, error) {
	d, err := time.ParseDuration(value)
	if err != nil || d < time.Second || d > 10*time.Minute {
		return 0, errors.New("must be a duration from 1s to 10m")
	}
	return d, nil
}

func checkHello(name string) error {
	if name == "" || len(name) > 255 || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("must be a name without spaces")
	}
	return nil
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	at, err := netip.ParseAddr(host)
	return err == nil && at.Unmap().IsLoopback()
}

// complete checks the settings and fills in the defaults.
func (s Settings) complete() (Settings, sender, error) {
	from, err := parseSender(s.From)
	switch {
	case s.From == "":
		return s, from, errors.New("mail: there is no sender: set the address that mails come from")
	case err != nil:
		return s, from, fmt.Errorf("mail: the sender's address: %w", err)
	case s.Host == "" || s.Port < 1 || s.Port > 65535:
		return s, from, errors.New("mail: the mail server's host and port are needed")
	case s.Encryption != EncryptionImplicit && s.Encryption != EncryptionStartTLS && s.Encryption != EncryptionNone:
		return s, from, errors.New("mail: the encryption must be implicit, starttls or none")
	case s.Encryption == EncryptionNone && !isLoopback(s.Host):
		return s, from, errors.New("mail: a connection without encryption is for a loopback host only")
	case s.Connections < 0 || s.Connections > mostConnections:
		return s, from, fmt.Errorf("mail: connections must be from 1 to %d", mostConnections)
	}
	s.Hello = orDefault(s.Hello, from.address.Domain)
	if err := checkHello(s.Hello); err != nil {
		return s, from, fmt.Errorf("mail: our own name %w", err)
	}
	s.Connections = orDefault(s.Connections, 4)
	s.PerConnection = orDefault(s.PerConnection, 100)
	s.DialTimeout = orDefault(s.DialTimeout, 5*time.Second)
	s.CommandTimeout = orDefault(s.CommandTimeout, 15*time.Second)
	s.AcceptTimeout = orDefault(s.AcceptTimeout, 4*s.CommandTimeout)
	s.IdleTimeout = orDefault(s.IdleTimeout, 30*time.Second)
	return s, from, nil
}

func (s Settings) address() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

func orDefault[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}
