package postgres

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
)

// SchemaHash names the schema that MigrateUp makes: the SHA-256, in hex, of the names and contents of all migrations and the
// version of the tables of jobs. Whoever keeps a migrated
// database for later, as the tests do, learns from it whether that one is still the right one.
func SchemaHash() (string, error) {
	hash := sha256.New()
	fmt.Fprintf(hash, "%s %d\n", queueStep, queueVersion)
	err := fs.WalkDir(migrations, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := migrations.ReadFile(path)
		if err != nil {
			return err
		}
		// The length keeps the end of one file apart from the beginning of the next.
		fmt.Fprintf(hash, "%s %d\n%s", path, len(text), text)
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("postgres: reading the migrations: %w", err)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}
