package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"regexp"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/idempotency"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// Rejection says why an entry was rejected.
type Rejection struct {
	Code    fault.Code
	Detail  string
	Pointer string // JSON pointer within the entry
}

// Service records and lists the entries of integrations.
type Service struct{ db *postgres.DB }

// NewService returns the service.
func NewService(db *postgres.DB) *Service { return &Service{db: db} }

// AppendTx records an act of the service in the transaction of the act.
func AppendTx(tx *postgres.Tx, act Act) error {
	return appendAct(tx, act)
}

// AppendEachTx records one act that was done to each of the targets, in one round trip. None of the
// targets may be the caller. The act's own target is ignored.
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

// Record appends 1 to 1,000 entries that an integration sends. It stores the valid ones even if
// others are rejected, and returns the outcomes in the order of the entries. Without once, the
// request is not idempotent.
func (s *Service) Record(
	ctx context.Context, caller principal.Principal, entries []NewEntry, once *idempotency.Once[[]Outcome],
) (outcomes []Outcome, err error) {
	write := func(tx *postgres.Tx) error {
		outcomes, err = once.Do(tx, func() ([]Outcome, id.User, error) {
			outcomes, err := record(tx, entries)
			return outcomes, id.User{}, err
		})
		return err
	}
	transaction := s.db.InCustomerAutocommit
	if once != nil {
		transaction = s.db.InCustomer
	}
	// The insert fails if an actor is deleted, or a source id committed, after the look-up of the
	// same statement. The next attempt sees it.
	for range 3 {
		err = transaction(ctx, caller.Customer, write)
		if !postgres.Violates(err, "audit_entries_actor_user") && !postgres.Violates(err, "audit_entries_source_id") {
			break
		}
	}
	return outcomes, err
}

// record rejects what is not valid and inserts the rest in one statement.
func record(tx *postgres.Tx, entries []NewEntry) ([]Outcome, error) {
	outcomes := make([]Outcome, len(entries))
	for i, entry := range entries {
		outcomes[i] = Outcome{SourceID: entry.SourceID}
		if entry.OccurredAt.After(tx.Now.Add(clockSkew)) {
			outcomes[i].reject(fault.InvalidEntry, "The time lies in the future.", "/occurred_at")
		} else if !hasPlainNames(entry.Details) {
			outcomes[i].reject(
				fault.InvalidEntry,
				"A member of the details is not named by a word like revision.",
				"/details",
			)
		}
	}
	if err := insert(tx, entries, outcomes); err != nil {
		return nil, err
	}
	return outcomes, resolveExisting(tx, entries, outcomes)
}

var detailName = regexp.MustCompile(`^[a-z][a-z0-9_.-]{0,63}$`)

// hasPlainNames reports whether the names of the details' members are plain words. The contract
// restricts their values; a name could still be an e-mail address.
func hasPlainNames(details json.RawMessage) bool {
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

func (o *Outcome) reject(code fault.Code, detail, pointer string) {
	o.Status = Rejected
	o.Rejection = &Rejection{Code: code, Detail: detail, Pointer: pointer}
}

// resolveExisting sets the outcomes that the insert left empty: their source id existed, or occurs
// twice in this batch.
func resolveExisting(tx *postgres.Tx, entries []NewEntry, outcomes []Outcome) error {
	var conflicts []int
	var sourceIDs []string
	for i := range outcomes {
		if outcomes[i].Status == "" {
			conflicts = append(conflicts, i)
			sourceIDs = append(sourceIDs, entries[i].SourceID)
		}
	}
	if len(conflicts) == 0 {
		return nil
	}
	stored, err := bySourceID(tx, sourceIDs)
	if err != nil {
		return err
	}
	for _, i := range conflicts {
		existing, ok := stored[entries[i].SourceID]
		switch {
		case !ok:
			return errors.New("audit: an entry was neither stored nor found")
		case existing.equals(entries[i]):
			outcomes[i].Status, outcomes[i].ID = Existing, existing.ID
		default:
			outcomes[i].reject(fault.SourceIDReused, "An entry with this source_id says something else.", "/source_id")
		}
	}
	return nil
}

// equals reports whether a stored entry has the content of one that was sent.
func (e Entry) equals(sent NewEntry) bool {
	return e.Source == SourceIntegration && e.ActorUserID != nil && *e.ActorUserID == sent.ActorUserID &&
		e.Action == sent.Action && e.Target == sent.Target &&
		e.OccurredAt.Equal(toMicroseconds(sent.OccurredAt)) && sameJSON(e.Details, sent.Details)
}

func sameJSON(a, b json.RawMessage) bool {
	if len(a) == 0 || len(b) == 0 {
		return len(a) == len(b)
	}
	// jsonb changes order and spacing; Go's encoder gives both the same form.
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

// List returns entries, most recently recorded first: at most limit of those recorded before the
// given entry, or from the newest if before is zero.
func (s *Service) List(
	ctx context.Context, caller principal.Principal, filter Filter, before id.Entry, limit int,
) ([]Entry, error) {
	return postgres.Read(ctx, s.db, caller.Customer, func(tx *postgres.Tx) ([]Entry, error) {
		return list(tx, filter, before, limit)
	})
}

// ReferencesTx counts, by source, the entries whose actor is the user.
func ReferencesTx(tx *postgres.Tx, user id.User) ([]fault.Reference, error) {
	found, err := ReferencesToEachTx(tx, []id.User{user})
	return found[user], err
}

// ReferencesToEachTx counts, for each of the users and by source, the entries whose actor is that
// user.
func ReferencesToEachTx(tx *postgres.Tx, users []id.User) (map[id.User][]fault.Reference, error) {
	return references(tx, users)
}
