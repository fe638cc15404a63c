package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/fusionspim/steward/internal/testkit/apptest"
	"github.com/fusionspim/steward/pkg/client"
	"github.com/fusionspim/steward/pkg/client/api"
)

const file = "testdata/people.ndjson"

func customer(t *testing.T) (*apptest.Service, *client.Client) {
	t.Helper()
	service := apptest.Start(t)
	steward, err := client.New(service.URL, client.WithAPIKey(string(service.Customer(t, "acme").APIKey)))
	if err != nil {
		t.Fatal(err)
	}
	return service, steward
}

// The file is worth the name: many scripts, all lengths, spellings that are not normalised, and
// nobody who could exist.
func TestFileIsVaried(t *testing.T) {
	t.Parallel()
	people, err := readPeople(file)
	if err != nil {
		t.Fatal(err)
	}
	scripts, shortest, longest, decomposed, international, longestLocal := map[string]int{}, 100, 0, 0, 0, 0
	for i, one := range people {
		scripts[one.Script]++
		for _, name := range []string{one.FirstName, one.LastName} {
			shortest, longest = min(shortest, utf8.RuneCountInString(name)), max(longest, utf8.RuneCountInString(name))
			if !norm.NFC.IsNormalString(name) {
				decomposed++
			}
		}
		local, domain, ok := strings.Cut(one.Email, "@")
		if !ok || !strings.HasSuffix(strings.ToLower(domain), ".example") {
			t.Errorf("line %d: the address is not below a reserved domain", i+1)
		}
		longestLocal = max(longestLocal, len(local))
		if strings.ContainsFunc(one.Email, func(char rune) bool { return char >= utf8.RuneSelf }) {
			international++
		}
	}
	if len(people) < 400 || len(scripts) < 30 || shortest != 1 || longest != 100 || decomposed < 10 ||
		international < 100 ||
		longestLocal != 64 {
		t.Errorf(
			"%d people, %d scripts, names of %d to %d characters, %d decomposed, %d international addresses, local parts of up to %d bytes",
			len(people),
			len(scripts),
			shortest,
			longest,
			decomposed,
			international,
			longestLocal,
		)
	}
}

func TestMainJobOnRealInput(t *testing.T) {
	t.Parallel()
	people, err := readPeople(file)
	if err != nil {
		t.Fatal(err)
	}
	_, steward := customer(t)
	outcomes, err := run(t.Context(), steward, people, 8)
	if err != nil {
		t.Fatal(err)
	}
	var want, got tally
	for i, one := range outcomes {
		expected := outcome{person: people[i], created: true, optedOut: isOptedOut(i), fate: alive}
		if isCorrected(i) {
			expected.corrects = correctedName(people, i)
		}
		if hasEntries(i) {
			expected.entries = 1 + i%5
		}
		if isErased(i) && hasEntries(i) {
			expected.fate = redacted
		} else if isErased(i) {
			expected.fate = deleted
		}
		want.add(expected)
		got.add(one)
	}
	if got != want || want.deleted < 50 || want.redacted < 50 {
		t.Errorf("got %+v, want %+v", got, want)
	}
	listed := everybody(t, steward)
	t.Run("names read back", func(t *testing.T) { namesReadBack(t, listed, outcomes) })
	t.Run("search", func(t *testing.T) { searchFinds(t, steward, outcomes) })
	t.Run("the erased are gone", func(t *testing.T) { erasedAreGone(t, steward, listed, outcomes) })

	t.Run("again", func(t *testing.T) {
		again, err := run(t.Context(), steward, people, 8)
		if err != nil {
			t.Fatal(err)
		}
		var second tally
		for i, one := range again {
			second.add(one)
			if one.created != (outcomes[i].fate != alive) ||
				!one.created && (one.id != outcomes[i].id || one.entries != 0) {
				t.Errorf("line %d: created %t, was %s", i+1, one.created, outcomes[i].fate)
			}
		}
		if second.found != want.alive || second.created != want.deleted+want.redacted || second.alive != want.alive {
			t.Errorf("got %+v after %+v", second, want)
		}
		var table strings.Builder
		if err := summarise(&table, again, 0); err != nil || !strings.Contains(table.String(), "Ethi") {
			t.Errorf("%v in %s", err, table.String())
		}
		t.Logf("\n%s", table.String())
	})
}

func everybody(t *testing.T, steward *client.Client) map[client.ID]client.User {
	t.Helper()
	listed := map[client.ID]client.User{}
	for user, err := range steward.Users(t.Context(), client.UserFilter{PageSize: 100}) {
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := listed[user.ID]; twice {
			t.Errorf("%s is listed twice", user.ID)
		}
		listed[user.ID] = user
	}
	return listed
}

// lastName is the name that a user has in the end.
func (o outcome) lastName() string {
	if o.corrects != "" {
		return o.corrects
	}
	return o.LastName
}

func namesReadBack(t *testing.T, listed map[client.ID]client.User, outcomes []outcome) {
	for i, one := range outcomes {
		if one.fate != alive {
			continue
		}
		user := listed[one.id]
		local, domain, _ := strings.Cut(norm.NFC.String(one.Email), "@")
		if user.FirstName == nil || *user.FirstName != norm.NFC.String(one.FirstName) ||
			*user.LastName != norm.NFC.String(one.lastName()) ||
			*user.Email != local+"@"+strings.ToLower(domain) {
			t.Errorf(
				"line %d: sent %+q %+q %+q, got %+q %+q %+q",
				i+1,
				one.FirstName,
				one.lastName(),
				one.Email,
				*user.FirstName,
				*user.LastName,
				*user.Email,
			)
		}
		if user.Alerts.OptedIn == one.optedOut {
			t.Errorf("line %d: opted in is %t", i+1, user.Alerts.OptedIn)
		}
	}
}

