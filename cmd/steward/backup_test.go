package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fusionspim/steward/internal/testkit/dbtest"
)

func TestBackupCommands(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	url := "STEWARD_DATABASE_URL=" + dbtest.NewEmpty(t).Reveal()
	environment := []string{
		"PATH=" + os.Getenv(
			"PATH",
		),
		url,
		"STEWARD_BACKUP_DATABASE_URL=" + strings.TrimPrefix(url, "STEWARD_DATABASE_URL="),
		"STEWARD_MASTER_KEY=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
		"STEWARD_BLOB_URL=file://" + filepath.Join(folder, "blobs"),
	}
	// said runs a command that has to go well, and reads the one document on its standard output.
	said := func(into any, arguments ...string) {
		t.Helper()
		status, out, errors := once(t, environment, append(arguments, "--json")...)
		decoder := json.NewDecoder(strings.NewReader(out))
		if err := decoder.Decode(into); err != nil || status != 0 || decoder.More() {
			t.Fatalf("%v: %d %s %s", arguments, status, out, errors)
		}
	}
	// refused runs a command that has to fail, and say why.
	refused := func(part string, arguments ...string) {
		t.Helper()
		status, out, errors := once(t, environment, append(arguments, "--json")...)
		if status == 0 || out != "" || !strings.Contains(errors, part) {
			t.Errorf("%v: %d %s %s", arguments, status, out, errors)
		}
	}
	said(&struct{}{}, "migrate", "up")
	refused("STEWARD_BACKUP_RECIPIENTS", "backup", "create")

	identity := filepath.Join(folder, "identity")
	var key struct {
		Recipient string `json:"recipient"`
		Identity  string `json:"identity"`
	}
	said(&key, "backup", "keygen", "--out", identity)
	if info, err := os.Stat(identity); err != nil || info.Mode().Perm() != 0o600 || key.Identity != "" {
		t.Errorf("%v, %v, %+v", info, err, key)
	}
	refused("exists", "backup", "keygen", "--out", identity)
	environment = append(environment, "STEWARD_BACKUP_RECIPIENTS="+key.Recipient)

	type backup struct {
		ID    string `json:"id"`
		State string `json:"state"`
	}
	var made backup
	said(&made, "backup", "create")
	var listed struct {
		Data []backup `json:"data"`
	}
	for _, from := range []string{"--from-store=false", "--from-store"} {
		said(&listed, "backup", "list", from)
		if len(listed.Data) != 1 || listed.Data[0] != made || made.State != "available" {
			t.Errorf("%s: %+v, made %+v", from, listed, made)
		}
	}
	refused("STEWARD_BACKUP_IDENTITY_FILE", "backup", "verify", made.ID)
	environment = append(environment, "STEWARD_BACKUP_IDENTITY_FILE="+identity)
	var verified struct {
		Good bool `json:"good"`
	}
	if said(&verified, "backup", "verify", made.ID); !verified.Good {
		t.Error("the backup is not good")
	}
	refused("UUID", "backup", "verify", "x")
	refused("no such backup", "backup", "verify", "019aa000-0000-7000-8000-000000000000")

	into := dbtest.NewEmpty(t).Reveal()
	refused("--into", "backup", "restore", made.ID)
	var restored struct {
		Backup backup `json:"backup"`
	}
	if said(&restored, "backup", "restore", made.ID, "--into", into); restored.Backup.ID != made.ID {
		t.Errorf("%+v", restored)
	}
	refused("--replace", "backup", "restore", made.ID, "--into", into)
	said(&restored, "backup", "restore", made.ID, "--into", into, "--replace")

	// The database is lost: what lies in the store is told.
	environment[1] = "STEWARD_DATABASE_URL=postgres://u@127.0.0.1:1/d"
	if said(&listed, "backup", "list"); len(listed.Data) != 1 || listed.Data[0] != made {
		t.Errorf("%+v", listed)
	}
	environment[1] = "STEWARD_DATABASE_URL=" + into

	stray := filepath.Join(folder, "blobs", "backups", "stray")
	if err := os.WriteFile(stray, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	status, out, errors := once(t, environment, "backup", "expire", "--json")
	if status == 0 || !strings.Contains(out, `"unknown"`) || !strings.Contains(errors, "not as in the catalogue") {
		t.Errorf("%d %s %s", status, out, errors)
	}
	if err := os.Remove(stray); err != nil {
		t.Fatal(err)
	}
	var expired struct {
		Expired []string `json:"expired"`
		Deleted []string `json:"deleted"`
	}
	if said(&expired, "backup", "expire", made.ID); len(expired.Expired) != 0 || len(expired.Deleted) != 1 {
		t.Errorf("%+v", expired)
	}
	refused("no such backup", "backup", "verify", made.ID)
}
