package fault_test

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"

	"github.com/fusionspim/steward/internal/base/fault"
)

func TestEveryCodeIsDescribed(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "code.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var codes []string
	ast.Inspect(file, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Code" {
			for _, value := range spec.Values {
				text, err := strconv.Unquote(value.(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				codes = append(codes, text)
			}
		}
		return true
	})
	if len(codes) < 20 {
		t.Fatalf("found %d codes in code.go", len(codes))
	}
	if len(codes) != len(fault.Catalogue()) {
		t.Errorf("%d codes, %d entries", len(codes), len(fault.Catalogue()))
	}
	for _, code := range codes {
		entry, ok := fault.Describe(fault.Code(code))
		if !ok {
			t.Errorf("%s has no entry", code)
			continue
		}
		for _, text := range []string{entry.Title, entry.Means, entry.ToDo} {
			if strings.TrimSpace(text) == "" {
				t.Errorf("%s says nothing in one of its texts", code)
			}
		}
	}
}

func TestErrorHidesDetailAndKeepsCause(t *testing.T) {
	t.Parallel()
	cause := errors.New("the cause")
	err := fault.Because(cause, fault.EmailTaken, "a detail for the caller").At("/email", "a member's detail")
	if !errors.Is(err, cause) || !fault.Is(err, fault.EmailTaken) {
		t.Error("the cause or the code is lost")
	}
	if strings.Contains(err.Error(), "detail") {
		t.Errorf("the text for the log holds a detail: %s", err)
	}
}
