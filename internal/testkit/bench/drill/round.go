package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fusionspim/steward/internal/dev/devpg"
	"github.com/fusionspim/steward/internal/infra/pgprograms"
	"github.com/fusionspim/steward/internal/testkit/residue"
)

const secret = "plum lantern quietly orbits nine harbours"

// drill is one round.
type drill struct {
	ctx     context.Context
	program string
	server  *devpg.Server
	dir     string
	name    string
	people  int
	random  *rand.Rand
	said    *kept // everything that the program wrote into its log

	blobs     string
	recipient string
	result    round
}

// round is what a round found.
type round struct {
	People        int            `json:"people"`
	Acts          int            `json:"acts"`
	ByKind        map[string]int `json:"by_kind"`
	BackupBytes   int64          `json:"backup_bytes"`
	ClosedSeconds float64        `json:"closed_seconds"`

	ForgottenSeconds float64 `json:"forgotten_seconds"` // until no receipt was pending any more
	ReceiptsVerified int     `json:"receipts_verified"`

	CertificatesVerified int `json:"certificates_verified"`

	Looked   map[string]int `json:"bytes_looked_through"` // for the erased, by place
	Shapes   int            `json:"shapes_looked_for"`
	Failures []string       `json:"failures"`
}

type object = map[string]any

// person is somebody who was made up, and what was done to the person.
type person struct {
	id, first, last, email string
	act                    string
	receipt                string
	document               []byte // the receipt as it was handed out
	stays                  bool   // an address that a newcomer has
}

func (d *drill) environment() []string {
	return []string{
		"PATH=" + os.Getenv(
			"PATH",
		),
		"HOME=" + d.dir,
		"STEWARD_MASTER_KEY=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
		"STEWARD_PUBLIC_URL=http://steward.test",
		"STEWARD_SMTP_URL=none",
		"STEWARD_BLOB_URL=file://" + d.blobs,
		"STEWARD_BACKUP_RECIPIENTS=" + d.recipient,
		"STEWARD_BACKUP_IDENTITY_FILE=" + filepath.Join(d.dir, "identity"),
		"STEWARD_PASSWORD_MEMORY=47104",
		"STEWARD_BACKUP_EVERY=0",
		"STEWARD_OPERATOR_SECOND_FACTOR=optional",
	}
}

func (d *drill) fail(format string, arguments ...any) {
	d.result.Failures = append(d.result.Failures, fmt.Sprintf(format, arguments...))
}

// round does everything. What goes wrong is in the report.
func (d *drill) round() round {
	d.said, d.blobs = &kept{}, filepath.Join(d.dir, "blobs")
	d.result = round{People: d.people, ByKind: make(map[string]int), Looked: make(map[string]int), Failures: []string{}}
	if err := d.play(); err != nil {
		d.fail("%v", err)
	}
	return d.result
}

func (d *drill) play() error {
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	var keys struct{ Recipient string }
	if err := d.command(
		&keys,
		nil,
		"backup",
		"keygen",
		"--out",
		filepath.Join(d.dir, "identity"),
		"--json",
	); err != nil {
		return err
	}
	d.recipient = keys.Recipient
	living, err := d.database("living")
	if err != nil {
		return err
	}
	if err := d.command(nil, living, "migrate", "up"); err != nil {
		return err
	}
	err = d.command(
		nil,
		append(living, "STEWARD_NEW_PASSWORD="+secret),
		"customer",
		"create",
		"--slug=acme",
		"--name=Acme",
		"--admin-email=admin@acme.example",
		"--admin-first-name=Ada",
		"--admin-last-name=Park",
	)
	if err != nil {
		return err
	}
	leaver, err := d.leaving(living)
	if err != nil {
		return err
	}
	service, err := d.serve(living...)
	if err != nil {
		return err
	}
	if _, err := service.opened(); err != nil {
		return err
	}
	people, key, revoked, err := d.fill(service)
	if err != nil {
		return err
	}
	if err := d.join(service, leaver); err != nil {
		return err
	}
	var backup struct {
		ID   string
		Size int64
	}
	if err := d.command(&backup, living, "backup", "create", "--json"); err != nil {
		return err
	}
	d.result.BackupBytes = backup.Size
	older := filepath.Join(d.dir, "older-blobs")
	if err := os.CopyFS(older, os.DirFS(d.blobs)); err != nil {
		return err
	}
	if err := d.act(service, people, key, revoked); err != nil {
		return err
	}
	if err := d.leave(service, leaver); err != nil {
		return err
	}
	if err := service.end(syscall.SIGTERM); err != nil {
		return err
	}
	d.olderLedger(living, older)

	restored, err := d.database("restored")
	if err != nil {
		return err
	}
	if err := d.command(
		nil,
		restored,
		"backup",
		"restore",
		backup.ID,
		"--into",
		d.server.URL(d.name+"_restored"),
	); err != nil {
		return err
	}
	if err := d.restored(restored, people, key, revoked["credential"], leaver); err != nil {
		return err
	}
	if err := d.command(nil, nil, "ledger", "verify"); err != nil {
		return err
	}
	return d.look(people, leaver)
}

