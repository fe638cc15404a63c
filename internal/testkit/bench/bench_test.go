package bench_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/fusionspim/steward"
	"github.com/fusionspim/steward/internal/account/apikey"
	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/app"
	"github.com/fusionspim/steward/internal/base/clock"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/infra/blob"
	"github.com/fusionspim/steward/internal/infra/contract"
	"github.com/fusionspim/steward/internal/infra/password"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/token"
	"github.com/fusionspim/steward/internal/testkit/bench"
	"github.com/fusionspim/steward/internal/testkit/dbtest"
)

const someUser = "019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6071"

// batchOf writes a batch of entries by the given actors in turn, each with a source id of its own.
func batchOf(count int, actors ...string) string {
	entries := make([]string, count)
	for i := range entries {
		entries[i] = fmt.Sprintf(
			`{"actor_user_id":%q,"action":"product.updated","target":{"type":"product","id":"48151623"},`+
				`"occurred_at":"2026-02-24T09:31:00Z","source_id":"pim-%s","details":{"changed":["price","stock"],"revision":%d}}`,
			actors[i%len(actors)],
			id.New[id.Entry](),
			i,
		)
	}
	return "[" + strings.Join(entries, ",") + "]"
}

func BenchmarkContractGET(b *testing.B) {
	benchmarkContract(b, "GET", "/v1/users/{id}", "/v1/users/"+someUser, map[string]string{"id": someUser}, "")
}

func BenchmarkContractGETWithQuery(b *testing.B) {
	benchmarkContract(b, "GET", "/v1/users", "/v1/users?limit=50&status=active&q=no", nil, "")
}

func BenchmarkContractPOST(b *testing.B) {
	benchmarkContract(
		b,
		"POST",
		"/v1/users",
		"/v1/users",
		nil,
		`{"first_name":"Noor","last_name":"Haddad","email":"noor.haddad@acme.example","role":"user"}`,
	)
}

func BenchmarkContractBatch100(b *testing.B) {
	benchmarkContract(b, "POST", "/v1/audit-entries", "/v1/audit-entries", nil, batchOf(100, someUser))
}

