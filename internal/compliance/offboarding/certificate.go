package offboarding

import (
	"encoding/json"
	"time"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/record/signingkey"
)

// Signing is what certificates are signed with, and in whose name: the keys of erasure receipts, which stay published.
type Signing struct {
	Keys   *signingkey.Store
	Issuer string // the public URL of the service
}

// certificateType is the typ of a certificate. The contract tells its form to those who verify.
const certificateType = "steward-offboarding-certificate+jws"

// claims is what is signed.
type claims struct {
	Issuer      string      `json:"iss"`
	IssuedAt    int64       `json:"iat"`
	Certificate certificate `json:"certificate"`
}

// certificate is an offboarding as the API shows it, but for what may change afterwards.
type certificate struct {
	ID              id.Offboarding    `json:"id"`
	Customer        certified         `json:"customer"`
	RequestedAt     time.Time         `json:"requested_at"`
	RequestedBy     id.User           `json:"requested_by"`
	ApprovedAt      *time.Time        `json:"approved_at"`
	ApprovedBy      *id.User          `json:"approved_by"`
	DeletingAt      *time.Time        `json:"deleting_at"`
	DeletedAt       *time.Time        `json:"deleted_at"`
	Removed         []certifiedCounts `json:"removed"`
	BackupsExpireAt *time.Time        `json:"backups_expire_at"`
}

type certified struct {
	ID   id.Customer `json:"id"`
	Slug string      `json:"slug"`
	Name string      `json:"name"`
}

type certifiedCounts struct {
	Store string `json:"store"`
	Count int64  `json:"count"`
}

// certificate signs what was deleted. It asks no database.
func (s *Service) certificate(of Offboarding, now time.Time) (string, error) {
	in := certificate{
		ID: of.ID, Customer: certified{of.Customer, of.Slug, of.Name}, RequestedAt: of.RequestedAt.UTC(), RequestedBy: of.RequestedBy, ApprovedAt: utc(of.ApprovedAt),
		ApprovedBy: of.ApprovedBy, DeletingAt: utc(of.DeletingAt), DeletedAt: utc(of.DeletedAt), Removed: make([]certifiedCounts, len(of.Removed)),
		BackupsExpireAt: utc(of.BackupsExpireAt),
	}
	for i, one := range of.Removed {
		in.Removed[i] = certifiedCounts(one)
	}
	payload, err := json.Marshal(claims{Issuer: s.signing.Issuer, IssuedAt: now.Unix(), Certificate: in})
	if err != nil {
		return "", err
	}
	return s.signing.Keys.Loaded().JWS(certificateType, payload)
}

func utc(at *time.Time) *time.Time {
	if at == nil {
		return nil
	}
	in := at.UTC()
	return &in
}
