package client

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// CertificateType is the typ of the certificate that a customer was deleted.
const CertificateType = "steward-offboarding-certificate+jws"

// SignedCertificate is a certificate whose signature was verified.
type SignedCertificate struct {
	Issuer      string      // the service that signed it, by its public URL
	SignedAt    time.Time   // to the second
	KeyID       string      // with which key of /.well-known/jwks.json
	Certificate Certificate // as it was signed
}

// Certificate says that everything of a customer was deleted, on whose order, when, and by when no
// backup holds any of it.
type Certificate struct {
	ID              uuid.UUID          `json:"id"`
	Customer        OffboardedCustomer `json:"customer"`
	RequestedAt     time.Time          `json:"requested_at"`
	RequestedBy     uuid.UUID          `json:"requested_by"`
	ApprovedAt      time.Time          `json:"approved_at"`
	ApprovedBy      uuid.UUID          `json:"approved_by"`
	DeletingAt      time.Time          `json:"deleting_at"`
	DeletedAt       time.Time          `json:"deleted_at"`
	Removed         []StoreCount       `json:"removed"`
	BackupsExpireAt *time.Time         `json:"backups_expire_at"`
}

// VerifyCertificate verifies the certificate of an offboarding without asking anybody, as
// [VerifyReceipt] does with a receipt. document is the JWS alone, or the whole answer of GET
// /v1/operator/offboardings/{id}, of which every member that was signed is compared.
//
// Errors: [ErrReceiptForm], [ErrReceiptKey], [ErrReceiptSignature], [ErrReceiptDiffers], each with
// what is wrong.
func VerifyCertificate(document []byte, keys SigningKeys) (SignedCertificate, error) {
	document = bytes.Trim(document, " \t\r\n")
	jws, shown := string(document), map[string]any(nil)
	if bytes.HasPrefix(document, []byte("{")) {
		var err error
		if shown, err = strictObject(document); err != nil {
			return SignedCertificate{}, malformedReceipt(err.Error())
		}
		var ok bool
		if jws, ok = shown["jws"].(string); !ok {
			return SignedCertificate{}, malformedReceipt("it has no member jws")
		}
	}
	proof, signed, err := verifyProof(jws, keys, CertificateType, "certificate")
	if err != nil {
		return SignedCertificate{}, err
	}
	verified := SignedCertificate{Issuer: proof.issuer, SignedAt: proof.signedAt, KeyID: proof.keyID}
	if err := reread(signed, &verified.Certificate); err != nil {
		return SignedCertificate{}, malformedReceipt("the payload of the JWS holds no certificate")
	}
	if shown == nil {
		return verified, nil
	}
	var differing []string
	for name, value := range signed {
		if there, both := shown[name]; !both || !reflect.DeepEqual(value, there) {
			differing = append(differing, name)
		}
	}
	if shown["state"] != "deleted" {
		differing = append(differing, "state")
	}
	if len(differing) > 0 {
		slices.Sort(differing)
		return SignedCertificate{}, &ReceiptDifference{differing}
	}
	return verified, nil
}

// IsCertificate reports whether a document is, or holds, a certificate and not a receipt. It
// verifies nothing.
func IsCertificate(document []byte) bool {
	document = bytes.Trim(document, " \t\r\n")
	jws := string(document)
	if bytes.HasPrefix(document, []byte("{")) {
		shown, err := strictObject(document)
		if err != nil {
			return false
		}
		jws, _ = shown["jws"].(string)
	}
	head, _, _ := strings.Cut(jws, ".")
	header, err := base64.RawURLEncoding.DecodeString(head)
	return err == nil && bytes.Contains(header, []byte(fmt.Sprintf("%q", CertificateType)))
}
