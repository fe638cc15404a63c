package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"regexp"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/idempotency"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// Refusal says why a row was refused.
type Refusal struct {
	Code    fault.Code
	Detail  string
	Pointer string // within the row
}

// Service is the trail as callers use it.
type Service struct{ db *postgres.DB }

// NewService makes the service.
func NewService(db *postgres.DB) *Service { return &Service{db: db} }

// AppendTx records an act of the service in the transaction of the act.
func AppendTx(tx *postgres.Tx, act Act) error {
	return appendAct(tx, act)
}

// AppendEachTx records one act that was done to each of the targets, none of whom is the caller, in one round trip. The act's own target does not count.
func AppendEachTx(tx *postgres.Tx, act Act, targets []Target) error {
	acts := make([]Act, len(targets))
	for i, target := range targets {
		acts[i] = act
		acts[i].Target = target
	}
	return AppendAllTx(tx, acts)
}

// AppendAllTx records acts in their order, in one round trip.
func AppendAllTx(tx *postgres.Tx, acts []Act) error {
	if len(acts) == 0 {
		return nil
	}
	return appendAll(tx, acts)
}

// Record appends entries that an integration sends, 1 to 1,000 at once, and tells for each what became of it. The good ones are kept even when
// others are refused. It returns the outcomes in the order of the entries.
func (s *Service) Record(ctx context.Context, caller principal.Principal, entries []NewEntry, once *idempotency.Once[[]Outcome]) (outcomes []Outcome, err error) {
	record := func(tx *postgres.Tx) error {
		outcomes, err = once.Do(tx, func() ([]Outcome, id.User, error) {
			outcomes, err := record(tx, entries)
			return outcomes, id.User{}, err
		})
		return err
	}
	door := s.db.InCustomerAutocommit
	if once != nil {
		door = s.db.InCustomer
	}
	// An actor who is deleted between the look-up and the insert meets the foreign key. The second time the look-up sees it.
	for range 3 {
		if err = door(ctx, caller.Customer, record); !postgres.Violates(err, "audit_entries_actor_user") && !postgres.Violates(err, "audit_entries_source_id") {
			break
		}
	}
	return outcomes, err
}

// record sorts out what is refused and inserts the rest in one statement.
func record(tx *postgres.Tx, entries []NewEntry) ([]Outcome, error) {
	outcomes := make([]Outcome, len(entries))
	for i, entry := range entries {
		outcomes[i] = Outcome{SourceID: entry.SourceID}
		if entry.OccurredAt.After(tx.Now.Add(clockSkew)) {
			outcomes[i].refuse(fault.InvalidEntry, "The time lies in the future.", "/occurred_at")
		} else if !namedPlainly(entry.Details) {
			outcomes[i].refuse(fault.InvalidEntry, "A member of the details is not named by a word like revision.", "/details")
		}
	}
	if err := insert(tx, entries, outcomes); err != nil {
		return nil, err
	}
	return outcomes, settle(tx, entries, outcomes)
}

var detailName = regexp.MustCompile(`^[a-z][a-z0-9_.-]{0,63}$`)

// namedPlainly tells whether the members of the details are named by closed words. The contract sees to their values; a name could be an address.
func namedPlainly(details json.RawMessage) bool {
	var members map[string]json.RawMessage
	if len(details) == 0 {
		return true
	}
	if err := json.Unmarshal(details, &members); err != nil {
		return false
	}
	for name := range members {
		if !detailName.MatchString(name) {
			return false
		}
	}
	return true
}

func (o *Outcome) refuse(code fault.Code, detail, pointer string) {
	o.Status = Refused
	o.Refusal = &Refusal{Code: code, Detail: detail, Pointer: pointer}
}

// settle finds out about the entries that the insert passed over: their source id was there already, or came twice in this very batch.
func settle(tx *postgres.Tx, entries []NewEntry, outcomes []Outcome) error {
	var open []int
	var sourceIDs []string
	for i := range outcomes {
		if outcomes[i].Status == "" {
			open = append(open, i)
			sourceIDs = append(sourceIDs, entries[i].SourceID)
		}
	}
	if len(open) == 0 {
		return nil
	}
	kept, err := bySourceID(tx, sourceIDs)
	if err != nil {
		return err
	}
	for _, i := range open {
		there, ok := kept[entries[i].SourceID]
		switch {
		case !ok:
			return fmt.Errorf("audit: an entry was neither stored nor found")
		case there.says(entries[i]):
			outcomes[i].Status, outcomes[i].ID = Existing, there.ID
		default:
			outcomes[i].refuse(fault.SourceIDReused, "An entry with this source_id says something else.", "/source_id")
		}
	}
	return nil
}

// says tells whether a stored entry says the same as one that was sent.
func (e Entry) says(sent NewEntry) bool {
	return e.Source == SourceIntegration && e.ActorUserID != nil && *e.ActorUserID == sent.ActorUserID && e.Action == sent.Action &&
		e.Target == sent.Target && e.OccurredAt.Equal(toMicroseconds(sent.OccurredAt)) && sameJSON(e.Details, sent.Details)
}

func sameJSON(a, b json.RawMessage) bool {
	if len(a) == 0 || len(b) == 0 {
		return len(a) == len(b)
	}
	// jsonb has its own order and spacing; Go's encoder brings both to one form.
	var x, y map[string]any
	if decode(a, &x) != nil || decode(b, &y) != nil {
		return false
	}
	left, errLeft := json.Marshal(x)
	right, errRight := json.Marshal(y)
	return errLeft == nil && errRight == nil && bytes.Equal(left, right)
}

func decode(text []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	return decoder.Decode(into)
}

// List returns entries, newest first by their recording: at most limit of those recorded before the entry named, or from the newest on.
func (s *Service) List(ctx context.Context, caller principal.Principal, filter Filter, before id.Entry, limit int) (entries []Entry, err error) {
	err = s.db.InCustomerAutocommit(ctx, caller.Customer, func(tx *postgres.Tx) error {
		entries, err = list(tx, filter, before, limit)
		return err
	})
	return entries, err
}

// ReferencesTx counts by source the entries that name the user as their actor.
func ReferencesTx(tx *postgres.Tx, user id.User) ([]fault.Reference, error) {
	found, err := ReferencesToAllTx(tx, []id.User{user})
	return found[user], err
}

// ReferencesToAllTx counts for each of the users by source the entries that name the user as their actor.
func ReferencesToAllTx(tx *postgres.Tx, users []id.User) (map[id.User][]fault.Reference, error) {
	return references(tx, users)
}
