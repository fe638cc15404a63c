package dbtest

import (
	"context"
	"os"
	"sync"
	"testing"

	"github.com/fusionspim/steward/internal/base/sensitive"
)

// A template that a killed process left half made is made again, and once, however many come at the
// same time. The template is this test's own, for dropping the usual one would pull it away under
// other test processes.
func TestAHalfMadeTemplateIsMadeAnewAndOnce(t *testing.T) {
	t.Parallel()
	server := sensitive.New(os.Getenv(Variable))
	if server.IsEmpty() {
		t.Fatal(missing)
	}
	conn, err := connect(t.Context(), server)
	if err != nil {
		t.Fatal(err)
	}
	template := "steward_test_template_" + random()
	t.Cleanup(func() {
		for _, statement := range []string{
			"alter database " + quote(template) + " with is_template false",
			"drop database if exists " + quote(template) + " with (force)",
		} {
			if _, err := conn.Exec(context.Background(), statement); err != nil {
				t.Error(err)
			}
		}
		conn.Close(context.Background()) //nolint:errcheck // nothing depends on how it ends
	})
	// and then the process was killed
	if _, err := conn.Exec(t.Context(), "create database "+quote(template)); err != nil {
		t.Fatal(err)
	}
	var halfMade uint32
	const find = "select oid from pg_database where datname = $1"
	if err := conn.QueryRow(t.Context(), find, template).Scan(&halfMade); err != nil {
		t.Fatal(err)
	}

	var comers sync.WaitGroup
	made := make([]uint32, 5)
	for i := range made {
		comers.Go(func() {
			conn, err := connect(t.Context(), server)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close(t.Context())
			if err := ensureTemplate(t.Context(), conn, server, template); err != nil {
				t.Error(err)
			}
			if err := conn.QueryRow(t.Context(), find+" and datistemplate and not datallowconn", template).
				Scan(&made[i]); err != nil {
				t.Errorf("the template is not marked as whole: %v", err)
			}
		})
	}
	comers.Wait()
	for _, oid := range made {
		if oid == halfMade || oid != made[0] {
			t.Errorf("the half-made database was %d, the ones found afterwards are %d", halfMade, made)
			break
		}
	}
}
