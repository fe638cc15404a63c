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

// folders are those of internal/, from the bottom to the top. A package imports from lower folders
// freely.
var folders = []string{"base", "infra", "record", "account", "integration", "compliance", "edge", "app"}

// pairs are the imports within a folder, each with its reason. Everything else in a folder stands
// on its own.
var pairs = map[[2]string]string{
	{"base/inventory", "base/id"}: "whose rows they are is said by ids",
	{"base/principal", "base/id"}: "a caller is named by ids",

	{"infra/contract", "infra/strictjson"}:  "bodies are JSON, and parameters hold its numbers",
	{"infra/idempotency", "infra/postgres"}: "remembered answers are rows",
	{"infra/idempotency", "infra/seal"}:     "remembered answers are sealed",
	{"infra/jobs", "infra/postgres"}:        "jobs are rows, enqueued by the transaction that asks for them",
	{"infra/mailjob", "infra/jobs"}:         "a mail is sent by a job",
	{"infra/mailjob", "infra/mail"}:         "a job hands its mail to the mail server",
	{"infra/mailjob", "infra/postgres"}:     "a mail is worded in a transaction",
	{"infra/ratelimit", "infra/postgres"}:   "counters are shared by all replicas",
	{"infra/ratelimit", "infra/seal"}:       "counters are found by keyed hashes",

	{"record/backup", "record/audit"}: "making and deleting a backup is an entry",
	{"record/event", "record/audit"}:  "events are a part of the trail",

	{"record/receipt", "record/backup"}:     "an erasure is final when no backup is left",
	{"record/receipt", "record/signingkey"}: "receipts and certificates are signed",

	{"account/operator", "account/customer"}:         "operators create customers",
	{"account/operator", "account/passwordlink"}:     "whom they invite",
	{"account/operator", "account/user"}:             "and their first administrator",
	{"account/passwordlink", "account/customer"}:     "the customer's policy for passwords",
	{"account/passwordlink", "account/secondfactor"}: "a reset asks for the second factor",
	{"account/passwordlink", "account/user"}:         "a link sets a user's password",
	{"account/secondfactor", "account/customer"}:     "the customer's policy for second factors",
	{"account/secondfactor", "account/user"}:         "a second factor is a user's",
	{"account/session", "account/customer"}:          "sign-in finds the customer, and its networks",
	{"account/session", "account/secondfactor"}:      "sign-in asks for the second factor",
	{"account/session", "account/user"}:              "a session is a user's",
	{"account/user", "account/customer"}:             "the customer's mail domains and lock",
	{"account/userimport", "account/user"}:           "an import creates users",

	{"compliance/offboarding", "compliance/subjectrequest"}: "the bundle of a customer has the form of a person's",
	{"compliance/replay", "compliance/offboarding"}:         "a restore lost the end of a customer",
	{"compliance/replay", "compliance/subjectrequest"}:      "a restore lost that a bundle was collected",

	{"edge/httpapi", "edge/pages"}: "one server answers programs and people",
}

// elsewhere are packages outside internal/ that packages of some folder import, from that folder
// upwards.
var elsewhere = map[string]string{
	".":              "edge", // the contract's bytes
	"api":            "edge",
	"pkg/trailproof": "record",
	"pkg/webhooksig": "record",
}

// testOnly are packages that no program of the product is made of.
var testOnly = []string{"internal/testkit", "examples"}

