// Command mutation shows that the tests notice when a rule is broken.
//
// It breaks one chosen line of the code at a time, a rule of access, tenancy, erasure or proofs,
// runs the tests of make test that guard the rule, and expects them to fail. The tree is not
// touched: the compiler reads the broken file from a temporary folder. A line that no longer stands
// where the table has it, or that no test misses, is an error.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"time"
)

// mutation is one broken rule.
type mutation struct {
	rule  string // what no longer holds
	file  string // from the root of the module
	line  string // a text that occurs once in the file
	wrong string // what stands there instead
	tests string // a pattern of the tests that guard the rule, for go test -run
	where string // a pattern of their packages, from the root of the module
}

// longest bounds the tests of one mutation: a broken rule may hang where a whole one does not.
const longest = 10 * time.Minute

// failure matches the line with which go test reports a failed test. A mutation that does not
// compile has none, and proves nothing.
var failure = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)

// passed matches the line of a package whose tests ran and passed.
var passed = regexp.MustCompile(`(?m)^ok\s+\S+\s+[0-9.]+s$`)

func main() {
	log := func(format string, arguments ...any) { fmt.Fprintf(os.Stderr, format+"\n", arguments...) }
	only := flag.String("only", "", "break only the rules that match this pattern")
	check := flag.Bool("check", false, "only check that each line stands where the table has it")
	flag.Parse()
	pattern, err := regexp.Compile(*only)
	if err != nil {
		log("-only: %v", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, pattern, *check); err != nil {
		log("%v", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, only *regexp.Regexp, check bool) error {
	survived, broken := 0, 0
	fmt.Println("| broken rule | file | noticed by | after |\n| --- | --- | --- | --- |")
	for _, m := range mutations {
		if !only.MatchString(m.rule) {
			continue
		}
		mutated, err := m.apply()
		if err != nil {
			return err
		}
		broken++
		if check {
			continue
		}
		began := time.Now()
		noticed, err := m.test(ctx, mutated)
		if err != nil {
			return fmt.Errorf("%s: %w", m.rule, err)
		}
		if noticed == "" {
			survived++
			noticed = "**nothing**"
		}
		fmt.Printf("| %s | `%s` | %s | %.0f s |\n", m.rule, m.file, noticed, time.Since(began).Seconds())
	}
	fmt.Printf("\n%d rules broken, %d not noticed\n", broken, survived)
	if survived > 0 {
		return errors.New("mutation: some broken rules were not noticed")
	}
	return nil
}

// apply returns the file with the line broken.
func (m mutation) apply() ([]byte, error) {
	content, err := os.ReadFile(m.file)
	if err != nil {
		return nil, err
	}
	if n := bytes.Count(content, []byte(m.line)); n != 1 {
		return nil, fmt.Errorf("%s: the line occurs %d times in %s: %s", m.rule, n, m.file, m.line)
	}
	return bytes.Replace(content, []byte(m.line), []byte(m.wrong), 1), nil
}

// test runs the tests that guard the rule, and returns the first that failed; empty: none did.
func (m mutation) test(ctx context.Context, mutated []byte) (noticed string, err error) {
	dir, err := os.MkdirTemp("", "mutation")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	real, err := filepath.Abs(m.file)
	if err != nil {
		return "", err
	}
	copied, overlay := filepath.Join(dir, "mutated.go"), filepath.Join(dir, "overlay.json")
	replaced, err := json.Marshal(map[string]any{"Replace": map[string]string{real: copied}})
	if err != nil {
		return "", err
	}
	if err := errors.Join(os.WriteFile(copied, mutated, 0o600), os.WriteFile(overlay, replaced, 0o600)); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	command := exec.CommandContext(
		ctx,
		"go",
		"test",
		"-count=1",
		"-failfast",
		"-overlay",
		overlay,
		"-run",
		m.tests,
		"./"+m.where,
	)
	command.WaitDelay = 10 * time.Second
	output, err := command.CombinedOutput()
	if found := failure.FindSubmatch(output); found != nil {
		return "`" + string(found[1]) + "`", nil
	}
	if err != nil {
		return "", fmt.Errorf("the tests did not run: %w\n%s", err, output)
	}
	if !passed.Match(output) {
		return "", fmt.Errorf("no test matches %s in %s", m.tests, m.where)
	}
	return "", nil
}