// searchFinds looks for everybody by the beginning of each name and by the whole of it, as it was
// written and in the other normal form, and by address.
func searchFinds(t *testing.T, steward *client.Client, outcomes []outcome) {
	found := func(query string, id client.ID) bool {
		for user, err := range steward.Users(t.Context(), client.UserFilter{Query: query, PageSize: 200}) {
			if err != nil {
				t.Fatalf("%+q: %v", query, err)
			}
			if user.ID == id {
				return true
			}
		}
		return false
	}
	seen := map[string]int{}
	for i, one := range outcomes {
		if one.fate != alive {
			continue
		}
		seen[one.Script]++
		if seen[one.Script] > 8 { // enough of each script
			continue
		}
		for _, name := range []string{one.FirstName, one.lastName()} {
			composed, decomposed := norm.NFC.String(name), norm.NFD.String(name)
			queries := []string{composed, start3(composed)}
			// Letter case does not count, as Unicode folds it in every language alike: the Turkish
			// I is the capital of i, not of ı.
			if capitals := strings.ToUpper(composed); cases.Fold().String(capitals) == cases.Fold().String(composed) {
				queries = append(queries, capitals)
			}
			if utf8.RuneCountInString(decomposed) <= 100 {
				queries = append(queries, decomposed)
			}
			for _, query := range queries {
				if utf8.RuneCountInString(query) <= 100 && !found(query, one.id) {
					t.Errorf("line %d (%s): %+q does not find %+q", i+1, one.Script, query, name)
				}
			}
		}
		if user, ok, err := steward.FindUser(
			t.Context(),
			strings.ToUpper(one.Email),
		); err != nil || !ok ||
			user.ID != one.id {
			t.Errorf(
				"line %d: the address in capital letters, %+q, finds %v, %t, %v",
				i+1,
				strings.ToUpper(one.Email),
				user.ID,
				ok,
				err,
			)
		}
	}
	for _, one := range outcomes {
		if seen[one.Script] == 0 {
			t.Errorf("nobody of %s was looked for", one.Script)
		}
	}
}

// start3 is the beginning of a name: three characters, or the first if it has no more, with the
// marks that follow.
func start3(name string) string {
	runes := []rune(name)
	end := min(3, len(runes))
	for end < len(runes) && !norm.NFC.PropertiesString(string(runes[end])).BoundaryBefore() {
		end++
	}
	return string(runes[:end])
}

func erasedAreGone(t *testing.T, steward *client.Client, listed map[client.ID]client.User, outcomes []outcome) {
	for i, one := range outcomes {
		switch one.fate {
		case redacted:
			user := listed[one.id]
			if user.Status != api.UserStatusRedacted || user.FirstName != nil || user.LastName != nil ||
				user.Email != nil ||
				user.Label == nil ||
				user.Receipt == nil {
				t.Errorf("line %d: got %+v", i+1, user)
			}
			entries := 0
			for entry, err := range steward.AuditEntries(t.Context(), client.AuditFilter{ActorUserID: one.id}) {
				if err != nil {
					t.Fatal(err)
				}
				if entries++; !entry.Actor.Redacted {
					t.Errorf("line %d: the actor of %s does not show as redacted", i+1, entry.ID)
				}
			}
			if entries != one.entries {
				t.Errorf("line %d: %d entries in the trail, %d were stored", i+1, entries, one.entries)
			}
		case deleted:
			if _, there := listed[one.id]; there {
				t.Errorf("line %d: is still listed", i+1)
			}
			if _, err := steward.GetUser(t.Context(), one.id); !client.IsProblem(err, client.ProblemNotFound) {
				t.Errorf("line %d: got %v", i+1, err)
			}
		case alive:
			continue
		}
		if _, there, err := steward.FindUser(t.Context(), one.Email); err != nil || there {
			t.Errorf("line %d: the address still finds somebody: %t, %v", i+1, there, err)
		}
		if user := searched(t, steward, one); user != nil {
			t.Errorf("line %d: the name still finds the person", i+1)
		}
	}
}

// searched looks for somebody's id among those whom the name finds.
func searched(t *testing.T, steward *client.Client, one outcome) *client.User {
	t.Helper()
	for user, err := range steward.Users(t.Context(), client.UserFilter{Query: norm.NFC.String(one.FirstName), PageSize: 200}) {
		if err != nil {
			t.Fatal(err)
		}
		if user.ID == one.id {
			return &user
		}
	}
	return nil
}

func TestProgram(t *testing.T) {
	t.Parallel()
	service := apptest.Start(t)
	key := string(service.Customer(t, "acme").APIKey)
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	few := filepath.Join(t.TempDir(), "few.ndjson")
	if err := os.WriteFile(
		few,
		[]byte(strings.Join(strings.SplitAfter(string(content), "\n")[:12], "")),
		0o600,
	); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := start(t.Context(), []string{"--base-url", service.URL, "--api-key", key, few}, &out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "  all      12       12 ") {
		t.Errorf("got\n%s", out.String())
	}
	for name, arguments := range map[string][]string{
		"no such file": {"--base-url", service.URL, "--api-key", key, few + "x"},
		"no key":       {"--base-url", service.URL, "--api-key", "", few},
		"wrong key":    {"--base-url", service.URL, "--api-key", key + "x", few},
		"wrong flag":   {"--nonsense"},
	} {
		if err := start(t.Context(), arguments, io.Discard); err == nil || strings.Contains(err.Error(), key) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
