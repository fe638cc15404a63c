package steps

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/fusionspim/steward/internal/testkit/apptest"
	"github.com/fusionspim/steward/pkg/client"
)

// ChangeReceipt redacts a person, changes each byte of the receipt into what others returns for it,
// and fails the test unless each change is found, and named by the member that it is in.
func ChangeReceipt(t *testing.T, s *apptest.Service, of apptest.Customer, others func(at int, original byte) []byte) {
	t.Helper()
	s.Call(t, "POST", "/v1/audit-entries", apptest.As(of.APIKey), apptest.JSON(Entry(of.User.ID.String(), "before"))).Want(t, http.StatusCreated)
	document := bytes.TrimSpace(s.Call(t, "POST", "/v1/users/"+of.User.ID.String()+"/redaction", apptest.As(of.APIKey)).Want(t, http.StatusOK).Body)
	var keys client.SigningKeys
	s.Call(t, "GET", "/.well-known/jwks.json").Want(t, http.StatusOK).Into(t, &keys)
	if _, err := client.VerifyReceipt(document, keys); err != nil {
		t.Fatalf("%v: %s", err, document)
	}
	var jws string
	var members map[string]json.RawMessage
	if err := json.Unmarshal(document, &members); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(members["jws"], &jws); err != nil {
		t.Fatal(err)
	}
	within := func(at int, value string) bool { // whether a byte stands within a value of the document
		start := bytes.Index(document, []byte(value))
		return start >= 0 && at >= start && at < start+len(value)
	}
	named := 0
	for at := range document {
		for _, other := range others(at, document[at]) {
			if other == document[at] {
				continue
			}
			changed := bytes.Clone(document)
			changed[at] = other
			_, err := client.VerifyReceipt(changed, keys)
			if err == nil {
				t.Fatalf("byte %d as %q was not found: %s", at, changed[at], changed)
			}
			var difference *client.ReceiptDifference
			if errors.As(err, &difference) {
				named++
				for _, member := range []string{"completed_at", "user_id", "label", "state"} {
					if within(at, string(members[member])) && !strings.Contains(err.Error(), member) {
						t.Errorf("byte %d, of %s, gave %v", at, member, err)
					}
				}
			} else if within(at, jws) && !errors.Is(err, client.ErrReceiptSignature) && !errors.Is(err, client.ErrReceiptForm) && !errors.Is(err, client.ErrReceiptKey) {
				t.Errorf("byte %d, of the signature, gave %v", at, err)
			}
		}
	}
	if named == 0 {
		t.Error("no difference was named")
	}
	for at := range jws {
		changed := []byte(jws)
		changed[at] ^= 1
		if _, err := client.VerifyReceipt(changed, keys); err == nil {
			t.Errorf("byte %d of the JWS alone was not found", at)
		}
	}
}
