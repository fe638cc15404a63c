package user_test

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/infra/mail"
)

// longInASCII is an address of 118 bytes as written, and of 268 with its domain in ASCII.
var longInASCII = "aaaaaaaaaaaaaaaaaaaa@" + strings.Repeat("ü.", 30) + "example"

func TestAnAddressThatMailCannotUseIsRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{longInASCII, "a😀@acme.example", "a@localhost"} {
		_, err := user.ParseAddress(text, "/email")
		problem, ok := errors.AsType[*fault.Fault](err)
		if !ok || problem.Code != fault.InvalidEmail || len(problem.Members) != 1 ||
			problem.Members[0].Pointer != "/email" {
			t.Errorf("%s: %v", text, err)
		}
		if err := invite(text); err == nil {
			t.Errorf("%s: mail accepts it", text)
		}
	}
}

func TestAnEarlierAccountIsStillFound(t *testing.T) {
	t.Parallel()
	found, err := user.LookupAddress(longInASCII, "?email")
	if err != nil || found.Text != longInASCII || !strings.HasPrefix(found.Key, "aaaaaaaaaaaaaaaaaaaa@xn--") {
		t.Errorf("%+v, %v", found, err)
	}
}

// TestMailReachesEveryAccount draws addresses around all limits.
func TestMailReachesEveryAccount(t *testing.T) {
	t.Parallel()
	chars := []rune("abzAZ09!#'+-_~üßéñİıſK例日ลا\u0308\u0301\u200b\u037a😀 @\"<.")
	piece := func(longest int) *rapid.Generator[string] {
		return rapid.OneOf(
			rapid.StringMatching(`[a-z0-9]{1,12}`),
			rapid.StringOfN(rapid.SampledFrom(chars), 1, longest, -1),
			rapid.Map(rapid.IntRange(1, longest), func(n int) string { return strings.Repeat("a", n) }),
			rapid.SampledFrom([]string{"ü", "例え", "xn--bcher-kva"}),
		)
	}
	rapid.Check(t, func(t *rapid.T) {
		local := strings.Join(rapid.SliceOfN(piece(66), 1, 2).Draw(t, "local"), ".")
		host := strings.Join(rapid.SliceOfN(piece(64), 1, 3).Draw(t, "labels"), ".")
		if rapid.Bool().Draw(t, "many labels") {
			host = strings.Repeat(
				rapid.SampledFrom([]string{"ü.", "a.", "例え."}).Draw(t, "label"),
				rapid.IntRange(1, 60).Draw(t, "count"),
			) + host
		}
		accepted, err := user.ParseAddress(local+"@"+host, "/email")
		if err != nil {
			return
		}
		if err := invite(accepted.Text); err != nil {
			t.Fatalf("mail refuses %q: %v", accepted.Text, err)
		}
		again, err := user.ParseAddress(accepted.Text, "/email")
		if err != nil || again != accepted {
			t.Fatalf("%+v is read again as %+v, %v", accepted, again, err)
		}
	})
}

// invite words a mail to an address, which checks it.
func invite(to string) error {
	_, err := mail.NewNotice(to, mail.Notice{Title: "News", Paragraphs: []string{"News."}})
	return err
}
