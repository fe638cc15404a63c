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
	Verify    receiptVerify    `cmd:"" help:"Check that an erasure receipt is as it was signed."`
	RotateKey receiptRotateKey `cmd:"" name:"rotate-key" help:"Make a new key that signs receipts; the old ones stay published."`
}

type receiptRotateKey struct {
	rotateProofKey `embed:""`
}

// Help implements kong.HelpProvider.
func (receiptRotateKey) Help() string {
	return `The new key is published at /.well-known/jwks.json at once and signs a minute later. Receipts that the old ones signed stay good. Before it signs, a replica keeps
it under STEWARD_BLOB_URL too, sealed, so that it is there again after a restore.`
}

// Run rotates.
func (c receiptRotateKey) Run(s surroundings) error { return c.rotate(s, signingkey.Receipt) }

type receiptVerify struct {
	File      string `arg:"" help:"The receipt: the answer of GET /v1/erasure-receipts/{id}, or the member jws of it alone; or the certificate of a customer's offboarding. - reads standard input."`
	Keys      string `name:"keys" placeholder:"FILE-OR-URL" help:"The public keys: a copy of /.well-known/jwks.json that you trust, or a service to fetch them from. By default the service at the public URL."`
	PublicURL string `name:"public-url" env:"STEWARD_PUBLIC_URL" placeholder:"URL" help:"The service to fetch the keys from, where --keys is not given."`
	JSON      bool   `name:"json" help:"Print one JSON document."`
}

// Help implements kong.HelpProvider.
func (receiptVerify) Help() string {
	return `The signature is checked with the published keys, and every member of the receipt is compared with what was signed. What is wrong is named. Ends with 1 if anything is.
With --keys FILE nobody is asked and nothing is sent.`
}

// receiptReport is what the check found.
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

// Run checks.
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

// checkReceipt checks a receipt, and says of what it is.
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

// checkCertificate checks the certificate that a customer was deleted, and says of whom it is.
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

// fail says what is wrong.
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

// keys reads the public keys from the file, or fetches them from the service.
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

// readBounded reads a file, or standard input for -, that should not be large.
func readBounded(path string, most int64) ([]byte, error) {
	file := os.Stdin
	if path != "-" {
		opened, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer opened.Close() //nolint:errcheck // it was only read
		file = opened
	}
	content, err := io.ReadAll(io.LimitReader(file, most+1))
	if err == nil && int64(len(content)) > most {
		err = fmt.Errorf("%s is larger than %d bytes", path, most)
	}
	return content, err
}
