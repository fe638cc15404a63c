// Package devpg runs a private PostgreSQL for development and for tests, from whatever PostgreSQL
// programs the machine has.
//
// Owns: the data directory, the account the server runs under, its settings, its start and its end.
// The server listens on no TCP port, only on a unix socket in a directory that nobody else may
// enter, and it ends when this process ends, even by kill -9.
// Does not own: finding the programs (package pgprograms), the databases inside, roles other than
// the superuser, migrations (package postgres), and any server that real data lives on.
//
// # Who may connect
//
// The server trusts everybody who reaches its socket ("trust" authentication): the mode 0700 of the
// socket's directory is the lock on the door, so there is no password to keep. It admits the
// account that the server runs under, which is the account that started it, and root.
//
// # Started by root
//
// PostgreSQL refuses to run as root, so the server then runs as "postgres" or, without such an
// account, "nobody". Only the data directory and the socket's directory belong to that account.
// Everything above them stays root's, lets the account pass (mode 0710) and lets it change nothing,
// so that what root does there by name cannot be led elsewhere by a link. See place for what
// happens below a closed directory such as /root. Where root may not become another account (a
// container without capabilities), a user namespace gives the server another number.
//
// # Which directory belongs to whom
//
// A lock (flock) on a file in the directory, held by this process and gone with it, says who owns
// the directory: it alone is believed. A postmaster.pid is only a hint left by a server whose owner
// may be dead, see clearRemains.
package devpg

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fusionspim/steward/internal/infra/pgprograms"
)

// ErrInUse is returned by Start when another Server, of this process or another, holds the
// directory. The caller may choose another one.
var ErrInUse = errors.New("another PostgreSQL was started on this directory and still runs")

const (
	superuser  = "postgres"
	port       = "5432" // names the socket only: nothing listens on TCP
	startLimit = 30 * time.Second
	initLimit  = 2 * time.Minute
)

// Purpose says what the server is for, and with that how much a crash of the machine may cost.
type Purpose int

const (
	// Dev keeps the data through a crash of the machine, but for the commits of the last second
	// (fsync on, synchronous_commit off).
	Dev Purpose = iota
	// Test trades every promise about a crash of the machine for speed (fsync off), allows 300
	// connections, and knows prepared transactions.
	Test
)

// Options of Start. Only Dir is needed.
type Options struct {
	// Dir is where the data is kept between runs, one directory "pg<major version>" for each
	// version of PostgreSQL. It is created with mode 0700 if missing. Started by root it may hold
	// nothing, see the package comment and place.
	Dir string
	// Purpose is Dev unless said otherwise.
	Purpose Purpose
	// Ephemeral removes the data and then, if nothing else is in it, Dir, when the server is
	// stopped. A killed process removes nothing.
	Ephemeral bool
	// Log receives progress at Info and the server's own log at Debug. The server is told to log
	// neither statements nor values. May be nil.
	Log *slog.Logger
}

// Server is a running PostgreSQL. Its methods are safe for concurrent use.
type Server struct {
	log       *slog.Logger
	who       identity
	programs  pgprograms.Programs
	home      *home
	data      string
	sockets   socketDir
	purpose   Purpose
	ephemeral bool
	process   *process

	stopping sync.Mutex
	stopped  bool
}

// Start starts a PostgreSQL on o.Dir, creating the database cluster if there is none, and returns
// once it accepts connections. The context bounds the start only. Errors: ErrInUse,
// pgprograms.ErrNoPrograms, the context's, and whatever keeps the server from starting, with its
// last words.
func Start(ctx context.Context, o Options) (*Server, error) {
	return start(ctx, o, pgprograms.Machine(), machineShelters())
}

func start(ctx context.Context, o Options, find pgprograms.Finder, shelter shelters) (_ *Server, err error) {
	if o.Dir == "" {
		return nil, errors.New("devpg: no directory given")
	}
	s := &Server{log: o.Log, purpose: o.Purpose, ephemeral: o.Ephemeral}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("devpg: %w", err)
		}
	}()

	first, err := find.First()
	if err != nil {
		return nil, err
	}
	if s.who, err = chooseIdentity(ctx, first); err != nil {
		return nil, err
	}
	if s.home, err = place(ctx, o.Dir, s.who, first, shelter); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.discard()
		}
	}()
	if err = s.home.lock(); err != nil {
		return nil, err
	}
	if err = clearRemains(ctx, s.home.path, s.log); err != nil {
		return nil, err
	}
	if s.programs, s.data, err = chooseCluster(find, first, s.home.path, s.log); err != nil {
		return nil, err
	}
	if s.sockets, err = makeSocketDir(s.home.path, s.who, shelter); err != nil {
		return nil, err
	}
	if err = s.ensureCluster(ctx); err != nil {
		return nil, err
	}
	began := time.Now()
	if err = s.run(ctx); err != nil {
		return nil, err
	}
	s.log.InfoContext(
		ctx,
		"private PostgreSQL is up",
		"version",
		s.programs.Major,
		"data",
		s.data,
		"sockets",
		s.sockets.path,
		"took_ms",
		time.Since(began).Milliseconds(),
	)
	return s, nil
}

