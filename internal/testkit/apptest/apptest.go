// Package apptest runs the whole service for tests: on a fresh database, over HTTP, with every answer held against the contract.
//
// Owns: starting a service, making customers with people and keys, and calling operations.
// Does not own: databases (dbtest) and what is tested.
package apptest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/fusionspim/steward/internal/account/apikey"
	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/app"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/infra/contract"
	"github.com/fusionspim/steward/internal/infra/egress"
	"github.com/fusionspim/steward/internal/infra/password"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/testkit/dbtest"
)

// Password is the password of everybody whom this package makes.
const Password = "plum lantern quietly orbits nine harbours"

// cheapest are the parameters that take the least time of those that the service accepts. What they save is
// memory that a test process would otherwise clear for every sign-in: they take a quarter of the default's time.
var cheapest = password.Parameters{MemoryKiB: 7 * 1024, Iterations: 5, Parallelism: 1}

// passwordHash is made once: hashing is slow on purpose.
var passwordHash = sync.OnceValues(func() (string, error) {
	hasher, err := password.NewHasher(cheapest, password.Options{})
	if err != nil {
		return "", err
	}
	return hasher.Hash(context.Background(), sensitive.New(Password))
})

// Service is one replica of the service under test.
type Service struct {
	*app.App
	Database *dbtest.Database
	URL      string   // of the service, without a slash at the end
	Mailbox  *Mailbox // where its mails go, unless the test's settings say otherwise
	contract *contract.Contract
	stop     func()
	address  string // that calls come from; empty: the loopback's
}

// MasterKey is the master key of every service under test.
func MasterKey() sensitive.String {
	key := make([]byte, 32)
	for i := range key {
		key[i] = byte(i)
	}
	return sensitive.New(base64.StdEncoding.EncodeToString(key))
}

// Start runs a service on a fresh database until the test ends.
func Start(t testing.TB) *Service {
	t.Helper()
	return StartWith(t, func(*app.Settings) {})
}

// StartWith does so with settings that the test changes.
func StartWith(t testing.TB, change func(*app.Settings)) *Service {
	t.Helper()
	return ReplicaWith(t, dbtest.New(t), change)
}

// Replica runs one more service on a database. All replicas share the master key and the public URL.
func Replica(t testing.TB, database *dbtest.Database) *Service {
	t.Helper()
	return ReplicaWith(t, database, func(*app.Settings) {})
}

