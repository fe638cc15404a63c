package bench_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/seal"
	"github.com/fusionspim/steward/internal/record/ledger"
	"github.com/fusionspim/steward/internal/testkit/apptest"
	"github.com/fusionspim/steward/internal/testkit/bench"
)

// BenchmarkReplay opens a service on a database that lacks 10,000 entries of the ledger, all of one
// customer: redactions alone, and the kinds that there are mixed. An iteration is from the start of
// the service until it lets requests in.
func BenchmarkReplay(b *testing.B) {
	const lost = 10_000
	for _, kinds := range [][]ledger.Kind{
		{ledger.Redaction},
		{ledger.Redaction, ledger.Correction, ledger.AlertsSet, ledger.StatusSet, ledger.Deletion, ledger.Correction, ledger.RoleSet, ledger.CredentialsChanged},
	} {
		name := "mixed"
		if len(kinds) == 1 {
			name = string(kinds[0])
		}
		b.Run(name, func(b *testing.B) {
			b.StopTimer()
			for range b.N {
				service := apptest.Start(b)
				of := service.Customer(b, "acme")
				service.Stop()
				users, err := bench.Seed(
					b.Context(),
					service.Database.URL,
					of.ID,
					bench.Population{Users: lost + 100, Entries: 50_000},
				)
				if err != nil {
					b.Fatal(err)
				}
				write(b, service, of.ID, users[:lost], kinds)
				b.StartTimer()
				began := time.Now()
				again := apptest.Replica(b, service.Database)
				select {
				case <-again.Opened():
				case <-time.After(10 * time.Minute):
					b.Fatalf("it did not open: %s", service.Database.Log.String())
				}
				b.StopTimer()
				b.ReportMetric(lost/time.Since(began).Seconds(), "entries/s")
				again.Stop()
			}
		})
	}
}

// write tells the ledger of acts that the database knows nothing of, each in an object of its own
// as if one came after the other.
func write(b *testing.B, service *apptest.Service, of id.Customer, users []id.User, kinds []ledger.Kind) {
	b.Helper()
	box, err := seal.ParseMasterKey(apptest.MasterKey())
	if err != nil {
		b.Fatal(err)
	}
	book := ledger.New(
		apptest.BlobsOf(b, service.Database),
		box,
		service.Database.Clock.Now,
		service.Database.Log.Logger(),
	)
	defer book.Close()
	db, err := postgres.Open(
		postgres.Settings{URL: service.Database.URL, MaxConnections: 2},
		service.Database.Clock.Now,
		service.Database.Log.Logger(),
	)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // of a benchmark
	if _, err := book.Survey(b.Context(), db); err != nil {
		b.Fatal(err)
	}
	for i, user := range users {
		entry := ledger.Entry{
			Kind:      kinds[i%len(kinds)],
			At:        service.Database.Clock.Now(),
			Customer:  of,
			Subject:   user.UUID,
			Authority: "customer",
		}
		switch entry.Kind {
		case ledger.Redaction, ledger.Deletion:
			entry.Receipt = new(id.New[id.Receipt]())
			if entry.Kind == ledger.Redaction {
				entry.Label = fmt.Sprintf("Redacted user %06d", i)
			}
		case ledger.AlertsSet:
			entry.OptedIn = new(false)
		case ledger.StatusSet:
			entry.Status = "disabled"
		case ledger.RoleSet:
			entry.Role = "user"
		case ledger.CredentialsChanged,
			ledger.Correction,
			ledger.APIKeyRevoked,
			ledger.APIKeyEnds,
			ledger.BundleCollected,
			ledger.Offboarding,
			ledger.Void:
		}
		if _, err := book.Append(b.Context(), entry); err != nil {
			b.Fatal(err)
		}
	}
}
