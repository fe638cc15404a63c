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

// findPrograms finds the programs for a server: of its own version, or else of the nearest newer one. Older ones cannot read it. They must also be as new as the dump that
// they are to read, if it is for that.
func findPrograms(ctx context.Context, folder string, server, dump int) (programs, error) {
	folders := []string{folder}
	if folder == "" {
		folders = clientFolders()
	}
	least := max(server, dump)
	var best, old programs
	for _, one := range folders {
		major, err := askVersion(ctx, one)
		switch {
		case err != nil && folder != "":
			return programs{}, fmt.Errorf("STEWARD_PG_BIN: %w", err)
		case err != nil:
		case major < least:
			if major > old.major {
				old = programs{one, major}
			}
		case best.folder == "" || major < best.major:
			best = programs{one, major}
		}
	}
	switch {
	case best.folder != "":
		return best, nil
	case old.folder != "":
		return programs{}, fmt.Errorf("pg_dump and pg_restore in %s are of version %d, and version %d is needed; install postgresql-client-%d or name another folder with STEWARD_PG_BIN",
			old.folder, old.major, least, least)
	default:
		return programs{}, fmt.Errorf("pg_dump and pg_restore were not found; install postgresql-client-%d or name their folder with STEWARD_PG_BIN", max(least, 14))
	}
}

// clientFolders are the folders of the machine that hold the programs. Debian has links in /usr/bin to a program that chooses a version by its own lights; the programs
// themselves lie where the finder looks anyway.
func clientFolders() []string {
	return slices.DeleteFunc(pgprograms.Machine().Folders("pg_dump", "pg_restore"), func(folder string) bool {
		real, err := filepath.EvalSymlinks(filepath.Join(folder, "pg_dump"))
		return err != nil || filepath.Base(real) == "pg_wrapper"
	})
}

// haveSome looks whether the programs are there at all, without running any.
func haveSome(folder string) error {
	if folder == "" {
		if len(clientFolders()) == 0 {
			return errors.New("pg_dump and pg_restore were not found; install postgresql-client or name their folder with STEWARD_PG_BIN")
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

func askVersion(ctx context.Context, folder string) (int, error) {
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

// target is a database as the programs are told of it: the password goes through the environment, where others on the machine do not see it.
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

// environment is what the programs get of ours: nothing that the service alone is to know.
func environment() []string {
	given := []string{"LC_ALL=C"}
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); name == "PATH" || name == "HOME" || name == "TMPDIR" || name == "LD_LIBRARY_PATH" || strings.HasPrefix(name, "PG") && name != "PGOPTIONS" {
			given = append(given, variable)
		}
	}
	return given
}

// run runs a program to its end. What it says of rows goes nowhere: only the sentences of PostgreSQL's that hold no values are part of the error.
func (p programs) run(ctx context.Context, name string, on target, in io.Reader, out io.Writer, arguments ...string) error {
	command := exec.CommandContext(ctx, filepath.Join(p.folder, name), arguments...)
	command.Env = environment()
	if on.name != "" {
		command.Args = append(command.Args, "--no-password", "--dbname="+on.name)
	}
	if on.password != "" {
		command.Env = append(command.Env, "PGPASSWORD="+on.password)
	}
	words := &tail{}
	command.Stdin, command.Stdout, command.Stderr = in, out, words
	command.WaitDelay = 5 * time.Second
	if err := command.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return &programError{program: name, cause: err, words: words.complaint(name)}
	}
	return nil
}

// programError is the failure of a program.
type programError struct {
	program string
	cause   error
	words   string
}

func (e *programError) Error() string {
	if e.words == "" {
		return e.program + ": " + e.cause.Error()
	}
	return e.program + ": " + e.words
}

func (e *programError) Unwrap() error { return e.cause }

// tail keeps the end of what a program says.
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

// complaint is the first error that a program told of. Values of rows stand in quotes, in details and in contexts; of a sentence with quotes only what names things of the
// schema is kept.
func (t *tail) complaint(program string) string {
	for line := range strings.Lines(t.kept.String()) {
		text, is := strings.CutPrefix(strings.TrimSpace(line), program+": error: ")
		if !is {
			continue
		}
		if before, _, is := strings.Cut(text, " failed for table "); is {
			return before + " failed for a table"
		}
		if before, after, is := strings.Cut(text, ": ERROR:"); is && strings.Contains(after, `: "`) {
			return before + ": ERROR" // such as: invalid input syntax for type …: "value"
		}
		return text
	}
	return ""
}