// database makes an empty one, and returns the variables that lead to it.
func (d *drill) database(name string) ([]string, error) {
	conn, err := pgx.Connect(d.ctx, d.server.URL("postgres"))
	if err != nil {
		return nil, err
	}
	defer conn.Close(d.ctx) //nolint:errcheck // nothing is left to be written
	if _, err := conn.Exec(d.ctx, "create database "+d.name+"_"+name); err != nil {
		return nil, err
	}
	to := d.server.URL(d.name + "_" + name)
	return []string{
		"STEWARD_DATABASE_URL=" + to,
		"STEWARD_BACKUP_DATABASE_URL=" + to,
		"STEWARD_MAINTENANCE_DATABASE_URL=" + to,
	}, nil
}

// word makes up a word that occurs nowhere else.
func (d *drill) word() string {
	made := string("BDFGKLMNPRSTVZ"[d.random.IntN(14)])
	for range 5 {
		made += string("aeiou"[d.random.IntN(5)]) + string("bdfgklmnprstvz"[d.random.IntN(14)])
	}
	return made + string("qxwj"[d.random.IntN(4)])
}

// person makes somebody up.
func (d *drill) person() *person {
	return &person{
		first: d.word(),
		last:  d.word(),
		email: strings.ToLower(d.word() + "." + d.word() + "@" + d.word() + ".example"),
	}
}

// fill makes the people, and an API key that will be revoked.
func (d *drill) fill(service *serving) (people []*person, key string, revoked map[string]string, err error) {
	signedIn, err := service.call(
		"POST",
		"/v1/sessions",
		"",
		object{"customer": "acme", "email": "admin@acme.example", "password": secret},
	)
	if err != nil || signedIn.status != http.StatusCreated {
		return nil, "", nil, fmt.Errorf("signing in: %d %s (%w)", signedIn.status, signedIn.body, err)
	}
	admin := signedIn.text("access_token")
	made := make([]answer, 2)
	for i, scopes := range [][]string{{"users:read", "users:write", "users:erase", "audit:read", "audit:write"}, {"users:read"}} {
		if made[i], err = service.call(
			"POST",
			"/v1/api-keys",
			admin,
			object{"name": "drill", "scopes": scopes},
		); err != nil ||
			made[i].status != http.StatusCreated {
			return nil, "", nil, fmt.Errorf("making a key: %d %s (%w)", made[i].status, made[i].body, err)
		}
	}
	key = made[0].text("api_key")
	for range d.people {
		p := d.person()
		answer, err := service.call(
			"POST",
			"/v1/users",
			key,
			object{"first_name": p.first, "last_name": p.last, "email": p.email},
		)
		if err != nil || answer.status != http.StatusCreated {
			return nil, "", nil, fmt.Errorf("making somebody: %d %s (%w)", answer.status, answer.body, err)
		}
		p.id = answer.text("id")
		people = append(people, p)
	}
	return people, key, map[string]string{
		"id":         made[1].text("id"),
		"credential": made[1].text("api_key"),
		"admin":      admin,
	}, nil
}

