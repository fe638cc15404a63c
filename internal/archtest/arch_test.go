// Package archtest holds the rules of the house that a compiler does not know.
//
// Owns: who may import whom, and the form of packages and files.
// Does not own: style that gofmt, vet and staticcheck look after.
package archtest

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/fusionspim/steward"

// shelves are the packages from the bottom to the top. A package imports from lower shelves only: never from its own, never from a higher one.
var shelves = [][]string{
	{"internal/fault", "internal/id", "internal/sensitive", "internal/clock", "internal/version"}, // words
	{ // what others check our signatures with; the service signs with two of them too
		"pkg/trailproof", "pkg/webhooksig", "pkg/client",
	},
	{"internal/principal"}, // who is calling, in those words
	{"internal/postgres", "internal/password", "internal/token", "internal/seal", "internal/recall", "internal/devpg", "internal/contract", "internal/pages", "internal/totp", "internal/mail", "internal/devmail", "internal/dial", "internal/blob"}, // mechanisms
	{ // mechanisms with tables
		"internal/idempotency", "internal/attempt", "internal/jobs", "internal/ledger", "internal/proofkey",
	},
	{"internal/audit"},    // the trail, which every act writes to
	{"internal/backup"},   // copies of everything that know of nothing in particular
	{"internal/event"},    // what of it customers are told
	{"internal/customer"}, // features that know no person
	{"internal/apikey"},   //
	{"internal/user"},     // the people
	{ // what features have in common
		"internal/secondfactor", "internal/mailjob",
	},
	{ // features that ask user
		"internal/session", "internal/operator", "internal/passwordlink",
		"internal/alert",
		"internal/userimport",
		"internal/trail",
		"internal/webhook",
		"internal/receipt",
	},
	{"internal/request"},     // the conductor of what people ask of their data
	{"internal/offboarding"}, // the end of a customer, whose bundle follows those of requests
	{"internal/replay"},      // what a restore lost
	{".", "api"},             // the contract
	{"internal/httpapi"},     // the edge
	{"internal/app"},         // the parts put together
	{"cmd/steward"},          //
}

// testOnly are packages that no program of the product is made of.
var testOnly = []string{"internal/dbtest", "internal/app/apptest", "internal/archtest", "internal/bench", "internal/traces", "examples"}

// keepers say which package of ours alone may import a library, so that a change of library is a change of one package.
var keepers = map[string][]string{
	"github.com/labstack/echo/v4":         {"internal/httpapi", "api"},
	"github.com/getkin/kin-openapi":       {"internal/contract"},
	"gorm.io/":                            {"internal/postgres"},
	"github.com/golang-jwt/jwt/v5":        {"internal/token"},
	"github.com/pquerna/otp":              {"internal/totp"},
	"golang.org/x/crypto/argon2":          {"internal/password"},
	"github.com/pressly/goose/v3":         {"internal/postgres"},
	"github.com/riverqueue/river":         {"internal/jobs", "internal/postgres"},
	"github.com/wneessen/go-mail":         {"internal/mail"},
	"github.com/emersion/":                {"internal/devmail", "internal/mail"},
	"github.com/alecthomas/kong":          {"cmd/steward"},
	"filippo.io/age":                      {"internal/backup", "internal/offboarding", "internal/request"},
	"github.com/minio/minio-go/v7":        {"internal/blob"},
	"github.com/prometheus/client_golang": {"internal/httpapi", "internal/app"},
	"github.com/transparency-dev/":        {"internal/audit", "internal/trail", "pkg/trailproof"},
	"golang.org/x/mod/":                   {"internal/trail", "pkg/trailproof"},
	module + "/api":                       {"internal/httpapi"},
}

type listed struct {
	ImportPath string
	Name       string
	Imports    []string
	Dir        string
	GoFiles    []string
}

func packages(t *testing.T) []listed {
	t.Helper()
	command := exec.Command("go", "list", "-json=ImportPath,Name,Imports,Dir,GoFiles", module+"/...")
	output, err := command.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	for decoder := json.NewDecoder(strings.NewReader(string(output))); ; {
		var one listed
		if err := decoder.Decode(&one); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
	}
}

// short is the path of a package within the module; "." is the root. Other packages have none.
func short(path string) (string, bool) {
	if path == module {
		return ".", true
	}
	return strings.CutPrefix(path, module+"/")
}

func shelfOf(name string) int {
	return slices.IndexFunc(shelves, func(shelf []string) bool { return slices.Contains(shelf, name) })
}

