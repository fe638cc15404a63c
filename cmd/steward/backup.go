package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/fusionspim/steward/internal/app"
	"github.com/fusionspim/steward/internal/base/clock"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/infra/blob"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/seal"
	"github.com/fusionspim/steward/internal/record/backup"
	"github.com/fusionspim/steward/internal/record/ledger"
)

// blobSettings configure the object store.
type blobSettings struct {
	BlobURL           string           `name:"blob-url" env:"STEWARD_BLOB_URL" placeholder:"URL" help:"Object store for what must survive the database: file:///absolute/folder or s3://bucket/prefix?region=…&endpoint=…"`
	BlobAccessKey     string           `name:"blob-access-key" env:"STEWARD_BLOB_ACCESS_KEY" placeholder:"KEY" help:"Access key of the bucket. Default: the standard AWS variables, files and roles."`
	BlobSecretKey     sensitive.String `name:"blob-secret-key" env:"STEWARD_BLOB_SECRET_KEY" placeholder:"KEY" help:"Secret key of the bucket."`
	BlobSecretKeyFile string           `name:"blob-secret-key-file" env:"STEWARD_BLOB_SECRET_KEY_FILE" placeholder:"FILE" help:"File with the secret key of the bucket."`
}

// store opens the object store.
func (b blobSettings) store() (blob.Store, error) {
	if b.BlobURL == "" {
		return nil, errors.New(
			"STEWARD_BLOB_URL is not set: what must survive the database needs a place, such as file:///var/lib/steward/blobs or s3://bucket/prefix?region=eu-west-2",
		)
	}
	settings := blob.Settings{URL: b.BlobURL, AccessKey: b.BlobAccessKey}
	if !b.BlobSecretKey.IsEmpty() || b.BlobSecretKeyFile != "" {
		var err error
		if settings.SecretKey, err = secret(
			"STEWARD_BLOB_SECRET_KEY",
			b.BlobSecretKey,
			b.BlobSecretKeyFile,
		); err != nil {
			return nil, err
		}
	}
	store, err := blob.Open(settings)
	if err != nil {
		return nil, fmt.Errorf("STEWARD_BLOB_URL: %w", err)
	}
	return store, nil
}

// backupSettings configure backups.
type backupSettings struct {
	BackupRecipients      []string         `name:"backup-recipients" env:"STEWARD_BACKUP_RECIPIENTS" placeholder:"AGE1...,..." help:"age recipients that backups are encrypted to; steward backup keygen creates one. Without any, no backups are made."`
	BackupDatabaseURL     sensitive.String `name:"backup-database-url" env:"STEWARD_BACKUP_DATABASE_URL" placeholder:"URL" help:"The database as a user with BYPASSRLS and pg_read_all_data, for pg_dump."`
	BackupDatabaseURLFile string           `name:"backup-database-url-file" env:"STEWARD_BACKUP_DATABASE_URL_FILE" placeholder:"FILE" help:"File with that URL."`
	BackupDays            int              `name:"backup-days" env:"STEWARD_BACKUP_DAYS" default:"35" help:"Days to keep a backup."`
	BackupEvery           time.Duration    `name:"backup-every" env:"STEWARD_BACKUP_EVERY" default:"24h" help:"Interval between automatic backups; 0 disables them."`
	PGBin                 string           `name:"pg-bin" env:"STEWARD_PG_BIN" placeholder:"DIR" help:"Folder of pg_dump and pg_restore. Default: searched for."`
}

func (b backupSettings) read() (settings backup.Settings, err error) {
	switch {
	case b.BackupDays < 1 || b.BackupDays > 3650:
		return settings, errors.New("STEWARD_BACKUP_DAYS must be from 1 to 3650")
	case b.BackupEvery != 0 && b.BackupEvery < time.Hour:
		return settings, errors.New("STEWARD_BACKUP_EVERY must be an hour at least, or 0")
	}
	settings = backup.Settings{
		Kept:     time.Duration(b.BackupDays) * 24 * time.Hour,
		Every:    b.BackupEvery,
		Programs: b.PGBin,
		Stores:   app.Stores(),
	}
	if settings.Recipients, err = backup.ParseRecipients(b.BackupRecipients); err != nil {
		return settings, fmt.Errorf("STEWARD_BACKUP_RECIPIENTS: %w", err)
	}
	if !b.BackupDatabaseURL.IsEmpty() || b.BackupDatabaseURLFile != "" {
		settings.DatabaseURL, err = secret("STEWARD_BACKUP_DATABASE_URL", b.BackupDatabaseURL, b.BackupDatabaseURLFile)
	}
	return settings, err
}

