package user

import (
	"context"
	"encoding/json"
	"time"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/token"
	"github.com/fusionspim/steward/internal/record/signingkey"
)

// Kind is the way of an erasure. The set is closed.
type Kind string

// The kinds.
const (
	Deletion  Kind = "deletion"
	Redaction Kind = "redaction"
)

// ReceiptState is how far an erasure has come. The set is closed, and the order is the only one:
//
//	pending ──▶ live-complete ──▶ final
type ReceiptState string

// The states.
const (
	Pending      ReceiptState = "pending"       // the rows are gone; the database may still hold dead versions of them
	LiveComplete ReceiptState = "live-complete" // those are gone too; backups may hold the person
	Final        ReceiptState = "final"         // no backup holds the person either
)

// Removed counts what was removed of one store.
type Removed struct {
	Store string `json:"store"`
	Count int64  `json:"count"`
}

// Kept counts what stays of one store, and says why in a closed word.
type Kept struct {
	Store string `json:"store"`
	Count int64  `json:"count"`
	Why   string `json:"why"`
}

// Receipt says what was erased, when, on whose order, and how far that has come. It names the person by id alone.
type Receipt struct {
	ID              id.Receipt
	Kind            Kind
	UserID          id.User
	Label           *string
	Reason          *Reason
	Authority       string
	OrderedByUser   *id.User
	OrderedByAPIKey *id.APIKey
	CompletedAt     time.Time
	Removed         []Removed
	Kept            []Kept
	BackupsExpireAt *time.Time // by then no backup holds the person any more, as it was foreseen when erasing; nil: none ever did

	State          ReceiptState
	LiveCompleteAt *time.Time
	FinalAt        *time.Time

	JWS string // all of it, signed; see receiptType
}

// ReceiptPath is where a receipt is found.
func ReceiptPath(receipt id.Receipt) string { return "/v1/erasure-receipts/" + receipt.String() }

// Signing is what receipts are signed with, and in whose name.
type Signing struct {
	Keys   *signingkey.Store
	Issuer string // the public URL of the service
}

// LoadReceiptKeys brings the keys that receipts are signed with from the database.
func (s *Service) LoadReceiptKeys(ctx context.Context) error {
	_, err := s.signing.Keys.Load(ctx)
	return err
}

// ReceiptKeys are the public keys that ever signed receipts or are about to, the newest first.
func (s *Service) ReceiptKeys(ctx context.Context) ([]token.JWK, error) {
	all, err := s.signing.Keys.Ring(ctx)
	return all.JWKs(), err
}

// receiptType is the typ of a signed receipt. The contract tells its form to those who verify.
const receiptType = "steward-erasure-receipt+jws"

// receiptClaims is what is signed.
type receiptClaims struct {
	Issuer   string          `json:"iss"`
	IssuedAt int64           `json:"iat"`
	Receipt  receiptDocument `json:"receipt"`
}

// receiptDocument is a receipt as the API shows it, but for the signature.
type receiptDocument struct {
	ID              id.Receipt   `json:"id"`
	Kind            Kind         `json:"kind"`
	UserID          id.User      `json:"user_id"`
	Label           *string      `json:"label"`
	Reason          *Reason      `json:"reason"`
	OrderedBy       ordererClaim `json:"ordered_by"`
	CompletedAt     time.Time    `json:"completed_at"`
	Removed         []Removed    `json:"removed"`
	Kept            []Kept       `json:"kept"`
	BackupsExpireAt *time.Time   `json:"backups_expire_at"`
	State           ReceiptState `json:"state"`
	LiveCompleteAt  *time.Time   `json:"live_complete_at"`
	FinalAt         *time.Time   `json:"final_at"`
}

type ordererClaim struct {
	Authority string     `json:"authority"`
	UserID    *id.User   `json:"user_id"`
	APIKeyID  *id.APIKey `json:"api_key_id"`
}

