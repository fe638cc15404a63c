package receipt

import (
	"context"
	"encoding/json"
	"time"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/token"
	"github.com/fusionspim/steward/internal/record/signingkey"
)

// The types of what is signed, in the header of the signature. The contract describes both
// documents to those who verify them.
const (
	receiptType     = "steward-erasure-receipt+jws"
	certificateType = "steward-offboarding-certificate+jws"
)

// Issuer signs receipts and certificates, and saves receipts. Safe for concurrent use.
type Issuer struct {
	keys *signingkey.Store
	url  string
}

// NewIssuer makes an issuer. The URL is the public one of the service, in whose name it signs. The
// keys must have been loaded before anything is signed.
func NewIssuer(keys *signingkey.Store, url string) *Issuer { return &Issuer{keys: keys, url: url} }

// LoadKeys reads the signing keys from the database.
func (i *Issuer) LoadKeys(ctx context.Context) error {
	_, err := i.keys.Load(ctx)
	return err
}

// Keys returns the public keys that ever signed receipts or are about to, newest first.
func (i *Issuer) Keys(ctx context.Context) ([]token.JWK, error) {
	ring, err := i.keys.Ring(ctx)
	return ring.JWKs(), err
}

// Save signs the receipt of an erasure of this transaction, and inserts it.
func (i *Issuer) Save(tx *postgres.Tx, r *Receipt) error {
	if err := i.sign(r, tx.Now); err != nil {
		return err
	}
	return insert(tx, *r)
}

// SaveIfMissing signs and inserts a receipt that a restore may have lost. It does nothing where the
// receipt exists, or its customer does not.
func (i *Issuer) SaveIfMissing(tx *postgres.Tx, r *Receipt) error {
	if err := i.sign(r, tx.Now); err != nil {
		return err
	}
	return insertIfMissing(tx, *r)
}

// ByID returns a receipt. It signs one that is older than signatures are. Fault: ResourceNotFound.
func (i *Issuer) ByID(tx *postgres.Tx, receipt id.Receipt) (Receipt, error) {
	found, err := byID(tx, receipt)
	if err != nil || found.JWS != "" {
		return found, err
	}
	if err := i.sign(&found, tx.Now); err != nil {
		return Receipt{}, err
	}
	return found, signFirst(tx, found)
}

// receiptClaims is what is signed of a receipt.
type receiptClaims struct {
	Issuer   string   `json:"iss"`
	IssuedAt int64    `json:"iat"`
	Receipt  document `json:"receipt"`
}

// document is a receipt as the API shows it, but for the signature.
type document struct {
	ID              id.Receipt `json:"id"`
	Kind            Kind       `json:"kind"`
	UserID          id.User    `json:"user_id"`
	Label           *string    `json:"label"`
	Reason          *Reason    `json:"reason"`
	OrderedBy       orderer    `json:"ordered_by"`
	CompletedAt     time.Time  `json:"completed_at"`
	Removed         []Removed  `json:"removed"`
	Kept            []Kept     `json:"kept"`
	BackupsExpireAt *time.Time `json:"backups_expire_at"`
	State           State      `json:"state"`
	LiveCompleteAt  *time.Time `json:"live_complete_at"`
	FinalAt         *time.Time `json:"final_at"`
}

type orderer struct {
	Authority string     `json:"authority"`
	UserID    *id.User   `json:"user_id"`
	APIKeyID  *id.APIKey `json:"api_key_id"`
}

// sign signs the receipt as it is now. It does not use the database.
func (i *Issuer) sign(r *Receipt, now time.Time) error { return sign(i.keys.Loaded(), i.url, r, now) }

func sign(keys signingkey.Ring, issuer string, r *Receipt, now time.Time) (err error) {
	r.JWS, err = jws(keys, receiptType, receiptClaims{Issuer: issuer, IssuedAt: now.Unix(), Receipt: document{
		ID: r.ID, Kind: r.Kind, UserID: r.UserID, Label: r.Label, Reason: r.Reason,
		OrderedBy:       orderer{Authority: r.Authority, UserID: r.OrderedByUser, APIKeyID: r.OrderedByAPIKey},
		CompletedAt:     r.CompletedAt.UTC(),
		Removed:         append([]Removed{}, r.Removed...),
		Kept:            append([]Kept{}, r.Kept...),
		BackupsExpireAt: utc(r.BackupsExpireAt),
		State:           r.State,
		LiveCompleteAt:  utc(r.LiveCompleteAt),
		FinalAt:         utc(r.FinalAt),
	}})
	return err
}

// Certificate says what was deleted of a customer, when, and on whose order: an offboarding as the
// API shows it, but for what may change afterwards.
type Certificate struct {
	ID              id.Offboarding `json:"id"`
	Customer        Customer       `json:"customer"`
	RequestedAt     time.Time      `json:"requested_at"`
	RequestedBy     id.User        `json:"requested_by"`
	ApprovedAt      *time.Time     `json:"approved_at"`
	ApprovedBy      *id.User       `json:"approved_by"`
	DeletingAt      *time.Time     `json:"deleting_at"`
	DeletedAt       *time.Time     `json:"deleted_at"`
	Removed         []Removed      `json:"removed"`
	BackupsExpireAt *time.Time     `json:"backups_expire_at"`
}

// Customer is a customer as a certificate names it.
type Customer struct {
	ID   id.Customer `json:"id"`
	Slug string      `json:"slug"`
	Name string      `json:"name"`
}

// certificateClaims is what is signed of a certificate.
type certificateClaims struct {
	Issuer      string      `json:"iss"`
	IssuedAt    int64       `json:"iat"`
	Certificate Certificate `json:"certificate"`
}

// Certify signs a certificate. It does not use the database.
func (i *Issuer) Certify(c Certificate, now time.Time) (jws string, err error) {
	return certify(i.keys.Loaded(), i.url, c, now)
}

func certify(keys signingkey.Ring, issuer string, c Certificate, now time.Time) (string, error) {
	c.RequestedAt = c.RequestedAt.UTC()
	c.ApprovedAt, c.DeletingAt, c.DeletedAt = utc(c.ApprovedAt), utc(c.DeletingAt), utc(c.DeletedAt)
	c.BackupsExpireAt = utc(c.BackupsExpireAt)
	c.Removed = append([]Removed{}, c.Removed...)
	return jws(keys, certificateType, certificateClaims{Issuer: issuer, IssuedAt: now.Unix(), Certificate: c})
}

func jws(keys signingkey.Ring, typ string, claims any) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	return keys.JWS(typ, payload)
}

func utc(at *time.Time) *time.Time {
	if at == nil {
		return nil
	}
	in := at.UTC()
	return &in
}
