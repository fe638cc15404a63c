package apptest

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/fusionspim/steward/internal/account/customer"
)

// Main runs the tests of a package that uses Shared. Call it from TestMain: it stops the shared service after
// the last test, and fails the run if the service did not end cleanly.
func Main(m *testing.M) {
	code := m.Run()
	if !running.end() && code == 0 {
		code = 1
	}
	os.Exit(code)
}

// Shared returns the one service of this test process. The first call starts it, on a database of its own.
//
// Tenancy keeps the tests apart: each makes its own customers, with slugs from Unique, and calls from an
// address of its own, so that limits by network are its own too. The clock stands still for everybody. A test
// that moves it, changes settings or the schema, reads the log, sweeps, or counts what belongs to all
// customers needs a service of its own (Start).
func Shared(t testing.TB) *Service {
	t.Helper()
	shared := *startShared()
	shared.address = nextAddress()
	return &shared
}

var (
	running     = &process{}
	startShared = sync.OnceValue(func() *Service {
		service := StartWith(running, WithBackups(running))
		began := service.Database.Clock.Now()
		running.Cleanup(func() {
			if now := service.Database.Clock.Now(); !now.Equal(began) {
				running.Errorf("a test moved the clock that all share, by %s: it needs a service of its own", now.Sub(began))
			}
		})
		return service
	})
	// operators makes the operators' customer of the shared service, which exists once.
	operators = sync.OnceValue(func() Customer {
		service := startShared()
		service.newOperators(running)
		made := Customer{Slug: customer.OperatorsSlug}
		service.Database.Peek(running, "select id from customers where slug = $1", &made.ID, made.Slug)
		return made
	})
	unique atomic.Uint32
)

// Unique returns a word that begins with the one given and that no other call returns: a slug, or the local
// part of an address.
func Unique(word string) string { return fmt.Sprintf("%s-%d", word, unique.Add(1)) }

// nextAddress returns an address of 198.18.0.0/15, which is set aside for tests (RFC 2544).
func nextAddress() string {
	number := unique.Add(1)
	return netip.AddrFrom4([4]byte{198, 18 + byte(number>>16&1), byte(number >> 8), byte(number)}).String()
}

// process is the test process as a testing.TB, for what outlives a single test. Its cleanups run after the
// last test.
type process struct {
	testing.TB // nil: only the methods below are used

	mutex    sync.Mutex
	cleanups []func()
	failed   bool
}

// end runs the cleanups, last one first, and reports whether none of them complained.
func (p *process) end() bool {
	for {
		p.mutex.Lock()
		last := len(p.cleanups) - 1
		if last < 0 {
			defer p.mutex.Unlock()
			return !p.failed
		}
		cleanup := p.cleanups[last]
		p.cleanups = p.cleanups[:last]
		p.mutex.Unlock()
		cleanup()
	}
}

// Helper implements testing.TB.
func (p *process) Helper() {}

// Name implements testing.TB.
func (p *process) Name() string { return "the shared service" }

// Context implements testing.TB. It does not end: the service is stopped by a cleanup.
func (p *process) Context() context.Context { return context.Background() }

// Cleanup implements testing.TB.
func (p *process) Cleanup(cleanup func()) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.cleanups = append(p.cleanups, cleanup)
}

// TempDir implements testing.TB.
func (p *process) TempDir() string {
	dir, err := os.MkdirTemp("", "steward-shared-*")
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			p.Error(err)
		}
	})
	return dir
}

// Failed implements testing.TB.
func (p *process) Failed() bool {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.failed
}

// Log implements testing.TB.
func (p *process) Log(values ...any) {
	fmt.Fprintln(os.Stderr, "the shared service:", strings.TrimSuffix(fmt.Sprintln(values...), "\n"))
}

// Logf implements testing.TB.
func (p *process) Logf(format string, values ...any) { p.Log(fmt.Sprintf(format, values...)) }

// Error implements testing.TB.
func (p *process) Error(values ...any) {
	p.mutex.Lock()
	p.failed = true
	p.mutex.Unlock()
	p.Log(values...)
}

// Errorf implements testing.TB.
func (p *process) Errorf(format string, values ...any) { p.Error(fmt.Sprintf(format, values...)) }

// Fatal implements testing.TB. Every test that asks for the service fails with it.
func (p *process) Fatal(values ...any) {
	p.Error(values...)
	panic("the shared service does not start: " + fmt.Sprint(values...))
}

// Fatalf implements testing.TB.
func (p *process) Fatalf(format string, values ...any) { p.Fatal(fmt.Sprintf(format, values...)) }
