package trailproof_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/pkg/trailproof"
)

var customerID = uuid.MustParse("019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6071")

func entry(number int) trailproof.Entry {
	user, sourceID := uuid.UUID{15: 7}, fmt.Sprintf("pim-%d", number)
	return trailproof.Entry{
		CustomerID:  customerID,
		ID:          uuid.UUID{15: byte(number), 14: byte(number >> 8)},
		Source:      "integration",
		SourceID:    &sourceID,
		ActorType:   "user",
		ActorUserID: &user,
		Action:      "product.updated",
		TargetType:  "product",
		TargetID:    "48151623",
		Changed:     []string{},
		Details:     json.RawMessage(`{"revision": 7, "changed": ["price", "stock"]}`),
		OccurredAt: time.Date(
			2026,
			3,
			1,
			12,
			0,
			0,
			120_000,
			time.UTC,
		),
		RecordedAt: time.Date(2026, 3, 1, 12, 0, 1, 0, time.UTC),
	}
}

func leafOf(t testing.TB, e trailproof.Entry) []byte {
	t.Helper()
	leaf, err := trailproof.AppendLeaf(nil, &e)
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

func TestALeafIsWrittenOut(t *testing.T) {
	t.Parallel()
	const want = `{"action":"product.updated","actor_api_key_id":null,"actor_operator_customer_id":null,"actor_operator_id":null,"actor_type":"user",` +
		`"actor_user_id":"00000000-0000-0000-0000-000000000007","changed":[],"customer_id":"019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6071",` +
		`"details":{"changed":["price","stock"],"revision":7},"id":"00000000-0000-0000-0000-000000000003","occurred_at":"2026-03-01T12:00:00.000120Z",` +
		`"recorded_at":"2026-03-01T12:00:01.000000Z","source":"integration","source_id":"pim-3","target_id":"48151623","target_type":"product","version":1}`
	if got := string(leafOf(t, entry(3))); got != want {
		t.Errorf("the form of leaves has changed, and with it every hash:\n%s\n%s", got, want)
	}
}

// The details that PostgreSQL gives back have an order and spacing of their own; the leaf has one
// order.
func TestOrderAndSpacingOfDetailsDoNotCount(t *testing.T) {
	t.Parallel()
	one, other := entry(1), entry(1)
	one.Details, other.Details = json.RawMessage(
		`{"b":[1,{"y":"\u00e9\n","x":null}],"aa":1.10}`,
	), json.RawMessage(
		" {\"aa\" : 1.10 , \"b\": [ 1 , {\"x\":null,\"y\":\"é\\u000a\"} ] } ",
	)
	if a, b := leafOf(t, one), leafOf(t, other); !bytes.Equal(a, b) {
		t.Errorf("%s\n%s", a, b)
	}
	for _, bad := range []string{``, `{`, `{"a":1}{`, `{"a":1,"a":1}`, `1e2`, `"\ud800"`, `"\udc00\ud800"`, "\"\xff\""} {
		e := entry(1)
		e.Details = json.RawMessage(bad)
		if leaf, err := trailproof.AppendLeaf(nil, &e); !errors.Is(err, trailproof.ErrLeaf) {
			t.Errorf("the details %q gave the leaf %s", bad, leaf)
		}
	}
}

// TestEveryByteOfALeafCounts: what differs in a byte is no leaf, or the leaf of another entry with
// another hash.
func TestEveryByteOfALeafCounts(t *testing.T) {
	t.Parallel()
	leaf := leafOf(t, entry(1))
	for at := range leaf {
		for _, flip := range []byte{1, 2, 32, 128} {
			changed := bytes.Clone(leaf)
			changed[at] ^= flip
			if read, err := trailproof.ParseLeaf(changed); err == nil && reflect.DeepEqual(read, entry(1)) {
				t.Errorf("byte %d: %s is read as the same entry", at, changed)
			}
		}
	}
	for _, other := range []string{"", "{}", "null", "[]", string(leaf) + " ", " " + string(leaf), strings.Replace(string(leaf), `"version":1`, `"version":2`, 1)} {
		if _, err := trailproof.ParseLeaf([]byte(other)); !errors.Is(err, trailproof.ErrLeaf) {
			t.Errorf("%q was read as a leaf, or not refused as one: %v", other, err)
		}
	}
}

// FuzzParseLeaf: what is read as a leaf is the leaf of what was read, byte for byte, so that no two
// texts prove one entry.
func FuzzParseLeaf(f *testing.F) {
	f.Add(leafOf(f, entry(1)))
	plain := entry(2)
	plain.Details, plain.SourceID, plain.ActorUserID, plain.ActorType = nil, nil, nil, "system"
	f.Add(leafOf(f, plain))
	f.Add([]byte(`{"action":""}`))
	f.Add(bytes.Replace(leafOf(f, entry(1)), []byte(`"changed":[]`), []byte(`"changed":["\u00e9","a"]`), 1))
	f.Fuzz(func(t *testing.T, text []byte) {
		read, err := trailproof.ParseLeaf(text)
		if err != nil {
			if !errors.Is(err, trailproof.ErrLeaf) {
				t.Errorf("%q is refused by %v", text, err)
			}
			return
		}
		if again, err := trailproof.AppendLeaf(nil, &read); err != nil || !bytes.Equal(again, text) {
			t.Errorf("%q is read as the leaf %q, %v", text, again, err)
		}
	})
}

// FuzzDetails: details have one form, whatever spelling they come in.
func FuzzDetails(f *testing.F) {
	for _, seed := range []string{`{"b":[1,{"y":"\u00e9"}],"a":1.10}`, `[]`, `"\ud83d\ude00"`, `-0.0`, `{"a":{}}`, `{"a":1,"a":1}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, details []byte) {
		e := entry(1)
		e.Details = details
		if details == nil {
			e.Details = []byte{}
		}
		leaf, err := trailproof.AppendLeaf(nil, &e)
		if err != nil {
			return
		}
		read, err := trailproof.ParseLeaf(leaf)
		if err != nil {
			t.Fatalf("the details %q give a leaf that is none: %v", details, err)
		}
		if again, err := trailproof.AppendLeaf(nil, &read); err != nil || !bytes.Equal(again, leaf) {
			t.Errorf("the details %q give %q and then %q, %v", details, leaf, again, err)
		}
	})
}
