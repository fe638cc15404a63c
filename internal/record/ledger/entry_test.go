package ledger

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/base/id"
)

func sampleEntry() Entry {
	return Entry{
		Number: 7, Kind: Redaction, At: time.Date(2026, time.March, 1, 12, 0, 0, 123_000, time.UTC),
		Customer: id.Customer{UUID: uuid.MustParse("0195503a-4000-7abc-8def-0123456789ab")},
		Subject:  uuid.MustParse("0195503a-4000-7abc-8def-0123456789ac"),
		Label:    "Redacted user 7K3M", Reason: "employment_ended", Authority: "customer", Previous: Hash{1, 2, 3},
	}
}

// An entry outlives every erasure, so none may hold a person's data.
func TestEntriesHoldClosedWordsOnly(t *testing.T) {
	t.Parallel()
	if err := sampleEntry().check(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Entry){
		"unknown kind":        func(e *Entry) { e.Kind = "rename" },
		"no kind":             func(e *Entry) { e.Kind = "" },
		"name as a label":     func(e *Entry) { e.Label = "Ada Lovelace" },
		"name in a label":     func(e *Entry) { e.Label = "Redacted user ADA Lovelace" },
		"label with letter I": func(e *Entry) { e.Label = "Redacted user INGO" },
		"label, line break":   func(e *Entry) { e.Label += "\n" },
		"reason in words":     func(e *Entry) { e.Reason = "Ada asked for it" },
		"address":             func(e *Entry) { e.Reason = "ada@example.com" },
		"authority in words":  func(e *Entry) { e.Authority = "Ada" },
		"status in words":     func(e *Entry) { e.Status = "Away ill" },
		"role in words":       func(e *Entry) { e.Role = "the boss" },
		"very long word":      func(e *Entry) { e.Reason = strings.Repeat("a", 33) },
	} {
		e := sampleEntry()
		spoil(&e)
		if err := e.check(); err == nil {
			t.Errorf("%s: taken", name)
		} else if strings.Contains(err.Error(), "Ada") || strings.Contains(err.Error(), "ada@") {
			t.Errorf("%s: the error repeats it: %v", name, err)
		}
		line, err := e.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseEntry(line); err == nil {
			t.Errorf("%s: read back", name)
		}
	}
}

func TestALineHasOneForm(t *testing.T) {
	t.Parallel()
	want := sampleEntry()
	line, err := want.encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := parseEntry(line); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	text := string(line)
	for name, other := range map[string]string{
		"empty": "", "null": "null", "empty object": "{}", "array": "[" + text + "]", "space behind": text + " ", "space in front": " " + text,
		"line feed": text + "\n", "two": text + text, "unknown member": strings.Replace(text, "{", `{"name":"Ada",`, 1),
		"member twice": strings.Replace(text, "{", `{"number":7,`, 1), "capitals": strings.Replace(text, `"number"`, `"Number"`, 1),
		"number as a float": strings.Replace(text, `"number":7`, `"number":7.0`, 1), "upper-case id": strings.ToUpper(text),
		"escaped": strings.Replace(text, "redaction", `r\u0065daction`, 1), "explicit nothing": strings.Replace(text, "}", `,"role":""}`, 1),
		"hash too short": strings.Replace(text, `"previous":"01`, `"previous":"`, 1),
	} {
		if other == text {
			t.Fatalf("%s changes nothing", name)
		}
		if got, err := parseEntry([]byte(other)); err == nil {
			t.Errorf("%s: read as %+v", name, got)
		}
	}
}

// The newest of the settings of one subject counts; acts that are final all count.
func TestWhatReplacesWhat(t *testing.T) {
	t.Parallel()
	names := map[string]Kind{}
	for _, kind := range kinds {
		e := sampleEntry()
		e.Kind = kind
		name := e.replaces()
		if setting := kind == AlertsSet || kind == StatusSet || kind == RoleSet; setting != (name != "") {
			t.Errorf("%s replaces %q", kind, name)
		}
		if name == "" {
			continue
		}
		if other, taken := names[name]; taken {
			t.Errorf("%s and %s replace each other", kind, other)
		}
		names[name] = kind
		for what, change := range map[string]func(*Entry){
			"person":   func(e *Entry) { e.Subject = uuid.New() },
			"customer": func(e *Entry) { e.Customer = id.New[id.Customer]() },
		} {
			changed := e
			change(&changed)
			if changed.replaces() == name {
				t.Errorf("%s of another %s is replaced too", kind, what)
			}
		}
		if e.needsReplay() != (kind != Void) {
			t.Errorf("%s needs a replay: %t", kind, e.needsReplay())
		}
	}
}

// No line but the one that the entry is written as is read as an entry.
func FuzzParseEntry(f *testing.F) {
	line, err := sampleEntry().encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	void := Entry{Number: 1, Kind: Void, At: time.Unix(0, 0).UTC(), Of: 3}
	if line, err = json.Marshal(void); err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, line []byte) {
		entry, err := parseEntry(line)
		if err != nil {
			return
		}
		if again, err := entry.encode(); err != nil || !bytes.Equal(again, line) {
			t.Errorf("%q is read as what is written as %q, %v", line, again, err)
		}
		if err := entry.check(); err != nil {
			t.Errorf("%q: %v", line, err)
		}
	})
}
