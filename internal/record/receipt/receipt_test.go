package receipt

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/token"
	"github.com/fusionspim/steward/internal/record/signingkey"
	"github.com/fusionspim/steward/pkg/client"
)

const issuer = "https://accounts.example"

var erased = time.Date(2026, 3, 1, 12, 30, 0, 123456000, time.FixedZone("", 3600))

// number returns an id that is the same in every run.
func number(n byte) uuid.UUID {
	return uuid.UUID{0x01, 0x97, 0, 0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, n}
}

func redaction() Receipt {
	label, reason, by := "Redacted user K7Q2", RequestedByPerson, id.User{UUID: number(3)}
	return Receipt{
		ID: id.Receipt{UUID: number(1)}, Kind: Redaction, UserID: id.User{UUID: number(2)}, Label: &label,
		Reason: &reason, Authority: "customer", OrderedByUser: &by, CompletedAt: erased,
		Removed: []Removed{{"profile", 1}, {"sessions", 2}}, Kept: []Kept{{"audit_entries", 4, "audit_trail"}},
		State: Pending,
	}
}

// keys are a key that signs, and what is published of it.
func keys(t *testing.T) (signingkey.Ring, client.SigningKeys) {
	t.Helper()
	key := token.NewSigningKey()
	set, err := json.Marshal(map[string]any{"keys": []token.JWK{token.NewJWK(key.Public())}})
	if err != nil {
		t.Fatal(err)
	}
	var published client.SigningKeys
	if err := json.Unmarshal(set, &published); err != nil {
		t.Fatal(err)
	}
	return signingkey.Ring{Signing: key}, published
}