// URL returns the address of a database as superuser, for pgx and for psql. An empty name means the
// database "postgres".
func (s *Server) URL(database string) string {
	if database == "" {
		database = "postgres"
	}
	// TLS says nothing on a unix socket
	query := url.Values{"host": {s.sockets.path}, "port": {port}, "sslmode": {"disable"}}
	address := url.URL{Scheme: "postgres", User: url.User(superuser), Path: "/" + database, RawQuery: query.Encode()}
	return address.String()
}

// SocketDir returns the directory of the unix socket. It is the same at each start on the same Dir.
func (s *Server) SocketDir() string { return s.sockets.path }

// Stop ends the server: open transactions are rolled back and the data is written out (a fast
// shutdown). A server that has not ended when the context does, or after ten seconds, is ended at
// once; its data recovers at the next start. Stop returns when the server is gone and its directory
// free, which can be a few seconds after the context's end. A second call does nothing. An error
// means that the server could not be ended, or that an ephemeral directory could not be removed.
func (s *Server) Stop(ctx context.Context) error {
	s.stopping.Lock()
	defer s.stopping.Unlock()
	if s.stopped {
		return nil
	}
	if err := s.process.end(ctx); err != nil {
		return fmt.Errorf("devpg: %w", err) // the lock is kept: the server may still write
	}
	s.stopped = true
	if err := s.discard(); err != nil {
		return fmt.Errorf("devpg: remove %s: %w", s.home.path, err)
	}
	return nil
}

// discard gives the directories back: all that should not outlive the server is removed, then the
// lock is released.
func (s *Server) discard() error {
	s.sockets.remove()
	if !s.ephemeral || !s.home.locked() {
		s.home.unlock()
		return nil
	}
	var err error
	if s.data != "" {
		err = os.RemoveAll(s.data)
	}
	s.home.removeAndUnlock()
	return err
}

// run starts the server and waits until it takes a connection. A server whose postmaster was killed
// leaves backends that take a moment to notice; until they have, the next one refuses to start, and
// is started again.
func (s *Server) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(
		ctx,
		startLimit,
		fmt.Errorf("PostgreSQL accepted no connection within %s", startLimit),
	)
	defer cancel()
	for {
		var err error
		s.process, err = launch(s.programs.Path("postgres"), s.arguments(), s.who, s.log)
		if err != nil {
			return fmt.Errorf("start PostgreSQL: %w", err)
		}
		if err = s.await(ctx); err == nil {
			s.process.serving.Store(true)
			return nil
		}
		if errEnd := s.process.end(ctx); errEnd != nil {
			return errors.Join(err, errEnd)
		}
		lastWords := s.process.lastWords()
		if !errors.Is(err, errEnded) || !s.process.said("still in use") {
			return fmt.Errorf("%w\n%s", err, lastWords)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w\n%s", context.Cause(ctx), lastWords)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// await returns when the server has accepted a connection, has ended, or the context has. It first
// reads the state that the postmaster notes down, which costs nothing and leaves no refused
// connections in the log.
func (s *Server) await(ctx context.Context) error {
	var last error
	for {
		if note, err := readPostmasterNote(s.data); err == nil && note.pid == s.process.pid() && note.ready {
			connection, err := pgconn.Connect(ctx, s.URL(""))
			if err == nil {
				return connection.Close(ctx)
			}
			last = err
		}
		select {
		case <-s.process.ended:
			return errEnded
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), last)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// arguments are the server's settings. They stand on the command line, where they win over the
// files in the data directory, so that old data gets today's settings. No secret is among them.
func (s *Server) arguments() []string {
	settings := []string{
		"listen_addresses=", // no TCP
		"port=" + port,
		// makeSocketDir saw to it that the name needs no quotes
		"unix_socket_directories=" + s.sockets.path,
		"unix_socket_permissions=0700",
		"shared_buffers=128MB",
		// in the data directory: what a killed server leaves in /dev/shm would stay there
		"dynamic_shared_memory_type=mmap",
		"synchronous_commit=off",
		"timezone=UTC",
		"log_timezone=UTC",
		"jit=off", // compiling costs more than it gains on queries this small
		// The server's log must never hold a person's data. Messages of level ERROR quote values in
		// their very text ("invalid input syntax for type uuid: ..."), so they go to the client
		// only: "log" lets through the server's own notes and what ends a session or a server.
		"log_destination=stderr",
		"logging_collector=off",
		"log_min_messages=log",
		"log_min_error_statement=panic",
		// without DETAIL, which quotes keys and the statement that a crashed session ran
		"log_error_verbosity=terse",
		"log_statement=none",
		"log_min_duration_statement=-1",
		"log_min_duration_sample=-1",
		"log_transaction_sample_rate=0",
		"log_duration=off",
		"log_parameter_max_length=0",
		"log_parameter_max_length_on_error=0",
		"log_connections=off",
		"log_disconnections=off",
		"log_checkpoints=off",
		"log_lock_waits=off",
		"log_temp_files=-1",
		"log_autovacuum_min_duration=-1",
		"log_line_prefix=",
	}
	switch s.purpose {
	case Test:
		settings = append(
			settings,
			"fsync=off",
			"full_page_writes=off",
			"max_connections=300",
			"max_prepared_transactions=20",
		)
	default:
		settings = append(
			settings,
			"fsync=on",
			"full_page_writes=on",
			"max_connections=100",
			"max_prepared_transactions=0",
		)
	}
	arguments := []string{"-D", s.data}
	for _, setting := range settings {
		arguments = append(arguments, "-c", setting)
	}
	return arguments
}
