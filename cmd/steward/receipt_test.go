package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fusionspim/steward/internal/testkit/apptest"
)

// TestAReceiptIsVerifiedFromOutside checks a receipt with the program alone, as whoever it was
// handed to would.
func TestAReceiptIsVerifiedFromOutside(t *testing.T) {
	t.Parallel()
	service := apptest.Start(t)
	acme := service.Customer(t, "acme")
	document := service.Call(t, "DELETE", "/v1/users/"+acme.User.ID.String(), apptest.As(acme.APIKey)).
		Want(t, http.StatusOK).
		Body
	published := service.Call(t, "GET", "/.well-known/jwks.json").Want(t, http.StatusOK).Body
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	receipt, keys := write("receipt.json", document), write("jwks.json", published)
	changed := write(
		"changed.json",
		bytes.Replace(document, []byte(`"kind":"deletion"`), []byte(`"kind":"redaction"`), 1),
	)

	for what, arguments := range map[string][]string{
		"keys in a file":    {"--keys=" + keys},
		"keys of a service": {"--keys=" + service.URL},
		"their own address": {"--keys=" + service.URL + "/.well-known/jwks.json"},
	} {
		if status, out, errors := once(
			t,
			nil,
			append(
				[]string{"receipt", "verify", receipt},
				arguments...)...); status != 0 || !strings.Contains(out, "deletion") ||
			!strings.Contains(out, "pending") {
			t.Errorf("%s: %d %s %s", what, status, out, errors)
		}
	}
	var report struct {
		OK      bool
		Problem string
		Members []string
		Issuer  string
		Receipt struct{ Kind string }
	}
	if status, out, errors := once(
		t,
		[]string{"STEWARD_PUBLIC_URL=" + service.URL},
		"receipt",
		"verify",
		"--json",
		receipt,
	); status != 0 || json.Unmarshal([]byte(out), &report) != nil ||
		!report.OK || report.Issuer != "http://steward.test" ||
		report.Receipt.Kind != "deletion" {
		t.Errorf("%d %s %s", status, out, errors)
	}
	if status, out, errors := once(
		t,
		nil,
		"receipt",
		"verify",
		"--json",
		"--keys="+keys,
		changed,
	); status != 1 || json.Unmarshal([]byte(out), &report) != nil ||
		report.OK || report.Problem != "differs" || !slices.Equal(report.Members, []string{"kind"}) ||
		!strings.Contains(errors, "kind") {
		t.Errorf("%d %s %s", status, out, errors)
	}
	command := exec.CommandContext(t.Context(), program, "receipt", "verify", "-", "--keys="+keys)
	command.Env, command.Stdin = nil, bytes.NewReader(document)
	if out, err := command.CombinedOutput(); err != nil {
		t.Errorf("from standard input: %v %s", err, out)
	}
	for what, test := range map[string]struct {
		arguments []string
		want      string
	}{
		"no keys":        {[]string{receipt}, "STEWARD_PUBLIC_URL"},
		"no such file":   {[]string{filepath.Join(dir, "none"), "--keys=" + keys}, "none"},
		"keys that lack": {[]string{receipt, "--keys=" + receipt}, "holds no keys"},
		"a large file":   {[]string{write("large", bytes.Repeat([]byte(" "), largestReceipt+1)), "--keys=" + keys}, "larger"},
		"an odd address": {[]string{receipt, "--public-url=steward.example"}, "STEWARD_PUBLIC_URL"},
		"nobody there":   {[]string{receipt, "--keys=http://" + freeAddress(t)}, "fetching the keys"},
	} {
		if status, out, errors := once(
			t,
			nil,
			append([]string{"receipt", "verify"}, test.arguments...)...); status != 1 ||
			!strings.Contains(errors, test.want) {
			t.Errorf("%s: %d %s %s", what, status, out, errors)
		}
	}

	rotate := []string{
		"STEWARD_DATABASE_URL=" + service.Database.URL.Reveal(),
		"STEWARD_MASTER_KEY=" + apptest.MasterKey().Reveal(),
	}
	var rotated struct{ Key string }
	if status, out, errors := once(
		t,
		rotate,
		"receipt",
		"rotate-key",
		"--json",
	); status != 0 || json.Unmarshal([]byte(out), &rotated) != nil ||
		rotated.Key == "" {
		t.Fatalf("%d %s %s", status, out, errors)
	}
	if err := service.ReloadKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := service.Call(t, "GET", "/.well-known/jwks.json").
		Want(t, http.StatusOK).
		Body; !strings.Contains(
		string(after),
		rotated.Key,
	) {
		t.Errorf("the new key is not published: %s", after)
	}
	if status, _, errors := once(t, nil, "receipt", "verify", receipt, "--keys="+service.URL); status != 0 {
		t.Errorf("after the rotation: %s", errors)
	}
}
