package alert

import (
	"context"
	"encoding/base64"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// The link at the foot of an alert holds the customer's id, the person's id, and an authentication
// code over both. Nothing of it is stored. It can do one thing, which is to opt that person out,
// and is good for as long as the person is there: a mail is kept for years, and whoever finds it
// has the right to be left alone by it. An erasure ends it.

const (
	linkLabel = "alert unsubscribe"
	linkCode  = 16 // bytes of the authentication code that are kept
	idSize    = len(uuid.UUID{})
)

func (s *Service) link(of id.Customer, person id.User) string {
	token := append(append(of.UUID[:], person.UUID[:]...), s.linkMAC(of, person)...)
	return s.mailing.PublicURL + "/unsubscribe/" + base64.RawURLEncoding.EncodeToString(token)
}

func (s *Service) linkMAC(of id.Customer, person id.User) []byte {
	return s.box.MAC(linkLabel, of.UUID[:], person.UUID[:])[:linkCode]
}

// parse reads the token of a link.
func (s *Service) parse(token string) (of id.Customer, person id.User, ok bool) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) != 2*idSize+linkCode {
		return of, person, false
	}
	copy(of.UUID[:], raw)
	copy(person.UUID[:], raw[idSize:])
	return of, person, s.sameCode(s.linkMAC(of, person), raw[2*idSize:])
}

// Subscription is what the page behind a link tells.
type Subscription struct {
	CustomerName string
	OptedIn      bool
}

// Subscription looks at what a link is about and changes nothing. It tells false for every link
// that is not good.
func (s *Service) Subscription(ctx context.Context, token string) (found Subscription, good bool, err error) {
	of, person, good := s.parse(token)
	if !good {
		return Subscription{}, false, nil
	}
	err = s.db.InCustomerAutocommit(ctx, of, func(tx *postgres.Tx) error {
		found, good, err = subscription(tx, person)
		return err
	})
	return found, good, err
}

// Unsubscribe opts the person out whom a link is about. Doing it again changes nothing. It tells
// false for every link that is not good.
func (s *Service) Unsubscribe(ctx context.Context, token string) (found Subscription, good bool, err error) {
	of, person, good := s.parse(token)
	if !good {
		return Subscription{}, false, nil
	}
	err = s.db.InCustomer(ctx, of, func(tx *postgres.Tx) error {
		if good, err = user.OptOutTx(tx, s.ledger, person); err != nil || !good {
			return err
		}
		found, good, err = subscription(tx, person)
		return err
	})
	return found, good, err
}

func subscription(tx *postgres.Tx, person id.User) (found Subscription, good bool, err error) {
	alerts, good, err := user.AlertsTx(tx, person)
	if err != nil || !good {
		return Subscription{}, false, err
	}
	of, err := customer.GetTx(tx)
	return Subscription{CustomerName: of.Name, OptedIn: alerts.OptedIn}, err == nil, err
}
