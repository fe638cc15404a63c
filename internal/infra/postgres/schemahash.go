package postgres

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
)

// SchemaHash identifies the schema that MigrateUp creates: the SHA-256, in hex, of the names and
// contents of all migrations and the version of River's tables. Tests that keep a migrated database
// learn from it whether that one is still current.
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
