package httpapi

import (
	"context"
	"encoding/base64"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/contract"
	"github.com/fusionspim/steward/internal/infra/seal"
)

// newBox returns a box of a master key that begins with a byte.
func newBox(t testing.TB, first byte) *seal.Box {
	t.Helper()
	master := make([]byte, seal.MasterKeySize)
	for i := range master {
		master[i] = first + byte(i)
	}
	box, err := seal.New(master)
	if err != nil {
		t.Fatal(err)
	}
	return box
}

// listing returns the context of a request of a list.
func listing(ctx context.Context, of id.Customer, operation, target string) context.Context {
	now := &call{operation: &contract.Operation{ID: operation}, request: httptest.NewRequest("GET", target, nil)}
	ctx = principal.NewContext(ctx, principal.Principal{Customer: of, Role: principal.Administrator})
	return context.WithValue(ctx, callKey{}, now)
}

func sameUUID(row uuid.UUID) uuid.UUID { return row }

// cursorOf asks for a page of two of three rows, and returns its cursor.
func cursorOf(t testing.TB, s *Server, ctx context.Context) (cursor string, last uuid.UUID, link string) {
	t.Helper()
	two := int32(2)
	asked, err := s.pageOf(ctx, &two, nil)
	if err != nil {
		t.Fatal(err)
	}
	rows := []uuid.UUID{id.New[id.User]().UUID, id.New[id.User]().UUID, id.New[id.User]().UUID}
	shown, next, address := cut(asked, rows, sameUUID)
	if len(shown) != 2 || next == nil || address == nil {
		t.Fatalf("%d rows, cursor %v, link %v", len(shown), next, address)
	}
	return *next, rows[1], *address
}

func TestACursorContinuesItsOwnList(t *testing.T) {
	t.Parallel()
	s := &Server{box: newBox(t, 1)}
	acme, other := id.New[id.Customer](), id.New[id.Customer]()
	ctx := listing(t.Context(), acme, "listUsers", "/v1/users?status=active&role=user&limit=2")
	cursor, last, _ := cursorOf(t, s, ctx)

	for name, test := range map[string]struct {
		server *Server
		ctx    context.Context
		ok     bool
	}{
		"same list":          {s, ctx, true},
		"filters reordered":  {s, listing(t.Context(), acme, "listUsers", "/v1/users?role=user&status=active"), true},
		"another limit":      {s, listing(t.Context(), acme, "listUsers", "/v1/users?status=active&role=user&limit=9"), true},
		"another replica":    {&Server{box: newBox(t, 1)}, ctx, true},
		"another customer":   {s, listing(t.Context(), other, "listUsers", "/v1/users?status=active&role=user"), false},
		"another list":       {s, listing(t.Context(), acme, "listJobs", "/v1/users?status=active&role=user"), false},
		"another filter":     {s, listing(t.Context(), acme, "listUsers", "/v1/users?status=disabled&role=user"), false},
		"one filter more":    {s, listing(t.Context(), acme, "listUsers", "/v1/users?status=active&role=user&q=a"), false},
		"no filter":          {s, listing(t.Context(), acme, "listUsers", "/v1/users"), false},
		"no caller":          {s, listing(t.Context(), id.Customer{}, "listUsers", "/v1/users?status=active&role=user"), false},
		"another master key": {&Server{box: newBox(t, 2)}, ctx, false},
	} {
		got, err := test.server.pageOf(test.ctx, nil, &cursor)
		switch {
		case test.ok && (err != nil || got.before != last):
			t.Errorf("%s: continues after %v with %v, want %v", name, got.before, err, last)
		case !test.ok && !fault.Is(err, fault.MalformedCursor):
			t.Errorf("%s: accepted: %v", name, err)
		}
	}
}

func TestAnAlteredCursorIsRefused(t *testing.T) {
	t.Parallel()
	s := &Server{box: newBox(t, 1)}
	ctx := listing(t.Context(), id.New[id.Customer](), "listUsers", "/v1/users")
	cursor, _, _ := cursorOf(t, s, ctx)
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		t.Fatal(err)
	}
	bad := []string{"", "!", cursor + "=", cursor + "A", cursor[:len(cursor)-1], cursor + "\n", strings.ToUpper(cursor)}
	for i := range raw {
		altered := append([]byte(nil), raw...)
		altered[i] ^= 1
		bad = append(bad, base64.RawURLEncoding.EncodeToString(altered))
	}
	bad = append(bad, base64.RawURLEncoding.EncodeToString(raw[:len(raw)-1]),
		base64.RawURLEncoding.EncodeToString(raw[:16]), base64.RawURLEncoding.EncodeToString(append(raw, 0)))
	for _, text := range bad {
		if _, err := s.pageOf(ctx, nil, &text); !fault.Is(err, fault.MalformedCursor) {
			t.Errorf("%q is accepted: %v", text, err)
		}
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	s := &Server{box: newBox(t, 1)}
	ctx := listing(t.Context(), id.New[id.Customer](), "listUsers", "/v1/users?q=a%26b&limit=2&cursor=x&after=y")
	asked, err := s.pageOf(ctx, nil, nil)
	if err != nil || asked.limit != 50 || asked.before != uuid.Nil {
		t.Errorf("the default page has %d rows after %v: %v", asked.limit, asked.before, err)
	}
	one := make([]uuid.UUID, 50)
	if shown, next, link := cut(asked, one, sameUUID); len(shown) != 50 || next != nil || link != nil {
		t.Errorf("the last page has %d rows, cursor %v, link %v", len(shown), next, link)
	}
	cursor, _, link := cursorOf(t, s, ctx)
	target, rel, _ := strings.Cut(link, ">")
	address, err := url.Parse(strings.TrimPrefix(target, "<"))
	if err != nil || rel != `; rel="next"` || address.Path != "/v1/users" {
		t.Fatalf("the link is %s: %v", link, err)
	}
	want := url.Values{"q": {"a&b"}, "limit": {"2"}, "cursor": {cursor}}
	if got := address.Query(); got.Encode() != want.Encode() {
		t.Errorf("the link asks for %v, want %v", got, want)
	}
}

// No text but one that the service issued continues a list.
func FuzzCursor(f *testing.F) {
	s := &Server{box: newBox(f, 1)}
	acme := id.Customer{UUID: uuid.MustParse("0195503a-4000-7abc-8def-0123456789ab")}
	ctx := listing(context.Background(), acme, "listUsers", "/v1/users")
	issued, last, _ := cursorOf(f, s, ctx)
	f.Add(issued)
	f.Add("")
	f.Add(issued[1:])
	f.Add(base64.RawURLEncoding.EncodeToString(make([]byte, 32)))
	f.Fuzz(func(t *testing.T, text string) {
		asked, err := s.pageOf(ctx, nil, &text)
		if text == issued {
			if err != nil || asked.before != last {
				t.Errorf("the issued cursor gives %v, %v", asked.before, err)
			}
		} else if !fault.Is(err, fault.MalformedCursor) {
			t.Errorf("%q continues after %v: %v", text, asked.before, err)
		}
	})
}
