package journeys

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fusionspim/steward/internal/app"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/seal"
	"github.com/fusionspim/steward/internal/record/signingkey"
	"github.com/fusionspim/steward/internal/testkit/apptest"
	"github.com/fusionspim/steward/internal/testkit/journeys/steps"
	"github.com/fusionspim/steward/pkg/trailproof"
)

// recorded records an entry by a customer's user and returns its id.
func recorded(t *testing.T, s *apptest.Service, of apptest.Customer, changes members) string {
	t.Helper()
	var results struct{ Data []struct{ ID string } }
	s.Call(t, "POST", "/v1/audit-entries", apptest.As(of.APIKey), apptest.JSON(entryBy(of.User.ID, changes))).Want(t, 201).Into(t, &results)
	return results.Data[0].ID
}

// checkpoint is an answer of GET /v1/audit-checkpoints/latest.
type checkpoint struct {
	Size            uint64
	RootHash        []byte `json:"root_hash"`
	Checkpoint      string
	CreatedAt       time.Time `json:"created_at"`
	VerifierKey     string    `json:"verifier_key"`
	ConsistencyPath [][]byte  `json:"consistency_path"`
}

// latest reads the newest checkpoint and opens it.
func latest(t *testing.T, s *apptest.Service, of apptest.Customer, query string) (checkpoint, trailproof.Checkpoint) {
	t.Helper()
	s.Database.Clock.Advance(time.Second) // for so long an earlier one is the latest
	var answer checkpoint
	s.Call(t, "GET", "/v1/audit-checkpoints/latest"+query, apptest.As(of.APIKey)).Want(t, 200).Into(t, &answer)
	opened, err := trailproof.OpenCheckpoint(answer.Checkpoint, answer.VerifierKey)
	if err != nil {
		t.Fatal(err)
	}
	if opened.Size != answer.Size || string(opened.Root[:]) != string(answer.RootHash) || opened.Origin != "steward.test/customers/"+of.ID.String()+"/trail" {
		t.Fatalf("the answer says %+v and the checkpoint %+v", answer, opened)
	}
	return answer, opened
}

// proofOf has an entry proved and verifies it.
func proofOf(t *testing.T, s *apptest.Service, of apptest.Customer, entry string) (trailproof.Proof, trailproof.Entry) {
	t.Helper()
	var key struct {
		VerifierKey string `json:"verifier_key"`
	}
	var proof trailproof.Proof
	answer := s.Call(t, "GET", "/v1/audit-entries/"+entry+"/proof", apptest.As(of.APIKey)).Want(t, 200)
	answer.Into(t, &key)
	answer.Into(t, &proof)
	proved, _, err := proof.Verify(key.VerifierKey)
	if err != nil {
		t.Fatal(err)
	}
	if proved.ID.String() != entry || proved.CustomerID != of.ID.UUID {
		t.Fatalf("the proof of %s is about %+v", entry, proved)
	}
	return proof, proved
}

func TestEveryEntryCanBeProved(t *testing.T) {
	t.Parallel()
	s := apptest.Start(t)
	acme, other := s.Customer(t, "acme"), s.Customer(t, "umbrella")
	s.Seal(t)
	before, first := latest(t, s, acme, "")
	var entries []string
	for i := range 11 {
		entries = append(entries, recorded(t, s, acme, members{"source_id": fmt.Sprint("s-", i), "details": members{"revision": i, "changed": []string{"price", "stock"}}}))
		recorded(t, s, other, nil)
		if i%3 == 0 {
			s.Seal(t)
		}
	}
	s.Seal(t)
	for i, entry := range entries {
		proof, proved := proofOf(t, s, acme, entry)
		if want := before.Size + uint64(i); proof.LeafIndex != want {
			t.Errorf("entry %d has the place %d, want %d", i, proof.LeafIndex, want)
		}
		if *proved.SourceID != fmt.Sprint("s-", i) || string(proved.Details) != fmt.Sprintf(`{"changed":["price","stock"],"revision":%d}`, i) {
			t.Errorf("entry %d is proved as %+v", i, proved)
		}
	}
	// What the service itself did, by each kind of actor, and without one.
	s.Seal(t)
	var listed struct{ Data []struct{ ID string } }
	s.Call(t, "GET", "/v1/audit-entries?limit=200", apptest.As(acme.APIKey)).Want(t, 200).Into(t, &listed)
	for _, entry := range listed.Data {
		proofOf(t, s, acme, entry.ID)
	}

	after, second := latest(t, s, acme, fmt.Sprint("?since_size=", before.Size))
	if after.Size != uint64(len(listed.Data)) {
		t.Errorf("the trail has %d entries, the checkpoint says %d", len(listed.Data), after.Size)
	}
	if err := trailproof.VerifyConsistency(first, second, after.ConsistencyPath); err != nil {
		t.Error(err)
	}
	for since := range after.Size + 1 {
		latest(t, s, acme, fmt.Sprint("?since_size=", since))
	}
	s.Call(t, "GET", fmt.Sprint("/v1/audit-checkpoints/latest?since_size=", after.Size+1), apptest.As(acme.APIKey)).WantProblem(t, 409, "trail-shorter")
	s.Call(t, "GET", "/v1/audit-checkpoints/latest?since_size=-1", apptest.As(acme.APIKey)).WantProblem(t, 400, "malformed-request")
	if again, _ := latest(t, s, acme, ""); again.Checkpoint != after.Checkpoint || !again.CreatedAt.Equal(after.CreatedAt) {
		t.Errorf("a trail that did not grow got another checkpoint:\n%+v\n%+v", after, again)
	}
	proof, _ := proofOf(t, s, other, recordedAndSealed(t, s, other))
	if _, _, err := proof.Verify(after.VerifierKey); err == nil {
		t.Error("another customer's proof was verified with this customer's key")
	}
}

