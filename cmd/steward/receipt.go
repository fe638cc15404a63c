package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/fusionspim/steward/internal/record/signingkey"
	"github.com/fusionspim/steward/pkg/client"
)

// receiptCommand verifies erasure receipts.
type receiptCommand struct {
	Verify    receiptVerify    `cmd:"" help:"Verify the signature of an erasure receipt."`
	RotateKey receiptRotateKey `cmd:"" name:"rotate-key" help:"Rotate the key that signs receipts. Old keys stay published."`
}

type receiptRotateKey struct {
	rotateProofKey `embed:""`
}

// Help implements kong.HelpProvider.
func (receiptRotateKey) Help() string {
	return `The new key is published at /.well-known/jwks.json within half a minute, and signs a minute after it was
created. Receipts signed by old keys stay valid. Before the key signs, it is also stored, sealed, under
STEWARD_BLOB_URL, so that it survives a restore.`
}

// Run rotates.
func (c receiptRotateKey) Run(s surroundings) error { return c.rotate(s, signingkey.Receipt) }

type receiptVerify struct {
	File      string `arg:"" help:"The receipt: the response of GET /v1/erasure-receipts/{id} or its member jws, or the certificate of an offboarding. - reads standard input."`
	Keys      string `name:"keys" placeholder:"FILE-OR-URL" help:"Public keys: a trusted copy of /.well-known/jwks.json, or a service to fetch them from. Default: the service at the public URL."`
	PublicURL string `name:"public-url" env:"STEWARD_PUBLIC_URL" placeholder:"URL" help:"Service to fetch the keys from without --keys."`
	JSON      bool   `name:"json" help:"Print one JSON document."`
}

// Help implements kong.HelpProvider.
func (receiptVerify) Help() string {
	return `Verifies the signature with the published keys, and compares every member of the receipt with what was
signed. Names every difference, and exits with 1 if there is one. With --keys FILE, nothing is sent.`
}

// receiptReport is the result of a verification.
type receiptReport struct {
	OK       bool                   `json:"ok"`
	Problem  string                 `json:"problem,omitempty"` // form, key, signature or differs
	Detail   string                 `json:"detail,omitempty"`
	Members  []string               `json:"members,omitempty"` // those that differ
	Issuer   string                 `json:"issuer,omitempty"`
	SignedAt *time.Time             `json:"signed_at,omitempty"`
	KeyID    string                 `json:"key_id,omitempty"`
	Receipt  *client.ErasureReceipt `json:"receipt,omitempty"`

	Certificate *client.Certificate `json:"certificate,omitempty"`
}

const (
	largestReceipt = 1 << 20
	largestKeys    = 1 << 20
	fetchTimeout   = 30 * time.Second
)

// Run verifies.
func (c receiptVerify) Run(s surroundings) error {
	document, err := readBounded(c.File, largestReceipt)
	if err != nil {
		return err
	}
	keys, err := c.keys(s.context)
	if err != nil {
		return err
	}
	var report receiptReport
	var of string
	if client.IsCertificate(document) {
		report, of, err = checkCertificate(document, keys)
	} else {
		report, of, err = checkReceipt(document, keys)
	}
	if report.OK = err == nil; !report.OK {
		report.fail(err)
	}
	if c.JSON {
		return errors.Join(s.print(report), err)
	}
	if err == nil {
		fmt.Fprintf(
			s.out,
			"it is as %s signed it on %s with the key %s\n%s\n",
			report.Issuer,
			report.SignedAt.Format(time.RFC3339),
			report.KeyID,
			of,
		)
	}
	return err
}

// checkReceipt verifies a receipt, and returns whom it is about.
func checkReceipt(document []byte, keys client.SigningKeys) (report receiptReport, of string, err error) {
	verified, err := client.VerifyReceipt(document, keys)
	if err != nil {
		return receiptReport{}, "", err
	}
	receipt := verified.Receipt
	return receiptReport{
			Issuer:   verified.Issuer,
			SignedAt: &verified.SignedAt,
			KeyID:    verified.KeyID,
			Receipt:  &verified.Receipt,
		},
		fmt.Sprintf(
			"receipt %s: %s of the user %s, completed on %s, then %s",
			receipt.ID,
			receipt.Kind,
			receipt.UserID,
			receipt.CompletedAt.Format(time.RFC3339),
			receipt.State,
		), nil
}

// checkCertificate verifies the certificate of a deleted customer, and returns which one.
func checkCertificate(document []byte, keys client.SigningKeys) (report receiptReport, of string, err error) {
	verified, err := client.VerifyCertificate(document, keys)
	if err != nil {
		return receiptReport{}, "", err
	}
	certificate := verified.Certificate
	return receiptReport{
			Issuer:      verified.Issuer,
			SignedAt:    &verified.SignedAt,
			KeyID:       verified.KeyID,
			Certificate: &verified.Certificate,
		},
		fmt.Sprintf(
			"certificate %s: everything of the customer %s (%s) was deleted by %s",
			certificate.ID,
			certificate.Customer.ID,
			certificate.Customer.Slug,
			certificate.DeletedAt.Format(time.RFC3339),
		), nil
}

// fail prints what is wrong.
func (r *receiptReport) fail(failed error) {
	r.Problem, r.Detail = problemOfReceipt(failed), failed.Error()
	var difference *client.ReceiptDifference
	if errors.As(failed, &difference) {
		r.Members = difference.Members
	}
}

func problemOfReceipt(err error) string {
	switch {
	case errors.Is(err, client.ErrReceiptKey):
		return "key"
	case errors.Is(err, client.ErrReceiptSignature):
		return "signature"
	case errors.Is(err, client.ErrReceiptDiffers):
		return "differs"
	}
	return "form"
}

// keys loads the public keys from the file, or fetches them from the service.
func (c receiptVerify) keys(ctx context.Context) (keys client.SigningKeys, err error) {
	from := c.Keys
	if from == "" {
		from = c.PublicURL
	}
	switch {
	case from == "":
		return keys, errors.New(
			"there are no keys to check with: give --keys, or STEWARD_PUBLIC_URL to fetch them from",
		)
	case strings.HasPrefix(from, "https://"), strings.HasPrefix(from, "http://"):
		service, err := client.New(strings.TrimSuffix(from, "/.well-known/jwks.json"))
		if err != nil {
			return keys, err
		}
		ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
		defer cancel()
		if keys, err = service.SigningKeys(ctx); err != nil {
			return keys, fmt.Errorf("fetching the keys: %w", err)
		}
		return keys, nil
	case c.Keys == "":
		return keys, checkPublicURL(c.PublicURL)
	}
	content, err := readBounded(from, largestKeys)
	if err != nil {
		return keys, err
	}
	if json.Unmarshal(content, &keys) != nil || len(keys.Keys) == 0 {
		return keys, fmt.Errorf("%s holds no keys, such as /.well-known/jwks.json has them", from)
	}
	return keys, nil
}

// readBounded reads a small file, or standard input for -.
func readBounded(path string, most int64) ([]byte, error) {
	file := os.Stdin
	if path != "-" {
		opened, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer opened.Close()
		file = opened
	}
	content, err := io.ReadAll(io.LimitReader(file, most+1))
	if err == nil && int64(len(content)) > most {
		err = fmt.Errorf("%s is larger than %d bytes", path, most)
	}
	return content, err
}
