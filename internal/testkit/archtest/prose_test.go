package archtest

import (
	"go/ast"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

const root = "../../.."

// widest is the width of prose: Markdown and comments.
const widest = 100

// proseNotSwept are folders whose comments are wider than that or use words of wordsToAvoid. It only
// shrinks: a folder that is clean has to leave it.
var proseNotSwept = []string{
	"internal/app",
	"internal/dev/devmail",
	"internal/dev/devpg",
	"internal/infra/blob",
	"internal/infra/contract",
	"internal/infra/egress",
	"internal/infra/mail",
	"internal/infra/mailjob",
	"internal/integration/alert",
	"internal/integration/webhook",
	"internal/testkit/apptest",
	"internal/testkit/bench",
	"internal/testkit/journeys",
}

// wordsToAvoid are not English, or not what the field says, each with what to write instead.
var wordsToAvoid = map[string]string{
	`\btells? whether\b`:                     "reports whether",
	`\bthe own\b`:                            "their own, its own",
	`\bgood no more\b`:                       "no longer valid",
	`\bonce more\b`:                          "again",
	`\banew\b`:                               "again",
	`\bha(s|ve) [a-z ]{1,40} told\b`:         "notifies",
	`\bcarr(y|ies|ied|ying) out again\b`:     "replay",
	`\b(some|no|any)body (else )?(is|has)\b`: "name the user, caller, replica or operator",
}

var anyWordToAvoid = regexp.MustCompile("(?i)" + strings.Join(slices.Sorted(maps.Keys(wordsToAvoid)), "|"))

// proseFault says what is wrong with a comment or a line of Markdown, or nothing.
func proseFault(line string) string {
	if utf8.RuneCountInString(line) > widest && !strings.Contains(line, "://") {
		return "is wider than 100 columns"
	}
	if found := anyWordToAvoid.FindString(line); found != "" {
		for pattern, instead := range wordsToAvoid {
			if regexp.MustCompile("(?i)" + pattern).MatchString(line) {
				return "says " + found + "; write: " + instead
			}
		}
	}
	return ""
}

func TestCommentsAreNarrowAndPlain(t *testing.T) {
	t.Parallel()
	faults := map[string]int{} // by folder
	files(t, func(path string, file *ast.File, positions *token.FileSet) {
		if strings.HasSuffix(path, "/prose_test.go") {
			return // names the words
		}
		folder := filepath.ToSlash(filepath.Dir(path))
		content, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(content), "\n")
		for _, group := range file.Comments {
			for _, comment := range group.List {
				first := positions.Position(comment.Pos())
				if strings.HasPrefix(comment.Text, "//go:") || strings.HasPrefix(comment.Text, "//nolint") {
					continue
				}
				for i := range strings.Split(comment.Text, "\n") {
					line := lines[first.Line-1+i]
					if !strings.HasPrefix(strings.TrimSpace(line), "//") {
						// Behind code the line has the width of code; only the words count.
						line = comment.Text
						if utf8.RuneCountInString(line) > widest {
							line = line[:0]
						}
					}
					if fault := proseFault(line); fault != "" {
						faults[folder]++
						if !slices.Contains(proseNotSwept, folder) {
							t.Errorf("%s:%d: a comment that %s", path, first.Line+i, fault)
						}
					}
				}
			}
		}
	})
	for _, folder := range proseNotSwept {
		if faults[folder] == 0 {
			t.Errorf("comments in %s are clean: take it from proseNotSwept", folder)
		}
	}
}

