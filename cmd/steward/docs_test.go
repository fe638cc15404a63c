package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fusionspim/steward/internal/dev/devpg"
	"github.com/fusionspim/steward/internal/infra/pgprograms"
)

// Every block of the documentation with one of these languages is run, in order, by one shell for
// each file:
//
//	sh       commands; what they print is not compared
//	console  "$ " begins a command, the lines up to the next one are what it prints
//	sql      given to psql as superuser; "sql 17" is for servers of version 17 and newer
//
// "sh pg_dump" needs a pg_dump that can read the server, which only the machine's own version of
// PostgreSQL brings. Three dots stand for what differs each time: in what is printed they match
// anything, and an "export NAME=" with dots, or one of a variable that the test provides, gets the
// test's value.
var executed = []string{"sh", "console", "sql"}

// notExecuted are the other blocks, by file and first line, each with its reason. It only shrinks.
var notExecuted = map[string]string{
	"README.md: make demo    # run the main job on several hundred invented people": "CI runs both; a test that " +
		"runs all tests would run itself",
	"README.md: go run ./cmd/steward dev": "stays in the foreground; the test starts the same command as a stage",
	`README.md: steward, err := client.New("https://steward.example", client.WithAPIKey(os.Getenv("STEWARD_API_KEY")))`: "Go; " +
		"TestGoInTheDocumentationIsCompiledSomewhere finds it in an example",
	"ARCHITECTURE.md: request                                    problem document": "a picture",
	"docs/tour.md: go run ./cmd/steward dev":                                       "stays in the foreground; the test starts the same command as a stage",
	"docs/tour.md: Steward is at http://127.0.0.1:8080": "output of the command above; TestDevPrintsWhatTheTourShows " +
		"compares it",
	"docs/operations.md: export STEWARD_BLOB_URL='s3://bucket/steward?region=eu-west-2'": "needs a real bucket",
	"CONTRIBUTING.md: make help":                   "CI runs the targets; a test that runs all tests would run itself",
	"CONTRIBUTING.md: package: imperative subject": "the form of a commit message, not a command",
}

// document is one Markdown file.
type document struct {
	path   string // from the module's root
	blocks []block
}

// block is one fenced block.
type block struct {
	line     int
	language string
	option   string
	text     string
}

func (b block) firstLine() string {
	first, _, _ := strings.Cut(b.text, "\n")
	return strings.TrimSpace(first)
}