func benchmarkContract(b *testing.B, method, template, target string, parameters map[string]string, body string) {
	b.Helper()
	loaded, err := contract.Load(steward.Contract)
	if err != nil {
		b.Fatal(err)
	}
	operation, ok := loaded.Operation(method, template)
	if !ok {
		b.Fatalf("the contract has no %s %s", method, template)
	}
	request := httptest.NewRequest(method, target, nil)
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
		b.SetBytes(int64(len(body)))
	}
	b.ReportAllocs()
	for b.Loop() {
		request.Body, request.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		if err := operation.Check(request, parameters); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTokenRemembered verifies one token over and over, as a caller's next requests do.
func BenchmarkTokenRemembered(b *testing.B) {
	authority, claims := newAuthority(b)
	text, err := authority.Issue(claims)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := authority.Verify(text); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTokenCold verifies tokens that were never seen before, signature and all.
func BenchmarkTokenCold(b *testing.B) {
	authority, claims := newAuthority(b)
	tokens := make([]string, b.N)
	for i := range tokens {
		claims.Session = id.New[id.Session]()
		text, err := authority.Issue(claims)
		if err != nil {
			b.Fatal(err)
		}
		tokens[i] = text
	}
	b.ReportAllocs()
	b.ResetTimer()
	for _, text := range tokens {
		if _, err := authority.Verify(text); err != nil {
			b.Fatal(err)
		}
	}
}

func newAuthority(b *testing.B) (*token.Authority, token.Claims) {
	b.Helper()
	keys := token.NewKeyring()
	if err := keys.Replace(token.NewSigningKey()); err != nil {
		b.Fatal(err)
	}
	authority, err := token.New(
		token.Settings{Issuer: "https://steward.example", Audience: "https://steward.example"},
		keys,
		clock.System(),
	)
	if err != nil {
		b.Fatal(err)
	}
	return authority, token.Claims{
		Customer: id.New[id.Customer](),
		User:     id.New[id.User](),
		Session:  id.New[id.Session](),
		Role:     principal.User,
	}
}

// BenchmarkPasswordHash is one sign-in's worth of Argon2id.
func BenchmarkPasswordHash(b *testing.B) {
	hasher, err := password.NewHasher(password.DefaultParameters(), password.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := hasher.Hash(b.Context(), sensitive.New("plum lantern quietly orbits nine harbours")); err != nil {
			b.Fatal(err)
		}
	}
}

// service is a whole service with a thousand people, without a network before it.
type service struct {
	*app.App
	customer id.Customer
	users    []id.User
	apiKey   string
}

func newService(b *testing.B) *service {
	b.Helper()
	database := dbtest.New(b)
	blobs, err := blob.Open(blob.Settings{URL: "file://" + b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	opened, err := app.Open(b.Context(), app.Settings{
		Blobs:          blobs,
		DatabaseURL:    database.URL,
		MaxConnections: 16,
		MasterKey:      sensitive.New(base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdeF"))),
		PublicURL:      "https://steward.example",
		Password:       password.DefaultParameters(),
		Clock:          clock.System(),
		Log:            slog.New(slog.NewJSONHandler(io.Discard, nil)),
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := opened.Close(); err != nil {
			b.Error(err)
		}
	})
	s := &service{App: opened}
	made, err := opened.Customers.Create(
		b.Context(),
		customer.New{Slug: "acme", Name: "Acme Tools"},
		func(tx *postgres.Tx) error {
			key, err := apikey.CreateTx(
				tx,
				principal.Principal{Customer: tx.Customer},
				apikey.New{Name: "bench", Scopes: principal.Scopes()},
			)
			s.apiKey = key.Secret.Reveal()
			return err
		},
	)
	if err != nil {
		b.Fatal(err)
	}
	s.customer = made.ID
	if s.users, err = bench.Seed(
		b.Context(),
		database.URL,
		made.ID,
		bench.Population{Users: 1000, Entries: 1000},
	); err != nil {
		b.Fatal(err)
	}
	return s
}

func BenchmarkGetUser(b *testing.B) {
	s := newService(b)
	s.benchmark(b, "GET", func(i int) (string, string) { return "/v1/users/" + s.users[i%len(s.users)].String(), "" })
}

func BenchmarkListUsers(b *testing.B) {
	newService(b).benchmark(b, "GET", func(int) (string, string) { return "/v1/users?limit=50", "" })
}

func BenchmarkUpdateUser(b *testing.B) {
	s := newService(b)
	s.benchmark(b, "PATCH", func(i int) (string, string) {
		return "/v1/users/" + s.users[i%len(s.users)].String(), fmt.Sprintf(`{"first_name":"Noor %d"}`, i)
	})
}

func BenchmarkCreateAuditEntries100(b *testing.B) {
	s := newService(b)
	actors := make([]string, len(s.users))
	for i, user := range s.users {
		actors[i] = user.String()
	}
	s.benchmark(b, "POST", func(int) (string, string) { return "/v1/audit-entries", batchOf(100, actors...) })
}

// benchmark sends requests into the handler, one after the other. All are made beforehand.
func (s *service) benchmark(b *testing.B, method string, next func(i int) (target, body string)) {
	b.Helper()
	const warm = 50 // until every connection has its statements
	requests := make([]*http.Request, warm+b.N)
	for i := range requests {
		target, body := next(i)
		requests[i] = httptest.NewRequest(method, target, strings.NewReader(body))
		requests[i].Header.Set("Authorization", "Bearer "+s.apiKey)
		requests[i].Header.Set("Accept", "application/json")
		if body != "" {
			requests[i].Header.Set("Content-Type", "application/json")
		}
	}
	send := func(request *http.Request) {
		answer := sink{header: make(http.Header)}
		s.API.ServeHTTP(&answer, request)
		if answer.status != http.StatusOK {
			b.Fatalf("got %d, want 200: %s", answer.status, answer.start)
		}
	}
	for _, request := range requests[:warm] {
		send(request)
	}
	runtime.GC()
	b.ReportAllocs()
	b.ResetTimer()
	for _, request := range requests[warm:] {
		send(request)
	}
}

// sink takes an answer and keeps no more of it than a failed benchmark would show.
type sink struct {
	header http.Header
	status int
	start  []byte
}

func (s *sink) Header() http.Header    { return s.header }
func (s *sink) WriteHeader(status int) { s.status = status }

func (s *sink) Write(content []byte) (int, error) {
	if s.status != http.StatusOK {
		s.start = append(s.start, content...)
	}
	return len(content), nil
}