// act does what must outlive the restore: at least one act of each kind, the others by chance.
func (d *drill) act(service *serving, people []*person, key string, revoked map[string]string) error {
	kinds := []string{
		"redact",
		"delete",
		"opt out",
		"correct",
		"disable",
		"opt out and in",
		"correct and redact",
		"return",
	}
	want := func(method, path, credential string, body any, status int) (answer, error) {
		got, err := service.call(method, path, credential, body)
		if err == nil && got.status != status {
			err = fmt.Errorf("%s %s: %d %s", method, path, got.status, got.body)
		}
		d.result.Acts++
		return got, err
	}
	for i, p := range people {
		p.act = ""
		if i < len(kinds) {
			p.act = kinds[i]
		} else if d.random.IntN(4) > 0 {
			p.act = kinds[d.random.IntN(len(kinds))]
		}
		d.result.ByKind[p.act]++
		path := "/v1/users/" + p.id
		var got answer
		var err error
		switch p.act {
		case "redact", "return":
			got, err = want("POST", path+"/redaction", key, object{"reason": "other"}, http.StatusOK)
		case "delete":
			got, err = want("DELETE", path, key, nil, http.StatusOK)
		case "opt out", "opt out and in":
			_, err = want("PUT", path+"/alerts", key, object{"opted_in": false}, http.StatusOK)
			if err == nil && p.act == "opt out and in" {
				_, err = want("PUT", path+"/alerts", key, object{"opted_in": true}, http.StatusOK)
			}
		case "correct":
			_, err = want("PATCH", path, key, object{"first_name": d.word()}, http.StatusOK)
		case "correct and redact":
			if _, err = want("PATCH", path, key, object{"last_name": d.word()}, http.StatusOK); err == nil {
				got, err = want("POST", path+"/redaction", key, object{}, http.StatusOK)
			}
		case "disable":
			_, err = want("PATCH", path, key, object{"status": "disabled"}, http.StatusOK)
		}
		if err != nil {
			return err
		}
		if p.receipt = got.text("id"); p.receipt != "" {
			p.document = got.body
		}
		// somebody else comes with the same address: the person is gone, the newcomer stays
		if p.act == "return" {
			p.stays = true
			if _, err := want(
				"POST",
				"/v1/users",
				key,
				object{"first_name": "New", "last_name": "Comer", "email": p.email},
				http.StatusCreated,
			); err != nil {
				return err
			}
		}
	}
	_, err := want("DELETE", "/v1/api-keys/"+revoked["id"], revoked["admin"], nil, http.StatusNoContent)
	return err
}

// olderLedger starts the service on the living database with the store as it was before: it must
// stay closed and ask for a person.
func (d *drill) olderLedger(living []string, blobs string) {
	service, err := d.serve(append(slices.Clone(living), "STEWARD_BLOB_URL=file://"+blobs)...)
	if err != nil {
		d.fail("with an older ledger: %v", err)
		return
	}
	time.Sleep(300 * time.Millisecond)
	got, err := service.call("GET", "/readyz", "", nil)
	if err != nil || got.status != http.StatusServiceUnavailable ||
		got.text("type") != "/problems/replaying-erasures" ||
		!strings.Contains(got.text("detail"), "a person") {
		d.fail("with an older ledger: %d %s (%v)", got.status, got.body, err)
	}
	if !strings.Contains(d.said.String(), "the ledger is behind the database") {
		d.fail("the log does not say that the ledger is behind")
	}
	if err := service.end(syscall.SIGTERM); err != nil {
		d.fail("ending it: %v", err)
	}
}

