package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fusionspim/steward/internal/testkit/dbtest"
)

// program is the real binary, built once for all tests of the package.
var program string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		// Below a folder that everybody may enter, for a test runs the program as another user.
		dir, err := os.MkdirTemp("", "steward-test-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		if err := os.Chmod(dir, 0o755); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		program = filepath.Join(dir, "steward")
		if output, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%v: %s\n", err, output)
			return 1
		}
		return m.Run()
	}())
}

// running is a program under test.
type running struct {
	*exec.Cmd
	errors bytes.Buffer
	ended  chan error
}

// start runs the program with an environment of its own; nothing of the tests' reaches it.
func start(
	t *testing.T,
	environment []string,
	change func(*exec.Cmd),
	arguments ...string,
) (process *running, firstLine []byte) {
	t.Helper()
	process = &running{Cmd: exec.Command(program, arguments...), ended: make(chan error, 1)}
	process.Env = append([]string{"PATH=" + os.Getenv("PATH")}, environment...)
	process.Stderr = &process.errors
	if change != nil {
		change(process.Cmd)
	}
	out, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan []byte, 1)
	go func() {
		content := make([]byte, 0, 4096)
		buffer := make([]byte, 4096)
		for sent := false; ; {
			n, err := out.Read(buffer)
			content = append(content, buffer[:n]...)
			if line, _, whole := bytes.Cut(content, []byte("\n")); whole && !sent {
				lines <- bytes.Clone(line)
				sent = true
			}
			if err != nil {
				if !sent {
					lines <- content
				}
				process.ended <- process.Wait()
				return
			}
		}
	}()
	t.Cleanup(func() {
		// It has ended already, or does so as an operator has it do, and leaves nothing behind.
		_ = process.Process.Signal(syscall.SIGTERM)
		select {
		case <-process.ended:
		case <-time.After(40 * time.Second):
			t.Error("the program did not end")
			_ = process.Process.Kill()
			<-process.ended
		}
	})
	select {
	case firstLine = <-lines:
	case <-time.After(90 * time.Second):
		t.Fatalf("no line within 90 s:\n%s", process.errors.String())
	}
	return process, firstLine
}

// stop asks the program to end and waits until it has.
func (r *running) stop(t *testing.T, signal os.Signal) error {
	t.Helper()
	if err := r.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-r.ended:
		r.ended <- err
		return err
	case <-time.After(40 * time.Second):
		t.Fatal("the program did not end")
		return nil
	}
}

func startDev(t *testing.T, environment []string, change func(*exec.Cmd), arguments ...string) (*running, devDocument) {
	t.Helper()
	process, line := start(
		t,
		environment,
		change,
		append([]string{"dev", "--json", "--addr", "127.0.0.1:0"}, arguments...)...)
	var document devDocument
	if err := json.Unmarshal(line, &document); err != nil {
		t.Fatalf("%v: %q\n%s", err, line, process.errors.String())
	}
	return process, document
}

