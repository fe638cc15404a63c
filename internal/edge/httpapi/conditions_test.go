package httpapi

import (
	"slices"
	"testing"
)

func TestIfMatch(t *testing.T) {
	t.Parallel()
	for header, met := range map[string][]int64{
		`*`:                      {1, 2, 3},
		` * `:                    {1, 2, 3},
		`"2"`:                    {2},
		`"2", "3"`:               {2, 3},
		` "2" ,"3" `:             {2, 3},
		`"2", "made up"`:         {2},
		`"2",,`:                  {2},
		``:                       nil, // a header that is sent and empty is met by nothing
		`""`:                     nil,
		`"`:                      nil,
		`2`:                      nil,
		`W/"2"`:                  nil, // If-Match compares strongly (RFC 9110, section 13.1.1)
		`W/"1", "3"`:             {3},
		`"2`:                     nil,
		`2"`:                     nil,
		`"2 "`:                   nil,
		`"0x2"`:                  nil,
		`"18446744073709551618"`: nil, // 2 modulo 2^64
		`"2", *`:                 {2},
		`'2'`:                    nil,
	} {
		condition := condition(&header)
		for version := int64(1); version <= 3; version++ {
			if got, want := condition.MetBy(version), slices.Contains(met, version); got != want {
				t.Errorf("If-Match: %s: met by %d is %t", header, version, got)
			}
		}
	}
	if !condition(nil).MetBy(1) {
		t.Error("a request without If-Match is refused")
	}
}

func TestAnETagIsItsOwnCondition(t *testing.T) {
	t.Parallel()
	for _, version := range []int64{0, 1, 42, 1<<63 - 1} {
		tag := etag(version)
		if condition := condition(&tag); !condition.MetBy(version) || condition.MetBy(version-1) {
			t.Errorf("%s does not stand for version %d alone", tag, version)
		}
	}
	if got := etag(7); got != `"7"` {
		t.Errorf("the tag is %s", got)
	}
}