// payload returns what was signed.
func payload(t *testing.T, jws string) string {
	t.Helper()
	parts := strings.Split(jws, ".")
	if len(parts) != 3 {
		t.Fatalf("%d parts: %s", len(parts), jws)
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestStatesComeInOneOrder(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, from := range []State{Pending, LiveComplete, Final, "lost"} {
		for _, next := range []State{Pending, LiveComplete, Final, "lost"} {
			r := redaction()
			r.State = from
			err := r.advance(next, now)
			allowed := from == Pending && next == LiveComplete || from == LiveComplete && next == Final
			switch {
			case !allowed && (err == nil || r.State != from || r.LiveCompleteAt != nil || r.FinalAt != nil):
				t.Errorf("from %s to %s: %v, %+v", from, next, err, r)
			case allowed && (err != nil || r.State != next):
				t.Errorf("from %s to %s: %v, now %s", from, next, err, r.State)
			case allowed && (r.LiveCompleteAt != nil) != (next == LiveComplete), allowed && (r.FinalAt != nil) != (next == Final):
				t.Errorf("to %s: live-complete at %v, final at %v", next, r.LiveCompleteAt, r.FinalAt)
			}
		}
	}
}

func TestReasonsAreAClosedSet(t *testing.T) {
	t.Parallel()
	for reason, known := range map[Reason]bool{
		"left_employment": true, "requested_by_person": true, "created_in_error": true, "contract_ended": true,
		"legal_obligation": true, "other": true, "": false, "Other": false, "boredom": false,
	} {
		if reason.Known() != known {
			t.Errorf("%q: %v", reason, !known)
		}
	}
}

// Receipts are verified by programs of others, for years: their members, order and spelling stay.
func TestTheClaimsOfAReceipt(t *testing.T) {
	t.Parallel()
	ring, _ := keys(t)
	r := redaction()
	if err := sign(ring, issuer, &r, erased); err != nil {
		t.Fatal(err)
	}
	want := `{"iss":"https://accounts.example","iat":1772364600,"receipt":{` +
		`"id":"` + number(1).String() + `","kind":"redaction","user_id":"` + number(2).String() + `",` +
		`"label":"Redacted user K7Q2","reason":"requested_by_person",` +
		`"ordered_by":{"authority":"customer","user_id":"` + number(3).String() + `","api_key_id":null},` +
		`"completed_at":"2026-03-01T11:30:00.123456Z",` +
		`"removed":[{"store":"profile","count":1},{"store":"sessions","count":2}],` +
		`"kept":[{"store":"audit_entries","count":4,"why":"audit_trail"}],` +
		`"backups_expire_at":null,"state":"pending","live_complete_at":null,"final_at":null}}`
	if got := payload(t, r.JWS); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	r.Removed, r.Kept = nil, nil
	if err := sign(ring, issuer, &r, erased); err != nil || !strings.Contains(payload(t, r.JWS), `"removed":[],"kept":[]`) {
		t.Errorf("nothing removed or kept: %v, %s", err, payload(t, r.JWS))
	}
}

func TestTheClaimsOfACertificate(t *testing.T) {
	t.Parallel()
	ring, published := keys(t)
	by := id.User{UUID: number(6)}
	jws, err := certify(ring, issuer, Certificate{
		ID: id.Offboarding{UUID: number(4)}, Customer: Customer{id.Customer{UUID: number(5)}, "acme", "Acme Tools"},
		RequestedAt: erased, RequestedBy: id.User{UUID: number(3)}, ApprovedAt: &erased, ApprovedBy: &by,
		DeletingAt: &erased, DeletedAt: &erased, Removed: []Removed{{"users", 3}},
	}, erased)
	if err != nil {
		t.Fatal(err)
	}
	at := `"2026-03-01T11:30:00.123456Z"`
	want := `{"iss":"https://accounts.example","iat":1772364600,"certificate":{` +
		`"id":"` + number(4).String() + `",` +
		`"customer":{"id":"` + number(5).String() + `","slug":"acme","name":"Acme Tools"},` +
		`"requested_at":` + at + `,"requested_by":"` + number(3).String() + `",` +
		`"approved_at":` + at + `,"approved_by":"` + number(6).String() + `",` +
		`"deleting_at":` + at + `,"deleted_at":` + at + `,` +
		`"removed":[{"store":"users","count":3}],"backups_expire_at":null}}`
	if got := payload(t, jws); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if _, err := client.VerifyCertificate([]byte(jws), published); err != nil {
		t.Error(err)
	}
	if _, err := client.VerifyReceipt([]byte(jws), published); err == nil {
		t.Error("a certificate passes for a receipt")
	}
}

// Whatever byte of a receipt changes, its signature is no longer good.
func TestTamperingIsFound(t *testing.T) {
	t.Parallel()
	ring, published := keys(t)
	_, others := keys(t)
	r := redaction()
	if err := sign(ring, issuer, &r, erased); err != nil {
		t.Fatal(err)
	}
	verified, err := client.VerifyReceipt([]byte(r.JWS), published)
	if err != nil || verified.Issuer != issuer || verified.Receipt.ID != r.ID.UUID || verified.KeyID != ring.Signing.ID() {
		t.Fatalf("%+v, %v", verified, err)
	}
	for i := range r.JWS {
		changed := []byte(r.JWS)
		changed[i] ^= 1
		if _, err := client.VerifyReceipt(changed, published); err == nil {
			t.Errorf("byte %d changed, and nothing is found", i)
		}
	}
	if _, err := client.VerifyReceipt([]byte(r.JWS), others); !errors.Is(err, client.ErrReceiptKey) {
		t.Errorf("another's keys: %v", err)
	}
	if err := sign(signingkey.Ring{}, issuer, &r, erased); err == nil {
		t.Error("signed without a key")
	}
}

func TestTheHorizonSeparatesWhatCanStillBeSeen(t *testing.T) {
	t.Parallel()
	seen := horizon{oldest: 100, next: 110}
	for transaction, past := range map[int64]bool{
		0: true, 99: true, 100: false, 105: false, 109: false,
		110: true, 5000: true, // another server's: the rows came with a restore
	} {
		if seen.past(transaction) != past {
			t.Errorf("transaction %d: %v", transaction, !past)
		}
		if behind := seen.behind([]Unsettled{{ErasedIn: transaction}}); (len(behind) == 1) != past {
			t.Errorf("transaction %d: %v", transaction, behind)
		}
	}
}

func TestReceiptsAreSettledCustomerByCustomer(t *testing.T) {
	t.Parallel()
	customers := []id.Customer{{UUID: number(1)}, {UUID: number(2)}}
	var erasures []Unsettled
	for i := range 2*batch + 1 {
		erasures = append(erasures, Unsettled{Customer: customers[0], ID: uuid.New()})
		if i < 3 {
			erasures = append(erasures, Unsettled{Customer: customers[1], ID: uuid.New()})
		}
	}
	var sizes []int
	var of []id.Customer
	found := make(map[uuid.UUID]id.Customer)
	err := byCustomer(erasures, func(customer id.Customer, some []uuid.UUID) error {
		sizes, of = append(sizes, len(some)), append(of, customer)
		for _, one := range some {
			found[one] = customer
		}
		return nil
	})
	if err != nil || !slices.Equal(sizes, []int{batch, batch, 1, 3}) ||
		!slices.Equal(of, []id.Customer{customers[0], customers[0], customers[0], customers[1]}) {
		t.Errorf("%v, %v, %v", sizes, of, err)
	}
	for _, e := range erasures {
		if found[e.ID] != e.Customer {
			t.Errorf("%s of %s went with %s", e.ID, e.Customer, found[e.ID])
		}
	}
	broken := errors.New("broken")
	calls := 0
	if err := byCustomer(erasures, func(id.Customer, []uuid.UUID) error { calls++; return broken }); !errors.Is(err, broken) || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
}
