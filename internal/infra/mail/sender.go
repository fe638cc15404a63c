package mail

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/fusionspim/steward/internal/base/clock"
)

// Sender sends mails over a few connections that it keeps for a while. It is safe for concurrent
// use.
type Sender struct {
	settings Settings
	from     sender
	now      clock.Clock
	slots    chan struct{} // one for each mail under way
	// one for each line; fewer than slots, so that many mails never hold up the one that somebody
	// waits for
	lines chan struct{}

	mu     sync.Mutex
	unused []*connection // the one that was used last at the end
	sweep  *time.Timer   // closes what has been unused for too long; nil when nothing is
	closed bool
}

// NewSender checks the settings. It does not connect: a mail server that is away must not keep the
// service from starting.
func NewSender(settings Settings, now clock.Clock) (*Sender, error) {
	settings, from, err := settings.complete()
	if err != nil {
		return nil, err
	}
	return &Sender{
		settings: settings,
		from:     from,
		now:      now,
		slots:    make(chan struct{}, settings.Connections),
		lines:    make(chan struct{}, max(1, settings.Connections-1)),
	}, nil
}

// Compose words a mail when the connection to the mail server stands, so that nothing lies between
// reading whom it goes to and saying so to the mail server. It is called again if the connection
// turns out to have been closed at the other end before anything was said. Where no mail is wanted
// any more, none is sent, and that is no error.
type Compose func() (message Message, wanted bool, err error)

// Composed is a mail that is worded already.
func Composed(message Message) Compose {
	return func() (Message, bool, error) { return message, true, nil }
}

// Send hands one mail to the mail server and returns when that has taken it or not. It waits for a
// connection when all are in use, and for nothing beyond the end of ctx.
//
// messageID is of the form left@right, without angle brackets. The caller keeps it and gives the
// same at every attempt, so that whoever gets the mail twice can tell: when the connection is lost
// after the content was sent, nobody on this side knows whether it was taken, and the error is
// temporary. Every error is an *Error, or one of compose as it was; see Permanent and Temporary.
func (s *Sender) Send(ctx context.Context, compose Compose, messageID string) error {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return classified(ctx, stepPool, ctx.Err())
	}
	return s.send(ctx, compose, messageID)
}

// Line is a place at the mail server for many mails in a row. It is for one goroutine at a time.
type Line struct{ sender *Sender }

// Line waits for a place for many mails in a row, and for nothing beyond the end of ctx: whoever
// has it sends without waiting for others. One connection is left to single mails, if there are
// several. Close gives the place back.
func (s *Sender) Line(ctx context.Context) (*Line, error) {
	select {
	case s.lines <- struct{}{}:
	case <-ctx.Done():
		return nil, classified(ctx, stepPool, ctx.Err())
	}
	select {
	case s.slots <- struct{}{}:
		return &Line{sender: s}, nil
	case <-ctx.Done():
		<-s.lines
		return nil, classified(ctx, stepPool, ctx.Err())
	}
}

// Close gives the place back. The connection is kept for the next.
func (l *Line) Close() {
	<-l.sender.slots
	<-l.sender.lines
}

// Send is Sender.Send over the line.
func (l *Line) Send(ctx context.Context, compose Compose, messageID string) error {
	return l.sender.send(ctx, compose, messageID)
}

func (s *Sender) send(ctx context.Context, compose Compose, messageID string) error {
	for {
		c, failure := s.take()
		if failure != nil {
			return failure
		}
		used := c != nil
		if !used {
			if c, failure = dial(ctx, s.settings); failure != nil {
				return failure
			}
		}
		message, wanted, err := compose()
		var content []byte
		if err == nil && wanted {
			content, err = encoded(message, s.from, messageID, s.now())
		}
		if err != nil || !wanted {
			s.give(c)
			return err
		}
		failure, untouched := c.deliver(ctx, s.from.address, message.to, content)
		s.give(c)
		// A connection that was unused for a while may have been closed at the other end. Nothing
		// was said yet of this mail, so the next is tried, and after the last a new one.
		if used && untouched {
			continue
		}
		if failure != nil { // in an interface, nil is another
			return failure
		}
		return nil
	}
}

// take returns a connection that is unused and young enough, or nil.
func (s *Sender) take() (*connection, *Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, &Error{step: stepPool, detail: "the sender is closed"}
	}
	last := len(s.unused) - 1
	if last < 0 || time.Since(s.unused[last].idle) >= s.settings.IdleTimeout {
		return nil, nil
	}
	c := s.unused[last]
	s.unused[last], s.unused = nil, s.unused[:last]
	return c, nil
}

// give keeps a connection for the next mail, or ends it.
func (s *Sender) give(c *connection) {
	if !c.broken && c.sent < s.settings.PerConnection {
		s.mu.Lock()
		keep := !s.closed
		if keep {
			c.idle = time.Now()
			s.unused = append(s.unused, c)
			if s.sweep == nil {
				s.sweep = time.AfterFunc(s.settings.IdleTimeout, s.closeUnused)
			}
		}
		s.mu.Unlock()
		if keep {
			return
		}
	}
	c.close()
}

// closeUnused ends the connections that nobody has needed for a while, and looks again as long as
// there are others.
func (s *Sender) closeUnused() {
	s.mu.Lock()
	old := 0
	for old < len(s.unused) && time.Since(s.unused[old].idle) >= s.settings.IdleTimeout {
		old++
	}
	closing := append([]*connection(nil), s.unused[:old]...)
	s.unused = append([]*connection(nil), s.unused[old:]...)
	s.sweep = nil
	if len(s.unused) > 0 && !s.closed {
		s.sweep = time.AfterFunc(s.settings.IdleTimeout-time.Since(s.unused[0].idle), s.closeUnused)
	}
	s.mu.Unlock()
	for _, c := range closing {
		c.close()
	}
}

// Close ends the unused connections; those in use end with their mail. Sending afterwards fails
// with a temporary error.
func (s *Sender) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return errors.New("mail: the sender was closed before")
	}
	closing := s.unused
	s.unused, s.closed = nil, true
	if s.sweep != nil {
		s.sweep.Stop()
	}
	s.mu.Unlock()
	for _, c := range closing {
		c.close()
	}
	return nil
}