// keepers say which package of ours alone may import a library, so that a change of library is a
// change of one package.
var keepers = map[string][]string{
	"github.com/labstack/echo/v4":    {"internal/edge/httpapi", "api"},
	"github.com/getkin/kin-openapi":  {"internal/infra/contract"},
	"github.com/go-json-experiment/": {"internal/infra/strictjson"},
	"gorm.io/":                       {"internal/infra/postgres"},
	"github.com/golang-jwt/jwt/v5":   {"internal/infra/token"},
	"github.com/pquerna/otp":         {"internal/infra/totp"},
	"golang.org/x/crypto/argon2":     {"internal/infra/password"},
	"github.com/pressly/goose/v3":    {"internal/infra/postgres"},
	"github.com/riverqueue/river":    {"internal/infra/jobs", "internal/infra/postgres"},
	"github.com/wneessen/go-mail":    {"internal/infra/mail"},
	"github.com/emersion/":           {"internal/dev/devmail", "internal/infra/mail"},
	"github.com/alecthomas/kong":     {"cmd/steward"},
	"filippo.io/age": {
		"internal/record/backup",
		"internal/compliance/offboarding",
		"internal/compliance/subjectrequest",
	},
	"github.com/minio/minio-go/v7":        {"internal/infra/blob"},
	"github.com/prometheus/client_golang": {"internal/edge/httpapi", "internal/app"},
	"github.com/transparency-dev/":        {"internal/record/audit", "internal/compliance/trail", "pkg/trailproof"},
	"golang.org/x/mod/":                   {"internal/compliance/trail"},
	module + "/api":                       {"internal/edge/httpapi"},
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

func within(name string, folders []string) bool {
	return slices.ContainsFunc(
		folders,
		func(folder string) bool { return name == folder || strings.HasPrefix(name, folder+"/") },
	)
}

// room splits the path of a package of internal/ into its folder's place in the order and its name
// below internal/.
func room(name string) (folder int, below string) {
	below, ok := strings.CutPrefix(name, "internal/")
	if !ok {
		return -1, ""
	}
	first, _, _ := strings.Cut(below, "/")
	return slices.Index(folders, first), below
}

func TestImportsGoDownOnly(t *testing.T) {
	t.Parallel()
	used := map[[2]string]bool{}
	for _, importer := range packages(t) {
		name, _ := short(importer.ImportPath)
		if !strings.HasPrefix(name, "internal/") || within(name, testOnly) || within(name, []string{"internal/dev"}) {
			continue
		}
		own, below := room(name)
		if own < 0 {
			t.Errorf("%s stands in no folder of archtest", name)
			continue
		}
		for _, imported := range importer.Imports {
			target, ours := short(imported)
			if !ours {
				continue
			}
			other, targetBelow := room(target)
			pair := [2]string{below, targetBelow}
			switch {
			case !strings.HasPrefix(target, "internal/"):
				if least, ok := elsewhere[target]; !ok || own < slices.Index(folders, least) {
					t.Errorf("%s imports %s", name, target)
				}
			case other < 0:
				t.Errorf("%s imports %s, which is not for what is shipped", name, target)
			case other > own:
				t.Errorf("%s imports %s: imports go down only", name, target)
			case other == own && pairs[pair] == "":
				t.Errorf("%s imports %s: give the pair a reason in archtest, or do without", name, target)
			case other == own:
				used[pair] = true
			}
		}
	}
	for pair := range pairs {
		if !used[pair] {
			t.Errorf("%v has a reason, and no import", pair)
		}
	}
}

// What is for development and tests stays out of the service: only "steward dev" and the tests know
// it.
func TestOnlyDevelopmentImportsDevelopment(t *testing.T) {
	t.Parallel()
	for _, importer := range packages(t) {
		name, _ := short(importer.ImportPath)
		for _, imported := range importer.Imports {
			target, _ := short(imported)
			if within(target, []string{"internal/dev"}) &&
				!within(name, []string{"internal/dev", "internal/testkit", "cmd/steward"}) {
				t.Errorf("%s imports %s", name, target)
			}
			if within(target, testOnly) && !within(name, testOnly) {
				t.Errorf("%s imports %s, which is for tests", name, target)
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
			parsed, err := parser.ParseFile(
				token.NewFileSet(),
				filepath.Join(one.Dir, file),
				nil,
				parser.ParseComments|parser.PackageClauseOnly,
			)
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
	root := filepath.Join("..", "..", "..")
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
			visit(strings.TrimPrefix(filepath.ToSlash(path), "../../../"), parsed, positions)
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
				if selector, ok := call.Fun.(*ast.SelectorExpr); ok &&
					slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, selector.Sel.Name) {
					if receiver, ok := selector.X.(*ast.Ident); ok && len(receiver.Name) <= 2 {
						t.Errorf("%s: a test that skips itself", positions.Position(call.Pos()))
					}
				}
			}
			return true
		})
	})
}

// Queries stand in files named for it, so that everything that touches the database can be read in
// one place of each feature.
func TestQueriesStandInStores(t *testing.T) {
	t.Parallel()
	allowed := []string{"store.go", "credentials.go"}
	statements := []string{"Raw", "RawAnew", "Exec", "Query", "QueryRow"}
	collectors := []string{"Collect", "Column"}
	files(t, func(path string, file *ast.File, positions *token.FileSet) {
		if !strings.HasPrefix(path, "internal/") || strings.HasSuffix(path, "_test.go") ||
			strings.HasPrefix(path, "internal/infra/postgres/") ||
			within(filepath.ToSlash(filepath.Dir(path)), testOnly) ||
			slices.Contains(allowed, filepath.Base(path)) {
			return
		}
		ast.Inspect(file, func(node ast.Node) bool {
			selector, ok := node.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			name := selector.Sel.Name
			if on, named := selector.X.(*ast.Ident); name == "ORM" ||
				named && on.Name == "tx" && slices.Contains(statements, name) ||
				named && on.Name == "postgres" && slices.Contains(collectors, name) {
				t.Errorf("%s: a query outside a store", positions.Position(node.Pos()))
			}
			return true
		})
	})
}

