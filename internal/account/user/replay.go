package user

import (
	"time"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/record/audit"
	"github.com/fusionspim/steward/internal/record/ledger"
	"github.com/fusionspim/steward/internal/record/receipt"
)

// ReplayTx carries out once more what the ledger says of people, each entry of another person, by the same code as the first time, and records it as acts of the service
// itself. It returns what became of each. However many there are, the round trips are few. The caller holds the lock of the customer. What a person did to the own
// credentials is not here alone: see package replay.
//
// Whoever registered since with the same address is another person, of another id, whom no entry is about. That the last administrator goes is no reason here: it was
// none when the order was given, or the order was not carried out.
func (s *Service) ReplayTx(tx *postgres.Tx, entries []ledger.Entry) ([]ledger.Outcome, error) {
	if err := lookUpByKeys(tx); err != nil {
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
	if err := s.eraseAgain(tx, entries, erasures, outcomes); err != nil {
		return nil, err
	}
	if err := changeAllAgain(tx, entries, changes, outcomes); err != nil {
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

// actOf is how an entry that was carried out once more stands in the trail.
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

// changeAllAgain carries out those of the entries that change somebody who stays.
func changeAllAgain(tx *postgres.Tx, entries []ledger.Entry, which []int, outcomes []ledger.Outcome) error {
	if len(which) == 0 {
		return nil
	}
	changes := make([]again, len(which))
	for i, at := range which {
		entry := entries[at]
		change := again{ID: entry.User()}
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
		case ledger.Redaction, ledger.Deletion, ledger.APIKeyRevoked, ledger.APIKeyEnds, ledger.BundleCollected, ledger.Offboarding, ledger.Void:
		}
		changes[i] = change
	}
	there, err := changeAgain(tx, changes)
	if err != nil {
		return err
	}
	for _, at := range which {
		outcomes[at] = ledger.Absent
		if there[entries[at].User()] {
			outcomes[at] = ledger.Done
		}
	}
	return nil
}

// eraseAgain carries out those of the entries that are erasures.
func (s *Service) eraseAgain(tx *postgres.Tx, entries []ledger.Entry, which []int, outcomes []ledger.Outcome) error {
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
	expireAt, err := s.backups.ExpireBy(tx, tx.Now) // the backups that hold them are those of up to now
	if err != nil {
		return err
	}
	var erasures []erasure
	for _, at := range which {
		entry := entries[at]
		person, there := people[entry.User()]
		issued := receiptOf(entry, expireAt)
		switch {
		case !there:
			outcomes[at] = ledger.Absent
			if err := s.receipts.SaveIfMissing(tx, &issued); err != nil {
				return err
			}
			continue
		case person.Status == Redacted:
			outcomes[at] = ledger.AlreadyDone
			continue
		case entry.Kind == ledger.Deletion && len(named[person.ID]) > 0:
			// The trail, which must stay whole, names the person: everything personal goes all the same.
			issued.Kind = receipt.Redaction
			outcomes[at] = ledger.RedactedInstead
		default:
			outcomes[at] = ledger.Done
		}
		erasures = append(erasures, erasure{person, &issued})
	}
	return s.carryOut(tx, erasures)
}

// receiptOf is the receipt that an entry was made of, before it is known what is removed.
func receiptOf(entry ledger.Entry, expireAt *time.Time) receipt.Receipt {
	issued := receipt.Receipt{
		ID: id.New[id.Receipt](), Kind: receipt.Deletion, UserID: entry.User(), Authority: entry.Authority, OrderedByUser: entry.OrderedBy, OrderedByAPIKey: entry.OrderedByKey,
		CompletedAt: entry.At, Removed: []receipt.Removed{}, Kept: []receipt.Kept{}, State: receipt.Pending, BackupsExpireAt: expireAt,
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

// LostCorrectionsTx counts the people of whom a restore lost a correction that was not sent anew since.
func LostCorrectionsTx(tx *postgres.Tx) (int64, error) { return countLostCorrections(tx) }
