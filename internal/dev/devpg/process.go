package devpg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fusionspim/steward/internal/infra/pgprograms"
)

// errEnded is how await says that the server has ended instead of accepting connections.
var errEnded = errors.New("PostgreSQL ended while it was starting")

// ending is one way to end a server, and how long to wait for its effect.
type ending struct {
	signal   syscall.Signal
	patience time.Duration
}

// endings are the ways to end a server, the kindest first.
func endings() []ending {
	return []ending{
		{syscall.SIGINT, 10 * time.Second}, // fast: roll back, write out, end
		// immediate: end; the postmaster kills what has not ended after five seconds
		{syscall.SIGQUIT, 7 * time.Second},
		{syscall.SIGKILL, 5 * time.Second}, // the backends notice and follow
	}
}

// process is a running postmaster.
type process struct {
	command *exec.Cmd
	words   *serverLog
	ended   chan struct{} // closed when it has ended and everything it said has been read
	serving atomic.Bool   // from the first accepted connection until it is told to end
}

// launch starts a postmaster. Its end is the end of the thread that started it (see attributes), so
// that thread waits for it.
func launch(program string, arguments []string, who identity, log *slog.Logger) (*process, error) {
	// On our death a fast shutdown, as by Stop: the data needs no recovery at the next start, which
	// waits for it (clearRemains).
	attributes, err := who.attributes(syscall.SIGINT)
	if err != nil {
		return nil, err
	}
	p := &process{command: exec.Command(program, arguments...), words: &serverLog{log: log}, ended: make(chan struct{})}
	p.command.SysProcAttr = attributes
	p.command.Dir = "/" // the account may not be able to stand where we do
	p.command.Env = pgprograms.Environment()
	p.command.Stderr = p.words
	// for a backend that outlives the postmaster with the pipe in its hands
	p.command.WaitDelay = time.Second
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.command.Start()
		started <- err
		if err != nil {
			return
		}
		err = p.command.Wait()
		if p.serving.Load() {
			log.Error("private PostgreSQL has ended by itself", "error", err, "last_words", p.words.tail())
		}
		close(p.ended)
	}()
	return p, <-started
}

func (p *process) pid() int { return p.command.Process.Pid }

// end ends the server and waits until it is gone. The first, kind attempt is given up when the
// context ends.
func (p *process) end(ctx context.Context) error {
	p.serving.Store(false)
	kind := ctx.Done()
	for _, attempt := range endings() {
		select {
		case <-p.ended:
			return nil
		default:
		}
		if err := p.command.Process.Signal(attempt.signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("end PostgreSQL: %w", err)
		}
		timer := time.NewTimer(attempt.patience)
		select {
		case <-p.ended:
			timer.Stop()
			return nil
		case <-kind:
			kind = nil
		case <-timer.C:
		}
		timer.Stop()
	}
	return fmt.Errorf("PostgreSQL (process %d) does not end", p.pid())
}

// lastWords returns the end of the server's log, without personal data by the settings in
// arguments.
func (p *process) lastWords() string { return p.words.tail() }

// said tells whether the end of the server's log holds a text.
func (p *process) said(text string) bool { return strings.Contains(p.words.tail(), text) }

// serverLog receives what the server says on its standard error, passes it on at Debug and
// remembers the end of it. Nothing of it is written to a file, so nothing grows.
type serverLog struct {
	log     *slog.Logger
	mu      sync.Mutex
	partial []byte
	lines   []string
}

const (
	rememberedLines = 20
	longestLine     = 1000 // bytes; what is longer comes in pieces
)

// Write implements io.Writer. It never fails.
func (l *serverLog) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partial = append(l.partial, text...)
	for {
		line, rest, complete := bytes.Cut(l.partial, []byte{'\n'})
		if len(line) > longestLine {
			line, rest, complete = l.partial[:longestLine], l.partial[longestLine:], true
		}
		if !complete {
			return len(text), nil
		}
		l.log.Debug("private PostgreSQL says", "line", string(line))
		if len(l.lines) == rememberedLines {
			l.lines = l.lines[1:]
		}
		l.lines = append(l.lines, string(line))
		l.partial = bytes.Clone(rest)
	}
}

func (l *serverLog) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}
