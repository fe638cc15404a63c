package journeys

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/fusionspim/steward/internal/app"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/infra/blob"
	"github.com/fusionspim/steward/internal/infra/seal"
	"github.com/fusionspim/steward/internal/infra/token"
	"github.com/fusionspim/steward/internal/record/signingkey"
	"github.com/fusionspim/steward/internal/testkit/apptest"
	"github.com/fusionspim/steward/internal/testkit/dbtest"
	"github.com/fusionspim/steward/internal/testkit/journeys/steps"
	"github.com/fusionspim/steward/pkg/client"
	"github.com/fusionspim/steward/pkg/client/api"
)

// publishedKeys are the keys as the service publishes them.
func publishedKeys(t *testing.T, s *apptest.Service) (keys client.SigningKeys) {
	t.Helper()
	s.Call(t, "GET", "/.well-known/jwks.json").Want(t, http.StatusOK).Into(t, &keys)
	return keys
}

// verified checks a receipt with the SDK.
func verified(t *testing.T, document []byte, keys client.SigningKeys) client.SignedReceipt {
	t.Helper()
	signed, err := client.VerifyReceipt(document, keys)
	if err != nil {
		t.Fatalf("%v: %s", err, document)
	}
	if signed.Issuer != "http://steward.test" {
		t.Errorf("signed by %s", signed.Issuer)
	}
	return signed
}

// refersTo makes the trail refer to somebody.
func refersTo(t *testing.T, s *apptest.Service, of apptest.Customer, person id.User) {
	t.Helper()
	s.Call(t, "POST", "/v1/audit-entries", apptest.As(of.APIKey), apptest.JSON(object{
		"actor_user_id": person.String(), "action": "product.updated", "target": object{"type": "product", "id": "1"}, "occurred_at": "2026-01-05T08:00:00Z",
	})).Want(t, http.StatusCreated)
}

func TestReceiptsAreSigned(t *testing.T) {
	t.Parallel()
	s := apptest.Start(t)
	acme := s.Customer(t, "acme")
	key := apptest.As(acme.APIKey)
	deleted, redacted := s.Person(t, acme, principal.User, "d@acme.example"), s.Person(t, acme, principal.User, "r@acme.example")
	refersTo(t, s, acme, redacted.ID)
	var plan struct {
		Keeps []api.Kept
	}
	s.Call(t, "GET", "/v1/users/"+redacted.ID.String()+"/erasure-plan", key).Want(t, http.StatusOK).Into(t, &plan)

	order := []apptest.Option{key, apptest.JSON(object{"reason": "left_employment"}), apptest.Header("Idempotency-Key", "once")}
	answers := map[string]apptest.Answer{
		"deletion":  s.Call(t, "DELETE", "/v1/users/"+deleted.ID.String(), key).Want(t, http.StatusOK),
		"redaction": s.Call(t, "POST", "/v1/users/"+redacted.ID.String()+"/redaction", order...).Want(t, http.StatusOK),
	}
	keys := publishedKeys(t, s)
	for kind, answer := range answers {
		signed := verified(t, answer.Body, keys)
		if string(signed.Receipt.Kind) != kind || signed.Receipt.State != api.ErasureReceiptStatePending || !signed.SignedAt.Equal(signed.Receipt.CompletedAt.Truncate(time.Second)) {
			t.Errorf("%+v", signed)
		}
		again := s.Call(t, "GET", "/v1/erasure-receipts/"+answer.Text(t, "id"), key).Want(t, http.StatusOK)
		if !bytes.Equal(again.Body, answer.Body) || again.Header.Get("ETag") != answer.Header.Get("ETag") {
			t.Errorf("looked up, it is %s, and was %s", again.Body, answer.Body)
		}
		var shown client.ErasureReceipt
		again.Into(t, &shown)
		written, err := json.Marshal(shown)
		if err != nil {
			t.Fatal(err)
		}
		if verified(t, written, keys); !reflect.DeepEqual(verified(t, []byte(shown.Jws), keys).Receipt, shown) {
			t.Error("the JWS alone says something else")
		}
		independently(t, shown.Jws, keys, again.Body)
	}
	if kept := verified(t, answers["redaction"].Body, keys).Receipt.Kept; !reflect.DeepEqual(kept, plan.Keeps) || len(kept) != 2 || kept[1].Why != api.KeptWhySuppression {
		t.Errorf("kept is %+v, and was to be %+v", kept, plan.Keeps)
	}
	for what, options := range map[string][]apptest.Option{"the same request": order, "redacting again": {key}} {
		if again := s.Call(t, "POST", "/v1/users/"+redacted.ID.String()+"/redaction", options...).Want(t, http.StatusOK); !bytes.Equal(again.Body, answers["redaction"].Body) {
			t.Errorf("%s answered %s", what, again.Body)
		}
	}
}

