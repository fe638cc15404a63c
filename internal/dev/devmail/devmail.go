// Package devmail is the mailbox of a service under development: a mail server on this machine that
// passes nothing on, and pages to read what it caught, so that an invitation can be followed in a
// browser without any set-up.
//
// Owns: the last thousand mails, in memory, and their pages. They are gone with the process, or
// before when somebody is erased.
// Does not own: what the mails say and how they are sent (package mail). It is for `steward dev`
// alone: whoever reaches the pages reads everything.
package devmail

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
	"golang.org/x/net/idna"
)

const (
	mostMails = 1000
	mostBytes = 1 << 20 // of one mail
)

// Server catches mails and shows them. It is safe for concurrent use.
type Server struct {
	log      *slog.Logger
	listener net.Listener
	smtp     *smtp.Server
	pages    http.Handler
	done     chan struct{} // closed when the mail server has ended

	mu    sync.Mutex
	mails []*caught // oldest first
	shut  bool
}

// caught is one mail as it came in.
type caught struct {
	id   string
	to   []string // of the envelope, the domains in the letters that people write them with
	at   time.Time
	read func() content // what is in it, worked out when somebody first looks
}

// Start opens a mail server on a free port of the loopback interface. It ends with Close or with
// ctx. The log gets no address and no text.
func Start(ctx context.Context, log *slog.Logger) (*Server, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("devmail: listen: %w", err)
	}
	s := &Server{log: log, listener: listener, done: make(chan struct{})}
	if s.pages, err = s.newPages(); err != nil {
		_ = listener.Close()
		return nil, err
	}
	s.smtp = smtp.NewServer(
		smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &session{server: s}, nil }),
	)
	s.smtp.Domain = "mailbox.localhost"
	s.smtp.EnableSMTPUTF8 = true
	s.smtp.MaxMessageBytes = mostBytes
	s.smtp.MaxRecipients = 100
	s.smtp.ReadTimeout, s.smtp.WriteTimeout = 5*time.Minute, time.Minute
	// it would repeat what clients say
	s.smtp.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	go func() {
		defer close(s.done)
		if err := s.smtp.Serve(listener); err != nil && !errors.Is(err, net.ErrClosed) {
			log.Error("the mailbox takes no more mails", "error", err)
		}
	}()
	go func() {
		select {
		case <-ctx.Done():
			_ = s.Close()
		case <-s.done:
		}
	}()
	return s, nil
}

// SMTPURL is where to send mails: smtp://127.0.0.1:port, without encryption or credentials.
func (s *Server) SMTPURL() string { return "smtp://" + s.listener.Addr().String() }

// Handler serves the mailbox. Its links are relative, so it can be mounted anywhere under a path
// that ends in a slash (with http.StripPrefix).
//
//	GET /            the list, newest first; as JSON when asked for; ?to=ADDRESS filters both
//	GET /mails/{id}  one mail; ?view=text for its text
//	DELETE /         empties the mailbox
func (s *Server) Handler() http.Handler { return s.pages }

// RemoveTo forgets the mails to one address, however it is capitalised and whichever way its domain
// is written, and says how many there were.
func (s *Server) RemoveTo(address string) int {
	address = folded(address)
	return s.remove(func(m *caught) bool {
		return slices.ContainsFunc(m.to, func(to string) bool { return folded(to) == address })
	})
}

func (s *Server) remove(which func(*caught) bool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.mails)
	s.mails = slices.DeleteFunc(s.mails, which) // which also clears what it leaves behind
	return before - len(s.mails)
}

// Close ends the mail server and forgets all mails. Closing again does nothing.
func (s *Server) Close() error {
	s.mu.Lock()
	again := s.shut
	s.shut, s.mails = true, nil
	s.mu.Unlock()
	if !again {
		_ = s.smtp.Close()
		_ = s.listener.Close() // the server knows it only once it is serving
	}
	<-s.done
	return nil
}

// newestFirst returns the mails, all or those to one address.
func (s *Server) newestFirst(to string) []*caught {
	s.mu.Lock()
	all := slices.Clone(s.mails)
	s.mu.Unlock()
	slices.Reverse(all)
	if to = folded(to); to == "" {
		return all
	}
	return slices.DeleteFunc(all, func(m *caught) bool {
		return !slices.ContainsFunc(m.to, func(one string) bool { return folded(one) == to })
	})
}

func (s *Server) find(id string) (*caught, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := slices.IndexFunc(s.mails, func(m *caught) bool { return m.id == id })
	if at < 0 {
		return nil, false
	}
	return s.mails[at], true
}

func (s *Server) keep(to []string, raw []byte) {
	m := &caught{id: newID(), to: to, at: time.Now().UTC(), read: sync.OnceValue(func() content { return parse(raw) })}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shut {
		return
	}
	if len(s.mails) >= mostMails {
		s.mails = slices.Delete(s.mails, 0, len(s.mails)-mostMails+1)
	}
	s.mails = append(s.mails, m)
}

// newID is random: a page that was kept open must not show another mail after a restart.
func newID() string {
	var random [9]byte
	_, _ = rand.Read(random[:]) // never fails
	return hex.EncodeToString(random[:])
}

// folded is the form in which addresses are compared.
func folded(address string) string {
	address = strings.ToLower(strings.TrimSpace(address))
	local, domain, found := strings.Cut(address, "@")
	if ascii, err := idna.Lookup.ToASCII(domain); err == nil && found {
		return local + "@" + ascii
	}
	return address
}

// session is one conversation of a sender.
type session struct {
	server *Server
	to     []string
}

func (c *session) Reset()                               { c.to = nil }
func (c *session) Logout() error                        { return nil }
func (c *session) Mail(string, *smtp.MailOptions) error { return nil }
func (c *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if local, domain, found := strings.Cut(to, "@"); found {
		if unicode, err := idna.Display.ToUnicode(domain); err == nil {
			to = local + "@" + unicode
		}
	}
	c.to = append(c.to, to)
	return nil
}

func (c *session) Data(from io.Reader) error {
	raw, err := io.ReadAll(from) // the server stops at mostBytes
	if err != nil {
		return err
	}
	c.server.keep(slices.Clone(c.to), raw)
	c.server.log.Debug("the mailbox caught a mail", "bytes", len(raw))
	return nil
}