// identitySettings configure what decrypts backups.
type identitySettings struct {
	BackupIdentityFile string `name:"backup-identity-file" env:"STEWARD_BACKUP_IDENTITY_FILE" placeholder:"FILE" help:"File with the age identities that decrypt backups. The service itself needs none."`
}

// vaultSettings configure the store of the backups and what authenticates their catalogue.
type vaultSettings struct {
	blobSettings  `embed:""`
	MasterKey     sensitive.String `name:"master-key" env:"STEWARD_MASTER_KEY" placeholder:"KEY" help:"Master key of the service."`
	MasterKeyFile string           `name:"master-key-file" env:"STEWARD_MASTER_KEY_FILE" placeholder:"FILE" help:"File with the master key."`
}

func (v vaultSettings) vault() (backup.Vault, error) {
	key, err := secret("STEWARD_MASTER_KEY", v.MasterKey, v.MasterKeyFile)
	if err != nil {
		return backup.Vault{}, err
	}
	box, err := seal.ParseMasterKey(key)
	if err != nil {
		return backup.Vault{}, err
	}
	store, err := v.store()
	return backup.Vault{Store: store, Box: box}, err
}

// backupCommand creates, manages and restores backups.
type backupCommand struct {
	Create  backupCreate  `cmd:"" help:"Create a backup now."`
	List    backupList    `cmd:"" help:"List the backups, newest first."`
	Verify  backupVerify  `cmd:"" help:"Verify a backup by reading all of it."`
	Restore backupRestore `cmd:"" help:"Restore a backup into a database."`
	Expire  backupExpire  `cmd:"" help:"Reconcile the catalogue with the store, and delete expired backups."`
	Keygen  backupKeygen  `cmd:"" help:"Generate a key pair for backups."`
}

// backupDocument is a backup as the commands print it.
type backupDocument struct {
	backup.Backup
	SHA256 string `json:"sha256"`
}

func documentOf(b backup.Backup) backupDocument {
	return backupDocument{Backup: b, SHA256: hex.EncodeToString(b.SHA256)}
}

func documentsOf(backups []backup.Backup) []backupDocument {
	documents := make([]backupDocument, len(backups))
	for i, b := range backups {
		documents[i] = documentOf(b)
	}
	return documents
}

// onBackups opens the backups of a database.
func onBackups(
	s surroundings,
	database databaseSettings,
	logs logSettings,
	vaultOf vaultSettings,
	how backupSettings,
	work func(*backup.Service) error,
) error {
	vault, err := vaultOf.vault()
	if err != nil {
		return err
	}
	settings, err := how.read()
	if err != nil {
		return err
	}
	return onDatabase(s, database, logs, func(db *postgres.DB) error {
		log := logs.logger(s.err)
		book := ledger.New(vault.Store, vault.Box, clock.System(), log)
		defer book.Close()
		return work(backup.NewService(db, vault, nil, book, settings, log))
	})
}

type backupCreate struct {
	databaseSettings `embed:""`
	logSettings      `embed:""`
	vaultSettings    `embed:""`
	backupSettings   `embed:""`
	JSON             bool `name:"json" help:"Print one JSON document."`
}

// Help implements kong.HelpProvider.
func (backupCreate) Help() string {
	return `pg_dump, of the server's version or newer, dumps one snapshot as the user of
STEWARD_BACKUP_DATABASE_URL, encrypted to STEWARD_BACKUP_RECIPIENTS on its way to the store. The service
creates a backup every STEWARD_BACKUP_EVERY by itself. Two cannot run at the same time.`
}

// Run creates a backup.
func (c backupCreate) Run(s surroundings) error {
	return onBackups(
		s,
		c.databaseSettings,
		c.logSettings,
		c.vaultSettings,
		c.backupSettings,
		func(backups *backup.Service) error {
			made, err := backups.Create(s.context)
			if err != nil {
				return plain(err)
			}
			if c.JSON {
				return s.print(documentOf(made))
			}
			fmt.Fprintf(
				s.out,
				"made the backup %s of %d bytes; it is deleted on %s\n",
				made.ID,
				*made.Size,
				made.ExpiresAt.Format(time.RFC3339),
			)
			return nil
		},
	)
}

type backupList struct {
	databaseSettings `embed:""`
	logSettings      `embed:""`
	vaultSettings    `embed:""`
	FromStore        bool `name:"from-store" help:"List the backups in the store without the database; also the fallback when the database is unavailable."`
	JSON             bool `name:"json" help:"Print one JSON document."`
}