// A transaction that sees the rows of two customers in turn is for operators' acts on customers,
// and for nothing else.
func TestOnlyOperatorsActAsAnotherCustomer(t *testing.T) {
	t.Parallel()
	files(t, func(path string, file *ast.File, positions *token.FileSet) {
		if strings.HasPrefix(path, "internal/account/operator/") ||
			strings.HasPrefix(path, "internal/compliance/offboarding/") {
			return
		}
		ast.Inspect(file, func(node ast.Node) bool {
			if call, ok := node.(*ast.CallExpr); ok {
				if selector, ok := call.Fun.(*ast.SelectorExpr); ok && selector.Sel.Name == "AsCustomer" &&
					!strings.HasSuffix(path, "_test.go") {
					t.Errorf(
						"%s: AsCustomer is for internal/account/operator and internal/compliance/offboarding",
						positions.Position(node.Pos()),
					)
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
		if strings.HasPrefix(path, "internal/compliance/offboarding/") ||
			strings.HasPrefix(path, "internal/infra/postgres/") ||
			strings.HasSuffix(path, "_test.go") {
			return
		}
		ast.Inspect(file, func(node ast.Node) bool {
			if selector, ok := node.(*ast.SelectorExpr); ok && selector.Sel.Name == "InOffboarding" {
				t.Errorf("%s: InOffboarding is for internal/compliance/offboarding", positions.Position(node.Pos()))
			}
			return true
		})
	})
}

// A transaction itself, and the connections of those who work off jobs, lie behind the doors. River
// needs both, and nobody else.
func TestOnlyJobsPassTheDoors(t *testing.T) {
	t.Parallel()
	files(t, func(path string, file *ast.File, positions *token.FileSet) {
		if strings.HasPrefix(path, "internal/infra/jobs/") || strings.HasPrefix(path, "internal/infra/postgres/") {
			return
		}
		ast.Inspect(file, func(node ast.Node) bool {
			if selector, ok := node.(*ast.SelectorExpr); ok &&
				(selector.Sel.Name == "Transaction" || selector.Sel.Name == "OpenQueue") {
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
		if strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "internal/testkit/") ||
			within(filepath.Dir(path), []string{"internal/dev/devpg", "internal/infra/pgprograms"}) ||
			strings.HasPrefix(path, "internal/testkit/bench/") ||
			strings.HasPrefix(path, "examples/") {
			return
		}
		ast.Inspect(file, func(node ast.Node) bool {
			if selector, ok := node.(*ast.SelectorExpr); ok &&
				(selector.Sel.Name == "Getenv" || selector.Sel.Name == "LookupEnv") {
				t.Errorf("%s: settings come through cmd/steward", positions.Position(node.Pos()))
			}
			return true
		})
	})
}

func TestGeneratedFilesAreMarked(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"../../../api/api.gen.go", "../../../pkg/client/api/api.gen.go"} {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(content[:min(len(content), 400)]), "DO NOT EDIT") {
			t.Errorf("%s does not say that it is generated", path)
		}
	}
}

// untested are packages over testedFrom lines without a test beside them, each with its reason.
var untested = map[string]string{
	"internal/testkit/apptest":          "a fixture: every test of testkit/journeys runs it",
	"internal/testkit/bench/compare":    "a measuring program: its report is read by people",
	"internal/testkit/bench/drill":      "a measuring program: make drill fails where a restore brings a person back",
	"internal/testkit/bench/faultrun":   "a measuring program: it fails where a mail is lost",
	"internal/testkit/bench/stage":      "what the measuring programs start the service with",
	"internal/testkit/journeys/steps":   "steps of the journeys: every test of testkit/journeys takes them",
	"internal/testkit/bench/webhookrun": "a measuring program: it fails where a webhook is lost",
}

const testedFrom = 150

// A rule is tested beside the rule. What a journey over HTTP covers by the way is not enough: it
// takes a whole service, and says little of where the fault is.
func TestPackagesHaveTestsBesideThem(t *testing.T) {
	t.Parallel()
	lines, tested := map[string]int{}, map[string]bool{}
	files(t, func(path string, file *ast.File, positions *token.FileSet) {
		if !strings.HasPrefix(path, "internal/") {
			return
		}
		name := filepath.ToSlash(filepath.Dir(path))
		if strings.HasSuffix(path, "_test.go") {
			tested[name] = tested[name] || hasTest(file)
		} else {
			lines[name] += positions.File(file.Pos()).LineCount()
		}
	})
	for name, count := range lines {
		reason, excepted := untested[name]
		switch {
		case excepted && (tested[name] || count <= testedFrom):
			t.Errorf("%s needs no exception any more", name)
		case excepted && reason == "":
			t.Errorf("%s is excepted without a reason", name)
		case !excepted && !tested[name] && count > testedFrom:
			t.Errorf("%s has %d lines and no test beside it", name, count)
		}
	}
	for name := range untested {
		if lines[name] == 0 {
			t.Errorf("%s is excepted and does not exist", name)
		}
	}
}

// hasTest reports whether a file has a test or a fuzz target. A benchmark or an example alone does
// not hold a rule.
func hasTest(file *ast.File) bool {
	return slices.ContainsFunc(file.Decls, func(declaration ast.Decl) bool {
		function, ok := declaration.(*ast.FuncDecl)
		return ok && function.Recv == nil && function.Name.Name != "TestMain" &&
			(strings.HasPrefix(function.Name.Name, "Test") || strings.HasPrefix(function.Name.Name, "Fuzz"))
	})
}
