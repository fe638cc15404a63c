package residue_test

import (
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"

	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/testkit/residue"
)

// A canary that does not sing proves nothing: every shape is found.
func TestMarksAreFoundInEveryShape(t *testing.T) {
	t.Parallel()
	const text = "Žoraquél-Vintrix"
	var m residue.Marks
	m.Add(text)
	for _, hidden := range []string{
		text, "žoraquél-vintrix", "ŽORAQUÉL-VINTRIX", norm.NFD.String(text), user.Key(text), "xirtniV-léuqaroŽ", url.QueryEscape(text), url.PathEscape(text),
		`\u017doraqu\u00e9l-Vintrix`, hex.EncodeToString([]byte(text)), strings.ToUpper(hex.EncodeToString([]byte(text))),
		base64.StdEncoding.EncodeToString([]byte(text)), base64.StdEncoding.EncodeToString([]byte("x" + text + "yz")),
		base64.URLEncoding.EncodeToString([]byte("xy" + text + "z")), base64.StdEncoding.EncodeToString([]byte(`{"name":"` + strings.ToLower(text) + `"}`)),
	} {
		if len(m.In([]byte("before "+hidden+" after"))) != 1 {
			t.Errorf("%q is overlooked", hidden)
		}
	}
	for _, innocent := range []string{"", "Žora", "something else altogether"} {
		if found := m.In([]byte(innocent)); len(found) != 0 {
			t.Errorf("%v is found in %q", found, innocent)
		}
	}
}
