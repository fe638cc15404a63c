package devpg

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fusionspim/steward/internal/infra/pgprograms"
)

// serveVariable makes this test binary a process that runs a server on the named directory until it
// is killed.
const serveVariable = "DEVPG_TEST_SERVE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(serveVariable); dir != "" {
		server, err := Start(context.Background(), Options{Dir: dir})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(server.URL(""))
		fmt.Println(server.process.pid())
		select {}
	}
	os.Exit(m.Run())
}

func TestDataSurvivesAStop(t *testing.T) {
	t.Parallel()
	for _, purpose := range []Purpose{Dev, Test} {
		dir := temporaryDir(t)
		began := time.Now()
		server := mustStart(t, Options{Dir: dir, Purpose: purpose})
		cold := time.Since(began)
		execute(t, server.URL(""), "create table kept (n int); insert into kept values (42)")
		mustStop(t, server)
		mustStop(t, server) // does nothing

		began = time.Now()
		again := mustStart(t, Options{Dir: dir, Purpose: purpose})
		t.Logf("purpose %d: cold start %s, warm start %s", purpose, cold, time.Since(began))
		if got := ask(t, again.URL("postgres"), "select n::text from kept"); got != "42" {
			t.Errorf("read %q, want 42", got)
		}
		if again.URL("") != server.URL("") || again.SocketDir() != server.SocketDir() {
			t.Errorf("the address changed from %s to %s", server.URL(""), again.URL(""))
		}
		mustStop(t, again)
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	common := map[string]string{
		"listen_addresses": "", "synchronous_commit": "off", "server_encoding": "UTF8", "lc_collate": "C", "TimeZone": "UTC",
		"log_error_verbosity": "terse", "log_parameter_max_length": "0", "log_parameter_max_length_on_error": "0", "log_statement": "none",
		"log_min_error_statement": "panic", "log_min_messages": "log", "is_superuser": "on", "session_authorization": "postgres",
	}
	own := map[Purpose]map[string]string{
		Dev:  {"fsync": "on", "full_page_writes": "on", "max_connections": "100", "max_prepared_transactions": "0", "data_checksums": "on"},
		Test: {"fsync": "off", "full_page_writes": "off", "max_connections": "300", "max_prepared_transactions": "20"},
	}
	for purpose, settings := range own {
		server := mustStart(t, Options{Dir: temporaryDir(t), Purpose: purpose})
		for _, expected := range []map[string]string{common, settings} {
			for name, want := range expected {
				if name == "lc_collate" { // a property of the database since PostgreSQL 16
					if got := ask(t, server.URL(""), "select datcollate from pg_database where datname = 'template1'"); got != want {
						t.Errorf("collation is %q, want %q", got, want)
					}
					continue
				}
				if got := ask(t, server.URL(""), "show "+name); got != want {
					t.Errorf("purpose %d: %s is %q, want %q", purpose, name, got, want)
				}
			}
		}
		mustStop(t, server)
	}
}

func TestSecondStartIsRefused(t *testing.T) {
	t.Parallel()
	dir := temporaryDir(t)
	var (
		wait    sync.WaitGroup
		mu      sync.Mutex
		servers []*Server
		refused int
	)
	for range 4 {
		wait.Go(func() {
			server, err := Start(t.Context(), Options{Dir: dir, Purpose: Test})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				servers = append(servers, server)
			case errors.Is(err, ErrInUse):
				refused++
			default:
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if len(servers) != 1 || refused != 3 {
		t.Fatalf("%d of 4 servers started and %d were refused with ErrInUse, want 1 and 3", len(servers), refused)
	}
	if out, err := helper(dir).CombinedOutput(); err == nil || !strings.Contains(string(out), ErrInUse.Error()) {
		t.Errorf("another process was not refused: %v, %s", err, out)
	}
	if got := ask(t, servers[0].URL(""), "select 'undisturbed'"); got != "undisturbed" {
		t.Error(got)
	}
	mustStop(t, servers[0])
	mustStop(t, mustStart(t, Options{Dir: dir, Purpose: Test}))
}

func TestOwnerIsKilled(t *testing.T) {
	t.Parallel()
	for _, postmasterToo := range []bool{false, true} {
		dir := temporaryDir(t)
		owner, address, pid := startHelper(t, dir)
		execute(t, address, "set synchronous_commit = on; create table kept (n int); insert into kept values (42)")
		if postmasterToo {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		kill(t, owner)
		server := mustStart(t, Options{Dir: dir})
		if got := ask(t, server.URL(""), "select n::text from kept"); got != "42" {
			t.Errorf("postmaster killed as well: %t: read %q, want 42", postmasterToo, got)
		}
		if state, err := stateOf(pid, server.data); err != nil || state == postmaster {
			t.Errorf("the killed owner's server %d still runs (%d, %v)", pid, state, err)
		}
		mustStop(t, server)
	}
}

func TestOwnerIsKilledWhileCreating(t *testing.T) {
	t.Parallel()
	dir := temporaryDir(t)
	for _, after := range []time.Duration{30, 100, 200, 300, 400} {
		owner := helper(dir)
		if err := owner.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(after * time.Millisecond)
		kill(t, owner)
	}
	server := mustStart(t, Options{Dir: dir})
	if got := ask(t, server.URL(""), "select count(*)::text from pg_database"); got != "3" {
		t.Errorf("%s databases, want 3", got)
	}
	mustStop(t, server)
	leftovers, err := filepath.Glob(filepath.Join(server.home.path, unfinished+"*"))
	if err != nil || len(leftovers) != 0 {
		t.Errorf("left over: %v, %v", leftovers, err)
	}
}

func TestPostmasterNoteOfAStranger(t *testing.T) {
	t.Parallel()
	dir := temporaryDir(t)
	server := mustStart(t, Options{Dir: dir, Purpose: Test})
	mustStop(t, server)

	// A process of the very account that the server runs under: PostgreSQL takes it for a server of
	// its own.
	attributes, err := server.who.attributes(0)
	if err != nil {
		t.Fatal(err)
	}
	stranger := exec.Command("sleep", "600")
	stranger.SysProcAttr = attributes
	stranger.Dir = "/"
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	defer kill(t, stranger)
	text := fmt.Sprintf("%d\n%s\n1\n%s\n%s\n\n1 1\nready\n", stranger.Process.Pid, server.data, port, server.sockets.path)
	if err := os.WriteFile(filepath.Join(server.data, postmasterNote), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := server.who.give(filepath.Join(server.data, postmasterNote)); err != nil {
		t.Fatal(err)
	}
	mustStop(t, mustStart(t, Options{Dir: dir, Purpose: Test}))
	if err := stranger.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the stranger was touched: %v", err)
	}
}

func TestEphemeralLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"made/by/start", "long/" + strings.Repeat("x", 120), "odd/a, \"b\" 'c' [d] é"} {
		parent, shelter := temporaryDir(t), temporaryDir(t)
		if err := errors.Join(os.Chmod(parent, 0o711), os.Chmod(shelter, fs.ModeSticky|0o777)); err != nil {
			t.Fatal(err)
		}
		shelters := shelters{lasting: []string{shelter}, short: []string{shelter}}
		o := Options{Dir: filepath.Join(parent, name), Purpose: Test, Ephemeral: true}
		server, err := start(t.Context(), o, pgprograms.Machine(), shelters)
		if err != nil {
			t.Fatal(err)
		}
		if got := ask(t, server.URL(""), "select 'works'"); got != "works" {
			t.Error(got)
		}
		mustStop(t, server)
		for _, dir := range []string{parent, shelter} {
			if !isEmpty(dir) {
				t.Errorf("%s: something was left in %s", name, dir)
			}
		}
	}

	given := temporaryDir(t)
	server := mustStart(t, Options{Dir: given, Purpose: Test, Ephemeral: true})
	mustStop(t, server)
	if _, err := os.Lstat(given); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory was not removed: %v", err)
	}
	if err := os.MkdirAll(given, 0o700); err != nil {
		t.Fatal(err)
	}
	stray := filepath.Join(given, "somebody's")
	server = mustStart(t, Options{Dir: given, Purpose: Test, Ephemeral: true})
	if err := os.WriteFile(stray, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	mustStop(t, server)
	if _, err := os.Lstat(stray); err != nil {
		t.Errorf("a file that is not ours was removed: %v", err)
	}
}

// TestAccount runs under whatever account the tests have; TestAsOrdinaryUser and
// TestAsRootWithoutCapabilities repeat it under others.
func TestAccount(t *testing.T) {
	t.Parallel()
	server := mustStart(t, Options{Dir: temporaryDir(t), Purpose: Test})
	t.Logf("our user %d, the server's: %+v", os.Geteuid(), server.who)
	if server.who.uid == 0 || (os.Geteuid() == 0) == (server.who.manner == direct) {
		t.Errorf("as user %d the server runs as %+v", os.Geteuid(), server.who)
	}
	owner, _ := server.who.owner()
	for path, mode := range map[string]fs.FileMode{server.data: 0o700, server.sockets.path: 0o700} {
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if ownerOf(info) != owner || info.Mode() != fs.ModeDir|mode {
			t.Errorf("%s belongs to %d with mode %s, want %d and %o", path, ownerOf(info), info.Mode(), owner, mode)
		}
	}
	info, err := os.Lstat(filepath.Join(server.data, postmasterNote)) // made by the postmaster
	if err != nil || ownerOf(info) != owner {
		t.Errorf("the postmaster does not run as user %d: %v", owner, err)
	}

	psql := exec.Command(server.programs.Path("psql"), server.URL("template1"), "-XAtc", "select current_database(), current_user")
	out, err := psql.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "template1|postgres" {
		t.Errorf("psql: %v, %s", err, out)
	}
	mustStop(t, server)
}

func TestClosedDirectory(t *testing.T) {
	t.Parallel()
	closed := temporaryDir(t)
	if err := os.WriteFile(filepath.Join(closed, "private"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	shelter := temporaryDir(t)
	if err := os.Chmod(shelter, fs.ModeSticky|0o777); err != nil {
		t.Fatal(err)
	}
	shelters := shelters{lasting: []string{shelter}, short: []string{shelter}}
	o := Options{Dir: filepath.Join(closed, "data"), Purpose: Test}
	server, err := start(t.Context(), o, pgprograms.Machine(), shelters)
	if err != nil {
		t.Fatal(err)
	}
	want := o.Dir
	if server.who.manner == dropped {
		entries, err := os.ReadDir(shelter)
		if err != nil || len(entries) != 1 {
			t.Fatal(entries, err)
		}
		want = filepath.Join(shelter, entries[0].Name())
		info, err := os.Lstat(want)
		if err != nil || ownerOf(info) != 0 || info.Mode() != fs.ModeDir|0o710 {
			t.Errorf("%s: %v, %v", want, info.Mode(), err)
		}
	}
	if server.home.path != want {
		t.Errorf("the data is in %s, want %s", server.home.path, want)
	}
	if info, err := os.Lstat(closed); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the closed directory was opened: %v, %v", info.Mode(), err)
	}
	if _, err := start(t.Context(), o, pgprograms.Machine(), shelters); !errors.Is(err, ErrInUse) {
		t.Errorf("a second start gave %v, want ErrInUse", err)
	}
	execute(t, server.URL(""), "create table kept (n int)")
	mustStop(t, server)
	server, err = start(t.Context(), o, pgprograms.Machine(), shelters)
	if err != nil {
		t.Fatal(err)
	}
	execute(t, server.URL(""), "table kept")
	mustStop(t, server)
}

func TestSharedDirectoryIsChecked(t *testing.T) {
	t.Parallel()
	who := identity{manner: direct}
	parent := temporaryDir(t)
	path, err := shelterIn(parent, "purpose", who)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := shelterIn(parent, "purpose", who); err != nil || again != path {
		t.Errorf("the second time: %s, %v", again, err)
	}
	for name, spoil := range map[string]func() error{
		"open to others": func() error { return errors.Join(os.Mkdir(path, 0o700), os.Chmod(path, 0o750)) },
		"a link":         func() error { return os.Symlink(temporaryDir(t), path) },
		"a file":         func() error { return os.WriteFile(path, nil, 0o600) },
	} {
		if err := errors.Join(os.Remove(path), spoil()); err != nil {
			t.Fatal(err)
		}
		if _, err := shelterIn(parent, "purpose", who); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := makeOwn(temporaryDir(t), 0, os.Geteuid()+1); err == nil {
		t.Error("a stranger's directory was accepted")
	}
	if err := os.Chmod(parent, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := shelterIn(parent, "other", who); err == nil {
		t.Error("a directory in which anybody may rename was accepted")
	}
}

func TestServerLogHoldsNoValues(t *testing.T) {
	t.Parallel()
	var log lockedBuffer
	server := mustStart(t, Options{Dir: temporaryDir(t), Purpose: Test,
		Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	const secret = "jane.doe@example.com"
	execute(t, server.URL(""), "create table people (email text primary key); insert into people values ('"+secret+"')")
	for _, statement := range []string{
		"insert into people values ('" + secret + "')",
		"select '" + secret + "'::uuid",
		"do $$ begin raise exception '" + secret + "'; end $$",
		"do $$ begin raise warning '" + secret + "'; end $$",
		"syntax error '" + secret + "'",
		"select pg_terminate_backend(pg_backend_pid()), '" + secret + "'",
	} {
		connection := connect(t, server.URL(""))
		if _, err := connection.Exec(t.Context(), statement); err == nil && !strings.Contains(statement, "warning") {
			t.Errorf("%s: succeeded", statement)
		}
		_ = connection.Close(t.Context())
	}
	connection := connect(t, server.URL(""))
	if _, err := connection.Exec(t.Context(), "select $1::uuid", secret); err == nil {
		t.Error("a parameter that is no uuid was accepted")
	}
	// A crash of a session makes the server log the statement that it ran.
	crashed := fmt.Sprintf("select pg_sleep(60), '%s'", secret)
	pid := connection.PgConn().PID()
	wait := make(chan error, 1)
	go func() { _, err := connection.Exec(context.Background(), crashed); wait <- err }()
	time.Sleep(100 * time.Millisecond)
	if err := syscall.Kill(int(pid), syscall.SIGABRT); err != nil {
		t.Fatal(err)
	}
	if err := <-wait; err == nil {
		t.Error("the session did not crash")
	}
	mustStop(t, server)
	if text := log.String(); strings.Contains(text, secret) || strings.Contains(text, "pg_sleep") {
		t.Errorf("the log holds a value or a statement:\n%s", text)
	} else if !strings.Contains(text, "terminated by signal") {
		t.Errorf("the log does not tell of the crash:\n%s", text)
	}
}

func TestFailedStartTellsWhy(t *testing.T) {
	t.Parallel()
	dir := temporaryDir(t)
	server := mustStart(t, Options{Dir: dir, Purpose: Test})
	mustStop(t, server)
	path := filepath.Join(server.data, "postgresql.auto.conf")
	if err := os.WriteFile(path, []byte("no_such_setting = on\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second shows that the first gave up the lock
		_, err := Start(t.Context(), Options{Dir: dir, Purpose: Test})
		if err == nil || !strings.Contains(err.Error(), "no_such_setting") {
			t.Errorf("the error does not tell why: %v", err)
		}
	}
	if _, err := os.Stat(filepath.Join(server.data, "PG_VERSION")); err != nil {
		t.Errorf("the data was touched: %v", err)
	}
}

func TestContexts(t *testing.T) {
	t.Parallel()
	dir := temporaryDir(t)
	shelter := temporaryDir(t)
	shelters := shelters{lasting: []string{shelter}, short: []string{shelter}}
	for _, limit := range []time.Duration{0, 5 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond, 150 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		if server, err := start(ctx, Options{Dir: dir, Purpose: Test}, pgprograms.Machine(), shelters); err == nil {
			mustStop(t, server) // a fast machine
		} else if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %s: %v, want the context's error", limit, err)
		}
		cancel()
	}
	if !isEmpty(shelter) {
		t.Error("a start that ran out of time looked for another place for the data")
	}
	ctx, cancel := context.WithCancel(t.Context())
	server := mustStartWith(ctx, t, Options{Dir: dir, Purpose: Test})
	cancel()
	execute(t, server.URL(""), "select 1") // the context was for the start only
	if err := server.Stop(ctx); err != nil {
		t.Errorf("Stop under an ended context: %v", err)
	}
	mustStop(t, mustStart(t, Options{Dir: dir, Purpose: Test}))
	if _, err := Start(t.Context(), Options{}); err == nil {
		t.Error("no directory was accepted")
	}
}

func TestOtherVersionsAreKept(t *testing.T) {
	t.Parallel()
	dir := temporaryDir(t)
	server := mustStart(t, Options{Dir: dir, Purpose: Test})
	mustStop(t, server)
	for _, major := range []string{"9", "999"} { // neither is installed, ever
		old := filepath.Join(server.home.path, "pg"+major)
		if err := os.Mkdir(old, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(old, "PG_VERSION"), []byte(major+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	again := mustStart(t, Options{Dir: dir, Purpose: Test, Ephemeral: true})
	if again.data != server.data {
		t.Errorf("the data is in %s, want %s", again.data, server.data)
	}
	mustStop(t, again)
	for _, major := range []int{9, 999} {
		if _, err := os.Stat(filepath.Join(clusterPath(server.home.path, major), "PG_VERSION")); err != nil {
			t.Errorf("data of another version was removed: %v", err)
		}
	}
}

// TestAsOrdinaryUser repeats the tests that depend on the account as an ordinary user, when they
// run as root.
func TestAsOrdinaryUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		return // all the others just did that
	}
	account, err := unprivilegedAccount()
	if err != nil {
		t.Fatal(err)
	}
	repeat(t, account, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: account.uid, Gid: account.gid}})
}

// repeat runs the tests that depend on the account once more, in a process with the given
// attributes.
func repeat(t *testing.T, account identity, attributes *syscall.SysProcAttr) {
	t.Helper()
	dir := temporaryDir(t)
	// go test's own copy may be where the account can't get at it
	program := filepath.Join(dir, "devpg.test")
	copyProgram(t, program)
	work := filepath.Join(dir, "w")
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(work, 0o700)); err != nil {
		t.Fatal(err)
	}
	if attributes.Credential != nil {
		if err := os.Chown(work, int(account.uid), int(account.gid)); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.Command(program, "-test.v", "-test.run",
		"^Test(Account|DataSurvivesAStop|SecondStartIsRefused|OwnerIsKilled|PostmasterNoteOfAStranger|EphemeralLeavesNothing|ClosedDirectory)$")
	command.SysProcAttr = attributes
	command.Dir = work
	command.Env = []string{"HOME=" + work, "TMPDIR=" + work, "PATH=" + os.Getenv("PATH")}
	out, err := command.CombinedOutput()
	if err != nil || bytes.Count(out, []byte("\n--- PASS")) != 7 {
		t.Errorf("%v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "our user") || strings.Contains(line, "warm start") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

func copyProgram(t *testing.T, to string) {
	t.Helper()
	from, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	// A process that another test starts meanwhile would have the file open for writing too, and
	// nobody could run it.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// temporaryDir is like t.TempDir, but not below a closed directory, and resolved, so that paths can
// be compared.
func temporaryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "devpg-") // short, for the sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	return real
}

func mustStart(t *testing.T, o Options) *Server {
	t.Helper()
	return mustStartWith(t.Context(), t, o)
}

func mustStartWith(ctx context.Context, t *testing.T, o Options) *Server {
	t.Helper()
	server, err := Start(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mustStop(t, server) })
	return server
}

// mustStop works in a cleanup as well, where the test's context has ended.
func mustStop(t *testing.T, server *Server) {
	t.Helper()
	if err := server.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}

// helper is a process, not started yet, that runs a server on a directory.
func helper(dir string) *exec.Cmd {
	program, err := os.Executable()
	if err != nil {
		panic(err)
	}
	command := exec.Command(program)
	command.Env = append(os.Environ(), serveVariable+"="+dir)
	return command
}

// startHelper returns the process, its server's address and its postmaster's number.
func startHelper(t *testing.T, dir string) (*exec.Cmd, string, int) {
	t.Helper()
	command := helper(dir)
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	var said []string
	for len(said) < 2 && lines.Scan() {
		said = append(said, lines.Text())
	}
	if len(said) < 2 {
		kill(t, command)
		t.Fatal("the helper did not start")
	}
	pid, err := strconv.Atoi(said[1])
	if err != nil {
		t.Fatal(err)
	}
	return command, said[0], pid
}

// kill kills a process and waits for it.
func kill(t *testing.T, command *exec.Cmd) {
	t.Helper()
	if err := command.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = command.Wait() // says that it was killed
}

func connect(t *testing.T, address string) *pgx.Conn {
	t.Helper()
	connection, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	return connection
}

func execute(t *testing.T, address, statements string) {
	t.Helper()
	connection := connect(t, address)
	defer connection.Close(t.Context())
	if _, err := connection.PgConn().Exec(t.Context(), statements).ReadAll(); err != nil {
		t.Fatal(err)
	}
}

func ask(t *testing.T, address, query string) string {
	t.Helper()
	connection := connect(t, address)
	defer connection.Close(t.Context())
	var answer string
	if err := connection.QueryRow(t.Context(), query).Scan(&answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

// lockedBuffer is a log that may be written while it is read.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(text []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(text)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func TestServerLogIsBounded(t *testing.T) {
	t.Parallel()
	log := &serverLog{log: slog.New(slog.DiscardHandler)}
	for i := range 1000 {
		fmt.Fprintf(log, "line %d\n%s", i, strings.Repeat("x", 5*longestLine))
	}
	if len(log.lines) != rememberedLines || len(log.partial) > longestLine || slices.ContainsFunc(log.lines, func(line string) bool {
		return len(line) > longestLine
	}) {
		t.Errorf("%d lines and %d bytes are kept", len(log.lines), len(log.partial))
	}
}
