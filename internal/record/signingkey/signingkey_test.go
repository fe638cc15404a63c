package signingkey_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/infra/seal"
	"github.com/fusionspim/steward/internal/record/signingkey"
	"github.com/fusionspim/steward/internal/testkit/dbtest"
)

func box(t *testing.T, number byte) *seal.Box {
	t.Helper()
	key := make([]byte, 32)
	key[0] = number
	made, err := seal.ParseMasterKey(sensitive.New(base64.StdEncoding.EncodeToString(key)))
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func load(t *testing.T, keeper *signingkey.Store) signingkey.Ring {
	t.Helper()
	ring, err := keeper.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func TestReplicasAgreeOnTheFirstKey(t *testing.T) {
	t.Parallel()
	db, sealing := dbtest.New(t).DB, box(t, 1)
	var replicas sync.WaitGroup
	rings := make([]signingkey.Ring, 6)
	for i := range rings {
		replicas.Go(func() {
			var err error
			if rings[i], err = signingkey.NewStore(db, sealing, signingkey.Receipt, nil).Ring(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	replicas.Wait()
	for _, ring := range rings {
		if len(ring.Keys) != 1 || ring.Signing.ID() != rings[0].Signing.ID() || ring.Signing.ID() == "" {
			t.Errorf("%d keys, and %s signs", len(ring.Keys), ring.Signing.ID())
		}
	}
	if trail := load(t, signingkey.NewStore(db, sealing, signingkey.Trail, nil)); trail.Signing.ID() == rings[0].Signing.ID() {
		t.Error("one key for two purposes")
	}
}

func TestANewKeyIsPublishedBeforeItSigns(t *testing.T) {
	t.Parallel()
	d, sealing := dbtest.New(t), box(t, 1)
	keeper := signingkey.NewStore(d.DB, sealing, signingkey.Receipt, nil)
	if _, err := keeper.Loaded().JWS("x", nil); err == nil {
		t.Error("something was signed without a key")
	}
	first := load(t, keeper)
	d.Clock.Advance(time.Second)
	made, err := signingkey.Rotate(t.Context(), d.DB, sealing, signingkey.Receipt)
	if err != nil {
		t.Fatal(err)
	}
	if ring := load(t, keeper); len(ring.Keys) != 2 || ring.Signing.ID() != first.Signing.ID() {
		t.Error("of two new keys, the second signs")
	}
	d.Clock.Advance(59 * time.Second)
	if ring := load(t, keeper); ring.Signing.ID() != first.Signing.ID() {
		t.Error("the new key signs too early")
	}
	d.Clock.Advance(time.Second)
	if !made.SignsFrom.Equal(d.Clock.Now()) {
		t.Errorf("it was to sign from %v on", made.SignsFrom)
	}
	ring, err := keeper.Ring(t.Context())
	if err != nil || ring.Signing.ID() != first.Signing.ID() { // loaded a second ago
		t.Errorf("%s (%v)", ring.Signing.ID(), err)
	}
	d.Clock.Advance(time.Minute)
	if ring, err = keeper.Ring(t.Context()); err != nil || ring.Signing.ID() != made.Key || ring.JWKs()[1].KeyID != first.Signing.ID() {
		t.Errorf("%s (%v)", ring.Signing.ID(), err)
	}
	signed, err := ring.JWS("a-type", []byte(`{"a":1}`))
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(signed, ".")
	decoded := make([][]byte, len(parts))
	for i, part := range parts {
		if decoded[i], err = base64.RawURLEncoding.DecodeString(part); err != nil {
			t.Fatal(err)
		}
	}
	if string(decoded[0]) != `{"alg":"EdDSA","kid":"`+made.Key+`","typ":"a-type"}` || string(decoded[1]) != `{"a":1}` ||
		!ed25519.Verify(ring.Signing.Public(), []byte(parts[0]+"."+parts[1]), decoded[2]) {
		t.Errorf("%q", decoded)
	}
}

func TestKeysThatSomebodyPutThereAreNotTaken(t *testing.T) {
	t.Parallel()
	d, sealing := dbtest.New(t), box(t, 1)
	load(t, signingkey.NewStore(d.DB, sealing, signingkey.Receipt, nil))
	if _, err := signingkey.NewStore(d.DB, box(t, 2), signingkey.Receipt, nil).Load(t.Context()); err == nil || !strings.Contains(err.Error(), "master key") {
		t.Errorf("with another master key: %v", err)
	}
	superuser := d.Superuser(t)
	for what, change := range map[string]string{
		"another public half": "public_key = set_byte(public_key, 0, get_byte(public_key, 0) # 1)",
		"another seed":        "sealed_private = set_byte(sealed_private, 20, get_byte(sealed_private, 20) # 1)",
		"another name":        "id = 'x'",
	} {
		if _, err := superuser.Exec(t.Context(), "create table kept as select * from proof_keys; update proof_keys set "+change); err != nil {
			t.Fatal(err)
		}
		if _, err := signingkey.NewStore(d.DB, sealing, signingkey.Receipt, nil).Load(t.Context()); err == nil {
			t.Errorf("%s was taken", what)
		}
		if _, err := superuser.Exec(t.Context(), "delete from proof_keys; insert into proof_keys select * from kept; drop table kept"); err != nil {
			t.Fatal(err)
		}
	}
}