// sign signs the receipt as it is. It asks no database.
func (s *Service) sign(receipt *Receipt, now time.Time) error {
	payload, err := json.Marshal(receiptClaims{Issuer: s.signing.Issuer, IssuedAt: now.Unix(), Receipt: receiptDocument{
		ID: receipt.ID, Kind: receipt.Kind, UserID: receipt.UserID, Label: receipt.Label, Reason: receipt.Reason,
		OrderedBy:   ordererClaim{Authority: receipt.Authority, UserID: receipt.OrderedByUser, APIKeyID: receipt.OrderedByAPIKey},
		CompletedAt: receipt.CompletedAt.UTC(), Removed: append([]Removed{}, receipt.Removed...), Kept: append([]Kept{}, receipt.Kept...),
		BackupsExpireAt: utc(receipt.BackupsExpireAt), State: receipt.State, LiveCompleteAt: utc(receipt.LiveCompleteAt), FinalAt: utc(receipt.FinalAt),
	}})
	if err != nil {
		return err
	}
	receipt.JWS, err = s.signing.Keys.Loaded().JWS(receiptType, payload)
	return err
}

func utc(at *time.Time) *time.Time {
	if at == nil {
		return nil
	}
	in := at.UTC()
	return &in
}

// Receipt returns a receipt of the caller's customer. Fault: ResourceNotFound.
func (s *Service) Receipt(ctx context.Context, caller principal.Principal, receipt id.Receipt) (found Receipt, err error) {
	err = s.db.InCustomerAutocommit(ctx, caller.Customer, func(tx *postgres.Tx) error {
		found, err = s.receiptTx(tx, receipt)
		return err
	})
	return found, err
}

// receiptTx returns a receipt, and signs it if it is from before there were signatures.
func (s *Service) receiptTx(tx *postgres.Tx, receipt id.Receipt) (Receipt, error) {
	found, err := receiptByID(tx, receipt)
	if err != nil || found.JWS != "" {
		return found, err
	}
	if err := s.sign(&found, tx.Now); err != nil {
		return Receipt{}, err
	}
	return found, signFirst(tx, found)
}

// Unsettled is a receipt that may be brought forward.
type Unsettled struct {
	Customer id.Customer
	ID       id.Receipt
	ErasedAt time.Time
	ErasedIn int64 // number of the transaction
}

// Unsettled lists at most limit receipts of all customers that are in a state, those of the earliest erasures first.
func (s *Service) Unsettled(ctx context.Context, state ReceiptState, limit int) (all []Unsettled, err error) {
	err = s.db.InPlatform(ctx, func(tx *postgres.Tx) error {
		all, err = unsettled(tx, state, limit)
		return err
	})
	return all, err
}

// Unsigned lists at most limit receipts of all customers that are from before there were signatures.
func (s *Service) Unsigned(ctx context.Context, limit int) (all []Unsettled, err error) {
	err = s.db.InPlatform(ctx, func(tx *postgres.Tx) error {
		all, err = unsigned(tx, limit)
		return err
	})
	return all, err
}

// Waiting tells how many receipts are pending, and since when the first of them is; nil: none is.
func (s *Service) Waiting(ctx context.Context) (count int64, since *time.Time, err error) {
	err = s.db.InPlatform(ctx, func(tx *postgres.Tx) error {
		count, since, err = waiting(tx)
		return err
	})
	return count, since, err
}

// Settle brings receipts of one customer from the state before to the next one and signs them anew; those that are in another state by now are left as they are. It tells how
// many it brought forward.
func (s *Service) Settle(ctx context.Context, of id.Customer, receipts []id.Receipt, next ReceiptState) (settled int64, err error) {
	err = s.db.InCustomer(ctx, of, func(tx *postgres.Tx) error {
		before := Pending
		if next == Final {
			before = LiveComplete
		}
		found, err := lockReceipts(tx, receipts, before)
		if err != nil {
			return err
		}
		for i := range found {
			now := tx.Now
			if found[i].State = next; next == LiveComplete {
				found[i].LiveCompleteAt = &now
			} else {
				found[i].FinalAt = &now
			}
			if err := s.sign(&found[i], tx.Now); err != nil {
				return err
			}
		}
		settled, err = updateReceipts(tx, found)
		return err
	})
	return settled, err
}

// SignFirst signs receipts of one customer that are from before there were signatures.
func (s *Service) SignFirst(ctx context.Context, of id.Customer, receipts []id.Receipt) error {
	return s.db.InCustomer(ctx, of, func(tx *postgres.Tx) error {
		found, err := lockUnsigned(tx, receipts)
		if err != nil {
			return err
		}
		for i := range found {
			if err := s.sign(&found[i], tx.Now); err != nil {
				return err
			}
		}
		_, err = updateReceipts(tx, found)
		return err
	})
}
