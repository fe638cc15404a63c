package offboarding

import (
	"archive/zip"
	"compress/flate"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"filippo.io/age"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/compliance/subjectrequest"
	"github.com/fusionspim/steward/internal/infra/blob"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

const (
	// format is the version of a bundle's format. It changes when a program that reads bundles
	// would have to.
	format = "steward-customer-bundle/1"

	prefix     = "offboardings/" // of the names of objects
	keyLabel   = "offboarding bundle"
	rowsRead   = 1000 // by one statement
	makeWithin = 30 * time.Minute
)

func folder(of id.Customer) string { return prefix + of.String() + "/" }

func objectName(of id.Customer, bundle id.Bundle) string {
	return folder(of) + bundle.String() + ".age"
}

// manifest says what is in a bundle, and what is not and why. It is written last, when all rows are
// counted.
type manifest struct {
	Format        string          `json:"format"`
	OffboardingID string          `json:"offboarding_id"`
	Customer      manifestOf      `json:"customer"`
	BegunAt       time.Time       `json:"begun_at"`
	MadeAt        time.Time       `json:"made_at"`
	Note          string          `json:"note"`
	Stores        []manifestStore `json:"stores"`
}

type manifestOf struct {
	ID   string `json:"id"`
	Slug string `json:"slug"`
	Name string `json:"name"`
}

type manifestStore struct {
	Store    string             `json:"store"`
	File     string             `json:"file"`
	Rows     int64              `json:"rows"`
	Members  []string           `json:"members"`
	Withheld []manifestWithheld `json:"withheld"`
}

type manifestWithheld struct {
	Member      string        `json:"member"`
	Why         inventory.Why `json:"why"`
	Explanation string        `json:"explanation"`
}

const note = "The stores were read one after the other while the customer worked on, between begun_at and made_at. " +
	"Each file has one JSON object in a line for each row."

// makeBundle makes a bundle that replaces the one before. Memory is bounded: rows are streamed
// through compression and encryption into the blob store.
func (s *Service) makeBundle(ctx context.Context, of Offboarding) error {
	ctx, cancel := context.WithTimeout(ctx, makeWithin)
	defer cancel()
	made := Bundle{ID: id.New[id.Bundle](), Recipient: of.Recipient}
	to, sealed, err := s.recipient(of, made.ID)
	if err != nil {
		return err
	}
	reader, writer := io.Pipe()
	counted := &counter{}
	go func() { writer.CloseWithError(s.write(ctx, of, to, writer, counted)) }()
	name := objectName(of.Customer, made.ID)
	if err := s.objects.Create(ctx, name, reader); err != nil {
		_ = reader.CloseWithError(err) // ends the writer
		return err
	}
	if made.MadeAt, made.Size = s.db.Now(), counted.plain; of.Recipient != nil {
		made.Size = counted.encrypted
	}
	err = s.db.InCustomer(ctx, of.Customer, func(tx *postgres.Tx) error {
		_, err := setBundle(tx, of, made, sealed)
		return err
	})
	if fault.Is(err, fault.ResourceNotFound) { // it was cancelled, or a person was erased
		return s.objects.Delete(ctx, name)
	}
	if err != nil {
		return err
	}
	return s.deleteBundles(ctx, of.Customer, name)
}

// recipient returns what a bundle is encrypted to: the customer's key, or one that is made for this
// bundle and stored sealed.
func (s *Service) recipient(of Offboarding, bundle id.Bundle) (to age.Recipient, sealed []byte, err error) {
	if of.Recipient != nil {
		to, err = subjectrequest.ParseRecipient(*of.Recipient)
		return to, nil, err
	}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, nil, err
	}
	return identity.Recipient(), s.box.Seal(keyLabel, []byte(identity.String()), bundle.UUID[:]), nil
}

// counter counts the bytes of a bundle.
type counter struct{ plain, encrypted int64 }

type counting struct {
	to    io.Writer
	count *int64
}

// Write implements io.Writer.
func (c counting) Write(content []byte) (int, error) {
	n, err := c.to.Write(content)
	*c.count += int64(n)
	return n, err
}

