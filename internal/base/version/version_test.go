package version_test

import (
	"testing"

	"github.com/fusionspim/steward/internal/base/version"
)

func TestConditions(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		condition version.Condition
		met       []int64
		unmet     []int64
		array     string // as PostgreSQL reads it; empty: every version
	}{
		"zero value":    {version.Condition{}, []int64{0, 1, 99}, nil, ""},
		"one":           {version.OneOf(3), []int64{3}, []int64{0, 2, 4}, "{3}"},
		"several":       {version.OneOf(3, -1, 12), []int64{3, 12, -1}, []int64{1, 2}, "{3,-1,12}"},
		"no version":    {version.OneOf(), nil, []int64{0, 1}, "{}"},
		"empty slice":   {version.OneOf([]int64{}...), nil, []int64{0, 1}, "{}"},
		"a nil of them": {version.OneOf([]int64(nil)...), nil, []int64{0, 1}, "{}"},
	} {
		for _, v := range test.met {
			if !test.condition.MetBy(v) {
				t.Errorf("%s: version %d does not meet it", name, v)
			}
		}
		for _, v := range test.unmet {
			if test.condition.MetBy(v) {
				t.Errorf("%s: version %d meets it", name, v)
			}
		}
		if got := test.condition.Array(); (got == nil) != (test.array == "") || got != nil && *got != test.array {
			t.Errorf("%s: array %v, want %q", name, got, test.array)
		}
	}
}