// Run lists.
func (c backupList) Run(s surroundings) error {
	vault, err := c.vault()
	if err != nil {
		return err
	}
	var all []backup.Backup
	if !c.FromStore {
		err = onDatabase(s, c.databaseSettings, c.logSettings, func(db *postgres.DB) error {
			all, err = backup.NewService(db, vault, nil, nil, backup.Settings{}, c.logger(s.err)).
				List(s.context, id.Backup{}, mostListed)
			return err
		})
		if err != nil {
			c.logger(s.err).Warn("the catalogue cannot be asked; this is what lies in the store", "error", err)
		}
	}
	if c.FromStore || err != nil {
		if all, err = vault.List(s.context); err != nil {
			return err
		}
	}
	if c.JSON {
		return s.print(map[string]any{"data": documentsOf(all)})
	}
	for _, b := range all {
		size := "-"
		if b.Size != nil {
			size = fmt.Sprint(*b.Size)
		}
		fmt.Fprintf(
			s.out,
			"%s  %-9s  taken %s  expires %s  %12s bytes\n",
			b.ID,
			b.State,
			b.TakenAt.Format(time.RFC3339),
			b.ExpiresAt.Format(time.RFC3339),
			size,
		)
	}
	if len(all) == 0 {
		fmt.Fprintln(s.out, "there is no backup")
	}
	return nil
}

// mostListed bounds the list: ten years of daily backups.
const mostListed = 4000

type backupVerify struct {
	logSettings      `embed:""`
	vaultSettings    `embed:""`
	identitySettings `embed:""`
	PGBin            string `name:"pg-bin" env:"STEWARD_PG_BIN" placeholder:"DIR" help:"Folder of pg_dump and pg_restore. Default: searched for."`
	ID               string `arg:"" help:"The backup."`
	JSON             bool   `name:"json" help:"Print one JSON document."`
}

// Help implements kong.HelpProvider.
func (backupVerify) Help() string {
	return `Checks that the catalogue entry is authentic, that the object is the one it describes, and that
pg_restore can read all of it. Restores nothing and needs no database.`
}

// Run verifies.
func (c backupVerify) Run(s surroundings) error {
	chosen, vault, identities, err := c.prepare(c.ID, c.vaultSettings)
	if err != nil {
		return err
	}
	done, err := vault.Verify(s.context, chosen, identities, c.PGBin)
	if err != nil {
		return err
	}
	if c.JSON {
		return s.print(map[string]any{"backup": documentOf(done.Backup), "objects": done.Objects, "good": true})
	}
	fmt.Fprintf(
		s.out,
		"the backup %s is good: %d bytes, %d objects of the database\n",
		chosen,
		*done.Backup.Size,
		done.Objects,
	)
	return nil
}

// prepare reads what both verify and restore need.
func (i identitySettings) prepare(
	text string,
	vaultOf vaultSettings,
) (chosen id.Backup, vault backup.Vault, identities backup.Identities, err error) {
	if chosen, err = id.Parse[id.Backup](text); err != nil {
		return chosen, vault, nil, errors.New("the id of a backup is a UUID, as steward backup list prints it")
	}
	if vault, err = vaultOf.vault(); err != nil {
		return chosen, vault, nil, err
	}
	if i.BackupIdentityFile == "" {
		return chosen, vault, nil, errors.New(
			"STEWARD_BACKUP_IDENTITY_FILE is not set: a backup is opened with the identities of its recipients",
		)
	}
	content, err := os.ReadFile(i.BackupIdentityFile)
	if err != nil {
		return chosen, vault, nil, fmt.Errorf("STEWARD_BACKUP_IDENTITY_FILE: %w", err)
	}
	if identities, err = backup.ParseIdentities(string(content)); err != nil {
		return chosen, vault, nil, fmt.Errorf("STEWARD_BACKUP_IDENTITY_FILE: %w", err)
	}
	return chosen, vault, identities, nil
}

type backupRestore struct {
	logSettings      `embed:""`
	vaultSettings    `embed:""`
	identitySettings `embed:""`
	PGBin            string           `name:"pg-bin" env:"STEWARD_PG_BIN" placeholder:"DIR" help:"Folder of pg_dump and pg_restore. Default: searched for."`
	ID               string           `arg:"" help:"The backup."`
	Into             sensitive.String `name:"into" env:"STEWARD_RESTORE_DATABASE_URL" placeholder:"DATABASE_URL" help:"Database to restore into, as the user who will own the tables. Prefer the variable for a URL with a password."`
	Replace          bool             `name:"replace" help:"Overwrite the database. Without it, a database that is not empty is refused."`
	JSON             bool             `name:"json" help:"Print one JSON document."`
}

// Help implements kong.HelpProvider.
func (backupRestore) Help() string {
	return `The whole backup is read and verified before the database is touched. Sessions, mailed links,
remembered answers and queued jobs are not restored, and the schema is migrated to this program's
version. The database records that it was restored: "steward serve" first replays every erasure since
then from the ledger.`
}

