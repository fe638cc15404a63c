package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
)

const leavers = 5 // people of the customer that leaves, its administrator included

// leaver is a customer whose contract ends after the backup: everything of it is deleted, and must
// be again after the restore.
type leaver struct {
	id, key     string
	people      []*person // the first is the administrator
	operators   []string  // who ask for it and approve
	certificate []byte    // as it was handed out
}

// leaving makes the customer and two operators, as an installation does.
func (d *drill) leaving(living []string) (*leaver, error) {
	l := &leaver{
		people:    []*person{d.person()},
		operators: []string{"first@fusionspim.example", "second@fusionspim.example"},
	}
	environment := append(living[:len(living):len(living)], "STEWARD_NEW_PASSWORD="+secret)
	for _, email := range l.operators {
		if err := d.command(
			nil,
			environment,
			"operator",
			"create",
			"--email="+email,
			"--first-name=Olu",
			"--last-name=Adeyemi",
		); err != nil {
			return nil, err
		}
	}
	admin := l.people[0]
	return l, d.command(
		nil,
		environment,
		"customer",
		"create",
		"--slug=globex",
		"--name=Globex",
		"--admin-email="+admin.email,
		"--admin-first-name="+admin.first,
		"--admin-last-name="+admin.last,
	)
}

func (s *serving) signIn(customer, email string) (answer, error) {
	return s.call("POST", "/v1/sessions", "", object{"customer": customer, "email": email, "password": secret})
}

// join makes the people of the customer, and an API key.
func (d *drill) join(service *serving, l *leaver) error {
	signedIn, err := service.signIn("globex", l.people[0].email)
	if err != nil || signedIn.status != http.StatusCreated {
		return fmt.Errorf("signing in at globex: %d %s (%w)", signedIn.status, signedIn.body, err)
	}
	admin := signedIn.text("access_token")
	made, err := service.call(
		"POST",
		"/v1/api-keys",
		admin,
		object{"name": "drill", "scopes": []string{"users:read", "users:write"}},
	)
	if err != nil || made.status != http.StatusCreated {
		return fmt.Errorf("making a key at globex: %d %s (%w)", made.status, made.body, err)
	}
	l.key = made.text("api_key")
	of, err := service.call("GET", "/v1/customer", admin, nil)
	if err != nil || of.status != http.StatusOK {
		return fmt.Errorf("asking for globex: %d %s (%w)", of.status, of.body, err)
	}
	l.id = of.text("id")
	for len(l.people) < leavers {
		p := d.person()
		answer, err := service.call(
			"POST",
			"/v1/users",
			l.key,
			object{"first_name": p.first, "last_name": p.last, "email": p.email},
		)
		if err != nil || answer.status != http.StatusCreated {
			return fmt.Errorf("making somebody at globex: %d %s (%w)", answer.status, answer.body, err)
		}
		l.people = append(l.people, p)
	}
	return nil
}

// leave ends the contract: one operator asks for it, the other approves, the wait is over, and
// everything is deleted.
func (d *drill) leave(service *serving, l *leaver) error {
	path := "/v1/operator/customers/" + l.id + "/offboarding"
	for i, email := range l.operators {
		signedIn, err := service.signIn("fusions", email)
		if err != nil || signedIn.status != http.StatusCreated {
			return fmt.Errorf("signing in as an operator: %d %s (%w)", signedIn.status, signedIn.body, err)
		}
		step := [...]string{path, path + "/approval"}[i]
		if got, err := service.call(
			"POST",
			step,
			signedIn.text("access_token"),
			object{},
		); err != nil ||
			got.status >= 300 {
			return fmt.Errorf("POST %s: %d %s (%w)", step, got.status, got.body, err)
		}
		d.result.Acts++
	}
	d.result.ByKind["offboard"]++
	if _, err := d.offboarding(service, l, func(now offboarding) bool { return now.Bundle != nil }); err != nil {
		return err
	}
	conn, err := pgx.Connect(d.ctx, d.server.URL(d.name+"_living"))
	if err != nil {
		return err
	}
	defer conn.Close(d.ctx) //nolint:errcheck // nothing is left to be written
	// A drill cannot wait for a month. The last notice counts as given.
	if _, err := conn.Exec(
		d.ctx,
		"update offboardings set deletes_at = now(), wake_at = now(), notices = 2 where customer_id = $1",
		l.id,
	); err != nil {
		return err
	}
	deleted, err := d.offboarding(service, l, func(now offboarding) bool { return now.State == "deleted" })
	l.certificate = deleted.body
	return err
}

// offboarding is what an operator sees of one.
type offboarding struct {
	State          string
	LiveCompleteAt *time.Time `json:"live_complete_at"`
	Bundle         *struct{}
}

// offboarding waits until the offboarding is as it is wanted.
func (d *drill) offboarding(service *serving, l *leaver, wanted func(now offboarding) bool) (got answer, err error) {
	signedIn, err := service.signIn("fusions", l.operators[0])
	if err != nil {
		return answer{}, err
	}
	for began := time.Now(); time.Since(began) < patience; time.Sleep(50 * time.Millisecond) {
		if got, err = service.call(
			"GET",
			"/v1/operator/customers/"+l.id+"/offboarding",
			signedIn.text("access_token"),
			nil,
		); err != nil {
			return answer{}, err
		}
		var found offboarding
		if err := json.Unmarshal(got.body, &found); err != nil {
			return answer{}, fmt.Errorf("the offboarding: %d %s", got.status, got.body)
		}
		if wanted(found) {
			return got, nil
		}
	}
	return answer{}, fmt.Errorf("the offboarding stays as it is: %s", got.body)
}

// gone asks the restored service for the customer that has left: nobody gets in, nothing is kept,
// dead rows included, and the certificate is there and good.
func (d *drill) gone(service *serving, conn *pgx.Conn, l *leaver) error {
	if got, err := service.call("GET", "/v1/users", l.key, nil); err != nil || got.status != http.StatusUnauthorized {
		d.fail("the key of a customer that has left is good again: %d (%v)", got.status, err)
	}
	if got, err := service.signIn("globex", l.people[0].email); err != nil || got.status != http.StatusUnauthorized {
		d.fail("the administrator of a customer that has left gets in: %d (%v)", got.status, err)
	}
	if left := count(d.ctx, conn, "select count(*) from users where customer_id = '"+l.id+"'"); left != 0 {
		d.fail("%d people of a customer that has left are back", left)
	}
	now, err := d.offboarding(service, l, func(now offboarding) bool { return now.LiveCompleteAt != nil })
	if err != nil {
		return err
	}
	file := filepath.Join(d.dir, "certificate.json")
	for _, document := range [][]byte{l.certificate, now.body} {
		if err := os.WriteFile(file, document, 0o600); err != nil {
			return err
		}
		var report struct {
			Certificate struct{ Customer struct{ ID string } }
		}
		if err := d.command(
			&report,
			nil,
			"receipt",
			"verify",
			file,
			"--keys",
			filepath.Join(d.dir, "jwks.json"),
			"--json",
		); err != nil ||
			report.Certificate.Customer.ID != l.id {
			d.fail("the certificate of the customer that has left: %v", err)
		}
		d.result.CertificatesVerified++
	}
	return nil
}