// restored starts the service on the restored database, which is closed; kills it in the middle;
// lets it finish; and starts it again.
func (d *drill) restored(environment []string, people []*person, key, revoked string, leaver *leaver) error {
	conn, err := pgx.Connect(d.ctx, d.server.URL(d.name+"_restored"))
	if err != nil {
		return err
	}
	defer conn.Close(d.ctx) //nolint:errcheck // nothing is left to be written
	// Somebody holds the last person who is to be erased, so that what is carried out stops half
	// way.
	last := people[len(people)-1].id
	for _, p := range people {
		if p.receipt != "" {
			last = p.id
		}
	}
	for _, statement := range []string{"begin", "select from users where id = '" + last + "' for update"} {
		if _, err := conn.Exec(d.ctx, statement); err != nil {
			return err
		}
	}
	if back := count(d.ctx, conn, "select count(*) from users where customer_id = '"+leaver.id+"'"); back != leavers {
		d.fail(
			"the backup has %d people of the customer that has left since, and not %d: the drill is blind",
			back,
			leavers,
		)
	}
	began := time.Now()
	for range 2 {
		service, err := d.serve(environment...)
		if err != nil {
			return err
		}
		d.closed(service, key)
		if err := service.end(syscall.SIGKILL); err != nil {
			return err
		}
	}
	service, err := d.serve(environment...)
	if err != nil {
		return err
	}
	d.closed(service, key)
	if _, err := conn.Exec(d.ctx, "rollback"); err != nil {
		return err
	}
	if _, err := service.opened(); err != nil {
		return err
	}
	d.result.ClosedSeconds = time.Since(began).Seconds()
	d.check(service, people, key, revoked)
	if err := service.end(syscall.SIGTERM); err != nil {
		return err
	}
	again, err := d.serve(environment...)
	if err != nil {
		return err
	}
	if _, err := again.opened(); err != nil {
		return err
	}
	d.check(again, people, key, revoked)
	if got := count(
		d.ctx,
		conn,
		"select count(*) from audit_entries where actor_type = 'system' and action in ('user.redacted', 'user.deleted')",
	); got != d.erased(
		people,
	) {
		d.fail("%d erasures are in the trail as carried out again, %d were lost", got, d.erased(people))
	}
	if err := d.receipts(again, conn, people, key); err != nil {
		return err
	}
	if err := d.gone(again, conn, leaver); err != nil {
		return err
	}
	return again.end(syscall.SIGTERM)
}

// receipts has the program verify every receipt from outside: as it was handed out before the
// restore, and as it is once the restored database has forgotten everybody.
func (d *drill) receipts(service *serving, conn *pgx.Conn, people []*person, key string) error {
	began := time.Now()
	for count(d.ctx, conn, "select count(*) from erasure_receipts where state = 'pending'") != 0 {
		if time.Since(began) > patience {
			return fmt.Errorf("receipts are pending still after %v", patience)
		}
		time.Sleep(100 * time.Millisecond)
	}
	d.result.ForgottenSeconds = time.Since(began).Seconds()
	published, err := service.call("GET", "/.well-known/jwks.json", "", nil)
	if err != nil {
		return err
	}
	keys, file := filepath.Join(d.dir, "jwks.json"), filepath.Join(d.dir, "receipt.json")
	if err := os.WriteFile(keys, published.body, 0o600); err != nil {
		return err
	}
	for _, p := range people {
		if p.receipt == "" {
			continue
		}
		now, err := service.call("GET", "/v1/erasure-receipts/"+p.receipt, key, nil)
		if err != nil {
			return err
		}
		for _, document := range [][]byte{p.document, now.body} {
			if err := os.WriteFile(file, document, 0o600); err != nil {
				return err
			}
			var report struct {
				Receipt struct{ ID, State string }
			}
			if err := d.command(
				&report,
				nil,
				"receipt",
				"verify",
				file,
				"--keys",
				keys,
				"--json",
			); err != nil ||
				report.Receipt.ID != p.receipt {
				d.fail("the receipt of %q: %v", p.act, err)
			}
			d.result.ReceiptsVerified++
		}
		if state := now.text("state"); state != "live-complete" {
			d.fail("the receipt of %q is %s", p.act, state)
		}
	}
	return nil
}

func (d *drill) erased(people []*person) (count int) {
	for _, p := range people {
		if p.receipt != "" {
			count++
		}
	}
	return count
}

func count(ctx context.Context, conn *pgx.Conn, question string) (number int) {
	if err := conn.QueryRow(ctx, question).Scan(&number); err != nil {
		return -1
	}
	return number
}