func within(name string, folders []string) bool {
	return slices.ContainsFunc(folders, func(folder string) bool { return name == folder || strings.HasPrefix(name, folder+"/") })
}

func TestImportsGoDownOnly(t *testing.T) {
	t.Parallel()
	for _, one := range packages(t) {
		name, _ := short(one.ImportPath)
		if within(name, testOnly) || strings.HasPrefix(name, "pkg/") {
			continue
		}
		own := shelfOf(name)
		if own < 0 {
			t.Errorf("%s stands on no shelf; put it on one in archtest, and into ARCHITECTURE.md", name)
			continue
		}
		for _, imported := range one.Imports {
			target, ours := short(imported)
			if !ours {
				continue
			}
			switch shelf := shelfOf(target); {
			case within(target, testOnly):
				t.Errorf("%s imports %s, which is for tests", name, target)
			case shelf < 0:
				t.Errorf("%s imports %s, which stands on no shelf", name, target)
			case shelf >= own:
				t.Errorf("%s imports %s: imports go down only", name, target)
			}
		}
	}
}

func TestLibrariesHaveKeepers(t *testing.T) {
	t.Parallel()
	for _, one := range packages(t) {
		name, _ := short(one.ImportPath)
		if within(name, testOnly) {
			continue
		}
		for _, imported := range one.Imports {
			for library, keeping := range keepers {
				if strings.HasPrefix(imported, library) && !slices.Contains(keeping, name) {
					t.Errorf("%s imports %s; only %v may", name, imported, keeping)
				}
			}
		}
	}
}

// The SDK is for other people's programs: it brings nothing of the service with it.
func TestSDKImportsNothingInternal(t *testing.T) {
	t.Parallel()
	for _, one := range packages(t) {
		name, _ := short(one.ImportPath)
		if !strings.HasPrefix(name, "pkg/") {
			continue
		}
		for _, imported := range one.Imports {
			if target, ours := short(imported); ours && !strings.HasPrefix(target, "pkg/") {
				t.Errorf("%s imports %s", name, target)
			}
		}
	}
}

func TestPackagesSayWhatTheyOwn(t *testing.T) {
	t.Parallel()
	for _, one := range packages(t) {
		name, _ := short(one.ImportPath)
		if !strings.HasPrefix(name, "internal/") || one.Name == "main" {
			continue // commands say what they do
		}
		files := one.GoFiles
		if len(files) == 0 {
			continue // tests alone
		}
		var comment strings.Builder
		for _, file := range files {
			parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(one.Dir, file), nil, parser.ParseComments|parser.PackageClauseOnly)
			if err != nil {
				t.Fatal(err)
			}
			comment.WriteString(parsed.Doc.Text())
		}
		for _, part := range []string{"Package " + filepath.Base(name), "Owns:", "Does not own:"} {
			if !strings.Contains(comment.String(), part) {
				t.Errorf("the comment of %s lacks %q", name, part)
			}
		}
	}
}

// files calls back for every Go file of the module that is not generated.
func files(t *testing.T, visit func(path string, file *ast.File, positions *token.FileSet)) {
	t.Helper()
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == ".git" || entry.Name() == "node_modules"):
			return filepath.SkipDir
		case entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, ".gen.go"):
			return nil
		}
		positions := token.NewFileSet()
		parsed, err := parser.ParseFile(positions, path, nil, parser.ParseComments)
		if err == nil {
			visit(strings.TrimPrefix(filepath.ToSlash(path), "../../"), parsed, positions)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestNothingRunsBeforeMain(t *testing.T) {
	t.Parallel()
	files(t, func(path string, file *ast.File, _ *token.FileSet) {
		for _, declaration := range file.Decls {
			if function, ok := declaration.(*ast.FuncDecl); ok && function.Recv == nil && function.Name.Name == "init" {
				t.Errorf("%s has an init function", path)
			}
		}
	})
}

// A test that can leave itself out guards nothing.
func TestNoTestSkipsItself(t *testing.T) {
	t.Parallel()
	files(t, func(path string, file *ast.File, positions *token.FileSet) {
		ast.Inspect(file, func(node ast.Node) bool {
			if call, ok := node.(*ast.CallExpr); ok {
				if selector, ok := call.Fun.(*ast.SelectorExpr); ok && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, selector.Sel.Name) {
					if receiver, ok := selector.X.(*ast.Ident); ok && len(receiver.Name) <= 2 {
						t.Errorf("%s: a test that skips itself", positions.Position(call.Pos()))
					}
				}
			}
			return true
		})
	})
}

