package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestALineIsBrokenWhereItStandsOnce(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "rule.go")
	if err := os.WriteFile(file, []byte("if a {\n}\nif b {\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := mutation{file: file, line: "if a {", wrong: "if false {"}.apply()
	if err != nil || string(got) != "if false {\n}\nif b {\n}\n" {
		t.Errorf("%q, %v", got, err)
	}
	for name, m := range map[string]mutation{
		"stands twice":   {file: file, line: "if "},
		"stands nowhere": {file: file, line: "if c {"},
		"no file":        {file: file + "x", line: "if a {"},
	} {
		if got, err := m.apply(); err == nil {
			t.Errorf("%s: %q", name, got)
		}
	}
	if content, err := os.ReadFile(file); err != nil || !strings.HasPrefix(string(content), "if a {") {
		t.Errorf("the file itself is changed: %q, %v", content, err)
	}
}

// A line that changes nothing, or that no test is named for, would prove nothing.
func TestEveryMutationBreaksItsLine(t *testing.T) {
	t.Parallel()
	rules := map[string]bool{}
	for _, m := range mutations {
		if m.rule == "" || m.tests == "" || m.where == "" || m.line == "" || m.line == m.wrong {
			t.Errorf("%+v lacks something", m)
		}
		if rules[m.rule] {
			t.Errorf("%q stands twice", m.rule)
		}
		rules[m.rule] = true
	}
}

func TestOutputOfGoTest(t *testing.T) {
	t.Parallel()
	found := failure.FindStringSubmatch("=== RUN x\n    --- FAIL: TestKeys/expired (0.00s)\nFAIL\n")
	if len(found) != 2 || found[1] != "TestKeys/expired" {
		t.Errorf("%q", found)
	}
	for output, want := range map[string]bool{
		"ok  \texample.com/a\t0.123s\n": true, "ok  \texample.com/a\t0.123s [no tests to run]\n": false,
		"FAIL\texample.com/a [build failed]\n": false, "?   \texample.com/a\t[no test files]\n": false,
	} {
		if passed.MatchString(output) != want {
			t.Errorf("%q passed: %t", output, !want)
		}
	}
}
