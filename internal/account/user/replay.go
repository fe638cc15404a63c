package user

import (
	"time"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/record/audit"
	"github.com/fusionspim/steward/internal/record/ledger"
	"github.com/fusionspim/steward/internal/record/receipt"
)

// ReplayTx replays ledger entries about users, at most one per user, by the same code as the
// original acts, and audits them as acts of the service. It returns the outcome of each entry. The
// number of round trips does not depend on the number of entries. The caller holds the lock of the
// customer. Package replay also replays what users did to their own credentials.
//
// A user who registered since with the same address has another id, so no entry concerns them. The
// check for the last administrator does not apply: the original act passed it.
func (s *Service) ReplayTx(tx *postgres.Tx, entries []ledger.Entry) ([]ledger.Outcome, error) {
	if err := preferIndexes(tx); err != nil {
		return nil, err
	}
	outcomes := make([]ledger.Outcome, len(entries))
	var erasures, changes []int
	for i, entry := range entries {
		switch entry.Kind {
		case ledger.Redaction, ledger.Deletion:
			erasures = append(erasures, i)
		case ledger.AlertsSet, ledger.StatusSet, ledger.RoleSet, ledger.CredentialsChanged, ledger.Correction:
			changes = append(changes, i)
		case ledger.APIKeyRevoked, ledger.APIKeyEnds, ledger.BundleCollected, ledger.Offboarding, ledger.Void:
			outcomes[i] = ledger.Absent
		}
	}
	if err := s.replayErasures(tx, entries, erasures, outcomes); err != nil {
		return nil, err
	}
	if err := replayChanges(tx, entries, changes, outcomes); err != nil {
		return nil, err
	}
	var acts []audit.Act
	for i, entry := range entries {
		if outcomes[i] == ledger.Done || outcomes[i] == ledger.RedactedInstead {
			acts = append(acts, actOf(entry, outcomes[i]))
		}
	}
	return outcomes, audit.AppendAllTx(tx, acts)
}

// actOf is the audit entry of a replayed ledger entry.
func actOf(entry ledger.Entry, outcome ledger.Outcome) audit.Act {
	act := audit.Act{Target: audit.OnUser(entry.User()), Details: entry.Details()}
	erased := []string{"first_name", "last_name", "email", "status"}
	switch entry.Kind {
	case ledger.Redaction:
		act.Action, act.Changed = audit.UserRedacted, erased
	case ledger.Deletion:
		act.Action = audit.UserDeleted
		if outcome == ledger.RedactedInstead {
			act.Action, act.Changed = audit.UserRedacted, erased
		}
	case ledger.AlertsSet:
		act.Action, act.Changed = audit.UserAlertsChanged, []string{"alerts.opted_in"}
	case ledger.StatusSet:
		act.Action, act.Changed = audit.UserEnabled, []string{"status"}
		if Status(entry.Status) == Disabled {
			act.Action = audit.UserDisabled
		}
	case ledger.RoleSet:
		act.Action, act.Changed = audit.UserCorrected, []string{"role"}
	case ledger.CredentialsChanged:
		act.Action, act.Changed = audit.UserPasswordChanged, []string{"password", "second_factor"}
	case ledger.Correction:
		act.Action, act.Changed = audit.UserCorrectionLost, []string{"correction_lost_at"}
	case ledger.APIKeyRevoked, ledger.APIKeyEnds, ledger.BundleCollected, ledger.Offboarding, ledger.Void:
	}
	return act
}

// replayChanges replays the entries, by their indices, that change users without erasing them.
func replayChanges(tx *postgres.Tx, entries []ledger.Entry, which []int, outcomes []ledger.Outcome) error {
	if len(which) == 0 {
		return nil
	}
	changes := make([]replayedChange, len(which))
	for i, at := range which {
		entry := entries[at]
		change := replayedChange{ID: entry.User()}
		switch entry.Kind {
		case ledger.AlertsSet:
			change.OptedIn, change.SetBy, change.SetAt = entry.OptedIn, entry.Authority, &entry.At
		case ledger.StatusSet:
			change.Status, change.SignOut, change.EndLinks = entry.Status, true, true
		case ledger.RoleSet:
			change.Role, change.SignOut = entry.Role, true
		case ledger.CredentialsChanged:
			change.Forget, change.SignOut, change.EndLinks = true, true, true
		case ledger.Correction:
			change.Corrected = true
		case ledger.Redaction,
			ledger.Deletion,
			ledger.APIKeyRevoked,
			ledger.APIKeyEnds,
			ledger.BundleCollected,
			ledger.Offboarding,
			ledger.Void:
		}
		changes[i] = change
	}
	changed, err := applyReplayed(tx, changes)
	if err != nil {
		return err
	}
	for _, at := range which {
		outcomes[at] = ledger.Absent
		if changed[entries[at].User()] {
			outcomes[at] = ledger.Done
		}
	}
	return nil
}

// replayErasures replays the entries, by their indices, that are erasures.
func (s *Service) replayErasures(
	tx *postgres.Tx,
	entries []ledger.Entry,
	which []int,
	outcomes []ledger.Outcome,
) error {
	if len(which) == 0 {
		return nil
	}
	users := make([]id.User, len(which))
	for i, at := range which {
		users[i] = entries[at].User()
	}
	people, err := lockAll(tx, users)
	if err != nil {
		return err
	}
	named, err := audit.ReferencesToEachTx(tx, users)
	if err != nil {
		return err
	}
	expireAt, err := s.backups.ExpireBy(tx, tx.Now) // backups up to now hold their data
	if err != nil {
		return err
	}
	var erasures []erasure
	for _, at := range which {
		entry := entries[at]
		person, exists := people[entry.User()]
		issued := receiptOf(entry, expireAt)
		switch {
		case !exists:
			outcomes[at] = ledger.Absent
			if err := s.receipts.SaveIfMissing(tx, &issued); err != nil {
				return err
			}
			continue
		case person.Status == Redacted:
			outcomes[at] = ledger.AlreadyDone
			continue
		case entry.Kind == ledger.Deletion && len(named[person.ID]) > 0:
			// The audit trail, which must stay complete, names the user, so the user is redacted.
			issued.Kind = receipt.Redaction
			outcomes[at] = ledger.RedactedInstead
		default:
			outcomes[at] = ledger.Done
		}
		erasures = append(erasures, erasure{person, &issued})
	}
	return s.erase(tx, erasures)
}

// receiptOf returns the receipt of an erasure in the ledger, without what is removed.
func receiptOf(entry ledger.Entry, expireAt *time.Time) receipt.Receipt {
	issued := receipt.Receipt{
		ID:              id.New[id.Receipt](),
		Kind:            receipt.Deletion,
		UserID:          entry.User(),
		Authority:       entry.Authority,
		OrderedByUser:   entry.OrderedBy,
		OrderedByAPIKey: entry.OrderedByKey,
		CompletedAt:     entry.At,
		Removed:         []receipt.Removed{},
		Kept:            []receipt.Kept{},
		State:           receipt.Pending,
		BackupsExpireAt: expireAt,
	}
	if entry.Receipt != nil {
		issued.ID = *entry.Receipt
	}
	if entry.Kind == ledger.Redaction {
		label := entry.Label
		issued.Kind, issued.Label = receipt.Redaction, &label
	}
	if entry.Reason != "" {
		reason := receipt.Reason(entry.Reason)
		issued.Reason = &reason
	}
	return issued
}

// LostCorrectionsTx counts the users with a correction that a restore lost and that was not resent
// since.
func LostCorrectionsTx(tx *postgres.Tx) (int64, error) { return countLostCorrections(tx) }
