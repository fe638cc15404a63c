package bench_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/fusionspim/steward/internal/testkit/apptest"
)

// BenchmarkSignInTellsNothing compares how long a refusal takes for an account that is there and
// for one that is not, in interleaved pairs: run it with -benchtime 2000x for 2,000 pairs. The two
// medians should not differ by more than the noise of the machine.
func BenchmarkSignInTellsNothing(b *testing.B) {
	service := apptest.Start(b)
	acme := service.Customer(b, "acme")
	refused := func(email string, try int) time.Duration {
		service.Database.Clock.Advance(time.Minute) // so that no limit is met
		body := apptest.JSON(
			map[string]string{"customer": "acme", "email": email, "password": "a wrong guess, again and again"},
		)
		address := apptest.Header("X-Forwarded-For", fmt.Sprintf("10.%d.%d.%d", try>>16&255, try>>8&255, try&255))
		began := time.Now()
		answer, err := service.Try(b.Context(), "POST", "/v1/sessions", body, address)
		took := time.Since(began)
		if err != nil || answer.Status != http.StatusUnauthorized {
			b.Fatalf("%v %d %s", err, answer.Status, answer.Body)
		}
		return took
	}
	var there, absent []time.Duration
	b.ResetTimer()
	for i := range b.N {
		if i%2 == 0 {
			there = append(there, refused(acme.User.Email, i))
			absent = append(absent, refused("nobody@acme.example", i))
		} else {
			absent = append(absent, refused("nobody@acme.example", i))
			there = append(there, refused(acme.User.Email, i))
		}
	}
	b.StopTimer()
	b.ReportMetric(middle(there).Seconds()*1000, "ms-there")
	b.ReportMetric(middle(absent).Seconds()*1000, "ms-absent")
	b.ReportMetric(float64(middle(there))/float64(middle(absent)), "ratio")
}

func middle(of []time.Duration) time.Duration {
	slices.Sort(of)
	return of[len(of)/2]
}

// BenchmarkMeDuring500SignIns measures GET /v1/me while 500 sign in at once: how long the slowest
// hundredth takes, how many sign-ins were let in and how many were sent away, and the memory that
// the process had at most (with the clients, which are in it too).
func BenchmarkMeDuring500SignIns(b *testing.B) {
	service := apptest.Start(b)
	acme := service.Customer(b, "acme")
	credential := service.SignIn(b, "acme", acme.User)
	for range b.N {
		var all sync.WaitGroup
		var guard sync.Mutex
		statuses := map[int]int{}
		for range 500 {
			all.Go(func() {
				answer, err := service.Try(
					context.Background(),
					"POST",
					"/v1/sessions",
					apptest.JSON(
						map[string]string{"customer": "acme", "email": acme.Admin.Email, "password": apptest.Password},
					),
				)
				guard.Lock()
				defer guard.Unlock()
				if err != nil {
					b.Error(err)
				}
				statuses[answer.Status]++
			})
		}
		done := make(chan struct{})
		go func() { all.Wait(); close(done) }()
		var took []time.Duration
		for busy := true; busy; {
			began := time.Now()
			answer, err := service.Try(b.Context(), "GET", "/v1/me", apptest.As(credential))
			if err != nil || answer.Status != http.StatusOK {
				b.Fatalf("%v %d", err, answer.Status)
			}
			took = append(took, time.Since(began))
			select {
			case <-done:
				busy = false
			case <-time.After(5 * time.Millisecond):
			}
		}
		slices.Sort(took)
		b.ReportMetric(took[len(took)*99/100].Seconds()*1000, "ms-p99")
		b.ReportMetric(float64(statuses[http.StatusCreated]), "let-in")
		b.ReportMetric(float64(statuses[http.StatusServiceUnavailable]), "sent-away")
	}
	content, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return // not Linux
	}
	if found := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(content); found != nil {
		kilobytes, _ := strconv.Atoi(string(found[1]))
		b.ReportMetric(float64(kilobytes)/1024, "MiB-peak")
	}
}