// ReplicaWith does so with settings that the test changes.
func ReplicaWith(t testing.TB, database *dbtest.Database, change func(*app.Settings)) *Service {
	t.Helper()
	loaded, err := app.Contract()
	if err != nil {
		t.Fatal(err)
	}
	mailbox := mailboxOf(t, database)
	settings := app.Settings{
		Mail: mailbox.Settings(t), Workers: 2, Outbound: egress.Loopback(), Blobs: BlobsOf(t, database),
		DatabaseURL: database.URL, MaxConnections: 8, MasterKey: MasterKey(), PublicURL: "http://steward.test", Password: cheapest,
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, OperatorsMayDoWithoutSecondFactor: true, Clock: database.Clock.Now, Log: database.Log.Logger(),
	}
	change(&settings)
	service, err := app.Open(t.Context(), settings)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(service.API)
	stop := sync.OnceFunc(func() {
		server.Close()
		if err := service.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return &Service{App: service, Database: database, URL: server.URL, contract: loaded, Mailbox: mailbox, stop: stop}
}

// Stop ends the service before the test ends.
func (s *Service) Stop() { s.stop() }

// Settle waits until the failed attempts to sign in are recorded, which goes on behind the answers.
func (s *Service) Settle() { s.Sessions.Close() }

// Seal waits until every entry of the trail has its place. This replica gives it to those that no other is about to.
func (s *Service) Seal(t testing.TB) {
	t.Helper()
	for {
		if err := s.Sequencer.Sequence(t.Context()); err != nil {
			t.Fatal(err)
		}
		var waiting bool
		s.Database.Peek(t, "select exists (select from audit_unsealed)", &waiting)
		if !waiting {
			return
		}
	}
}

// Customer is a customer under test.
type Customer struct {
	ID     id.Customer
	Slug   string
	Admin  Person
	User   Person
	APIKey Credential // with every scope
}

// Person is somebody who can sign in.
type Person struct {
	ID    id.User
	Email string
}

// Credential goes behind "Bearer".
type Credential string

// Customer makes a customer with an administrator, an ordinary user and an API key.
func (s *Service) Customer(t testing.TB, slug string) Customer {
	t.Helper()
	made := Customer{Slug: slug}
	of, err := s.Customers.Create(t.Context(), customer.New{Slug: slug, Name: "The " + slug + " company"}, func(tx *postgres.Tx) error {
		made.ID = tx.Customer
		made.Admin = createPerson(t, tx, principal.Administrator, "admin@"+slug+".example")
		made.User = createPerson(t, tx, principal.User, "user@"+slug+".example")
		key, err := apikey.CreateTx(tx, principal.Principal{Customer: tx.Customer}, apikey.New{Name: "all", Scopes: principal.Scopes()})
		made.APIKey = Credential(key.Secret.Reveal())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	made.ID = of.ID
	return made
}

// Operators makes the customer "fusions" with one operator. On the shared service, where that customer exists
// once, it makes another operator for each call.
func (s *Service) Operators(t testing.TB) Person {
	t.Helper()
	if s.address != "" {
		return s.Person(t, operators(), principal.Operator, Unique("operator")+"@fusions.example")
	}
	return s.newOperators(t)
}

func (s *Service) newOperators(t testing.TB) (operator Person) {
	t.Helper()
	_, err := s.Customers.Create(t.Context(), customer.New{Slug: customer.OperatorsSlug, Name: "Fusions"}, func(tx *postgres.Tx) error {
		operator = createPerson(t, tx, principal.Operator, "operator@fusions.example")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return operator
}

// Person makes one more person with the password Password.
func (s *Service) Person(t testing.TB, of Customer, role principal.Role, email string) (made Person) {
	t.Helper()
	err := s.DB.InCustomer(t.Context(), of.ID, func(tx *postgres.Tx) error {
		made = createPerson(t, tx, role, email)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func createPerson(t testing.TB, tx *postgres.Tx, role principal.Role, email string) Person {
	t.Helper()
	hash, err := passwordHash()
	if err != nil {
		t.Fatal(err)
	}
	local, _, _ := strings.Cut(email, "@")
	made, err := user.CreateTx(tx, principal.Principal{Customer: tx.Customer},
		user.New{FirstName: "First", LastName: local, Email: email, Role: role, PasswordHash: hash})
	if err != nil {
		t.Fatal(err)
	}
	return Person{ID: made.ID, Email: email}
}

// SignIn signs somebody in and returns the access token.
func (s *Service) SignIn(t testing.TB, slug string, person Person) Credential {
	t.Helper()
	answer := s.Call(t, "POST", "/v1/sessions", JSON(map[string]string{"customer": slug, "email": person.Email, "password": Password}))
	answer.Want(t, http.StatusCreated)
	return Credential(answer.Text(t, "access_token"))
}

// Option changes a request before it is sent.
type Option func(*http.Request)

// As sends a credential.
func As(credential Credential) Option {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+string(credential)) }
}

// Header sends a header.
func Header(name, value string) Option {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

// JSON sends a value as the body.
func JSON(value any) Option {
	return func(r *http.Request) {
		content, err := json.Marshal(value)
		if err != nil {
			panic(err) // a mistake in the test
		}
		Raw("application/json", string(content))(r)
	}
}

// Raw sends a body as it is.
func Raw(contentType, content string) Option {
	return func(r *http.Request) {
		r.Header.Set("Content-Type", contentType)
		r.Body = io.NopCloser(strings.NewReader(content))
		r.ContentLength = int64(len(content))
	}
}

// Answer is what came back.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
	what   string
}

// Call sends a request and holds the answer against the contract. An answer that the contract does not know fails the test, and so does every 500.
func (s *Service) Call(t testing.TB, method, path string, options ...Option) Answer {
	t.Helper()
	answer, err := s.Try(t.Context(), method, path, options...)
	if err != nil {
		t.Fatal(err)
	}
	s.Check(t, method, path, answer)
	return answer
}

// Try sends a request and checks nothing. It is safe in goroutines.
func (s *Service) Try(ctx context.Context, method, path string, options ...Option) (Answer, error) {
	request, err := http.NewRequestWithContext(ctx, method, s.URL+path, http.NoBody)
	if err != nil {
		return Answer{}, err
	}
	if s.address != "" {
		request.Header.Set("X-Forwarded-For", s.address)
	}
	for _, option := range options {
		option(request)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return Answer{}, err
	}
	defer response.Body.Close() //nolint:errcheck // read to its end
	body, err := io.ReadAll(response.Body)
	return Answer{Status: response.StatusCode, Header: response.Header, Body: body, what: method + " " + path}, err
}

// Check holds an answer against the contract.
func (s *Service) Check(t testing.TB, method, path string, answer Answer) {
	t.Helper()
	if answer.Status == http.StatusInternalServerError {
		t.Errorf("%s %s: 500 %s\n%s", method, path, answer.Body, s.Database.Log.String())
	}
	plainPath, _, _ := strings.Cut(path, "?")
	operation, _, ok := s.contract.MatchRoute(method, plainPath)
	if !ok {
		return
	}
	if err := s.contract.CheckResponse(operation, answer.Status, answer.Header, answer.Body); err != nil {
		t.Errorf("%s %s: the answer is against the contract: %v\n%d %s", method, path, err, answer.Status, answer.Body)
	}
}

// Want fails the test unless the answer has the status.
func (a Answer) Want(t testing.TB, status int) Answer {
	t.Helper()
	if a.Status != status {
		t.Fatalf("%s: got %d, want %d: %s", a.what, a.Status, status, a.Body)
	}
	return a
}

// WantProblem fails the test unless the answer is the problem with the status.
func (a Answer) WantProblem(t testing.TB, status int, slug string) Answer {
	t.Helper()
	a.Want(t, status)
	if kind := a.Text(t, "type"); kind != "/problems/"+slug || a.Header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("%s: got the problem %s as %s, want %s: %s", a.what, kind, a.Header.Get("Content-Type"), slug, a.Body)
	}
	return a
}

// Into decodes the body.
func (a Answer) Into(t testing.TB, value any) {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(a.Body))
	if err := decoder.Decode(value); err != nil {
		t.Fatalf("%s: %v: %s", a.what, err, a.Body)
	}
}

// Text returns a member of the body that is a string.
func (a Answer) Text(t testing.TB, member string) string {
	t.Helper()
	var members map[string]any
	a.Into(t, &members)
	text, ok := members[member].(string)
	if !ok {
		t.Fatalf("%s: no text %q in %s", a.what, member, a.Body)
	}
	return text
}
