package mailjob_test

import (
	"errors"
	"testing"
	"time"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/infra/jobs"
	"github.com/fusionspim/steward/internal/infra/mail"
	"github.com/fusionspim/steward/internal/infra/mailjob"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/testkit/bench/smtpsink"
	"github.com/fusionspim/steward/internal/testkit/dbtest"
)

// letter asks for a mail. To whom stands in a real job nowhere; here there are no people.
type letter struct {
	Customer id.Customer `json:"customer_id"`
	To       string      `json:"to"`
}

func (letter) Kind() string { return "letter" }

func word(_ *postgres.Tx, _ jobs.Job, asked letter) (message mail.Message, wanted bool, err error) {
	switch asked.To {
	case "nobody":
		return mail.Message{}, false, nil
	case "wordless":
		message, err = mail.NewNotice("wordless@people.example", mail.Notice{Title: "Nothing follows"})
		return message, true, err
	case "unlucky":
		return mail.Message{}, false, errors.New("the database is away")
	}
	message, err = mail.NewNotice(asked.To+"@people.example", mail.Notice{Title: "Hello", Paragraphs: []string{"Something happened."}})
	return message, true, err
}

func TestWhatBecomesOfMails(t *testing.T) {
	t.Parallel()
	sink, err := smtpsink.Start(smtpsink.Settings{Fault: func(recipient string, earlier int) smtpsink.Fault {
		switch {
		case recipient == "refused@people.example":
			return smtpsink.Refuse
		case recipient == "twice@people.example" && earlier == 0:
			return smtpsink.Drop
		}
		return smtpsink.None
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sink.Close(); err != nil {
			t.Error(err)
		}
	})
	database := dbtest.New(t)
	settings, err := mail.ParseURL(sensitive.New("smtp://" + sink.Address()))
	if err != nil {
		t.Fatal(err)
	}
	settings.From = "Steward <no-reply@steward.example>"
	sender, err := mail.NewSender(settings, database.Clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	mailing := mailjob.Mailing{Sender: sender, Domain: "steward.example"}
	queue, err := jobs.NewQueue()
	if err != nil {
		t.Fatal(err)
	}
	of := id.New[id.Customer]()
	wanted := map[string]string{"well": "completed", "nobody": "completed", "wordless": "cancelled", "unlucky": "retryable", "refused": "cancelled", "twice": "completed"}
	err = database.DB.InCustomer(t.Context(), of, func(tx *postgres.Tx) error {
		for to := range wanted {
			if err := queue.EnqueueTx(tx, letter{Customer: of, To: to}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	handlers := mailjob.Handlers(mailing, mailjob.In(database.DB, func(asked letter) id.Customer { return asked.Customer }, word))
	crew, err := jobs.Start(t.Context(), database.DB, 2, database.Log.Logger(), jobs.Work{Handlers: handlers})
	if err != nil {
		t.Fatal(err)
	}
	superuser := database.Superuser(t)
	states := make(map[string]string)
	for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(20 * time.Millisecond) {
		rows, err := superuser.Query(t.Context(), "select args ->> 'to', state::text from jobs.river_job")
		if err != nil {
			t.Fatal(err)
		}
		done := true
		for rows.Next() {
			var to, state string
			if err := rows.Scan(&to, &state); err != nil {
				t.Fatal(err)
			}
			states[to] = state
			done = done && state == wanted[to]
		}
		if rows.Close(); done {
			break
		}
	}
	if err := crew.Stop(); err != nil {
		t.Error(err)
	}
	for to, state := range wanted {
		if states[to] != state {
			t.Errorf("%s: %s and not %s", to, states[to], state)
		}
	}
	twice := sink.To("twice@people.example")
	if len(twice) != 2 || twice[0].MessageID != twice[1].MessageID || twice[0].MessageID == "" {
		t.Errorf("who got a mail twice cannot tell: %+v", twice)
	}
	if well := sink.To("well@people.example"); len(well) != 1 || well[0].MessageID == twice[0].MessageID {
		t.Errorf("%+v", well)
	}
}

func TestWithoutAMailServerNothingIsEnqueued(t *testing.T) {
	t.Parallel()
	var off mailjob.Mailing
	if handlers := mailjob.Handlers(off, mailjob.In(nil, func(asked letter) id.Customer { return asked.Customer }, word)); handlers != nil || !off.Off() {
		t.Error("mails are sent by nobody")
	}
}