// markdown calls back for each line of the Markdown files that people read. A line of a fenced block
// is code.
func markdown(t *testing.T, visit func(path string, number int, line string, code bool)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == ".git" || entry.Name() == "node_modules"):
			return filepath.SkipDir
		case entry.IsDir() || !strings.HasSuffix(path, ".md"):
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		code := false
		for i, line := range strings.Split(string(content), "\n") {
			fence := strings.HasPrefix(strings.TrimSpace(line), "```")
			visit(strings.TrimPrefix(filepath.ToSlash(path), root+"/"), i+1, line, code || fence)
			if fence {
				code = !code
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestMarkdownIsNarrowAndPlain(t *testing.T) {
	t.Parallel()
	markdown(t, func(path string, number int, line string, code bool) {
		if code || strings.HasPrefix(line, "|") {
			return
		}
		if fault := proseFault(line); fault != "" {
			t.Errorf("%s:%d: a line that %s", path, number, fault)
		}
	})
}

// cells counts the cells of a table's row. A bar in backticks or behind a backslash parts none.
func cells(line string) int {
	line = strings.ReplaceAll(line, `\|`, "")
	line = regexp.MustCompile("`[^`]*`").ReplaceAllString(line, "")
	return strings.Count(strings.TrimSpace(line), "|") - 1
}

// A row that no header belongs to is shown as raw bars.
func TestMarkdownTablesAreWhole(t *testing.T) {
	t.Parallel()
	separator := regexp.MustCompile(`^\|( *:?-+:? *\|)+$`)
	columns, row, last := 0, 0, ""
	markdown(t, func(path string, number int, line string, code bool) {
		if code || !strings.HasPrefix(line, "|") || path != last {
			row = 0
		}
		last = path
		if code || !strings.HasPrefix(line, "|") {
			return
		}
		row++
		switch {
		case row == 1:
			columns = cells(line)
		case row == 2 && !separator.MatchString(line):
			t.Errorf("%s:%d: a row of a table without a header", path, number-1)
		}
		if got := cells(line); got != columns {
			t.Errorf("%s:%d: a row of %d cells in a table of %d", path, number, got, columns)
		}
	})
}

// tree is what can be named: files, functions, and what packages declare.
type tree struct {
	paths     map[string]bool // files and folders, from the root
	bases     map[string]bool // names of files
	functions map[string]bool // of tests too
	declared  map[string]bool // package.Name, exported
	packages  map[string]bool
	targets   map[string]bool // of the Makefile
}

func readTree(t *testing.T) tree {
	t.Helper()
	all := tree{map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && (entry.Name() == ".git" || entry.Name() == "node_modules") {
			return filepath.SkipDir
		}
		all.paths[strings.TrimPrefix(filepath.ToSlash(path), root+"/")] = true
		all.bases[filepath.Base(path)] = true
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	files(t, func(_ string, file *ast.File, _ *token.FileSet) {
		name := strings.TrimSuffix(file.Name.Name, "_test")
		all.packages[name] = true
		for _, declaration := range file.Decls {
			switch d := declaration.(type) {
			case *ast.FuncDecl:
				all.functions[d.Name.Name] = true
				all.declared[name+"."+d.Name.Name] = true
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch s := spec.(type) {
					case *ast.TypeSpec:
						all.declared[name+"."+s.Name.Name] = true
					case *ast.ValueSpec:
						for _, ident := range s.Names {
							all.declared[name+"."+ident.Name] = true
						}
					}
				}
			}
		}
	})
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	for _, match := range regexp.MustCompile(`(?m)^([a-z][a-z-]*):`).FindAllStringSubmatch(string(makefile), -1) {
		all.targets[match[1]] = true
	}
	return all
}

var (
	filePath   = regexp.MustCompile(`^[\w.-]+(/[\w.*-]+)+/?$`)
	fileName   = regexp.MustCompile(`^[\w.-]+\.(go|md|sql|yaml|yml)$`)
	testName   = regexp.MustCompile(`^(Test|Fuzz|Benchmark|Example)[A-Z]\w*$`)
	goName     = regexp.MustCompile(`^([a-z]\w*)\.([A-Z]\w*)$`)
	makeTarget = regexp.MustCompile(`^make ([a-z-]+)$`)
	firsts     = []string{"internal", "cmd", "pkg", "docs", "scripts", "examples", "api", "deployments", ".github", ".ci"}
)

// lacks reports whether a text in backticks names something of ours that does not exist.
func (all tree) lacks(text string) bool {
	first, _, _ := strings.Cut(text, "/")
	switch {
	case filePath.MatchString(text) && slices.Contains(firsts, first):
		path := strings.TrimSuffix(text, "/")
		return !strings.Contains(path, "*") && !all.paths[path]
	case fileName.MatchString(text):
		return !all.bases[text]
	case testName.MatchString(text):
		return !all.functions[text]
	case goName.MatchString(text):
		return all.packages[goName.FindStringSubmatch(text)[1]] && !all.declared[text]
	case makeTarget.MatchString(text):
		return !all.targets[makeTarget.FindStringSubmatch(text)[1]]
	}
	return false
}

// What Markdown names exists. Decisions and the changelog are dated, and name what there was.
func TestWhatMarkdownNamesExists(t *testing.T) {
	t.Parallel()
	all := readTree(t)
	for _, missing := range []string{"internal/none", "none_test.go", "TestNone", "postgres.None", "make none"} {
		if !all.lacks(missing) {
			t.Errorf("%q would be taken for something that exists", missing)
		}
	}
	quoted, link := regexp.MustCompile("`([^`]+)`"), regexp.MustCompile(`\]\(([^)#]+)(#[^)]*)?\)`)
	markdown(t, func(path string, number int, line string, code bool) {
		if code {
			return
		}
		for _, match := range link.FindAllStringSubmatch(line, -1) {
			target := filepath.ToSlash(filepath.Join(filepath.Dir(path), match[1]))
			if !strings.Contains(match[1], "://") && !strings.HasPrefix(match[1], "mailto:") && !all.paths[target] {
				t.Errorf("%s:%d: a link to %s, which does not exist", path, number, match[1])
			}
		}
		if path == "CHANGELOG.md" || strings.HasPrefix(path, "docs/decisions/") {
			return
		}
		for _, match := range quoted.FindAllStringSubmatch(line, -1) {
			if all.lacks(match[1]) {
				t.Errorf("%s:%d: %s does not exist", path, number, match[1])
			}
		}
	})
}
