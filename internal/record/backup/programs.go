package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/infra/pgprograms"
)

// programs are pg_dump and pg_restore of one version.
type programs struct {
	folder string
	major  int
}

// findPrograms returns the programs for a server: of its own version, or else of the nearest newer
// one. Older ones cannot dump it. To read a dump, they must not be older than the program that made
// it. Zero: any version.
func findPrograms(ctx context.Context, folder string, server, dump int) (programs, error) {
	folders := []string{folder}
	if folder == "" {
		folders = clientFolders()
	}
	least := max(server, dump)
	var best, old programs
	for _, f := range folders {
		major, err := version(ctx, f)
		switch {
		case err != nil && folder != "":
			return programs{}, fmt.Errorf("STEWARD_PG_BIN: %w", err)
		case err != nil:
		case major < least:
			if major > old.major {
				old = programs{f, major}
			}
		case best.folder == "" || major < best.major:
			best = programs{f, major}
		}
	}
	switch {
	case best.folder != "":
		return best, nil
	case old.folder != "":
		return programs{}, fmt.Errorf("pg_dump and pg_restore in %s are of version %d, and version %d is needed; "+
			"install postgresql-client-%d or name another folder with STEWARD_PG_BIN",
			old.folder, old.major, least, least)
	default:
		return programs{}, fmt.Errorf("pg_dump and pg_restore were not found; "+
			"install postgresql-client-%d or name their folder with STEWARD_PG_BIN", max(least, 14))
	}
}

// clientFolders returns the folders of the machine that have the programs. Debian has links in
// /usr/bin to a wrapper that chooses a version by its own rules; the programs themselves are in
// folders that are searched anyway.
func clientFolders() []string {
	return slices.DeleteFunc(pgprograms.Machine().Folders("pg_dump", "pg_restore"), func(folder string) bool {
		real, err := filepath.EvalSymlinks(filepath.Join(folder, "pg_dump"))
		return err != nil || filepath.Base(real) == "pg_wrapper"
	})
}

// checkPrograms returns an error where the programs do not exist. It runs none.
func checkPrograms(folder string) error {
	if folder == "" {
		if len(clientFolders()) == 0 {
			return errors.New("pg_dump and pg_restore were not found; " +
				"install postgresql-client or name their folder with STEWARD_PG_BIN")
		}
		return nil
	}
	for _, name := range []string{"pg_dump", "pg_restore"} {
		if _, err := os.Stat(filepath.Join(folder, name)); err != nil {
			return fmt.Errorf("STEWARD_PG_BIN: %w", err)
		}
	}
	return nil
}

// version returns the major version of the programs in a folder.
func version(ctx context.Context, folder string) (int, error) {
	for _, name := range []string{"pg_restore", "pg_dump"} {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		command := exec.CommandContext(ctx, filepath.Join(folder, name), "--version")
		command.Env = environment()
		command.WaitDelay = time.Second
		out, err := command.Output()
		if err != nil {
			return 0, fmt.Errorf("%s --version: %w", filepath.Join(folder, name), err)
		}
		match := regexp.MustCompile(`^pg_[a-z]+ \(PostgreSQL\) (\d+)`).FindSubmatch(out)
		if match == nil {
			return 0, fmt.Errorf("%s is not PostgreSQL's", filepath.Join(folder, name))
		}
		if name == "pg_dump" {
			return strconv.Atoi(string(match[1]))
		}
	}
	return 0, nil
}

// target is a database in the form that the programs take. The password is passed in the
// environment, where other users of the machine cannot read it.
type target struct {
	name     string // libpq's URL, without the password
	password string
}

func targetOf(text sensitive.String, setting string) (target, error) {
	address, err := url.Parse(text.Reveal())
	if err != nil || address.Scheme != "postgres" && address.Scheme != "postgresql" {
		return target{}, fmt.Errorf("%s must be a URL, such as postgres://user:password@host:5432/database", setting)
	}
	query := address.Query()
	to := target{password: query.Get("password")}
	query.Del("password")
	address.RawQuery = query.Encode()
	if password, given := address.User.Password(); given {
		to.password = password
		address.User = url.User(address.User.Username())
	}
	to.name = address.String()
	return to, nil
}

// environment returns the environment of the programs: that of the service without its secrets.
func environment() []string {
	passed := []string{"LC_ALL=C"}
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		if slices.Contains([]string{"PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH"}, name) ||
			strings.HasPrefix(name, "PG") && name != "PGOPTIONS" {
			passed = append(passed, variable)
		}
	}
	return passed
}

// run runs a program and returns when it has ended. The error contains what the program complained
// of, without values of rows.
func (p programs) run(
	ctx context.Context, name string, on target, in io.Reader, out io.Writer, arguments ...string,
) error {
	command := exec.CommandContext(ctx, filepath.Join(p.folder, name), arguments...)
	command.Env = environment()
	if on.name != "" {
		command.Args = append(command.Args, "--no-password", "--dbname="+on.name)
	}
	if on.password != "" {
		command.Env = append(command.Env, "PGPASSWORD="+on.password)
	}
	messages := &tail{}
	command.Stdin, command.Stdout, command.Stderr = in, out, messages
	command.WaitDelay = 5 * time.Second
	if err := command.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return &programError{program: name, cause: err, message: messages.firstError(name)}
	}
	return nil
}

// programError is the error of a program.
type programError struct {
	program string
	cause   error
	message string // may be empty
}

func (e *programError) Error() string {
	if e.message == "" {
		return e.program + ": " + e.cause.Error()
	}
	return e.program + ": " + e.message
}

func (e *programError) Unwrap() error { return e.cause }

// tail keeps the last longestTail bytes of what is written.
type tail struct{ kept bytes.Buffer }

const longestTail = 16 << 10

// Write implements io.Writer. It never fails.
func (t *tail) Write(text []byte) (int, error) {
	t.kept.Write(text)
	if over := t.kept.Len() - longestTail; over > 0 {
		t.kept.Next(over)
	}
	return len(text), nil
}

// firstError returns the first error that a program wrote, without values of rows. Those are in
// quotes, details and contexts; of an error with quotes only the names of the schema are kept.
func (t *tail) firstError(program string) string {
	for line := range strings.Lines(t.kept.String()) {
		text, ok := strings.CutPrefix(strings.TrimSpace(line), program+": error: ")
		if !ok {
			continue
		}
		if before, _, ok := strings.Cut(text, " failed for table "); ok {
			return before + " failed for a table"
		}
		if before, after, ok := strings.Cut(text, ": ERROR:"); ok && strings.Contains(after, `: "`) {
			return before + ": ERROR" // such as: invalid input syntax for type …: "value"
		}
		return text
	}
	return ""
}