// Queries stand in files named for it, so that everything that touches the database can be read in one place of each feature.
func TestQueriesStandInStores(t *testing.T) {
	t.Parallel()
	allowed := []string{"store.go", "credentials.go"}
	files(t, func(path string, file *ast.File, positions *token.FileSet) {
		if !strings.HasPrefix(path, "internal/") || strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "internal/postgres/") ||
			within(filepath.ToSlash(filepath.Dir(path)), testOnly) || slices.Contains(allowed, filepath.Base(path)) {
			return
		}
		ast.Inspect(file, func(node ast.Node) bool {
			selector, ok := node.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if on, named := selector.X.(*ast.Ident); selector.Sel.Name == "ORM" || named && on.Name == "tx" && selector.Sel.Name == "Raw" {
				t.Errorf("%s: a query outside a store", positions.Position(node.Pos()))
			}
			return true
		})
	})
}

// A transaction that sees the rows of two customers in turn is for operators' acts on customers, and for nothing else.
func TestOnlyOperatorsReachIntoAnotherCustomer(t *testing.T) {
	t.Parallel()
	files(t, func(path string, file *ast.File, positions *token.FileSet) {
		if strings.HasPrefix(path, "internal/operator/") || strings.HasPrefix(path, "internal/offboarding/") {
			return
		}
		ast.Inspect(file, func(node ast.Node) bool {
			if call, ok := node.(*ast.CallExpr); ok {
				if selector, ok := call.Fun.(*ast.SelectorExpr); ok && selector.Sel.Name == "Inside" && !strings.HasSuffix(path, "_test.go") {
					t.Errorf("%s: Inside is for internal/operator and internal/offboarding", positions.Position(node.Pos()))
				}
			}
			return true
		})
	})
}

// The door through which even a trail can be deleted is for the end of a contract alone.
func TestOnlyOffboardingDeletesCustomers(t *testing.T) {
	t.Parallel()
	files(t, func(path string, file *ast.File, positions *token.FileSet) {
		if strings.HasPrefix(path, "internal/offboarding/") || strings.HasPrefix(path, "internal/postgres/") || strings.HasSuffix(path, "_test.go") {
			return
		}
		ast.Inspect(file, func(node ast.Node) bool {
			if selector, ok := node.(*ast.SelectorExpr); ok && selector.Sel.Name == "InOffboarding" {
				t.Errorf("%s: InOffboarding is for internal/offboarding", positions.Position(node.Pos()))
			}
			return true
		})
	})
}

// A transaction itself, and the connections of those who work off jobs, lie behind the doors. River needs both, and nobody else.
func TestOnlyJobsPassTheDoors(t *testing.T) {
	t.Parallel()
	files(t, func(path string, file *ast.File, positions *token.FileSet) {
		if strings.HasPrefix(path, "internal/jobs/") || strings.HasPrefix(path, "internal/postgres/") {
			return
		}
		ast.Inspect(file, func(node ast.Node) bool {
			if selector, ok := node.(*ast.SelectorExpr); ok && (selector.Sel.Name == "Transaction" || selector.Sel.Name == "OpenQueue") {
				t.Errorf("%s: %s is for package jobs alone", positions.Position(node.Pos()), selector.Sel.Name)
			}
			return true
		})
	})
}

// Everything that the service is started with is named in one way.
func TestNoStrayEnvironment(t *testing.T) {
	t.Parallel()
	files(t, func(path string, file *ast.File, positions *token.FileSet) {
		if strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "internal/dbtest/") || strings.HasPrefix(path, "internal/devpg/") ||
			strings.HasPrefix(path, "internal/bench/") || strings.HasPrefix(path, "examples/") {
			return
		}
		ast.Inspect(file, func(node ast.Node) bool {
			if selector, ok := node.(*ast.SelectorExpr); ok && (selector.Sel.Name == "Getenv" || selector.Sel.Name == "LookupEnv") {
				t.Errorf("%s: settings come through cmd/steward", positions.Position(node.Pos()))
			}
			return true
		})
	})
}

func TestGeneratedFilesAreMarked(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"../../api/api.gen.go", "../../pkg/client/client.gen.go"} {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(content[:min(len(content), 400)]), "DO NOT EDIT") {
			t.Errorf("%s does not say that it is generated", path)
		}
	}
}