// signIn reports whether the credentials are good at the address.
func signIn(t *testing.T, base, slug string, person devPerson) int {
	t.Helper()
	body, err := json.Marshal(map[string]string{"customer": slug, "email": person.Email, "password": person.Password})
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.Post(base+"/v1/sessions", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return response.StatusCode
}

func get(t *testing.T, url, credential string) (int, []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if credential != "" {
		request.Header.Set("Authorization", "Bearer "+credential)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, content
}

// everybody checks every credential that dev printed.
func everybody(t *testing.T, document devDocument) {
	t.Helper()
	for _, one := range document.Customers {
		for _, person := range []devPerson{one.Admin, one.User} {
			if status := signIn(t, document.BaseURL, one.Slug, person); status != http.StatusCreated {
				t.Errorf("%s at %s: %d", person.Email, one.Slug, status)
			}
		}
		if status, body := get(t, document.BaseURL+"/v1/users", one.APIKey); status != http.StatusOK {
			t.Errorf("the API key of %s: %d %s", one.Slug, status, body)
		}
	}
	if status := signIn(t, document.BaseURL, "fusions", document.Operator); status != http.StatusCreated {
		t.Errorf("the operator: %d", status)
	}
}

// openHome makes a home that everybody may enter. Below t.TempDir they may not, and dev as root
// would keep the database, which belongs to another user then, elsewhere, where no test removes it.
func openHome(t *testing.T) string {
	t.Helper()
	home, err := os.MkdirTemp("", "steward-home-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(home); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(home, 0o755); err != nil {
		t.Fatal(err)
	}
	return home
}

func TestDevStartsOverAndOver(t *testing.T) {
	t.Parallel()
	home := openHome(t)
	environment := []string{"HOME=" + home, "XDG_CACHE_HOME=" + filepath.Join(home, "cache")}

	first, printed := startDev(t, environment, nil)
	everybody(t, printed)
	if len(printed.Customers) != 2 {
		t.Fatalf("%d customers", len(printed.Customers))
	}
	if status, body := get(
		t,
		printed.MetricsURL,
		"",
	); status != http.StatusOK ||
		!bytes.Contains(body, []byte("steward_http_request_duration_seconds")) {
		t.Errorf("metrics: %d", status)
	}

	// A second one at the same time takes the place beside the first.
	second, beside := startDev(t, environment, nil)
	if beside.DatabaseURL == printed.DatabaseURL {
		t.Error("two at once share a database")
	}
	everybody(t, beside)
	if err := second.stop(t, syscall.SIGTERM); err != nil {
		t.Errorf("SIGTERM: %v\n%s", err, second.errors.String())
	}

	// After kill -9 the next start finds what was there, and prints the same.
	_ = first.stop(t, syscall.SIGKILL)
	third, again := startDev(t, environment, nil)
	everybody(t, again)
	for i := range printed.Customers {
		if printed.Customers[i] != again.Customers[i] {
			t.Errorf("other credentials after kill -9: %s", again.Customers[i].Slug)
		}
	}
	if err := third.stop(t, os.Interrupt); err != nil {
		t.Errorf("SIGINT: %v\n%s", err, third.errors.String())
	}
}

func TestDevEphemeralLeavesNothing(t *testing.T) {
	t.Parallel()
	temporary := t.TempDir()
	if err := os.Chmod(temporary, 0o755); err != nil {
		t.Fatal(err)
	}
	process, document := startDev(t, []string{"HOME=" + t.TempDir(), "TMPDIR=" + temporary}, nil, "--ephemeral")
	everybody(t, document)
	if err := process.stop(t, syscall.SIGTERM); err != nil {
		t.Errorf("%v\n%s", err, process.errors.String())
	}
	left, err := os.ReadDir(temporary)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range left {
		t.Errorf("left behind: %s", entry.Name())
	}
}

// Root starts PostgreSQL as somebody else; everybody else starts it as themselves. Where the tests
// run as root, both are tried.
func TestDevAsOrdinaryUser(t *testing.T) {
	t.Parallel()
	home := openHome(t)
	var change func(*exec.Cmd)
	if os.Geteuid() == 0 && runtime.GOOS == "linux" {
		const nobody = 65534
		if err := os.Chown(home, nobody, nobody); err != nil {
			t.Fatal(err)
		}
		change = func(command *exec.Cmd) {
			command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
			command.Dir = home
		}
	}
	process, document := startDev(t, []string{"HOME=" + home}, change)
	everybody(t, document)
	if err := process.stop(t, syscall.SIGTERM); err != nil {
		t.Errorf("%v\n%s", err, process.errors.String())
	}
}

// What dev prints as env is all that a further replica needs, and both see the same customers.
func TestServeIsOneMoreReplica(t *testing.T) {
	t.Parallel()
	home := openHome(t)
	_, document := startDev(t, []string{"HOME=" + home}, nil, "--data", filepath.Join(home, "data"))
	address, metrics := freeAddress(t), freeAddress(t)
	environment := []string{"STEWARD_HTTP_ADDR=" + address, "STEWARD_METRICS_ADDR=" + metrics}
	for _, name := range slices.Sorted(maps.Keys(document.Env)) {
		environment = append(environment, name+"="+document.Env[name])
	}
	replica := startServe(t, environment, "http://"+address)
	if status := signIn(
		t,
		"http://"+address,
		document.Customers[0].Slug,
		document.Customers[0].Admin,
	); status != http.StatusCreated {
		t.Errorf("signing in at the replica: %d", status)
	}
	if status, body := get(t, "http://"+address+"/v1/users", document.Customers[1].APIKey); status != http.StatusOK {
		t.Errorf("the API key at the replica: %d %s", status, body)
	}
	if err := replica.stop(t, syscall.SIGTERM); err != nil {
		t.Errorf("%v\n%s", err, replica.errors.String())
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func startServe(t *testing.T, environment []string, base string) *running {
	t.Helper()
	process := &running{Cmd: exec.Command(program, "serve"), ended: make(chan error, 1)}
	process.Env = environment
	process.Stderr = &process.errors
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { process.ended <- process.Wait() }()
	t.Cleanup(func() {
		_ = process.Process.Kill() // it has ended already, if all went well
		<-process.ended
	})
	deadline, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		response, err := http.Get(base + "/readyz")
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return process
			}
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case err := <-process.ended:
			process.ended <- err
			t.Fatalf("serve ended: %v\n%s", err, process.errors.String())
		case <-deadline.Done():
			t.Fatalf("serve is not ready: %s", process.errors.String())
		}
	}
}

// once runs a command to its end.
func once(t *testing.T, environment []string, arguments ...string) (status int, out, errors string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	command := exec.CommandContext(t.Context(), program, arguments...)
	command.Env, command.Stdout, command.Stderr = environment, &stdout, &stderr
	if err := command.Run(); err != nil && command.ProcessState == nil {
		t.Fatal(err)
	}
	return command.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

func TestSettingsThatAreMissingOrWrongAreNamed(t *testing.T) {
	t.Parallel()
	const database, key = "STEWARD_DATABASE_URL=postgres://u:hidden@127.0.0.1:1/d", "STEWARD_MASTER_KEY=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	const public, smtp = "STEWARD_PUBLIC_URL=http://127.0.0.1", "STEWARD_SMTP_URL=none"
	blobs := "STEWARD_BLOB_URL=file://" + t.TempDir()
	for name, test := range map[string]struct {
		environment []string
		names       string
	}{
		"no database":      {[]string{key, public}, "STEWARD_DATABASE_URL"},
		"no master key":    {[]string{database, public}, "STEWARD_MASTER_KEY"},
		"no public URL":    {[]string{database, key}, "--public-url"},
		"bad public URL":   {[]string{database, key, "STEWARD_PUBLIC_URL=steward"}, "STEWARD_PUBLIC_URL"},
		"short master key": {[]string{database, "STEWARD_MASTER_KEY=hidden", public, smtp, blobs}, "master key"},
		"open proxies":     {[]string{database, key, public, "STEWARD_TRUSTED_PROXIES=0.0.0.0/0"}, "STEWARD_TRUSTED_PROXIES"},
		"open networks":    {[]string{database, key, public, "STEWARD_OUTBOUND_NETWORKS=0.0.0.0/0"}, "STEWARD_OUTBOUND_NETWORKS"},
		"weak hash":        {[]string{database, key, public, smtp, blobs, "STEWARD_PASSWORD_MEMORY=1024"}, "Argon2id"},
		"bad number":       {[]string{database, key, public, "STEWARD_MAX_CONNECTIONS=many"}, "--max-connections"},
		"database away":    {[]string{database, key, public, smtp, blobs, "STEWARD_START_TIMEOUT=10ms"}, "database"},
		"no store":         {[]string{database, key, public, smtp}, "STEWARD_BLOB_URL"},
		"bad store":        {[]string{database, key, public, smtp, "STEWARD_BLOB_URL=file:here"}, "STEWARD_BLOB_URL"},
		"store away": {[]string{
			database, key, public, smtp, "STEWARD_START_TIMEOUT=1s", "STEWARD_BLOB_ACCESS_KEY=k", "STEWARD_BLOB_SECRET_KEY=hidden",
			"STEWARD_BLOB_URL=s3://b/p?insecure=true&region=eu-west-2&endpoint=127.0.0.1:1",
		}, "STEWARD_BLOB_URL"},
		"store is no folder":  {[]string{database, key, public, smtp, "STEWARD_BLOB_URL=file:///dev/null/blobs"}, "STEWARD_BLOB_URL"},
		"half a credential":   {[]string{database, key, public, smtp, "STEWARD_BLOB_URL=s3://b/p", "STEWARD_BLOB_ACCESS_KEY=k"}, "STEWARD_BLOB_URL"},
		"no mail server":      {[]string{database, key, public}, "STEWARD_SMTP_URL"},
		"bad mail server":     {[]string{database, key, public, "STEWARD_SMTP_URL=smtp://u:hidden@h?x=y"}, "STEWARD_SMTP_URL"},
		"mail of nobody":      {[]string{database, key, public, "STEWARD_SMTP_URL=smtp://u:hidden@h"}, "STEWARD_MAIL_FROM"},
		"bad password page":   {[]string{database, key, public, smtp, "STEWARD_PASSWORD_PAGE_URL=/set"}, "STEWARD_PASSWORD_PAGE_URL"},
		"no workers":          {[]string{database, key, public, smtp, "STEWARD_WORKERS=-1"}, "STEWARD_WORKERS"},
		"no blobs":            {[]string{database, key, public, smtp}, "STEWARD_BLOB_URL"},
		"bad blobs":           {[]string{database, key, public, smtp, "STEWARD_BLOB_URL=ftp://hidden"}, "STEWARD_BLOB_URL"},
		"half a bucket key":   {[]string{database, key, public, smtp, "STEWARD_BLOB_URL=s3://b", "STEWARD_BLOB_SECRET_KEY=hidden"}, "access key"},
		"bad recipient":       {[]string{database, key, public, smtp, blobs, "STEWARD_BACKUP_RECIPIENTS=age1x"}, "STEWARD_BACKUP_RECIPIENTS"},
		"no days of backups":  {[]string{database, key, public, smtp, blobs, "STEWARD_BACKUP_DAYS=0"}, "STEWARD_BACKUP_DAYS"},
		"too many backups":    {[]string{database, key, public, smtp, blobs, "STEWARD_BACKUP_EVERY=1m"}, "STEWARD_BACKUP_EVERY"},
		"both value and file": {[]string{database, "STEWARD_DATABASE_URL_FILE=x", key, public}, "STEWARD_DATABASE_URL_FILE"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, _, errors := once(t, test.environment, "serve")
			if status == 0 || !strings.Contains(errors, test.names) {
				t.Errorf("status %d: %s", status, errors)
			}
			if strings.Contains(errors, "hidden") {
				t.Errorf("a secret is printed: %s", errors)
			}
		})
	}
}

func TestMigrateAndCreatePeople(t *testing.T) {
	t.Parallel()
	url := "STEWARD_DATABASE_URL=" + dbtest.NewEmpty(t).Reveal()
	status, _, errors := once(
		t,
		[]string{url},
		"operator",
		"create",
		"--email=a@fusions.example",
		"--first-name=A",
		"--last-name=B",
	)
	if status == 0 || !strings.Contains(errors, "steward migrate up") {
		t.Errorf("without a schema: %d %s", status, errors)
	}
	var applied struct{ Applied []struct{ Version int64 } }
	status, out, errors := once(t, []string{url}, "migrate", "up", "--json")
	if err := json.Unmarshal([]byte(out), &applied); err != nil || status != 0 || len(applied.Applied) == 0 {
		t.Fatalf("up: %d %s %s", status, out, errors)
	}
	if status, out, errors = once(
		t,
		[]string{url},
		"migrate",
		"up",
	); status != 0 ||
		!strings.Contains(out, "up to date") {
		t.Errorf("up again: %d %s %s", status, out, errors)
	}
	if status, out, errors = once(
		t,
		[]string{url},
		"migrate",
		"status",
	); status != 0 ||
		!strings.Contains(out, "applied 20") {
		t.Errorf("status: %d %s %s", status, out, errors)
	}
	var made struct{ Password string }
	status, out, errors = once(
		t,
		[]string{url},
		"operator",
		"create",
		"--email=a@fusions.example",
		"--first-name=A",
		"--last-name=B",
		"--json",
	)
	if err := json.Unmarshal([]byte(out), &made); err != nil || status != 0 || made.Password == "" {
		t.Errorf("operator create: %d %s %s", status, out, errors)
	}
	status, _, errors = once(
		t,
		[]string{url},
		"operator",
		"create",
		"--email=A@Fusions.example",
		"--first-name=A",
		"--last-name=B",
	)
	if status == 0 || !strings.Contains(errors, "address") {
		t.Errorf("the same operator again: %d %s", status, errors)
	}
	status, _, errors = once(
		t,
		[]string{url, "STEWARD_NEW_PASSWORD=short"},
		"customer",
		"create",
		"--slug=acme",
		"--name=Acme",
		"--admin-email=a@acme.example",
		"--admin-first-name=A",
		"--admin-last-name=B",
	)
	if status == 0 || !strings.Contains(errors, "password") {
		t.Errorf("a weak password: %d %s", status, errors)
	}
	status, out, errors = once(
		t,
		[]string{url},
		"customer",
		"create",
		"--slug=acme",
		"--name=Acme",
		"--admin-email=a@acme.example",
		"--admin-first-name=A",
		"--admin-last-name=B",
		"--json",
	)
	if err := json.Unmarshal([]byte(out), &made); err != nil || status != 0 {
		t.Errorf("customer create: %d %s %s", status, out, errors)
	}
	// The program serves what it has made.
	address := freeAddress(t)
	startServe(t, []string{
		url,
		"STEWARD_MASTER_KEY=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
		"STEWARD_PUBLIC_URL=http://" + address,
		"STEWARD_HTTP_ADDR=" + address,
		"STEWARD_METRICS_ADDR=127.0.0.1:0",
		"STEWARD_SMTP_URL=none",
		"STEWARD_BLOB_URL=file://" + t.TempDir(),
	}, "http://"+address)
	if status := signIn(
		t,
		"http://"+address,
		"acme",
		devPerson{Email: "a@acme.example", Password: made.Password},
	); status != http.StatusCreated {
		t.Errorf("the administrator signs in: %d", status)
	}
	if status, out, errors = once(
		t,
		[]string{url},
		"migrate",
		"down",
	); status != 0 ||
		!strings.Contains(out, "undone") {
		t.Errorf("down: %d %s %s", status, out, errors)
	}
}

func TestHelpIsEnough(t *testing.T) {
	t.Parallel()
	for _, arguments := range [][]string{{}, {"dev"}, {"serve"}, {"migrate"}, {"migrate", "up"}, {"operator", "create"}, {"customer", "create"}, {"audit", "verify"}, {"audit", "export"}, {"audit", "rotate-key"}, {"ledger", "verify"}, {"ledger", "accept"}, {"version"}} {
		status, out, errors := once(t, nil, append(slices.Clone(arguments), "--help")...)
		if status != 0 || !strings.Contains(out, "Usage: steward") {
			t.Errorf("%v: %d %s%s", arguments, status, out, errors)
		}
	}
	if status, _, errors := once(t, nil, "nonsense"); status == 0 || !strings.Contains(errors, "nonsense") {
		t.Errorf("an unknown command: %d %s", status, errors)
	}
}
