package mail

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"github.com/wneessen/go-mail/smtp"

	"github.com/fusionspim/steward/internal/base/address"
)

// connection is one conversation with the mail server, used by one goroutine at a time.
//
// It speaks through the commands of go-mail rather than through its client, for what matters here
// is between them: a time for each answer, the end of a context in the middle of one, and what a
// refusal means at each step.
type connection struct {
	settings Settings
	raw      net.Conn // below TLS; its deadline ends whatever is under way
	client   *smtp.Client
	sent     int       // mails so far
	dirty    bool      // the last one ended half way and the server must be told to forget it
	broken   bool      // not to be used again
	idle     time.Time // since when it has been unused
}

// dial connects, encrypts and signs in.
func dial(ctx context.Context, s Settings) (*connection, *Error) {
	dialer := net.Dialer{Timeout: s.DialTimeout}
	raw, err := dialer.DialContext(ctx, "tcp", s.address())
	if err != nil {
		return nil, classified(ctx, stepDial, err)
	}
	c := &connection{settings: s, raw: raw}
	release := c.guard(ctx)
	defer release()
	if failure := c.begin(ctx); failure != nil {
		_ = raw.Close()
		return nil, failure
	}
	return c, nil
}

func (c *connection) begin(ctx context.Context) *Error {
	s, speaking := c.settings, c.raw
	config := &tls.Config{ServerName: s.Host, RootCAs: s.RootCAs, MinVersion: tls.VersionTLS12}
	if s.Encryption == EncryptionImplicit {
		encrypted := tls.Client(c.raw, config)
		if failure := c.step(ctx, stepEncryption, s.CommandTimeout, encrypted.Handshake); failure != nil {
			return failure
		}
		speaking = encrypted
	}
	if failure := c.step(ctx, stepGreeting, s.CommandTimeout, func() (err error) {
		if c.client, err = smtp.NewClient(speaking, s.Host); err != nil {
			return err
		}
		return c.client.Hello(s.Hello)
	}); failure != nil {
		return failure
	}
	if s.Encryption == EncryptionStartTLS {
		if offered, _ := c.client.Extension("STARTTLS"); !offered {
			return &Error{step: stepEncryption, detail: "the mail server does not offer STARTTLS"}
		}
		if failure := c.step(
			ctx,
			stepEncryption,
			s.CommandTimeout,
			func() error { return c.client.StartTLS(config) },
		); failure != nil {
			return failure
		}
	}
	if s.User == "" {
		return nil
	}
	auth := c.mechanism()
	if auth == nil {
		return &Error{step: stepSignIn, detail: "the mail server offers neither PLAIN nor LOGIN"}
	}
	return c.step(ctx, stepSignIn, s.CommandTimeout, func() error { return c.client.Auth(auth) })
}

// mechanism picks a way to sign in. Both show the password to the server, which is what the
// encryption is for.
func (c *connection) mechanism() smtp.Auth {
	_, offered := c.client.Extension("AUTH")
	known := strings.Fields(strings.ToUpper(offered))
	s, inClear := c.settings, c.settings.Encryption == EncryptionNone
	switch {
	case slices.Contains(known, "PLAIN"):
		return smtp.PlainAuth("", s.User, s.Password.Reveal(), s.Host, inClear)
	case slices.Contains(known, "LOGIN"):
		return smtp.LoginAuth(s.User, s.Password.Reveal(), s.Host, inClear)
	}
	return nil
}

// deliver hands over one mail. untouched tells that it failed before the recipient was named and
// for a reason that only the connection has, so that another connection may try at once.
func (c *connection) deliver(
	ctx context.Context,
	from, to address.Address,
	content []byte,
) (failure *Error, untouched bool) {
	release := c.guard(ctx)
	defer release()
	if to.International() {
		if offered, _ := c.client.Extension("SMTPUTF8"); !offered {
			return &Error{
				step:      stepRecipient,
				permanent: true,
				detail:    "the mail server does not take addresses beyond ASCII",
			}, false
		}
	}
	wait := c.settings.CommandTimeout
	if c.dirty {
		if failure := c.step(ctx, stepReset, wait, c.client.Reset); failure != nil {
			c.broken = true
			return failure, ctx.Err() == nil
		}
	}
	c.dirty = true
	if failure, untouched := c.announce(ctx, from, to); failure != nil {
		return failure, untouched && ctx.Err() == nil
	}
	failure = c.step(ctx, stepContent, wait, func() error {
		body := c.client.Text.DotWriter()
		if _, err := body.Write(content); err != nil {
			return err
		}
		return body.Close()
	})
	if failure == nil {
		failure = c.step(ctx, stepAcceptance, c.settings.AcceptTimeout, func() error { return c.answer(250) })
	}
	if failure != nil {
		return failure, false
	}
	c.dirty = false
	c.sent++
	return nil, false
}