func (d *drill) closed(service *serving, key string) {
	for _, path := range []string{"/readyz", "/v1/users", "/docs"} {
		got, err := service.call("GET", path, key, nil)
		if err != nil || got.status != http.StatusServiceUnavailable ||
			got.text("type") != "/problems/replaying-erasures" {
			d.fail("the restored service is not closed at %s: %d %s (%v)", path, got.status, got.body, err)
		}
	}
}

// check asks the service for everybody.
func (d *drill) check(service *serving, people []*person, key, revoked string) {
	if got, err := service.call("GET", "/v1/users", revoked, nil); err != nil || got.status != http.StatusUnauthorized {
		d.fail("a revoked key is good again: %d (%v)", got.status, err)
	}
	for _, p := range people {
		got, err := service.call("GET", "/v1/users/"+p.id, key, nil)
		if err != nil {
			d.fail("%v", err)
			continue
		}
		right := got.status == http.StatusOK
		switch p.act {
		case "redact", "correct and redact", "return":
			right = right && got.text("status") == "redacted" &&
				got.text("receipt") == "/v1/erasure-receipts/"+p.receipt
		case "delete":
			right = got.status == http.StatusNotFound
		case "opt out":
			right = right && bytes.Contains(got.body, []byte(`"opted_in":false`))
		case "opt out and in":
			right = right && bytes.Contains(got.body, []byte(`"opted_in":true`))
		case "correct":
			right = right && got.text("correction_lost_at") != ""
		case "disable":
			right = right && got.text("status") == "disabled"
		default:
			right = right && got.text("status") == "active" && got.text("email") == p.email
		}
		if !right {
			d.fail("after %q: %d %s", p.act, got.status, got.body)
		}
		if p.receipt != "" {
			if got, err := service.call(
				"GET",
				"/v1/erasure-receipts/"+p.receipt,
				key,
				nil,
			); err != nil ||
				got.status != http.StatusOK {
				d.fail("the receipt of %q: %d %s (%v)", p.act, got.status, got.body, err)
			}
		}
	}
}

// look looks for the erased in every table of the restored database, in a dump of it, in the log
// and in the store of objects, in every shape in which a text can hide.
func (d *drill) look(people []*person, leaver *leaver) error {
	places := map[string][]byte{"log": []byte(d.said.String())}
	programs, err := pgprograms.Machine().First()
	if err != nil {
		return err
	}
	dump := exec.CommandContext(d.ctx, programs.Path("pg_dump"), "--dbname="+d.server.URL(d.name+"_restored"))
	var said bytes.Buffer
	dump.Stderr = &said
	if places["dump"], err = dump.Output(); err != nil {
		return fmt.Errorf("pg_dump: %w: %s", err, said.Bytes())
	}
	err = filepath.WalkDir(d.blobs, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		places["store"] = append(append(places["store"], content...), '\n')
		return err
	})
	if err != nil {
		return err
	}
	var erased, living residue.Marks
	for _, p := range people {
		local, domain, _ := strings.Cut(p.email, "@")
		marks := &living
		if p.receipt != "" {
			marks = &erased
		}
		marks.Add(p.first, p.last)
		if !p.stays {
			marks.Add(local, domain)
		}
	}
	for _, p := range leaver.people {
		local, domain, _ := strings.Cut(p.email, "@")
		erased.Add(p.first, p.last, local, domain)
	}
	d.result.Shapes = erased.Shapes()
	for place, content := range places {
		d.result.Looked[place] = len(content)
		for _, word := range erased.In(content) {
			d.fail("%s of an erased person is in the %s", word, place)
		}
	}
	if len(living.In(places["dump"])) == 0 {
		d.fail("not even those who are there were found: the search is blind")
	}
	conn, err := pgx.Connect(d.ctx, d.server.URL(d.name+"_restored"))
	if err != nil {
		return err
	}
	defer conn.Close(d.ctx) //nolint:errcheck // nothing is left to be written
	found, err := erased.InDatabase(d.ctx, conn)
	for column, words := range found {
		d.fail("%q of erased people are in %s", words, column)
	}
	return err
}
