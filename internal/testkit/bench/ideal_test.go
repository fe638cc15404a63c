package bench_test

import (
	"encoding/json"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/fusionspim/steward/internal/testkit/apptest"
	"github.com/fusionspim/steward/internal/testkit/bench"
)

// TestIdealAnswersAsTheService keeps the comparison honest: both give the same bodies, but for what
// is made again each time.
func TestIdealAnswersAsTheService(t *testing.T) {
	t.Parallel()
	service := apptest.Start(t)
	acme := service.Customer(t, "acme")
	people, err := bench.Seed(t.Context(), service.Database.URL, acme.ID, bench.Population{Users: 60, Entries: 60})
	if err != nil {
		t.Fatal(err)
	}
	ideal, err := bench.NewIdeal(t.Context(), service.Database.URL, 2, acme.ID, acme.Admin.ID)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ideal.Close)
	token := service.SignIn(t, acme.Slug, acme.Admin)
	patch := func(name string) string { return `{"first_name":"` + name + `"}` }

	for _, test := range []struct {
		method, path string
		as           apptest.Credential
		ours, ideals string // bodies
	}{
		{"GET", "/v1/me", token, "", ""},
		{"GET", "/v1/users/" + people[7].String(), token, "", ""},
		{"GET", "/v1/users?limit=50", token, "", ""},
		{"PATCH", "/v1/users/" + people[8].String(), token, patch("Noor"), patch("Noor")},
		{"POST", "/v1/audit-entries", acme.APIKey, batchOf(100, people[3].String()), batchOf(100, people[4].String())},
	} {
		t.Run(test.method+" "+test.path, func(t *testing.T) {
			t.Parallel()
			options := []apptest.Option{apptest.As(test.as)}
			if test.ours != "" {
				options = append(options, apptest.Raw("application/json", test.ours))
			}
			ours := service.Call(t, test.method, test.path, options...).Want(t, 200)
			recorder := httptest.NewRecorder()
			ideal.ServeHTTP(recorder, httptest.NewRequest(test.method, test.path, strings.NewReader(test.ideals)))
			if recorder.Code != 200 {
				t.Fatalf("the ideal server answers %d: %s", recorder.Code, recorder.Body)
			}
			got, want := withoutNew(t, recorder.Body.Bytes()), withoutNew(t, ours.Body)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("the ideal server gives\n%s\nand the service\n%s", recorder.Body, ours.Body)
			}
		})
	}
}

// withoutNew decodes a body and takes out what is made again each time.
func withoutNew(t *testing.T, body []byte) any {
	t.Helper()
	var decoded any
	if err := json.Unmarshal(body, &decoded); err != nil {
		t.Fatal(err)
	}
	var strip func(value any)
	strip = func(value any) {
		switch value := value.(type) {
		case []any:
			for _, one := range value {
				strip(one)
			}
		case map[string]any:
			if _, outcome := value["source_id"]; outcome {
				value["source_id"], value["id"] = "any", "any"
			}
			for _, name := range []string{"updated_at", "next_cursor"} {
				if value[name] != nil {
					value[name] = "any"
				}
			}
			for _, one := range value {
				strip(one)
			}
		}
	}
	strip(decoded)
	return decoded
}
