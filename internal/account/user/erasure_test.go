package user

import (
	"testing"

	"github.com/fusionspim/steward/internal/record/receipt"
)

func TestLabelsAreUnique(t *testing.T) {
	t.Parallel()
	labelled := func(label string) erasure { return erasure{receipt: &receipt.Receipt{Label: &label}} }
	all := []erasure{labelled("free"), labelled("taken"), labelled("free"), labelled("other")}
	given := map[string]bool{"other": true}
	left := stillUnlabelled(all, map[string]bool{"taken": true}, given)
	if len(left) != 3 || left[0].receipt != all[1].receipt || left[1].receipt != all[2].receipt ||
		left[2].receipt != all[3].receipt {
		t.Fatalf("%v", left)
	}
	for _, e := range left {
		if e.receipt.Label != nil {
			t.Errorf("a label that is taken stays: %s", *e.receipt.Label)
		}
	}
	if all[0].receipt.Label == nil || !given["free"] {
		t.Error("a free label was not given")
	}
}
