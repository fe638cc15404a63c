package publictest_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"testing"

	"github.com/fusionspim/steward/internal/base/fault"
)

// The SDK has a constant for each problem of the service, and no other.
func TestProblemCodesAreTheServices(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "../../../pkg/client/problem.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ours, theirs []string
	ast.Inspect(file, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		kind, typed := spec.Type.(*ast.Ident)
		literal, plain := spec.Values[0].(*ast.BasicLit)
		if typed && plain && kind.Name == "ProblemCode" {
			code, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Error(err)
			}
			ours = append(ours, code)
		}
		return true
	})
	for _, entry := range fault.Catalogue() {
		theirs = append(theirs, string(entry.Code))
	}
	slices.Sort(ours)
	slices.Sort(theirs)
	if !slices.Equal(ours, theirs) {
		t.Errorf("the SDK has\n%v\nand the service\n%v", ours, theirs)
	}
}