func recordedAndSealed(t *testing.T, s *apptest.Service, of apptest.Customer) string {
	t.Helper()
	entry := recorded(t, s, of, nil)
	s.Seal(t)
	return entry
}

func TestAnEntryWithoutAPlaceIsToldSo(t *testing.T) {
	t.Parallel()
	s := apptest.Start(t)
	acme := s.Customer(t, "acme")
	s.Seal(t)
	holding := s.Database.Superuser(t)
	if _, err := holding.Exec(t.Context(), "begin"); err != nil {
		t.Fatal(err)
	}
	if _, err := holding.Exec(t.Context(), "select from audit_heads where customer_id = $1 for update", acme.ID); err != nil { // as a replica that is about to seal
		t.Fatal(err)
	}
	entry := recorded(t, s, acme, nil)
	answer := s.Call(t, "GET", "/v1/audit-entries/"+entry+"/proof", apptest.As(acme.APIKey)).WantProblem(t, 409, "entry-not-sealed")
	if got := answer.Header.Get("Retry-After"); got != "1" {
		t.Errorf("Retry-After is %q", got)
	}
	if _, err := holding.Exec(t.Context(), "rollback"); err != nil {
		t.Fatal(err)
	}
	s.Seal(t)
	proofOf(t, s, acme, entry)
}

// A new customer has a trail of the entries that there are, if only of none.
func TestATrailWithoutEntries(t *testing.T) {
	t.Parallel()
	s := apptest.Start(t)
	acme := s.Customer(t, "acme")
	steps.Execute(t, s.Database.Superuser(t), "set session_replication_role = replica; alter table audit_entries disable trigger all; alter table audit_leaves disable trigger all; "+
		"delete from audit_unsealed; delete from audit_leaves; delete from audit_heads; delete from audit_entries")
	answer, _ := latest(t, s, acme, "?since_size=0")
	if want := "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="; answer.Size != 0 || base64.StdEncoding.EncodeToString(answer.RootHash) != want || len(answer.ConsistencyPath) != 0 {
		t.Errorf("%+v", answer)
	}
}

func TestRedactionChangesNoLeaf(t *testing.T) {
	t.Parallel()
	s := apptest.Start(t)
	acme := s.Customer(t, "acme")
	entry := recordedAndSealed(t, s, acme)
	before, _ := proofOf(t, s, acme, entry)
	_, first := latest(t, s, acme, "")
	s.Call(t, "POST", "/v1/users/"+acme.User.ID.String()+"/redaction", apptest.As(acme.APIKey)).Want(t, 200)
	s.Seal(t)
	after, _ := proofOf(t, s, acme, entry)
	if string(after.Leaf) != string(before.Leaf) {
		t.Errorf("the leaf was\n%s\nand is\n%s", before.Leaf, after.Leaf)
	}
	answer, second := latest(t, s, acme, fmt.Sprint("?since_size=", first.Size))
	if err := trailproof.VerifyConsistency(first, second, answer.ConsistencyPath); err != nil || second.Size <= first.Size {
		t.Errorf("%v: %+v %+v", err, first, second)
	}
}

