package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fusionspim/steward/internal/testkit/dbtest"
)

// TestTheTrailIsCheckedFromOutside records, exports and checks with the program alone, as an
// auditor would.
func TestTheTrailIsCheckedFromOutside(t *testing.T) {
	t.Parallel()
	url := dbtest.NewEmpty(t).Reveal()
	environment := []string{"STEWARD_DATABASE_URL=" + url}
	if status, _, errors := once(t, environment, "migrate", "up"); status != 0 {
		t.Fatal(errors)
	}
	if status, _, errors := once(
		t,
		environment,
		"customer",
		"create",
		"--slug=acme",
		"--name=Acme",
		"--admin-email=a@acme.example",
		"--admin-first-name=A",
		"--admin-last-name=B",
	); status != 0 {
		t.Fatal(errors)
	}
	address := freeAddress(t)
	signing := append(
		environment,
		"STEWARD_MASTER_KEY=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
		"STEWARD_PUBLIC_URL=http://"+address,
	)
	startServe(
		t,
		append(
			signing,
			"STEWARD_HTTP_ADDR="+address,
			"STEWARD_METRICS_ADDR=127.0.0.1:0",
			"STEWARD_SMTP_URL=none",
			"STEWARD_BLOB_URL=file://"+t.TempDir(),
		),
		"http://"+address,
	)
	sealed := func() int { // how many entries have their place
		conn, err := pgx.Connect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context())
		var count int
		if err := conn.QueryRow(t.Context(), "select case when exists (select from audit_unsealed) then 0 else coalesce(max(size), 0) end from audit_heads").
			Scan(&count); err != nil {
			t.Fatal(err)
		}
		return count
	}
	for began := time.Now(); sealed() == 0; time.Sleep(50 * time.Millisecond) {
		if time.Since(began) > time.Minute {
			t.Fatal("nothing was sealed")
		}
	}
	if status, body := get(
		t,
		"http://"+address+"/.well-known/audit-trail-keys.json",
		"",
	); status != http.StatusOK ||
		!strings.Contains(string(body), `"keys":[{`) {
		t.Errorf("the keys: %d %s", status, body)
	}

	export := filepath.Join(t.TempDir(), "acme.ndjson")
	var exported struct {
		Entries      int
		VerifierKeys []string `json:"verifier_keys"`
	}
	status, out, errors := once(t, signing, "audit", "export", "--customer=acme", "--to="+export, "--json")
	if err := json.Unmarshal(
		[]byte(out),
		&exported,
	); err != nil || status != 0 || exported.Entries != sealed() ||
		len(exported.VerifierKeys) != 1 {
		t.Fatalf("export: %d %s %s", status, out, errors)
	}
	if status, _, errors = once(
		t,
		signing,
		"audit",
		"export",
		"--customer=acme",
		"--to="+export,
	); status == 0 ||
		!strings.Contains(errors, "there already") {
		t.Errorf("over a file: %d %s", status, errors)
	}
	var report struct {
		OK       bool
		KeysFrom string `json:"keys_from"`
		Entries  int
		Trails   []struct{ Problems []struct{ Kind string } }
	}
	verify := func(environment []string, want int, keysFrom string, arguments ...string) {
		t.Helper()
		status, out, errors := once(t, environment, append([]string{"audit", "verify", "--json"}, arguments...)...)
		report.Trails = nil
		if err := json.Unmarshal(
			[]byte(out),
			&report,
		); err != nil || status != want || report.OK != (want == 0) ||
			report.KeysFrom != keysFrom {
			t.Errorf("verify %v: %d %s %s", arguments, status, out, errors)
		}
	}
	verify(environment, 0, "database")
	verify(signing, 0, "master_key", "--customer=acme")
	verify(environment, 0, "given", "--key="+exported.VerifierKeys[0])
	verify(nil, 0, "export", "--export="+export)
	verify(nil, 0, "given", "--export="+export, "--key="+exported.VerifierKeys[0])

	content, err := os.ReadFile(export)
	if err != nil {
		t.Fatal(err)
	}
	var header struct{ Checkpoints []string }
	if err := json.Unmarshal(content[:strings.IndexByte(string(content), '\n')], &header); err != nil {
		t.Fatal(err)
	}
	note := filepath.Join(t.TempDir(), "checkpoint")
	if err := os.WriteFile(note, []byte(header.Checkpoints[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	verify(environment, 0, "database", "--checkpoint="+note)
	if err := os.WriteFile(
		export,
		[]byte(strings.Replace(string(content), `"source":"steward"`, `"source":"stewarD"`, 1)),
		0o600,
	); err != nil {
		t.Fatal(err)
	}
	verify(nil, 1, "export", "--export="+export)
	if status, out, errors = once(
		t,
		nil,
		"audit",
		"verify",
		"--export="+export,
	); status != 1 || !strings.Contains(out, "BAD entry, leaf ") ||
		!strings.Contains(errors, "not as it was sealed") {
		t.Errorf("a changed export: %d %s %s", status, out, errors)
	}
	if status, _, errors = once(
		t,
		environment,
		"audit",
		"verify",
		"--customer=nobody",
	); status == 0 ||
		!strings.Contains(errors, "nobody") {
		t.Errorf("a customer that does not exist: %d %s", status, errors)
	}
	if status, out, errors = once(
		t,
		signing,
		"audit",
		"rotate-key",
	); status != 0 ||
		!strings.Contains(out, "signs from 2") {
		t.Errorf("rotation: %d %s %s", status, out, errors)
	}
	verify(signing, 0, "master_key")
}
