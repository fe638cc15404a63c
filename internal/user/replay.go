package user

import (
	"github.com/fusionspim/steward/internal/audit"
	"github.com/fusionspim/steward/internal/fault"
	"github.com/fusionspim/steward/internal/id"
	"github.com/fusionspim/steward/internal/ledger"
	"github.com/fusionspim/steward/internal/postgres"
)

// ReplayTx carries out once more what the ledger says of a person, by the same code as the first time, and records it as an act of the service itself. The caller holds the
// lock of the customer. What a person did to the own credentials is not here alone: see package replay.
//
// Whoever registered since with the same address is another person, of another id, whom no entry is about. That the last administrator goes is no reason here: it was
// none when the order was given, or the order was not carried out.
func (s *Service) ReplayTx(tx *postgres.Tx, entry ledger.Entry) (ledger.Outcome, error) {
	outcome, act, err := s.replay(tx, entry)
	if err != nil || (outcome != ledger.Done && outcome != ledger.Instead) {
		return outcome, err
	}
	act.Target, act.Details = audit.OnUser(entry.User()), entry.Details()
	return outcome, audit.AppendTx(tx, act)
}

func (s *Service) replay(tx *postgres.Tx, entry ledger.Entry) (outcome ledger.Outcome, act audit.Act, err error) {
	switch entry.Kind {
	case ledger.Redaction:
		return s.replayRedaction(tx, entry)
	case ledger.Deletion:
		return s.replayDeletion(tx, entry)
	case ledger.AlertsSet:
		act = audit.Act{Action: audit.UserAlertsChanged, Changed: []string{"alerts.opted_in"}}
		outcome, err = changed(tx, entry.User(), "alerts_opted_in = ?, alerts_set_by = ?, alerts_set_at = ?", entry.OptedIn, entry.Authority, entry.At)
	case ledger.StatusSet:
		act = audit.Act{Action: audit.UserEnabled, Changed: []string{"status"}}
		if Status(entry.Status) == Disabled {
			act.Action = audit.UserDisabled
		}
		outcome, err = changed(tx, entry.User(), "status = ?, sessions_since = ?, "+endLinks, entry.Status, tx.Now, tx.Now)
	case ledger.RoleSet:
		act = audit.Act{Action: audit.UserCorrected, Changed: []string{"role"}}
		outcome, err = changed(tx, entry.User(), "role = ?, sessions_since = ?", entry.Role, tx.Now)
	case ledger.CredentialsChanged:
		act = audit.Act{Action: audit.UserPasswordChanged, Changed: []string{"password", "second_factor"}}
		outcome, err = changed(tx, entry.User(), "password_hash = null, sessions_since = ?, "+endLinks, tx.Now, tx.Now)
	case ledger.Correction:
		act = audit.Act{Action: audit.UserCorrectionLost, Changed: []string{"correction_lost_at"}}
		outcome, err = changed(tx, entry.User(), "correction_lost_at = ?", tx.Now)
	case ledger.APIKeyRevoked, ledger.APIKeyEnds, ledger.Offboarding, ledger.Void:
		outcome = ledger.Absent
	}
	return outcome, act, err
}

func changed(tx *postgres.Tx, user id.User, change string, arguments ...any) (ledger.Outcome, error) {
	there, err := changeAgain(tx, user, change, arguments...)
	if err != nil || !there {
		return ledger.Absent, err
	}
	return ledger.Done, nil
}

func (s *Service) replayRedaction(tx *postgres.Tx, entry ledger.Entry) (ledger.Outcome, audit.Act, error) {
	receipt, err := s.receiptOf(tx, entry)
	if err != nil {
		return "", audit.Act{}, err
	}
	found, err := lock(tx, entry.User())
	switch {
	case fault.Is(err, fault.ResourceNotFound):
		return ledger.Absent, audit.Act{}, insertReceiptAgain(tx, receipt)
	case err != nil:
		return "", audit.Act{}, err
	case found.Status == Redacted:
		return ledger.Already, audit.Act{}, nil
	}
	return ledger.Done, redactionAct(), s.redactAgain(tx, found, &receipt)
}

func (s *Service) replayDeletion(tx *postgres.Tx, entry ledger.Entry) (ledger.Outcome, audit.Act, error) {
	receipt, err := s.receiptOf(tx, entry)
	if err != nil {
		return "", audit.Act{}, err
	}
	found, err := lockForDelete(tx, entry.User())
	switch {
	case fault.Is(err, fault.ResourceNotFound):
		return ledger.Absent, audit.Act{}, insertReceiptAgain(tx, receipt)
	case err != nil:
		return "", audit.Act{}, err
	case found.Status == Redacted:
		return ledger.Already, audit.Act{}, nil
	}
	references, err := audit.ReferencesTx(tx, entry.User())
	if err != nil {
		return "", audit.Act{}, err
	}
	if len(references) == 0 {
		return ledger.Done, audit.Act{Action: audit.UserDeleted}, s.carryOutDeletion(tx, found, &receipt)
	}
	// The trail, which must stay whole, names the person: everything personal goes all the same.
	label := newLabel(labelLength)
	receipt.Kind, receipt.Label = Redaction, &label
	return ledger.Instead, redactionAct(), s.redactAgain(tx, found, &receipt)
}

func redactionAct() audit.Act {
	return audit.Act{Action: audit.UserRedacted, Changed: []string{"first_name", "last_name", "email", "status"}}
}

// redactAgain redacts somebody under the label of the first time, unless somebody else has it by now.
func (s *Service) redactAgain(tx *postgres.Tx, found User, receipt *Receipt) error {
	for length := labelLength + 1; ; length++ {
		taken, err := labelTaken(tx, *receipt.Label)
		if err != nil {
			return err
		}
		if !taken {
			return s.carryOutRedaction(tx, found, receipt)
		}
		*receipt.Label = newLabel(length)
	}
}

// receiptOf is the receipt that an entry was made of, before it is known what is removed. The backups that hold the person are those of up to now.
func (s *Service) receiptOf(tx *postgres.Tx, entry ledger.Entry) (Receipt, error) {
	receipt := Receipt{
		ID: id.New[id.Receipt](), Kind: Deletion, UserID: entry.User(), Authority: entry.Authority, OrderedByUser: entry.OrderedBy, OrderedByAPIKey: entry.OrderedByKey,
		CompletedAt: entry.At, Removed: []Removed{}, Kept: []Kept{},
	}
	if entry.Receipt != nil {
		receipt.ID = *entry.Receipt
	}
	if entry.Kind == ledger.Redaction {
		label := entry.Label
		receipt.Kind, receipt.Label = Redaction, &label
	}
	if entry.Reason != "" {
		reason := Reason(entry.Reason)
		receipt.Reason = &reason
	}
	var err error
	receipt.BackupsExpireAt, err = s.horizon(tx, tx.Now)
	return receipt, err
}

// LostCorrectionsTx counts the people of whom a restore lost a correction that was not sent anew since.
func LostCorrectionsTx(tx *postgres.Tx) (int64, error) { return countLostCorrections(tx) }
