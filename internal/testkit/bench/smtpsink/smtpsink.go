// Package smtpsink is a mail server that keeps what it is given and misbehaves as it is told.
//
// Owns: taking mails in this process, and the ways in which mail servers fail: they put off,
// refuse, fall silent, or take a mail and lose the connection before they say so.
// Does not own: which of them happens to which mail (the test or program that starts it) and the
// wording of mails.
package smtpsink

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"log"
	"net"
	"net/mail"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
)

// Fault is what happens to a mail. The set is closed.
type Fault int

// The faults.
const (
	None          Fault = iota // the mail is taken
	Greylist                   // the recipient is put off: 451
	Refuse                     // the recipient is refused: 550
	RefuseContent              // the content is refused: 554
	// no answer to the recipient, until the other side gives up or the sink closes
	Hang
	Drop // the mail is taken, and the connection lost before that is said
)

// Mail is one mail that was taken.
type Mail struct {
	To          string
	MessageID   string
	At          time.Time
	Told        bool   // whether the sender was told that it was taken
	Content     []byte // if it is kept
	Unsubscribe string // the header List-Unsubscribe
}

// Settings say how the sink behaves.
type Settings struct {
	// to listen on; empty: a free port of 127.0.0.1
	Address string
	// decides by recipient and how often it was named before; nil: None always
	Fault func(recipient string, earlier int) Fault
	Keep  bool           // whole mails
	Taken func(one Mail) // called for each mail; may be nil
}

// Sink is a running mail server.
type Sink struct {
	settings Settings
	listener net.Listener
	server   *smtp.Server
	closing  chan struct{}
	done     chan struct{}

	mu    sync.Mutex
	named map[string]int // recipient → how often
	mails []Mail
}

// Start starts a sink.
func Start(settings Settings) (*Sink, error) {
	if settings.Address == "" {
		settings.Address = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", settings.Address)
	if err != nil {
		return nil, err
	}
	s := &Sink{
		settings: settings,
		listener: listener,
		closing:  make(chan struct{}),
		done:     make(chan struct{}),
		named:    make(map[string]int),
	}
	s.server = smtp.NewServer(
		smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) { return &session{sink: s, conn: c}, nil }),
	)
	s.server.Domain, s.server.EnableSMTPUTF8 = "sink.test", true
	s.server.ErrorLog = log.New(io.Discard, "", 0)
	go func() {
		defer close(s.done)
		_ = s.server.Serve(listener) // ends with Close
	}()
	return s, nil
}

// Address is where it listens.
func (s *Sink) Address() string { return s.listener.Addr().String() }

// Close ends the sink and every connection to it.
func (s *Sink) Close() error {
	close(s.closing)
	err := errors.Join(s.server.Close(), ignoreClosed(s.listener.Close()))
	<-s.done
	return err
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Mails returns what was taken until now.
func (s *Sink) Mails() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Mail(nil), s.mails...)
}

// Count tells how many mails were taken until now.
func (s *Sink) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.mails)
}

// To returns the mails to an address.
func (s *Sink) To(address string) (found []Mail) {
	for _, one := range s.Mails() {
		if strings.EqualFold(one.To, address) {
			found = append(found, one)
		}
	}
	return found
}

// session is one conversation.
type session struct {
	sink  *Sink
	conn  *smtp.Conn
	to    string
	fault Fault
}

func (c *session) Reset()                               { c.to, c.fault = "", None }
func (c *session) Logout() error                        { return nil }
func (c *session) Mail(string, *smtp.MailOptions) error { return nil }

func (c *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	c.to = to
	c.sink.mu.Lock()
	earlier := c.sink.named[to]
	c.sink.named[to]++
	c.sink.mu.Unlock()
	if c.sink.settings.Fault != nil {
		c.fault = c.sink.settings.Fault(to, earlier)
	}
	switch c.fault {
	case Greylist:
		return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 7, 1}, Message: "come back later"}
	case Refuse:
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "nobody here"}
	case Hang:
		c.hang()
		return io.EOF
	}
	return nil
}

// hang waits until the other side goes away.
func (c *session) hang() {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = c.conn.Conn().Read(make([]byte, 1)) // it has nothing to say before we answer
	}()
	select {
	case <-gone:
	case <-c.sink.closing:
	}
	_ = c.conn.Conn().Close()
}

func (c *session) Data(content io.Reader) error {
	one := Mail{To: c.to, Told: c.fault == None}
	var whole bytes.Buffer
	if _, err := whole.ReadFrom(content); err != nil {
		return err
	}
	if c.fault == RefuseContent {
		return &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 7, 1}, Message: "not this"}
	}
	one.At = time.Now()
	parsed, err := mail.ReadMessage(bufio.NewReader(bytes.NewReader(whole.Bytes())))
	if err != nil {
		return err
	}
	one.MessageID, one.Unsubscribe = parsed.Header.Get("Message-Id"), parsed.Header.Get("List-Unsubscribe")
	if c.sink.settings.Keep {
		one.Content = whole.Bytes()
	}
	c.sink.mu.Lock()
	c.sink.mails = append(c.sink.mails, one)
	c.sink.mu.Unlock()
	if c.sink.settings.Taken != nil {
		c.sink.settings.Taken(one)
	}
	if c.fault == Drop {
		_ = c.conn.Conn().Close()
		return io.EOF
	}
	return nil
}
