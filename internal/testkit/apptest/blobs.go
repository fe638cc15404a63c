package apptest

import (
	"sync"
	"testing"

	"github.com/fusionspim/steward/internal/infra/blob"
	"github.com/fusionspim/steward/internal/testkit/dbtest"
)

// folders holds the folder of the objects that go with each database: all replicas on it share one store.
var folders sync.Map

// BlobURL is the URL of the store of objects that goes with a database. It is gone when the test has ended.
func BlobURL(t testing.TB, database *dbtest.Database) string {
	t.Helper()
	if there, ok := folders.Load(database); ok {
		return there.(string)
	}
	made := "file://" + t.TempDir() + "?sync=off"
	folders.Store(database, made)
	t.Cleanup(func() { folders.Delete(database) })
	return made
}

// ShareBlobs gives a database the store of another one, as when it was restored from a backup of it.
func ShareBlobs(t testing.TB, from, to *dbtest.Database) {
	t.Helper()
	folders.Store(to, BlobURL(t, from))
	t.Cleanup(func() { folders.Delete(to) })
}

// BlobsOf is the store of objects that goes with a database.
func BlobsOf(t testing.TB, database *dbtest.Database) blob.Store {
	t.Helper()
	store, err := blob.Open(blob.Settings{URL: BlobURL(t, database)})
	if err != nil {
		t.Fatal(err)
	}
	return store
}