// independently verifies a receipt with another implementation of JWS.
func independently(t *testing.T, jws string, keys client.SigningKeys, document []byte) {
	t.Helper()
	parsed, err := jwt.NewParser(jwt.WithValidMethods([]string{"EdDSA"})).ParseWithClaims(jws, jwt.MapClaims{}, func(parsed *jwt.Token) (any, error) {
		for _, key := range keys.Keys {
			if key.Kid == parsed.Header["kid"] {
				public, err := base64.RawURLEncoding.DecodeString(key.X)
				return ed25519.PublicKey(public), err
			}
		}
		return nil, errors.New("there is no such key")
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]any{"alg": "EdDSA", "typ": "steward-erasure-receipt+jws", "kid": parsed.Header["kid"]}; !reflect.DeepEqual(parsed.Header, want) {
		t.Errorf("the header is %v", parsed.Header)
	}
	var shown map[string]any
	if err := json.Unmarshal(document, &shown); err != nil {
		t.Fatal(err)
	}
	delete(shown, "jws")
	claims := parsed.Claims.(jwt.MapClaims)
	if !reflect.DeepEqual(claims["receipt"], shown) || claims["iss"] != "http://steward.test" || len(claims) != 3 {
		t.Errorf("the claims are %v, and the receipt is %v", claims, shown)
	}
}

// One bit of each byte of a receipt is changed, and each time that is found. Package long changes them all.
func TestChangedBytesOfAReceiptAreFound(t *testing.T) {
	t.Parallel()
	service := apptest.Shared(t)
	steps.ChangeReceipt(t, service, service.Customer(t, apptest.Unique("acme")), func(at int, original byte) []byte {
		return []byte{original ^ 1<<(at%8)}
	})
}

// Whoever writes to the database cannot make a receipt say something else.
func TestAReceiptThatWasChangedInTheDatabaseIsFound(t *testing.T) {
	t.Parallel()
	s := apptest.Start(t)
	acme, other := s.Customer(t, "acme"), s.Customer(t, "umbrella")
	path := "/v1/erasure-receipts/" + s.Call(t, "DELETE", "/v1/users/"+acme.User.ID.String(), apptest.As(acme.APIKey)).Want(t, http.StatusOK).Text(t, "id")
	s.Call(t, "DELETE", "/v1/users/"+other.User.ID.String(), apptest.As(other.APIKey)).Want(t, http.StatusOK)
	keys, superuser := publishedKeys(t, s), s.Database.Superuser(t)
	look := func() []byte { return s.Call(t, "GET", path, apptest.As(acme.APIKey)).Want(t, http.StatusOK).Body }
	verified(t, look(), keys)
	if _, err := superuser.Exec(t.Context(), "create table kept as select * from erasure_receipts"); err != nil {
		t.Fatal(err)
	}
	for member, change := range map[string]string{
		"completed_at":      "completed_at = completed_at - interval '1 microsecond'",
		"removed":           `removed = '[]'`,
		"kept":              `kept = '[]'`,
		"backups_expire_at": "backups_expire_at = now()",
		"user_id":           "user_id = gen_random_uuid()",
		"ordered_by":        "ordered_by_api_key_id = gen_random_uuid()",
		"reason":            "reason = 'other'",
		"state":             "state = 'final', live_complete_at = now(), final_at = now()",
		"signature":         "jws = (select jws from kept k where k.customer_id <> r.customer_id)",
	} {
		if _, err := superuser.Exec(t.Context(), "update erasure_receipts r set "+change+" where customer_id = $1", acme.ID); err != nil {
			t.Fatalf("%s: %v", member, err)
		}
		if _, err := client.VerifyReceipt(look(), keys); err == nil || member != "signature" && !strings.Contains(err.Error(), member) {
			t.Errorf("with another %s: %v", member, err)
		}
		if _, err := superuser.Exec(t.Context(), "delete from erasure_receipts; insert into erasure_receipts select * from kept"); err != nil {
			t.Fatal(err)
		}
	}
}

// Receipts from before there were signatures are signed when somebody asks for them, and that stays.
func TestOldReceiptsAreSigned(t *testing.T) {
	t.Parallel()
	s := apptest.Start(t)
	acme := s.Customer(t, "acme")
	key := apptest.As(acme.APIKey)
	receipt := s.Call(t, "DELETE", "/v1/users/"+acme.User.ID.String(), key).Want(t, http.StatusOK).Text(t, "id")
	if _, err := s.Database.Superuser(t).Exec(t.Context(), "update erasure_receipts set jws = null, signed_at = null"); err != nil {
		t.Fatal(err)
	}
	keys := publishedKeys(t, s)
	first := s.Call(t, "GET", "/v1/erasure-receipts/"+receipt, key).Want(t, http.StatusOK)
	verified(t, first.Body, keys)
	s.Database.Clock.Advance(time.Hour)
	if again := s.Call(t, "GET", "/v1/erasure-receipts/"+receipt, key).Want(t, http.StatusOK); !bytes.Equal(first.Body, again.Body) {
		t.Errorf("%s\n%s", first.Body, again.Body)
	}
}

func TestKeysOfReceiptsStayPublishedAndSignNothingElse(t *testing.T) {
	t.Parallel()
	s := apptest.Start(t)
	acme := s.Customer(t, "acme")
	second := s.Person(t, acme, principal.User, "second@acme.example")
	third := s.Person(t, acme, principal.User, "third@acme.example")
	fourth := s.Person(t, acme, principal.User, "fourth@acme.example")
	box, err := seal.ParseMasterKey(apptest.MasterKey())
	if err != nil {
		t.Fatal(err)
	}
	erase := func(person apptest.Person) (document []byte, keyID string) {
		document = s.Call(t, "DELETE", "/v1/users/"+person.ID.String(), apptest.As(acme.APIKey)).Want(t, http.StatusOK).Body
		return document, verified(t, document, publishedKeys(t, s)).KeyID
	}
	old, oldKey := erase(second)
	s.Database.Clock.Advance(time.Hour)
	rotated, err := signingkey.Rotate(t.Context(), s.DB, box, signingkey.Receipt)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.ReloadKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, key := erase(third); key != oldKey {
		t.Error("the new key signs before everybody can know it")
	}
	s.Database.Clock.Advance(time.Minute)
	if err := s.ReloadKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, key := erase(fourth); key != rotated.Key {
		t.Error("the old key signs still")
	}
	verified(t, old, publishedKeys(t, s))

	// An access token that is good in everything but its key.
	ring := token.NewKeyring()
	keeper := signingkey.NewStore(s.DB, box, signingkey.Receipt, nil)
	loaded, err := keeper.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := ring.Replace(loaded.Signing); err != nil {
		t.Fatal(err)
	}
	authority, err := token.New(token.Settings{Issuer: "http://steward.test", Audience: "http://steward.test"}, ring, s.Database.Clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	good := s.SignIn(t, "acme", acme.Admin)
	s.Call(t, "GET", "/v1/me", apptest.As(good)).Want(t, http.StatusOK)
	var claims struct {
		Session id.Session `json:"sid"`
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(string(good), ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(payload, &claims); err != nil || claims.Session.IsZero() {
		t.Fatalf("%v: %s", err, payload)
	}
	forged, err := authority.Issue(token.Claims{Customer: acme.ID, User: acme.Admin.ID, Role: principal.Administrator, Session: claims.Session})
	if err != nil {
		t.Fatal(err)
	}
	s.Call(t, "GET", "/v1/me", apptest.As(apptest.Credential(forged))).WantProblem(t, http.StatusUnauthorized, "unauthorized")

	// And a key of trails, moved to where the keys of receipts are.
	if _, err := signingkey.NewStore(s.DB, box, signingkey.Trail, nil).Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Database.Superuser(t).Exec(t.Context(), "delete from proof_keys where purpose = 'receipt'; update proof_keys set purpose = 'receipt'"); err != nil {
		t.Fatal(err)
	}
	if _, err := signingkey.NewStore(s.DB, box, signingkey.Receipt, nil).Load(context.WithoutCancel(t.Context())); err == nil {
		t.Error("a key of another purpose was taken")
	}
}

// asOwner gives a service what vacuuming takes.
func asOwner(settings *app.Settings) { settings.MaintenanceURL = settings.DatabaseURL }

// erased deletes somebody who was made for it, and returns the path of the receipt.
func erased(t *testing.T, s *apptest.Service, of apptest.Customer, name string) (path string) {
	t.Helper()
	person := s.Person(t, of, principal.User, name+"@acme.example")
	return "/v1/erasure-receipts/" + s.Call(t, "DELETE", "/v1/users/"+person.ID.String(), apptest.As(of.APIKey)).Want(t, http.StatusOK).Text(t, "id")
}

// stateOf looks a receipt up, which must be signed as it is.
func stateOf(t *testing.T, s *apptest.Service, of apptest.Customer, path string) client.SignedReceipt {
	t.Helper()
	return verified(t, s.Call(t, "GET", path, apptest.As(of.APIKey)).Want(t, http.StatusOK).Body, publishedKeys(t, s))
}

// settles advances until so many receipts were settled: other databases of the server are at work too, and what they do counts.
func settles(t *testing.T, s *apptest.Service, want int64) {
	t.Helper()
	var settled int64
	for began := time.Now(); settled < want; time.Sleep(20 * time.Millisecond) {
		some, err := s.Receipts.Advance(t.Context())
		if settled += some; err != nil {
			t.Fatal(err)
		}
		if time.Since(began) > 2*time.Minute {
			t.Fatalf("%d of %d receipts were settled", settled, want)
		}
	}
	if settled != want {
		t.Errorf("%d receipts were settled, not %d", settled, want)
	}
}

// plainOwner makes a database whose tables of people belong to somebody who is no superuser and sees nothing else of the server, and returns it with the URL of that one.
func plainOwner(t *testing.T) (*dbtest.Database, sensitive.String) {
	t.Helper()
	outlives := dbtest.New(t)
	owner := "steward_owner_" + strings.ReplaceAll(id.New[id.Request]().String(), "-", "")
	t.Cleanup(func() {
		conn, err := pgx.Connect(context.Background(), outlives.URL.Reveal())
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close(context.Background()) //nolint:errcheck // nothing depends on how it ends
		if _, err := conn.Exec(context.Background(), "drop role "+owner); err != nil {
			t.Error(err)
		}
	})
	database := dbtest.New(t)
	_, err := database.Superuser(t).Exec(t.Context(), `
		create role `+owner+`; grant usage on schema public, jobs to `+owner+`;
		do $$ declare name text; begin
			for name in select format('%I.%I', schemaname, tablename) from pg_tables where schemaname in ('public', 'jobs') loop
				execute 'alter table ' || name || ' owner to `+owner+`';
			end loop;
		end $$`)
	if err != nil {
		t.Fatal(err)
	}
	return database, sensitive.New(database.URL.Reveal() + "&role=" + owner)
}

// quietly starts a service whose receipts nobody brings forward but the test.
func quietly(t *testing.T, change ...func(*app.Settings)) *apptest.Service {
	t.Helper()
	s := apptest.StartWith(t, func(settings *app.Settings) {
		asOwner(settings)
		settings.Workers = 0
		for _, one := range change {
			one(settings)
		}
	})
	return s
}

// A receipt is live-complete when the tables were vacuumed and nobody can see what was there before: no snapshot that was taken before, no transaction that still runs,
// whichever database of the server it is in.
func TestReceiptsAreLiveCompleteWhenNothingIsLeft(t *testing.T) {
	t.Parallel()
	database, owner := plainOwner(t)
	s := apptest.ReplicaWith(t, database, func(settings *app.Settings) { settings.MaintenanceURL, settings.Workers = owner, 0 })
	acme := s.Customer(t, "acme")
	superuser := s.Database.Superuser(t)
	// After a VACUUM a page counts as visible to everybody if it has no dead row, and no row that somebody does not see yet.
	clean := func() (all bool) {
		t.Helper()
		peek(t, s, "select relpages > 0 and relallvisible = relpages from pg_class where oid = 'users'::regclass", &all)
		return all
	}

	looking := s.Database.Superuser(t)
	if _, err := looking.Exec(t.Context(), "begin isolation level repeatable read; select from users"); err != nil {
		t.Fatal(err)
	}
	path := erased(t, s, acme, "seen")
	for range 3 {
		if settled, err := s.Receipts.Advance(t.Context()); err != nil || settled != 0 {
			t.Fatalf("while somebody looks: %d %v", settled, err)
		}
	}
	if _, err := superuser.Exec(t.Context(), "vacuum users"); err != nil {
		t.Fatal(err)
	}
	if clean() {
		t.Error("nothing was held back: this test proves nothing")
	}
	if count, since, err := s.Receipts.CountPending(t.Context()); err != nil || count != 1 || since == nil {
		t.Errorf("%d since %v (%v) are waiting", count, since, err)
	}
	metrics := httptest.NewRecorder()
	s.Metrics().ServeHTTP(metrics, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if !strings.Contains(metrics.Body.String(), "\nsteward_receipts_pending 1\n") || !strings.Contains(metrics.Body.String(), "\nsteward_receipts_pending_oldest_seconds 0\n") {
		t.Error("the metrics do not tell of it")
	}
	if state := stateOf(t, s, acme, path).Receipt; state.State != api.ErasureReceiptStatePending || state.LiveCompleteAt != nil {
		t.Errorf("%+v", state)
	}
	if _, err := looking.Exec(t.Context(), "rollback"); err != nil {
		t.Fatal(err)
	}
	s.Database.Clock.Advance(time.Hour)
	settles(t, s, 1)
	after := stateOf(t, s, acme, path)
	if after.Receipt.State != api.ErasureReceiptStateLiveComplete || after.Receipt.LiveCompleteAt == nil || !after.SignedAt.Equal(s.Database.Clock.Now().Truncate(time.Second)) {
		t.Errorf("%+v", after)
	}
	if tag := s.Call(t, "GET", path, apptest.As(acme.APIKey)).Want(t, http.StatusOK).Header.Get("ETag"); tag != `"2"` {
		t.Errorf("the ETag is %s", tag)
	}
	if !clean() {
		t.Error("dead rows are left")
	}

	// A transaction that runs in another database: a snapshot that is taken here from now on begins with it.
	elsewhere, err := pgx.Connect(t.Context(), dbtest.NewEmpty(t).Reveal())
	if err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // the test is over
	if _, err := elsewhere.Exec(t.Context(), "begin; select pg_current_xact_id()"); err != nil {
		t.Fatal(err)
	}
	erased(t, s, acme, "elsewhere")
	if settled, err := s.Receipts.Advance(t.Context()); err != nil || settled != 0 {
		t.Errorf("while an older transaction runs: %d %v", settled, err)
	}
	if _, err := elsewhere.Exec(t.Context(), "rollback"); err != nil {
		t.Fatal(err)
	}
	settles(t, s, 1)

	// A number that this server has not come to is of the server that a backup was made on.
	restored := erased(t, s, acme, "restored")
	if _, err := superuser.Exec(t.Context(), "update erasure_receipts set erased_in = 1::bigint << 62 where state = 'pending'"); err != nil {
		t.Fatal(err)
	}
	settles(t, s, 1)
	if state := stateOf(t, s, acme, restored).Receipt.State; state != api.ErasureReceiptStateLiveComplete {
		t.Error(state)
	}
}

// What looks behind an erasure need not be a session of the database: a transaction that was prepared and waits for its second phase, a standby that tells what its own readers see,
// and a replication slot that remembers it while the standby is away.
func TestReceiptsWaitForWhoLooksFromOutside(t *testing.T) {
	t.Parallel()
	s := quietly(t)
	acme := s.Customer(t, "acme")
	superuser := s.Database.Superuser(t)
	waits := func(what string) {
		t.Helper()
		for range 3 {
			if settled, err := s.Receipts.Advance(t.Context()); err != nil || settled != 0 {
				t.Errorf("%s: %d %v", what, settled, err)
			}
		}
	}
	own := "steward_" + strings.ReplaceAll(id.New[id.Request]().String(), "-", "")

	// Its session has ended; the transaction lives on. It must not outlive the test.
	preparing := s.Database.Superuser(t)
	t.Cleanup(func() {
		conn, err := pgx.Connect(context.Background(), s.Database.URL.Reveal())
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close(context.Background()) //nolint:errcheck // nothing depends on how it ends
		_, err = conn.Exec(context.Background(), "rollback prepared '"+own+"'")
		if gone := new(pgconn.PgError); err != nil && (!errors.As(err, &gone) || gone.Code != "42704") {
			t.Error(err)
		}
	})
	if _, err := preparing.Exec(t.Context(), "begin; select pg_current_xact_id(); prepare transaction '"+own+"'"); err != nil {
		t.Fatal(err)
	}
	erased(t, s, acme, "prepared")
	waits("while a prepared transaction waits")
	steps.Execute(t, superuser, "rollback prepared '"+own+"'")
	settles(t, s, 1)

	standby := follow(t, s, "")
	standby.sees(t, superuser, "select exists (select from pg_stat_activity where pid = $1 and backend_xmin is not null)", standby.conn.PgConn().PID())
	erased(t, s, acme, "followed")
	waits("while a standby's readers look")
	standby.leave(t)
	settles(t, s, 1)

	steps.Execute(t, superuser, "select pg_create_physical_replication_slot($1, true)", own)
	drop := sync.OnceFunc(func() {
		conn, err := pgx.Connect(context.Background(), s.Database.URL.Reveal())
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close(context.Background()) //nolint:errcheck // nothing depends on how it ends
		if _, err := conn.Exec(context.Background(), "select pg_drop_replication_slot($1)", own); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(drop)
	standby = follow(t, s, own)
	standby.sees(t, superuser, "select exists (select from pg_replication_slots where slot_name = $1 and xmin is not null)", own)
	standby.leave(t)
	erased(t, s, acme, "remembered")
	waits("while a slot remembers what a standby's readers see")
	steps.Eventually(t, "the standby to be gone", func() (gone bool) {
		peek(t, s, "select not active from pg_replication_slots where slot_name = $1", &gone, own)
		return gone
	})
	drop()
	settles(t, s, 1)
}

// standby is as much of a standby as PostgreSQL asks for: it reads the journal and says what its readers see.
type standby struct {
	conn *pgx.Conn
	gone chan struct{}
}

// follow starts a standby that reads on from now, with a slot or without.
func follow(t *testing.T, s *apptest.Service, slot string) *standby {
	t.Helper()
	configuration, err := pgx.ParseConfig(s.Database.URL.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	configuration.RuntimeParams["replication"] = "true"
	conn, err := pgx.ConnectConfig(t.Context(), configuration)
	if err != nil {
		t.Fatal(err)
	}
	follower := &standby{conn: conn, gone: make(chan struct{})}
	t.Cleanup(func() { _ = conn.PgConn().Conn().Close() }) // closed already, if it has left
	if slot != "" {
		slot = "SLOT " + slot + " "
	}
	var from, next string
	peek(t, s, "select pg_current_wal_flush_lsn()::text || ' ' || pg_snapshot_xmin(pg_current_snapshot())", &from)
	from, next, _ = strings.Cut(from, " ")
	oldest, err := strconv.ParseUint(next, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	wire := conn.PgConn().Frontend()
	wire.SendQuery(&pgproto3.Query{String: "START_REPLICATION " + slot + "PHYSICAL " + from})
	if err := wire.Flush(); err != nil {
		t.Fatal(err)
	}
	for started := false; !started; {
		message, err := wire.Receive()
		if err != nil {
			t.Fatal(err)
		}
		switch message := message.(type) {
		case *pgproto3.CopyBothResponse:
			started = true
		case *pgproto3.ErrorResponse:
			t.Fatal(message.Message)
		}
	}
	// Hot standby feedback, PostgreSQL's documentation, "Streaming Replication Protocol": the clock, which is not read here, and the oldest transactions that rows and
	// catalogues are still looked at for, each with its epoch.
	feedback := append([]byte{'h'}, make([]byte, 8)...)
	feedback = binary.BigEndian.AppendUint32(feedback, uint32(oldest))
	feedback = binary.BigEndian.AppendUint32(feedback, uint32(oldest>>32))
	feedback = append(feedback, make([]byte, 8)...)
	wire.Send(&pgproto3.CopyData{Data: feedback})
	if err := wire.Flush(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(follower.gone)
		for {
			if _, err := wire.Receive(); err != nil {
				return // the connection was closed
			}
		}
	}()
	return follower
}

// sees waits until the server knows.
func (*standby) sees(t *testing.T, superuser *pgx.Conn, question string, about any) {
	t.Helper()
	steps.Eventually(t, "the server to know what the standby sees", func() (known bool) {
		if err := superuser.QueryRow(t.Context(), question, about).Scan(&known); err != nil {
			t.Fatal(err)
		}
		return known
	})
}

// leave ends the standby as a power cut does.
func (f *standby) leave(t *testing.T) {
	t.Helper()
	if err := f.conn.PgConn().Conn().Close(); err != nil {
		t.Error(err)
	}
	<-f.gone
}

// Many receipts of several customers, some of them unsigned, go forward by two replicas at once: each is settled once.
func TestManyReceiptsComeForwardTogether(t *testing.T) {
	t.Parallel()
	s := quietly(t)
	acme, other := s.Customer(t, "acme"), s.Customer(t, "umbrella")
	const each = 260
	superuser := s.Database.Superuser(t)
	for _, of := range []apptest.Customer{acme, other} {
		_, err := superuser.Exec(t.Context(), `
			insert into erasure_receipts (customer_id, id, kind, user_id, authority, completed_at, removed, kept, state, erased_at)
			select $1, gen_random_uuid(), 'deletion', gen_random_uuid(), 'system', now(), '[]', '[]', 'pending', now() from generate_series(1, $2)`, of.ID, each)
		if err != nil {
			t.Fatal(err)
		}
	}
	second := apptest.ReplicaWith(t, s.Database, func(settings *app.Settings) { asOwner(settings); settings.Workers = 0 })
	var replicas sync.WaitGroup
	var settled atomic.Int64
	for _, one := range []*apptest.Service{s, second} {
		replicas.Go(func() {
			for began := time.Now(); settled.Load() < 2*each && time.Since(began) < 2*time.Minute; {
				some, err := one.Receipts.Advance(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				settled.Add(some)
			}
		})
	}
	replicas.Wait()
	if settled.Load() != 2*each {
		t.Errorf("%d were settled", settled.Load())
	}
	if left := steps.Number(t, superuser, "select count(*) from erasure_receipts where state <> 'live-complete' or jws is null"); left != 0 {
		t.Errorf("%d are not signed or not live-complete", left)
	}
	if finished, err := s.Receipts.Finish(t.Context()); err != nil || finished != 2*each {
		t.Errorf("without backups %d became final: %v", finished, err)
	}
	var some string
	peek(t, s, "select id::text from erasure_receipts where customer_id = $1 limit 1", &some, other.ID)
	if signed := stateOf(t, s, other, "/v1/erasure-receipts/"+some); signed.Receipt.State != api.ErasureReceiptStateFinal || signed.Receipt.FinalAt == nil {
		t.Errorf("%+v", signed)
	}
}

func TestMaintenanceThatCannotBeIsNamed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		url  func(settings app.Settings) sensitive.String
		want string
	}{
		"another database": {func(app.Settings) sensitive.String { return dbtest.NewEmpty(t) }, "another database"},
		"nobody there":     {func(app.Settings) sensitive.String { return sensitive.New("postgres://u:hidden@127.0.0.1:1/d") }, "STEWARD_MAINTENANCE_DATABASE_URL"},
		"not a URL":        {func(app.Settings) sensitive.String { return sensitive.New("postgres://hidden:%zz") }, "connection string"},
		"not the owner": {func(settings app.Settings) sensitive.String {
			return sensitive.New(settings.DatabaseURL.Reveal() + "&options=-crole%3Dsteward_app")
		}, "owner"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := quietly(t, func(settings *app.Settings) { settings.MaintenanceURL = test.url(*settings) })
			acme := s.Customer(t, "acme")
			if _, err := s.Receipts.Advance(t.Context()); err != nil {
				t.Errorf("with nothing to do: %v", err)
			}
			path := erased(t, s, acme, "x")
			var err error
			steps.Eventually(t, "the fault to be told", func() bool { // transactions of other tests hold the receipt up for a while
				_, err = s.Receipts.Advance(t.Context())
				return err != nil
			})
			if !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "hidden") {
				t.Errorf("%v", err)
			}
			if state := stateOf(t, s, acme, path).Receipt.State; state != api.ErasureReceiptStatePending {
				t.Error(state)
			}
		})
	}
}

// What counts is what lies in the store, whatever the catalogue says of it.
func TestReceiptsAreFinalWhenNoBackupIsLeft(t *testing.T) {
	t.Parallel()
	var store blob.Store
	s := quietly(t, apptest.WithBackups(t), func(settings *app.Settings) { store = settings.Blobs })
	acme := s.Customer(t, "acme")
	finish := func(when string, want int64, refused string) {
		t.Helper()
		if settled, err := s.Receipts.Finish(t.Context()); settled != want || (err != nil) != (refused != "") || err != nil && !strings.Contains(err.Error(), refused) {
			t.Errorf("%s, %d became final: %v", when, settled, err)
		}
	}
	s.Database.Clock.Advance(time.Hour)
	holding, err := s.Backups.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.Database.Clock.Advance(time.Hour)
	path := erased(t, s, acme, "held")
	finish("pending", 0, "")
	settles(t, s, 1)
	s.Database.Clock.Advance(time.Hour)
	if _, err := s.Backups.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	finish("with a backup from before", 0, "")
	if _, err := s.Database.Superuser(t).Exec(t.Context(), "update backups set state = 'deleted', deleted_at = now() where id = $1", holding.ID); err != nil {
		t.Fatal(err)
	}
	finish("with one that only the store knows", 0, "")
	if err := s.Backups.Delete(t.Context(), holding.ID); err != nil {
		t.Fatal(err)
	}
	if err := store.Create(t.Context(), "backups/copy-of-"+holding.ID.String()+".age", strings.NewReader("?")); err != nil {
		t.Fatal(err)
	}
	finish("with something strange in the store", 0, "none of them")
	if err := store.Delete(t.Context(), "backups/copy-of-"+holding.ID.String()+".age"); err != nil {
		t.Fatal(err)
	}
	finish("with a backup of afterwards alone", 1, "")
	signed := stateOf(t, s, acme, path)
	if signed.Receipt.State != api.ErasureReceiptStateFinal || !signed.Receipt.FinalAt.Equal(s.Database.Clock.Now()) || signed.Receipt.BackupsExpireAt == nil {
		t.Errorf("%+v", signed)
	}
	finish("a second time", 0, "")
}

// Every table with a personal column is vacuumed, and so is every store that an erasure removes.
func TestEveryTableOfPeopleIsVacuumed(t *testing.T) {
	t.Parallel()
	s := apptest.Start(t)
	rows, err := s.Database.Superuser(t).Query(t.Context(), `
		select distinct c.relname::text from pg_class c join pg_attribute a on a.attrelid = c.oid
		where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and a.attnum > 0 and not a.attisdropped
			and col_description(c.oid, a.attnum) ~ '^personal(:|$)'`)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(tables) < 8 {
		t.Fatalf("%v: %q", err, tables)
	}
	for _, table := range append(tables, "sessions", "refresh_tokens", "password_links", "recovery_codes", "alert_deliveries", "alert_digests", "user_import_rows") {
		if !slices.Contains(inventory.Vacuumed(app.Stores()), table) {
			t.Errorf("%s is not vacuumed: its declaration has to say so", table)
		}
	}
}

// A key that was made after the backup is published again after the restore: receipts that it signed verify for good. An object that is not as it was written is named.
func TestKeysOfReceiptsOutliveARestore(t *testing.T) {
	t.Parallel()
	s := apptest.Start(t)
	acme := s.Customer(t, "acme")
	person := s.Person(t, acme, principal.User, "second@acme.example")
	box, err := seal.ParseMasterKey(apptest.MasterKey())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signingkey.Rotate(t.Context(), s.DB, box, signingkey.Receipt); err != nil {
		t.Fatal(err)
	}
	s.Database.Clock.Advance(time.Hour)
	if err := s.ReloadKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	document := s.Call(t, "DELETE", "/v1/users/"+person.ID.String(), apptest.As(acme.APIKey)).Want(t, http.StatusOK).Body
	before := publishedKeys(t, s)
	verified(t, document, before)

	// As a restore of a backup from before there was any key leaves it.
	if _, err := s.Database.Superuser(t).Exec(t.Context(), "delete from proof_keys"); err != nil {
		t.Fatal(err)
	}
	replica := apptest.Replica(t, s.Database)
	if after := publishedKeys(t, replica); len(after.Keys) < len(before.Keys) {
		t.Errorf("%d keys are published, %d were", len(after.Keys), len(before.Keys))
	}
	verified(t, document, publishedKeys(t, replica))

	blobs := apptest.BlobsOf(t, s.Database)
	var name string
	for info, err := range blobs.List(t.Context(), "keys/receipt/", "") {
		if err != nil {
			t.Fatal(err)
		}
		name = info.Name
	}
	content, err := blobs.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(content)
	if err = errors.Join(err, content.Close()); err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), `"sealed":"`, `"sealed":"AAAA`, 1)
	if err := errors.Join(blobs.Delete(t.Context(), name), blobs.Create(t.Context(), name, strings.NewReader(changed))); err != nil {
		t.Fatal(err)
	}
	if _, err := signingkey.NewStore(s.DB, box, signingkey.Receipt, blobs).Load(t.Context()); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("a changed object of a key: %v", err)
	}
}
