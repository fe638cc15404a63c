package bench_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/compliance/trail"
	"github.com/fusionspim/steward/internal/infra/mailjob"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/seal"
	"github.com/fusionspim/steward/internal/record/audit"
	"github.com/fusionspim/steward/internal/testkit/apptest"
	"github.com/fusionspim/steward/internal/testkit/bench"
	"github.com/fusionspim/steward/internal/testkit/dbtest"
)

// people makes a customer with some users and entries.
func people(b *testing.B, database *dbtest.Database, entries int) (of customer.Customer, users []id.User) {
	b.Helper()
	of, err := customer.NewService(database.DB).
		Create(b.Context(), customer.New{Slug: "acme", Name: "Acme Tools"}, func(*postgres.Tx) error { return nil })
	if err != nil {
		b.Fatal(err)
	}
	if users, err = bench.Seed(
		b.Context(),
		database.URL,
		of.ID,
		bench.Population{Users: 1000, Entries: entries},
	); err != nil {
		b.Fatal(err)
	}
	return of, users
}

// own is how much of the processors this process has had; what PostgreSQL had is not in it.
func own(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// BenchmarkMillion seals a million entries and checks them all.
func BenchmarkMillion(b *testing.B) {
	const entries = 1_000_000
	database := dbtest.New(b)
	of, _ := people(b, database, entries)
	superuser := database.Superuser(b)
	if _, err := superuser.Exec(
		b.Context(),
		"insert into audit_unsealed select customer_id, id from audit_entries on conflict do nothing",
	); err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	for waiting := true; waiting; {
		if err := audit.NewSequencer(database.DB).Sequence(b.Context()); err != nil {
			b.Fatal(err)
		}
		if err := superuser.QueryRow(b.Context(), "select exists (select from audit_unsealed)").
			Scan(&waiting); err != nil {
			b.Fatal(err)
		}
	}
	sealed := entries / time.Since(began).Seconds()
	if _, err := superuser.Exec(b.Context(), "vacuum analyze audit_entries, audit_leaves, audit_unsealed"); err != nil {
		b.Fatal(err)
	}
	used := own(b)
	for b.Loop() {
		report, err := trail.Verify(b.Context(), database.DB, trail.Check{})
		if err != nil || !report.OK || report.Entries < entries {
			b.Fatalf("%+v %v", report, err)
		}
	}
	b.ReportMetric(sealed, "sealed/s")
	b.ReportMetric((own(b)-used).Seconds()/float64(b.N), "own-cpu-s/op")
	verifyExport(b, database, entries)
	caller := principal.Principal{Customer: of.ID}
	began = time.Now()
	for i := range int64(200) {
		err := database.DB.InCustomer(b.Context(), caller.Customer, func(tx *postgres.Tx) error {
			_, err := audit.InclusionTx(tx, i*4999, entries)
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(time.Since(began).Microseconds())/200, "µs/path")
}

// verifyExport writes an export and checks it, and says how long each took.
func verifyExport(b *testing.B, database *dbtest.Database, entries int64) {
	b.Helper()
	box, err := seal.ParseMasterKey(apptest.MasterKey())
	if err != nil {
		b.Fatal(err)
	}
	signing, err := trail.NewService(database.DB, box, nil, nil, "https://steward.example", mailjob.Mailing{})
	if err != nil {
		b.Fatal(err)
	}
	file, err := os.Create(filepath.Join(b.TempDir(), "export"))
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // of a benchmark
	began := time.Now()
	if _, err := trail.Export(b.Context(), database.DB, "acme", signing, file); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(time.Since(began).Seconds(), "export-s")
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		b.Fatal(err)
	}
	used := own(b)
	began = time.Now()
	report, err := trail.VerifyExport(b.Context(), file, trail.Check{})
	if err != nil || !report.OK || report.Entries < entries {
		b.Fatalf("%+v %v", report, err)
	}
	b.ReportMetric(time.Since(began).Seconds(), "verify-export-s")
	b.ReportMetric((own(b) - used).Seconds(), "verify-export-own-cpu-s")
}

// BenchmarkAppend appends batches of a thousand, by four at once, with nobody sealing and with a
// sealer at work as in the service. A last figure tells how far behind it was.
func BenchmarkAppend(b *testing.B) {
	for _, sealing := range []bool{false, true} {
		b.Run(fmt.Sprintf("sealing=%v", sealing), func(b *testing.B) {
			database := dbtest.New(b)
			of, users := people(b, database, 0)
			superuser := database.Superuser(b)
			service, caller := audit.NewService(database.DB), principal.Principal{Customer: of.ID}
			ctx, stop := context.WithCancel(b.Context())
			var sealer sync.WaitGroup
			if sealing {
				sealer.Go(func() {
					for ctx.Err() == nil {
						if err := audit.NewSequencer(database.DB).Sequence(ctx); err != nil && ctx.Err() == nil {
							b.Error(err)
						}
						time.Sleep(500 * time.Millisecond)
					}
				})
			} else if _, err := superuser.Exec(b.Context(), "alter table audit_entries disable trigger audit_entries_unsealed"); err != nil {
				b.Fatal(err)
			}
			batch := make([]audit.NewEntry, 1000)
			for i := range batch {
				batch[i] = audit.NewEntry{
					ActorUserID: users[i%len(users)],
					Action:      "product.updated",
					Target:      audit.Target{Type: "product", ID: "48151623"},
					OccurredAt:  database.Clock.Now(),
					Details:     []byte(`{"changed": ["price", "stock"], "revision": 7}`),
				}
			}
			b.ResetTimer()
			b.SetParallelism(2)
			b.RunParallel(func(each *testing.PB) {
				for each.Next() {
					if _, err := service.Record(b.Context(), caller, batch, nil); err != nil {
						b.Error(err)
					}
				}
			})
			b.StopTimer()
			b.ReportMetric(1000*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
			var behind int
			if err := superuser.QueryRow(b.Context(), "select count(*) from audit_unsealed").Scan(&behind); err != nil {
				b.Fatal(err)
			}
			stop()
			sealer.Wait()
			if sealing {
				b.ReportMetric(float64(behind), "behind")
			}
		})
	}
}