// documents reads every Markdown file for people: those of the root and of docs/.
func documents(t *testing.T) (all []document) {
	t.Helper()
	root := filepath.Join("..", "..")
	paths, err := filepath.Glob(filepath.Join(root, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(filepath.Join(root, "docs"), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && strings.HasSuffix(path, ".md") {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			t.Fatal(err)
		}
		d := document{path: filepath.ToSlash(relative)}
		fence := regexp.MustCompile("(?ms)^```([^\n]*)\n(.*?)^```$")
		for _, match := range fence.FindAllSubmatchIndex(content, -1) {
			language, option, _ := strings.Cut(string(content[match[2]:match[3]]), " ")
			d.blocks = append(d.blocks, block{
				line:     1 + strings.Count(string(content[:match[0]]), "\n"),
				language: language, option: option, text: string(content[match[4]:match[5]]),
			})
		}
		all = append(all, d)
	}
	return all
}

func TestEveryBlockOfTheDocumentationIsRunOrHasAReason(t *testing.T) {
	t.Parallel()
	unused := maps.Clone(notExecuted)
	for _, d := range documents(t) {
		for _, b := range d.blocks {
			if slices.Contains(executed, b.language) {
				continue
			}
			where := d.path + ": " + b.firstLine()
			if notExecuted[where] == "" {
				t.Errorf(
					"%s:%d: a block that no test runs, %q: make it sh, console or sql, or give a reason",
					d.path,
					b.line,
					where,
				)
			}
			delete(unused, where)
		}
	}
	for where := range unused {
		t.Errorf("%q has a reason not to be run, but does not exist", where)
	}
}

// Go in the documentation stands in a file that is compiled, line by line.
func TestGoInTheDocumentationIsCompiledSomewhere(t *testing.T) {
	t.Parallel()
	var code strings.Builder
	for _, pattern := range []string{"pkg/*/*_test.go", "examples/*/*.go"} {
		paths, err := filepath.Glob(filepath.Join("..", "..", pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			code.Write(content)
		}
	}
	for _, d := range documents(t) {
		for _, b := range d.blocks {
			if b.language != "go" {
				continue
			}
			for line := range strings.Lines(b.text) {
				if !strings.Contains(code.String(), strings.TrimSpace(line)) {
					t.Errorf("%s:%d: no example has the line %q", d.path, b.line, strings.TrimSpace(line))
				}
			}
		}
	}
}

// What the tour shows of the output of dev is what dev prints.
func TestDevPrintsWhatTheTourShows(t *testing.T) {
	t.Parallel()
	var shown string
	for _, d := range documents(t) {
		for _, b := range d.blocks {
			if d.path == "docs/tour.md" && b.language == "text" && strings.HasPrefix(b.text, "Steward is at") {
				shown = b.text
			}
		}
	}
	process := &running{
		Cmd:   exec.Command(program, "dev", "--ephemeral", "--addr", "127.0.0.1:0"),
		ended: make(chan error, 1),
	}
	printed := &whole{want: strings.Count(shown, "\n") + 1, done: make(chan struct{})}
	process.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + openHome(t)}
	process.Stdout, process.Stderr = printed, &process.errors
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { process.ended <- process.Wait() }()
	select {
	case <-printed.done:
	case err := <-process.ended:
		t.Fatalf("dev ended: %v\n%s", err, process.errors.String())
	case <-time.After(90 * time.Second):
		_ = process.Process.Kill()
		t.Fatal("dev printed less than the tour shows")
	}
	if err := process.stop(t, os.Interrupt); err != nil {
		t.Error(err)
	}
	// The port is the test's own, and a column is as wide as what differs in it.
	same := func(text string) string {
		text = regexp.MustCompile(`127\.0\.0\.1:\d+`).ReplaceAllString(text, "127.0.0.1:0")
		return regexp.MustCompile(`[ \t]+`).ReplaceAllString(text, " ")
	}
	lines := strings.Split(strings.TrimSpace(printed.text), "\n")
	count := strings.Count(strings.TrimSpace(shown), "\n") + 1
	got, want := same(strings.Join(lines[:min(count, len(lines))], "\n")), same(shown)
	if !matches(want, got) {
		t.Errorf("dev prints\n%s\nbut the tour shows\n%s", got, want)
	}
}

// whole collects output until it has a number of lines.
type whole struct {
	text string
	want int
	done chan struct{}
}

// Write implements io.Writer. It never fails.
func (w *whole) Write(p []byte) (int, error) {
	before := strings.Count(w.text, "\n")
	w.text += string(p)
	if after := strings.Count(w.text, "\n"); before < w.want && after >= w.want {
		close(w.done)
	}
	return len(p), nil
}

// matches compares what is printed with what is shown, in which three dots match anything in a
// line.
func matches(shown, printed string) bool {
	pattern := strings.ReplaceAll(regexp.QuoteMeta(strings.TrimSpace(shown)), "…", ".*?")
	return regexp.MustCompile("^" + pattern + "$").MatchString(strings.TrimSpace(printed))
}

// stage is what the blocks of a file are run against.
type stage struct {
	variables map[string]string // given by the test, whatever the file's export says
	superuser string            // URL for sql
	server    int               // major version
	dump      int               // major version of the newest pg_dump here
	psql      string
}

// Each file that can be followed works as it is printed.
func TestDocumentation(t *testing.T) {
	t.Parallel()
	for _, d := range documents(t) {
		if !slices.ContainsFunc(d.blocks, func(b block) bool { return slices.Contains(executed, b.language) }) {
			continue
		}
		t.Run(d.path, func(t *testing.T) {
			t.Parallel()
			var s stage
			if d.path == "docs/operations.md" {
				s = emptyStage(t)
			} else {
				s = devStage(t)
			}
			s.follow(t, d)
		})
	}
}

// devStage is "steward dev".
func devStage(t *testing.T) stage {
	t.Helper()
	_, dev := startDev(t, []string{"HOME=" + openHome(t)}, nil, "--ephemeral")
	s := stage{superuser: dev.DatabaseURL, variables: map[string]string{
		"BASE": dev.BaseURL, "KEY": dev.Customers[0].APIKey,
		"ADMIN_PASSWORD": dev.Customers[0].Admin.Password,
	}}
	s.findPrograms(t)
	return s
}

// emptyStage is a PostgreSQL with nothing in it, and a folder for objects.
func emptyStage(t *testing.T) stage {
	t.Helper()
	folder := openHome(t)
	server, err := devpg.Start(t.Context(), devpg.Options{
		Dir: filepath.Join(folder, "postgres"), Purpose: devpg.Test, Ephemeral: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
	address := freeAddress(t)
	as := func(role, database string) string {
		return strings.Replace(server.URL(database), "postgres@", role+"@", 1)
	}
	s := stage{superuser: server.URL("postgres"), variables: map[string]string{
		"MIGRATE_URL":                      as("steward_migrator", "steward"),
		"STEWARD_DATABASE_URL":             as("steward_service", "steward"),
		"STEWARD_BACKUP_DATABASE_URL":      as("steward_backup", "steward"),
		"STEWARD_MAINTENANCE_DATABASE_URL": as("steward_maintenance", "steward"),
		"RESTORE_URL":                      as("steward_migrator", "steward_restored"),
		"STEWARD_PUBLIC_URL":               "http://" + address,
		"STEWARD_HTTP_ADDR":                address,
		"STEWARD_METRICS_ADDR":             freeAddress(t),
		"STEWARD_BLOB_URL":                 "file://" + filepath.Join(folder, "blobs"),
		"STEWARD_SMTP_URL":                 "none",
	}}
	s.findPrograms(t)
	return s
}

func (s *stage) findPrograms(t *testing.T) {
	t.Helper()
	server, err := pgprograms.Machine().First()
	if err != nil {
		t.Fatal(err)
	}
	s.server = server.Major
	clients := pgprograms.Machine().Folders("psql", "pg_dump")
	if len(clients) == 0 {
		t.Fatal("psql and pg_dump are missing: install PostgreSQL's client programs")
	}
	s.psql = filepath.Join(clients[0], "psql")
	for _, folder := range clients {
		output, err := exec.Command(filepath.Join(folder, "pg_dump"), "--version").Output()
		if err != nil {
			t.Fatal(err)
		}
		if match := regexp.MustCompile(`\) (\d+)`).FindSubmatch(output); match != nil {
			major, _ := strconv.Atoi(string(match[1])) // digits
			s.dump = max(s.dump, major)
		}
	}
}

// step is one command and, where that is compared, what it prints.
type step struct {
	line     int
	command  string
	compared bool
	prints   string
}

// steps turns the blocks of a file into commands of a shell.
func (s stage) steps(t *testing.T, d document) (all []step) {
	t.Helper()
	for _, b := range d.blocks {
		switch {
		case !slices.Contains(executed, b.language):
			continue
		case b.option == "pg_dump" && s.dump < s.server:
			t.Logf("%s:%d: left out, pg_dump %d cannot read PostgreSQL %d", d.path, b.line, s.dump, s.server)
			continue
		case b.language == "sql" && b.option != "":
			least, err := strconv.Atoi(b.option)
			if err != nil {
				t.Fatalf("%s:%d: %q is not a version", d.path, b.line, b.option)
			}
			if s.server < least {
				t.Logf("%s:%d: left out, it is for PostgreSQL %d", d.path, b.line, least)
				continue
			}
		}
		switch b.language {
		case "sql":
			all = append(
				all,
				step{
					line: b.line,
					command: fmt.Sprintf("'%s' -XqAt -v ON_ERROR_STOP=1 '%s' <<'END OF SQL'\n%sEND OF SQL",
						s.psql, s.superuser, b.text),
				},
			)
		case "sh":
			all = append(all, step{line: b.line, command: s.prepare(t, d, b)})
		case "console":
			for line := range strings.Lines(b.text) {
				switch last := len(all) - 1; {
				case strings.HasPrefix(line, "$ "):
					all = append(all, step{line: b.line, command: strings.TrimPrefix(line, "$ "), compared: true})
				case last >= 0 && strings.HasSuffix(strings.TrimSpace(all[last].command), `\`):
					all[last].command += line // continued, as the shell has it
				case last >= 0:
					all[last].prints += line
				}
			}
		}
	}
	return all
}

// prepare makes a block of commands what a test can run: exports get the test's values, and the
// service goes on in the background until the shell ends.
func (s stage) prepare(t *testing.T, d document, b block) string {
	t.Helper()
	var out strings.Builder
	for line := range strings.Lines(b.text) {
		export := regexp.MustCompile(`^export ([A-Z_]+)=`).FindStringSubmatch(line)
		switch {
		case export != nil && s.variables[export[1]] != "":
			fmt.Fprintf(&out, "export %s='%s'\n", export[1], s.variables[export[1]])
		case strings.Contains(line, "…") && !strings.HasPrefix(strings.TrimSpace(line), "#"):
			t.Fatalf("%s:%d: the test has no value for %q", d.path, b.line, strings.TrimSpace(line))
		case strings.HasPrefix(line, "steward serve"):
			out.WriteString("steward serve & SERVICE=$!; trap 'kill $SERVICE; wait $SERVICE' EXIT\n" +
				"until curl -fs \"$STEWARD_PUBLIC_URL/readyz\" >/dev/null; do kill -0 $SERVICE; read -rt 0.1 <> <(:) || :; done\n")
		default:
			out.WriteString(line)
		}
	}
	return out.String()
}

// follow runs the blocks of a file in order, in one shell, so that what one command exports the
// next one has. A mark that no command prints parts their output.
func (s stage) follow(t *testing.T, d document) {
	t.Helper()
	const mark = "--- next step ---"
	steps := s.steps(t, d)
	var script strings.Builder
	script.WriteString("set -eo pipefail\nexec 2>&1\n")
	for _, step := range steps {
		script.WriteString(strings.TrimRight(step.command, "\n") + "\necho; echo '" + mark + "'\n")
	}
	// A command that waits for ever is named, with what it printed, before the test times out.
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	shell := exec.CommandContext(ctx, "bash", "-c", script.String())
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	shell.Cancel = func() error { return syscall.Kill(-shell.Process.Pid, syscall.SIGKILL) }
	shell.WaitDelay = 10 * time.Second
	shell.Dir = t.TempDir()
	shell.Env = []string{
		"PATH=" + filepath.Dir(program) + string(filepath.ListSeparator) + os.Getenv("PATH"),
		"HOME=" + os.Getenv("HOME"), "NO_COLOR=1", "STEWARD_LOG_LEVEL=ERROR",
	}
	if s.variables["BASE"] != "" { // dev has printed them, and the tour's export only repeats them
		for _, name := range []string{"BASE", "KEY"} {
			shell.Env = append(shell.Env, name+"="+s.variables[name])
		}
	}
	output, err := shell.Output()
	printed := strings.Split(string(output), mark)
	if err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			t.Fatal(err)
		}
		failed := steps[min(len(printed)-1, len(steps)-1)]
		t.Fatalf("%s:%d: %v\n%s\nprinted\n%s", d.path, failed.line, err, failed.command, printed[len(printed)-1])
	}
	for i, step := range steps {
		if step.compared && !matches(step.prints, printed[i]) {
			t.Errorf("%s:%d:\n%s\nprints\n%s\nbut should print\n%s", d.path, step.line, step.command,
				strings.TrimSpace(printed[i]), strings.TrimSpace(step.prints))
		}
	}
}
