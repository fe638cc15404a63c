package main

import (
	"bytes"
	"os"
	"testing"
)

// docs/data-inventory.md is what the declarations give.
func TestTheDataInventoryIsUpToDate(t *testing.T) {
	t.Parallel()
	committed, err := os.ReadFile("../../docs/data-inventory.md")
	if err != nil {
		t.Fatal(err)
	}
	var out, errOut bytes.Buffer
	if code := run(t.Context(), []string{"inventory"}, &out, &errOut); code != 0 {
		t.Fatalf("exit code %d: %s", code, errOut.String())
	}
	if !bytes.Equal(committed, out.Bytes()) {
		t.Error("docs/data-inventory.md is not what the declarations give: run make generate")
	}
}
