package apptest

import (
	"sync"
	"testing"
	"time"

	"github.com/fusionspim/steward/internal/app"
	"github.com/fusionspim/steward/internal/record/backup"
)

// backupKey is made once for all tests.
var backupKey = sync.OnceValues(func() (recipient, identity string) {
	recipient, secret, err := backup.NewKey()
	if err != nil {
		panic(err) // of the machine, not of a test
	}
	return recipient, secret.Reveal()
})

// BackupIdentities open the backups of every service under test.
func BackupIdentities(t testing.TB) backup.Identities {
	t.Helper()
	_, identity := backupKey()
	identities, err := backup.ParseIdentities(identity)
	if err != nil {
		t.Fatal(err)
	}
	return identities
}

// BackupSettings make backups that are kept for 35 days, when somebody asks for one.
func BackupSettings(t testing.TB, settings app.Settings) backup.Settings {
	t.Helper()
	recipient, _ := backupKey()
	recipients, err := backup.ParseRecipients([]string{recipient})
	if err != nil {
		t.Fatal(err)
	}
	return backup.Settings{Kept: 35 * 24 * time.Hour, Recipients: recipients, DatabaseURL: settings.DatabaseURL}
}

// WithBackups gives a service what making backups takes.
func WithBackups(t testing.TB) func(*app.Settings) {
	t.Helper()
	return func(settings *app.Settings) { settings.Backups = BackupSettings(t, *settings) }
}