// announce says from whom and to whom, and that the content comes. untouched tells that it failed
// before anything was answered. To a server that takes several commands at once (RFC 2920) it says
// all three in one go, which saves two of four round trips for each mail.
func (c *connection) announce(ctx context.Context, from, to address.Address) (failure *Error, untouched bool) {
	wait := c.settings.CommandTimeout
	commands := [...]struct {
		step   step
		text   string
		answer int // the code, or how it begins
	}{
		{stepSender, "MAIL FROM:<" + from.ASCII() + ">" + c.parameters(to), 250},
		{stepRecipient, "RCPT TO:<" + to.ASCII() + ">", 25},
		{stepContent, "DATA", 354},
	}
	together, _ := c.client.Extension("PIPELINING")
	answers := [len(commands)]*Error{}
	for i, command := range commands {
		answers[i] = c.step(ctx, command.step, wait, func() error {
			if !together {
				if err := c.client.Text.PrintfLine("%s", command.text); err != nil {
					return err
				}
			} else if i == 0 {
				if err := c.client.Text.PrintfLine(
					"%s",
					commands[0].text+"\r\n"+commands[1].text+"\r\n"+commands[2].text,
				); err != nil {
					return err
				}
			}
			return c.answer(command.answer)
		})
		switch {
		case c.broken || answers[i] != nil && !together:
			return firstOf(answers[:]), i == 0 && c.broken
		}
	}
	failure = firstOf(answers[:])
	if failure != nil && answers[2] == nil {
		// The server waits for a content although it takes nobody. It gets an empty one, if it is
		// sure that there is nobody whom it would reach.
		if answers[1] == nil {
			c.broken = true
			return failure, false
		}
		_ = c.step(ctx, stepContent, wait, func() error { return c.client.Text.PrintfLine(".") })
		_ = c.step(ctx, stepContent, c.settings.AcceptTimeout, func() error { return c.answer(250) })
	}
	return failure, false
}

// parameters are what MAIL says of the mail besides the sender. SMTPUTF8 is asked for where the
// recipient needs it and not wherever it is offered: some servers then refuse to pass the mail on
// to one that lacks it.
func (c *connection) parameters(to address.Address) (text string) {
	if offered, _ := c.client.Extension("8BITMIME"); offered {
		text += " BODY=8BITMIME"
	}
	if to.International() {
		text += " SMTPUTF8"
	}
	return text
}

// answer reads one answer of the server and expects a code, or one that begins so.
func (c *connection) answer(code int) error {
	_, _, err := c.client.Text.ReadResponse(code)
	return err
}

// firstOf is the first failure that there is.
func firstOf(failures []*Error) *Error {
	for _, failure := range failures {
		if failure != nil {
			return failure
		}
	}
	return nil
}

// step does one thing within a time. The clock of the machine counts here, not the service's: a
// deadline is of the network.
func (c *connection) step(ctx context.Context, at step, within time.Duration, do func() error) *Error {
	deadline := time.Now().Add(within)
	if end, ok := ctx.Deadline(); ok && end.Before(deadline) {
		deadline = end
	}
	err := c.raw.SetDeadline(deadline)
	// looked at after the deadline was set, so that the guard's own deadline is not overwritten
	// unseen
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err == nil {
		err = do()
	}
	if err == nil {
		return nil
	}
	var inner *Error
	if errors.As(err, &inner) {
		return inner
	}
	var answer *textproto.Error
	// Whatever is not an answer leaves the two sides at odds about where they are, and 421 is a
	// farewell.
	if !errors.As(err, &answer) || answer.Code == 421 {
		c.broken = true
	}
	return classified(ctx, at, err)
}

// guard ends whatever is under way when the context is cancelled. The connection is of no use
// afterwards.
func (c *connection) guard(ctx context.Context) (release func()) {
	stop := context.AfterFunc(ctx, func() { _ = c.raw.SetDeadline(time.Unix(1, 0)) })
	return func() {
		if !stop() {
			c.broken = true
		}
	}
}

// close ends the conversation, with a word of farewell if the server is still listening.
func (c *connection) close() {
	if !c.broken {
		_ = c.raw.SetDeadline(time.Now().Add(min(time.Second, c.settings.CommandTimeout)))
		_ = c.client.Quit()
	}
	_ = c.raw.Close()
}