func (s *Service) write(
	ctx context.Context, of Offboarding, to age.Recipient, into io.Writer, counted *counter,
) error {
	encrypted, err := age.Encrypt(counting{into, &counted.encrypted}, to)
	if err != nil {
		return err
	}
	file := zip.NewWriter(counting{encrypted, &counted.plain})
	file.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) {
		return flate.NewWriter(w, flate.BestSpeed)
	})
	about := manifest{
		Format: format, OffboardingID: of.ID.String(), Customer: manifestOf{of.Customer.String(), of.Slug, of.Name},
		BegunAt: s.db.Now(), Note: note, Stores: []manifestStore{},
	}
	for _, store := range s.leaving {
		if store.Leave.NoCopy {
			continue
		}
		entry, err := s.writeStore(ctx, of.Customer, store, file)
		if err != nil {
			return err
		}
		about.Stores = append(about.Stores, entry)
	}
	about.MadeAt = s.db.Now()
	text, err := json.MarshalIndent(about, "", "  ")
	if err != nil {
		return err
	}
	last, err := file.CreateHeader(&zip.FileHeader{Name: "manifest.json", Method: zip.Deflate, Modified: about.MadeAt})
	if err != nil {
		return err
	}
	if _, err := last.Write(append(text, '\n')); err != nil {
		return err
	}
	return errors.Join(file.Close(), encrypted.Close())
}

func (s *Service) writeStore(
	ctx context.Context, of id.Customer, store postgres.Store, file *zip.Writer,
) (entry manifestStore, err error) {
	entry = manifestStore{
		Store: store.Table, File: "stores/" + store.Table + ".jsonl", Members: store.ShownToCustomer(),
		Withheld: []manifestWithheld{},
	}
	for _, w := range store.WithheldFromCustomer() {
		entry.Withheld = append(entry.Withheld, manifestWithheld{w.Column, w.Why, w.Why.Explained()})
	}
	into, err := file.CreateHeader(&zip.FileHeader{Name: entry.File, Method: zip.Deflate, Modified: s.db.Now()})
	if err != nil {
		return entry, err
	}
	var after []string
	for count := rowsRead; count == rowsRead; {
		if err := ctx.Err(); err != nil {
			return entry, err
		}
		var rows []json.RawMessage
		err := s.db.InCustomerAutocommit(ctx, of, func(tx *postgres.Tx) (err error) {
			var last []string
			if rows, last, err = page(tx, store, entry.Members, after, rowsRead); len(rows) > 0 {
				after = last
			}
			return err
		})
		if err != nil {
			return entry, fmt.Errorf("offboarding: reading %s: %w", store.Table, err)
		}
		for _, row := range rows {
			if _, err := into.Write(append(row, '\n')); err != nil {
				return entry, err
			}
		}
		entry.Rows += int64(len(rows))
		if count = len(rows); len(store.Key) == 0 { // a store of one row
			break
		}
	}
	return entry, nil
}

// open opens a bundle for the customer: as it is where it is encrypted to the customer's key, and
// decrypted otherwise.
func (s *Service) open(ctx context.Context, of Offboarding, sealed []byte) (io.ReadCloser, error) {
	content, err := s.objects.Open(ctx, objectName(of.Customer, of.Bundle.ID))
	if errors.Is(err, blob.ErrNotFound) {
		return nil, err
	}
	if err != nil {
		f := fault.Because(
			err,
			fault.ServiceUnavailable,
			"The store of bundles does not answer. Try again in a moment.",
		)
		f.RetryAfter = 5 * time.Second
		return nil, f
	}
	if sealed == nil {
		return content, nil
	}
	plain, err := s.decrypt(of.Bundle.ID, content, sealed)
	if err != nil {
		return nil, errors.Join(err, content.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{plain, content}, nil
}

func (s *Service) decrypt(bundle id.Bundle, content io.Reader, sealed []byte) (io.Reader, error) {
	text, err := s.box.Open(keyLabel, sealed, bundle.UUID[:])
	if err != nil {
		return nil, err
	}
	identity, err := age.ParseX25519Identity(string(text))
	if err != nil {
		// the library's error repeats it
		return nil, errors.New("offboarding: the key of a bundle is invalid")
	}
	return age.Decrypt(content, identity)
}

// deleteBundles deletes every bundle of a customer but one, also those that the database does not
// refer to.
func (s *Service) deleteBundles(ctx context.Context, of id.Customer, but string) error {
	return s.deleteObjects(ctx, folder(of), but)
}

// deleteObjects deletes every object of a folder but one.
func (s *Service) deleteObjects(ctx context.Context, folder, but string) error {
	var names []string
	for info, err := range s.objects.List(ctx, folder, "") {
		if err != nil {
			return err
		}
		if info.Name != but {
			names = append(names, info.Name)
		}
	}
	for _, name := range names {
		if err := s.objects.Delete(ctx, name); err != nil {
			return err
		}
	}
	return nil
}
