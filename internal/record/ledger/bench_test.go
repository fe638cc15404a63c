package ledger

import (
	"testing"

	"github.com/fusionspim/steward/internal/infra/blob"
)

// BenchmarkAppend measures how long a transaction waits: for one object, which concurrent appends
// share.
func BenchmarkAppend(b *testing.B) {
	for _, sync := range []string{"off", "on"} {
		store, err := blob.Open(blob.Settings{URL: "file://" + b.TempDir() + "?sync=" + sync})
		if err != nil {
			b.Fatal(err)
		}
		l := open(b, store)
		b.Run("sync="+sync+"/one", func(b *testing.B) {
			for b.Loop() {
				if _, err := l.Append(b.Context(), entry(Correction)); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("sync="+sync+"/many", func(b *testing.B) {
			b.SetParallelism(4)
			b.RunParallel(func(next *testing.PB) {
				for next.Next() {
					if _, err := l.Append(b.Context(), entry(Correction)); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