// Run restores.
func (c backupRestore) Run(s surroundings) error {
	if c.Into.IsEmpty() {
		return errors.New(
			"name the database to restore into: --into postgres://user:password@host:5432/database, or STEWARD_RESTORE_DATABASE_URL",
		)
	}
	chosen, vault, identities, err := c.prepare(c.ID, c.vaultSettings)
	if err != nil {
		return err
	}
	done, err := backup.Restore(s.context, backup.RestoreSettings{
		Vault:      vault,
		Identities: identities,
		Into:       c.Into,
		Replace:    c.Replace,
		Programs:   c.PGBin,
		Stores:     app.Stores(),
		Clock:      clock.System(),
		Log:        c.logger(s.err),
	}, chosen)
	if err != nil {
		return err
	}
	if c.JSON {
		return s.print(map[string]any{"id": done.ID, "backup": documentOf(done.Backup), "restored_at": done.RestoredAt})
	}
	fmt.Fprintf(
		s.out,
		"restored the backup %s, taken at %s; steward serve does again what was erased since\n",
		chosen,
		done.Backup.TakenAt.Format(time.RFC3339),
	)
	return nil
}

type backupExpire struct {
	databaseSettings `embed:""`
	logSettings      `embed:""`
	vaultSettings    `embed:""`
	IDs              []string `arg:"" optional:"" name:"id" help:"Backups to delete now, before they expire."`
	JSON             bool     `name:"json" help:"Print one JSON document."`
}

// Help implements kong.HelpProvider.
func (backupExpire) Help() string {
	return `Deletes backups at most an hour before they expire, and verifies that they can no longer be read.
Reports every difference between the store and the catalogue, and fails if there is one. The service
does this by itself.`
}

// Run reconciles and expires.
func (c backupExpire) Run(s surroundings) error {
	var chosen []id.Backup
	for _, text := range c.IDs {
		one, err := id.Parse[id.Backup](text)
		if err != nil {
			return errors.New("the id of a backup is a UUID, as steward backup list prints it")
		}
		chosen = append(chosen, one)
	}
	return onBackups(
		s,
		c.databaseSettings,
		c.logSettings,
		c.vaultSettings,
		backupSettings{BackupDays: 1},
		func(backups *backup.Service) error {
			for _, one := range chosen {
				if err := backups.Delete(s.context, one); err != nil {
					return fmt.Errorf("the backup %s: %w", one, plain(err))
				}
			}
			differences, err := backups.Compare(s.context)
			if err != nil {
				return err
			}
			expired, err := backups.Expire(s.context)
			if err != nil {
				return err
			}
			if c.JSON {
				if chosen == nil {
					chosen = []id.Backup{}
				}
				err = s.print(map[string]any{"expired": expired, "deleted": chosen, "differences": differences})
			} else {
				fmt.Fprintf(
					s.out,
					"deleted %d backups whose time has come, and %d before their time\n",
					len(expired),
					len(chosen),
				)
				for _, one := range differences {
					fmt.Fprintf(s.out, "%s: %s\n", one.Kind, one.Object)
				}
			}
			if err == nil && len(differences) > 0 {
				err = fmt.Errorf("the store is not as in the catalogue in %d places", len(differences))
			}
			return err
		},
	)
}

type backupKeygen struct {
	Out  string `name:"out" placeholder:"FILE" help:"Write the identity to a new file that only its owner can read, instead of printing it."`
	JSON bool   `name:"json" help:"Print one JSON document."`
}

// Help implements kong.HelpProvider.
func (backupKeygen) Help() string {
	return `Put the recipient into STEWARD_BACKUP_RECIPIENTS of the service. The identity decrypts every backup made
for it: keep it away from the service, and in more than one place, for without it no backup can be
restored.`
}

// Run generates a key pair.
func (c backupKeygen) Run(s surroundings) error {
	recipient, identity, err := backup.NewKey()
	if err != nil {
		return err
	}
	document := map[string]any{"recipient": recipient, "identity_file": c.Out}
	if c.Out == "" {
		delete(document, "identity_file")
		document["identity"] = identity.Reveal()
	} else if err := writeIdentity(c.Out, identity); err != nil {
		return err
	}
	if c.JSON {
		return s.print(document)
	}
	fmt.Fprintf(s.out, "# recipient: %s\n", recipient)
	if c.Out == "" {
		fmt.Fprintln(s.out, identity.Reveal())
	}
	return nil
}

// writeIdentity creates a file and never overwrites one: an overwritten identity would take its
// backups with it.
func writeIdentity(path string, identity sensitive.String) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, strings.NewReader(identity.Reveal()+"\n"))
	return errors.Join(err, file.Sync(), file.Close())
}
