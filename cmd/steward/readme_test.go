package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// step is one command of the README's tour and what it prints.
type step struct{ command, prints string }

// tour reads the blocks marked "console": a line that begins with "$ " is a command, the lines up
// to the next are what it prints.
func tour(t *testing.T) (steps []step) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range regexp.MustCompile("(?s)```console\n(.*?)```").FindAllStringSubmatch(string(content), -1) {
		for line := range strings.Lines(block[1]) {
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				steps = append(steps, step{command: strings.TrimSpace(command)})
			} else {
				steps[len(steps)-1].prints += line
			}
		}
	}
	return steps
}

// The tour works as it is printed: every command is run by a shell, in order, against a fresh
// service.
func TestTourOfTheREADME(t *testing.T) {
	t.Parallel()
	steps := tour(t)
	if len(steps) < 10 {
		t.Fatalf("the README has %d steps", len(steps))
	}
	_, document := startDev(t, []string{"HOME=" + t.TempDir()}, nil, "--ephemeral")

	// One shell for all, so that what one command exports the next one has; a mark that no command
	// prints parts their output.
	const mark = "--- next step ---"
	var script strings.Builder
	script.WriteString("set -e\n")
	for _, one := range steps {
		script.WriteString(one.command + "\necho; echo '" + mark + "'\n")
	}
	shell := exec.CommandContext(t.Context(), "bash", "-c", script.String())
	shell.Dir = t.TempDir()
	shell.Env = append(os.Environ(), "BASE="+document.BaseURL, "KEY="+document.Customers[0].APIKey)
	output, err := shell.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	printed := strings.Split(string(output), mark)
	for i, one := range steps {
		// Three dots stand for what differs each time.
		pattern := strings.ReplaceAll(regexp.QuoteMeta(strings.TrimSpace(one.prints)), "…", ".*?")
		if got := strings.TrimSpace(printed[i]); !regexp.MustCompile("^" + pattern + "$").MatchString(got) {
			t.Errorf("%s\nprints\n%s\nbut the README says\n%s", one.command, got, one.prints)
		}
	}
}