// Many ask, record and seal at once, on two replicas. What each of them is given fits everything else.
func TestProofsWhileTheTrailGrows(t *testing.T) {
	t.Parallel()
	s := apptest.Start(t)
	replicas := []*apptest.Service{s, apptest.Replica(t, s.Database)}
	acme := s.Customer(t, "acme")
	var workers sync.WaitGroup
	var mu sync.Mutex
	seen := map[uint64]trailproof.Checkpoint{}
	for i := range 4 {
		replica := replicas[i%2]
		workers.Go(func() {
			for j := range 8 {
				entry := recorded(t, replica, acme, members{"source_id": fmt.Sprint(i, "-", j)})
				if err := replica.Sequencer.Sequence(t.Context()); err != nil {
					t.Error(err)
				}
				answer := replica.Call(t, "GET", "/v1/audit-entries/"+entry+"/proof", apptest.As(acme.APIKey))
				if answer.Status == 409 {
					continue // another sealer is at it
				}
				var proof trailproof.Proof
				var key struct {
					VerifierKey string `json:"verifier_key"`
				}
				answer.Want(t, 200).Into(t, &proof)
				answer.Into(t, &key)
				_, opened, err := proof.Verify(key.VerifierKey)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				if known, ok := seen[opened.Size]; ok && known != opened {
					t.Errorf("two different trees of %d entries: %+v %+v", opened.Size, known, opened)
				}
				seen[opened.Size] = opened
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	s.Seal(t)
	for size, older := range seen {
		answer, newer := latest(t, s, acme, fmt.Sprint("?since_size=", size))
		if err := trailproof.VerifyConsistency(older, newer, answer.ConsistencyPath); err != nil {
			t.Error(err)
		}
	}
}

func TestRotatedTrailKeysStayPublished(t *testing.T) {
	t.Parallel()
	s := apptest.Start(t)
	acme := s.Customer(t, "acme")
	s.Seal(t)
	old, _ := latest(t, s, acme, "")
	box, err := seal.ParseMasterKey(apptest.MasterKey())
	if err != nil {
		t.Fatal(err)
	}
	s.Database.Clock.Advance(time.Minute)
	made, err := signingkey.Rotate(t.Context(), s.DB, box, signingkey.Trail)
	if err != nil {
		t.Fatal(err)
	}
	recordedAndSealed(t, s, acme)
	s.Database.Clock.Advance(time.Minute) // a new key is published before it signs
	renewed, newer := latest(t, s, acme, fmt.Sprint("?since_size=", old.Size))
	if renewed.VerifierKey == old.VerifierKey {
		t.Error("the old key signs still")
	}
	older, err := trailproof.OpenCheckpoint(old.Checkpoint, old.VerifierKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := trailproof.VerifyConsistency(older, newer, renewed.ConsistencyPath); err != nil {
		t.Error(err)
	}
	var published struct {
		Keys []struct{ X, Kid string }
	}
	s.Call(t, "GET", "/.well-known/audit-trail-keys.json").Want(t, 200).Into(t, &published)
	if len(published.Keys) != 2 || published.Keys[0].Kid != made.Key {
		t.Fatalf("%+v", published)
	}
	for i, key := range []string{renewed.VerifierKey, old.VerifierKey} { // the contract says how one is made of the other
		public, err := base64.RawURLEncoding.DecodeString(published.Keys[i].X)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := trailproof.VerifierKey(newer.Origin, public); err != nil || text != key {
			t.Errorf("%s %s %v", text, key, err)
		}
	}
}

// published counts the entries that tell of sent checkpoints.
func published(t *testing.T, s *apptest.Service, of apptest.Customer) (count int) {
	t.Helper()
	peek(t, s, "select count(*) from audit_entries where customer_id = $1 and action = 'audit.checkpoint_published' and actor_type = 'system'", &count, of.ID)
	return count
}

func TestCheckpointsAreSentEveryDay(t *testing.T) {
	t.Parallel()
	s := apptest.StartWith(t, func(settings *app.Settings) { settings.Workers = 0 })
	acme, other := s.Customer(t, "acme"), s.Customer(t, "umbrella")
	s.Call(t, "PATCH", "/v1/customer", apptest.As(s.SignIn(t, "umbrella", other.Admin)), apptest.JSON(members{"privacy_contact": "privacy@umbrella.example"})).Want(t, 200)
	s.Person(t, acme, principal.Administrator, "second@acme.example")
	publish := func(want int) {
		t.Helper()
		s.Seal(t)
		if err := s.Trail.Publish(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := published(t, s, acme); got != want {
			t.Errorf("%d checkpoints were sent, want %d", got, want)
		}
	}
	publish(0) // on the first day there is little to send
	s.Database.Clock.Advance(24 * time.Hour)
	publish(1)
	publish(1)
	s.Database.Clock.Advance(25 * time.Hour)
	publish(1) // nothing but that entry has come
	recorded(t, s, acme, nil)
	publish(2)
	recorded(t, s, acme, nil)
	s.Database.Clock.Advance(23 * time.Hour)
	publish(2)
	s.Database.Clock.Advance(time.Hour)
	publish(3)
	if got := published(t, s, other); got != 1 {
		t.Errorf("%d checkpoints were sent to the other customer, want 1", got)
	}

	awake := apptest.Replica(t, s.Database)
	steps.Settled(t, awake)
	for to, count := range map[string]int{acme.Admin.Email: 3, "second@acme.example": 3, "privacy@umbrella.example": 1, other.Admin.Email: 0} {
		mails := awake.Mailbox.To(t, to)
		if len(mails) != count {
			t.Errorf("%d mails came to %s, want %d", len(mails), to, count)
		}
		for _, mail := range mails {
			// The lines are what stands there from the name of the trail to the signature, as the mail itself asks to save them.
			_, lines, _ := strings.Cut(mail.Text, "\n\nsteward.test/customers/")
			body, signature, _ := strings.Cut(lines, "\n\n")
			signature, _, _ = strings.Cut(signature, "\n")
			_, key, _ := strings.Cut(mail.Text, "The key that signed the lines is ")
			note := "steward.test/customers/" + body + "\n\n" + signature + "\n"
			if _, err := trailproof.OpenCheckpoint(note, strings.TrimSuffix(strings.Fields(key)[0], ".")); err != nil {
				t.Errorf("%v: %q in\n%s", err, note, mail.Text)
			}
		}
	}
}

func TestNoCheckpointIsSentToTheErased(t *testing.T) {
	t.Parallel()
	s := apptest.StartWith(t, func(settings *app.Settings) { settings.Workers = 0 })
	acme := s.Customer(t, "acme")
	second := s.Person(t, acme, principal.Administrator, "second@acme.example")
	s.Seal(t)
	s.Database.Clock.Advance(24 * time.Hour)
	if err := s.Trail.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Call(t, "POST", "/v1/users/"+second.ID.String()+"/redaction", apptest.As(acme.APIKey)).Want(t, 200)
	awake := apptest.Replica(t, s.Database)
	awake.MailTo(t, acme.Admin.Email, "Checkpoint of your audit trail")
	steps.Settled(t, awake)
	if mails := awake.Mailbox.To(t, "second@acme.example"); len(mails) > 0 {
		t.Errorf("an erased person was written to: %v", mails)
	}
}

// The columns of an entry and the members of a leaf are the same, or something of an entry could be changed unnoticed.
func TestALeafHoldsEveryColumn(t *testing.T) {
	t.Parallel()
	s := apptest.Start(t)
	acme := s.Customer(t, "acme")
	proof, _ := proofOf(t, s, acme, recordedAndSealedWith(t, s, acme, members{"details": members{"revision": 1}}))
	var leaf map[string]any
	if err := json.Unmarshal(proof.Leaf, &leaf); err != nil {
		t.Fatal(err)
	}
	rows, err := s.Database.Superuser(t).Query(t.Context(), "select attname from pg_attribute where attrelid = 'audit_entries'::regclass and attnum > 0 and not attisdropped")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var column string
		if err := rows.Scan(&column); err != nil {
			t.Fatal(err)
		}
		if _, ok := leaf[column]; !ok {
			t.Errorf("the column %s is in no leaf", column)
		}
		delete(leaf, column)
	}
	delete(leaf, "version")
	if len(leaf) > 0 {
		t.Errorf("members that are no column: %v", leaf)
	}
}

func recordedAndSealedWith(t *testing.T, s *apptest.Service, of apptest.Customer, changes members) string {
	t.Helper()
	entry := recorded(t, s, of, changes)
	s.Seal(t)
	return entry
}

// What comes late gets a later place: nothing is ever put before what was signed.
func TestLateEntriesComeBehind(t *testing.T) {
	t.Parallel()
	s := apptest.Start(t)
	acme := s.Customer(t, "acme")
	s.Seal(t)
	late := id.New[id.Entry]()
	superuser := s.Database.Superuser(t)
	for _, statement := range []string{"begin", "insert into audit_entries (customer_id, id, source, actor_type, action, target_type, target_id, changed, occurred_at, recorded_at) values ('" +
		acme.ID.String() + "', '" + late.String() + "', 'steward', 'system', 'customer.changed', 'customer', 'x', '{}', now(), now())"} {
		if _, err := superuser.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	early, _ := proofOf(t, s, acme, recordedAndSealed(t, s, acme))
	_, first := latest(t, s, acme, "")
	if _, err := superuser.Exec(t.Context(), "commit"); err != nil {
		t.Fatal(err)
	}
	s.Seal(t)
	behind, _ := proofOf(t, s, acme, late.String())
	if behind.LeafIndex <= early.LeafIndex || behind.LeafIndex < first.Size {
		t.Errorf("the late entry has the place %d, the one after it %d", behind.LeafIndex, early.LeafIndex)
	}
	answer, second := latest(t, s, acme, fmt.Sprint("?since_size=", first.Size))
	if err := trailproof.VerifyConsistency(first, second, answer.ConsistencyPath); err != nil {
		t.Error(err)
	}
}
