package idempotency

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/seal"
	"github.com/fusionspim/steward/internal/testkit/dbtest"
)

func newBox(t *testing.T, first byte) *seal.Box {
	t.Helper()
	key := make([]byte, seal.MasterKeySize)
	for i := range key {
		key[i] = first + byte(i)
	}
	box, err := seal.New(key)
	if err != nil {
		t.Fatal(err)
	}
	return box
}

// fixture is a database with two customers.
type fixture struct {
	*dbtest.Database
	box         *seal.Box
	acme, other id.Customer
	credential  uuid.UUID
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{Database: dbtest.New(t), box: newBox(t, 1), credential: id.New[id.User]().UUID}
	for slug, of := range map[string]*id.Customer{"acme": &f.acme, "other": &f.other} {
		*of = id.New[id.Customer]()
		err := f.DB.InCustomer(t.Context(), *of, func(tx *postgres.Tx) error {
			_, err := tx.Exec(`
				insert into customers (id, slug, name, guidance_text, mail_domain_policy, mail_domains, network_policy,
					networks, login_record_days, second_factor_policy, version, created_at, updated_at)
				values ($1, $2, $2, '', 'off', '{}', 'off', '{}', 90, 'off', 1, $3, $3)`, tx.Customer, slug, tx.Now)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func (f *fixture) once(key, request string) *Once[string] {
	return &Once[string]{
		Box: f.box, Credential: f.credential, Key: key, Operation: "POST /v1/users", Request: []byte(request),
		Render: func(result string) (Answer, error) {
			body, err := json.Marshal(result)
			return Answer{Status: 201, Header: map[string]string{"Location": "/" + result}, Body: body}, err
		},
	}
}

// write runs a write that returns the result, and reports whether it ran.
func (f *fixture) write(
	t *testing.T,
	of id.Customer,
	once *Once[string],
	result string,
) (got string, ran bool, err error) {
	t.Helper()
	got, err = Write(t.Context(), f.DB, of, once, func(*postgres.Tx) (string, error) {
		ran = true
		return result, nil
	})
	return got, ran, err
}

func replayOf(err error) (answer Answer, ok bool) {
	var replay *Replay
	if !errors.As(err, &replay) {
		return Answer{}, false
	}
	return replay.Answer, true
}

func TestTheSameRequestGetsTheFirstAnswer(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if got, ran, err := f.write(t, f.acme, f.once("key", "a"), "first"); !ran || got != "first" || err != nil {
		t.Fatalf("the first: %q, ran %t, %v", got, ran, err)
	}
	for range 2 {
		_, ran, err := f.write(t, f.acme, f.once("key", "a"), "second")
		answer, replayed := replayOf(err)
		if ran || !replayed || answer.Status != 201 || answer.Header["Location"] != "/first" ||
			string(answer.Body) != `"first"` {
			t.Errorf("the same again: ran %t, %v, %+v", ran, err, answer)
		}
	}
}

func TestWhatMakesARequestAnother(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if _, _, err := f.write(t, f.acme, f.once("key", "a"), "first"); err != nil {
		t.Fatal(err)
	}
	path := f.once("key", "a")
	path.Operation = "POST /v1/customers"
	stranger := f.once("key", "a")
	stranger.Credential = id.New[id.User]().UUID
	for name, test := range map[string]struct {
		of   id.Customer
		once *Once[string]
		want fault.Code // empty: it runs
	}{
		"another body":       {f.acme, f.once("key", "b"), fault.IdempotencyKeyReused},
		"another path":       {f.acme, path, fault.IdempotencyKeyReused},
		"another key":        {f.acme, f.once("Key", "a"), ""},
		"another credential": {f.acme, stranger, ""},
		"another customer":   {f.other, f.once("key", "a"), ""},
		"no key":             {f.acme, nil, ""},
	} {
		_, ran, err := f.write(t, test.of, test.once, "second")
		if ran != (test.want == "") || test.want == "" && err != nil || test.want != "" && !fault.Is(err, test.want) {
			t.Errorf("%s: ran %t, %v", name, ran, err)
		}
	}
}

func TestAWriteThatFailedMayBeRepeated(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	failure := errors.New("a failure")
	_, err := Write(
		t.Context(),
		f.DB,
		f.acme,
		f.once("key", "a"),
		func(*postgres.Tx) (string, error) { return "half", failure },
	)
	if !errors.Is(err, failure) {
		t.Fatal(err)
	}
	unrendered := f.once("key", "a")
	unrendered.Render = func(string) (Answer, error) { return Answer{}, failure }
	if _, _, err := f.write(t, f.acme, unrendered, "half"); !errors.Is(err, failure) {
		t.Fatal(err)
	}
	if got, ran, err := f.write(t, f.acme, f.once("key", "b"), "whole"); !ran || got != "whole" || err != nil {
		t.Errorf("afterwards: %q, ran %t, %v", got, ran, err)
	}
}

func TestASecondRequestDuringTheFirstIsSentAway(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	_, err := Write(t.Context(), f.DB, f.acme, f.once("key", "a"), func(*postgres.Tx) (string, error) {
		for _, request := range []string{"a", "b"} {
			_, ran, err := f.write(t, f.acme, f.once("key", request), "second")
			var known *fault.Fault
			if ran || !errors.As(err, &known) || known.Code != fault.IdempotencyKeyInUse || known.RetryAfter <= 0 {
				t.Errorf("meanwhile, with %q: ran %t, %v", request, ran, err)
			}
		}
		if _, ran, err := f.write(t, f.acme, f.once("another key", "a"), "x"); !ran || err != nil {
			t.Errorf("another key meanwhile: ran %t, %v", ran, err)
		}
		return "first", nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestAKeyStandsForADay(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if _, _, err := f.write(t, f.acme, f.once("key", "a"), "first"); err != nil {
		t.Fatal(err)
	}
	f.Clock.Advance(Lifetime - time.Microsecond)
	if _, ran, err := f.write(t, f.acme, f.once("key", "b"), "x"); ran || !fault.Is(err, fault.IdempotencyKeyReused) {
		t.Errorf("just before: ran %t, %v", ran, err)
	}
	f.Clock.Advance(time.Microsecond)
	if got, ran, err := f.write(t, f.acme, f.once("key", "b"), "second"); !ran || got != "second" || err != nil {
		t.Errorf("a day later: %q, ran %t, %v", got, ran, err)
	}
}

// The answer goes with the person whom it is about; that the key was used stays known.
func TestAnAnswerIsErasedWithItsPerson(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ada, bob := id.New[id.User](), id.New[id.User]()
	for key, person := range map[string]id.User{"ada": ada, "bob": bob} {
		_, err := WriteAbout(t.Context(), f.DB, f.acme, f.once(key, "a"), func(*postgres.Tx) (string, id.User, error) {
			return key, person, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	erase := func(of id.Customer, person id.User) (removed int64) {
		err := f.DB.InCustomer(t.Context(), of, func(tx *postgres.Tx) error {
			counts, err := erase(tx, []id.User{person})
			removed = counts[person]
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return removed
	}
	if removed := erase(f.other, ada); removed != 0 {
		t.Errorf("another customer erased %d answers", removed)
	}
	if removed := erase(f.acme, ada); removed != 1 {
		t.Errorf("%d answers were erased", removed)
	}
	for _, request := range []string{"a", "b"} {
		if _, ran, err := f.write(
			t,
			f.acme,
			f.once("ada", request),
			"again",
		); ran ||
			!fault.Is(err, fault.IdempotencyErased) {
			t.Errorf("after the erasure, with %q: ran %t, %v", request, ran, err)
		}
	}
	_, ran, err := f.write(t, f.acme, f.once("bob", "a"), "again")
	if _, replayed := replayOf(err); ran || !replayed {
		t.Errorf("another person's answer: ran %t, %v", ran, err)
	}
	var n int
	f.Peek(
		t,
		"select count(*) from idempotency_answers where answer is not null or fingerprint is not null or subject_user_id is not null",
		&n,
	)
	if n != 1 {
		t.Errorf("%d answers are left", n)
	}
}

// The database alone reveals neither key nor answer.
func TestAnswersAreSealedWithTheCallersKey(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if _, _, err := f.write(t, f.acme, f.once("a-callers-key", "a-request"), "a-secret-answer"); err != nil {
		t.Fatal(err)
	}
	var row string
	f.Peek(t, `select encode(key_hash || fingerprint || answer, 'escape') from idempotency_answers`, &row)
	for _, shown := range []string{"a-callers-key", "a-request", "a-secret-answer", "Location"} {
		if strings.Contains(row, shown) {
			t.Errorf("the row shows %s", shown)
		}
	}
	another := f.once("a-callers-key", "a-request")
	another.Box = newBox(t, 2)
	if _, ran, err := f.write(t, f.acme, another, "x"); !ran || err != nil {
		t.Errorf("under another master key the key is another: ran %t, %v", ran, err)
	}
}

func TestOldAnswersExpire(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, of := range []id.Customer{f.acme, f.other} {
		if _, _, err := f.write(t, of, f.once("key", "a"), "x"); err != nil {
			t.Fatal(err)
		}
		f.Clock.Advance(time.Hour)
	}
	var expired int64
	err := f.DB.InPlatform(t.Context(), func(tx *postgres.Tx) (err error) {
		expired, err = expire(tx, tx.Now.Add(Lifetime-90*time.Minute), 10)
		return err
	})
	var n int
	if f.Peek(t, "select count(*) from idempotency_answers", &n); err != nil || expired != 1 || n != 1 {
		t.Errorf("%d expired, %d are left, %v", expired, n, err)
	}
}
