package archtest

import (
	"go/ast"
	"go/token"
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// readers are the tables that a package names in its statements and does not own, each with its
// reason. What is not here goes through the owner's package.
var readers = map[[2]string]string{
	{"account/passwordlink", "users"}:      "a link is good while the user's links_since is what it was",
	{"account/secondfactor", "customers"}:  "whether the policy requires a second factor, in the statement of a sign-in",
	{"account/secondfactor", "users"}:      "the same, by role",
	{"account/session", "customers"}:       "a session is good while the customer lets the user in; one statement per request",
	{"account/session", "users"}:           "a session is good while the user is active; one statement per request",
	{"account/user", "customers"}:          "creating users locks the customer and reads its mail domains, in one statement",
	{"compliance/trail", "audit_entries"}:  "proofs read whole trails, by COPY",
	{"compliance/trail", "audit_heads"}:    "a checkpoint signs the head",
	{"compliance/trail", "audit_leaves"}:   "proofs read the tree",
	{"compliance/trail", "audit_unsealed"}: "an entry without a place yet is not missing",
	{"compliance/trail", "customers"}:      "a checkpoint of every customer each day",
	{"integration/alert", "users"}:         "who wants alerts, locked against an erasure, in the statement that leases mails",
	{"integration/webhook", "events"}:      "deliveries are derived from events by the hundred thousand",
	{"record/audit", "users"}:              "an entry locks its actor against an erasure",
	{"record/event", "webhook_deliveries"}: "an event stays while a delivery of it is open",
	{"record/ledger", "customers"}:         "whether an entry's customer exists",
	{"record/ledger", "restores"}:          "a restore tells how far the ledger has to be read",
	{"record/receipt", "customers"}:        "whether a receipt's customer exists",
}

// peoplesColumns are the columns of users that only package user names.
var peoplesColumns = regexp.MustCompile(`\b(u|users)\.(email|first_name|last_name)(_key)?\b`)

// tableNamed finds tables in statements, as far as they stand in one literal.
var tableNamed = regexp.MustCompile(`(?i)\b(?:from|join|into|update|truncate|using)\s+(?:only\s+)?(?:jobs\.)?([a-z_]+)\b`)

// literals calls back for each text in the Go files of the product below internal/.
func literals(t *testing.T, visit func(owner, text, place string)) {
	t.Helper()
	files(t, func(name string, file *ast.File, positions *token.FileSet) {
		owner, ok := strings.CutPrefix(path.Dir(filepath.ToSlash(name)), "internal/")
		if !ok || strings.HasSuffix(name, "_test.go") || within("internal/"+owner, testOnly) {
			return
		}
		ast.Inspect(file, func(node ast.Node) bool {
			if literal, ok := node.(*ast.BasicLit); ok && literal.Kind == token.STRING {
				if text, err := strconv.Unquote(literal.Value); err == nil {
					visit(owner, text, positions.Position(literal.Pos()).String())
				}
			}
			return true
		})
	})
}

// tableOwners reads from the declarations of the inventory who owns each table.
func tableOwners(t *testing.T) map[string]string {
	t.Helper()
	owners := make(map[string]string)
	files(t, func(name string, file *ast.File, _ *token.FileSet) {
		if path.Base(filepath.ToSlash(name)) != "inventory.go" {
			return
		}
		ast.Inspect(file, func(node ast.Node) bool {
			if pair, ok := node.(*ast.KeyValueExpr); ok {
				key, _ := pair.Key.(*ast.Ident)
				value, _ := pair.Value.(*ast.BasicLit)
				if key != nil && key.Name == "Table" && value != nil {
					table, _ := strconv.Unquote(value.Value)
					owners[table[strings.LastIndex(table, ".")+1:]] = strings.TrimPrefix(path.Dir(filepath.ToSlash(name)), "internal/")
				}
			}
			return true
		})
	})
	if len(owners) < 30 {
		t.Fatalf("only %v are declared: this test looks in the wrong place", slices.Sorted(maps.Keys(owners)))
	}
	return owners
}

// Each table is named by its owner alone, and by those who have a reason.
func TestTablesAreReadByTheirOwners(t *testing.T) {
	t.Parallel()
	owners := tableOwners(t)
	used := make(map[[2]string]bool)
	literals(t, func(owner, text, place string) {
		for _, found := range tableNamed.FindAllStringSubmatch(text, -1) {
			table := strings.ToLower(found[1])
			if owners[table] == "" || owners[table] == owner {
				continue
			}
			reader := [2]string{owner, table}
			if used[reader] = true; readers[reader] == "" {
				t.Errorf("%s: %s names %s, which is of %s: ask that package, or give the pair a reason", place, owner, table, owners[table])
			}
		}
	})
	for reader := range readers {
		if !used[reader] {
			t.Errorf("%v has a reason, and no statement", reader)
		}
	}
}

// Names and addresses leave the table of users through package user.
func TestOnlyUserReadsNamesAndAddresses(t *testing.T) {
	t.Parallel()
	literals(t, func(owner, text, place string) {
		if found := peoplesColumns.FindString(text); found != "" && owner != "account/user" {
			t.Errorf("%s: %s is for account/user", place, found)
		}
	})
}
