package trail_test

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/compliance/trail"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/seal"
	"github.com/fusionspim/steward/internal/record/audit"
	"github.com/fusionspim/steward/internal/testkit/apptest"
)

// world is a trail of some entries of every kind, two checkpoints of it, and somebody who can write
// to the database past everything.
type world struct {
	*apptest.Service
	acme      apptest.Customer
	superuser *pgx.Conn
	box       *seal.Box
	handedOut string   // the newest checkpoint
	entries   []string // their ids, in their order
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Service: apptest.Start(t)}
	w.acme = w.Customer(t, "acme")
	w.Customer(t, "umbrella")
	var err error
	if w.box, err = seal.ParseMasterKey(apptest.MasterKey()); err != nil {
		t.Fatal(err)
	}
	w.record(t, 9)
	w.Call(t, "PATCH", "/v1/users/"+w.acme.User.ID.String(), apptest.As(w.SignIn(t, "acme", w.acme.Admin)), apptest.JSON(map[string]string{"last_name": "Okafor"})).
		Want(t, 200)
	w.Seal(t)
	w.checkpoint(t)
	w.record(t, 5)
	w.Seal(t)
	w.handedOut = w.checkpoint(t)
	// A single one behind the checkpoint, at the right edge of the tree.
	for {
		w.record(t, 1)
		w.Seal(t)
		if w.ids(t); len(w.entries)%2 == 1 {
			break
		}
	}
	w.superuser = w.Database.Superuser(t)
	w.do(
		t,
		"set session_replication_role = replica; alter table audit_entries disable trigger all; alter table audit_leaves disable trigger all",
	)
	for _, table := range []string{"audit_entries", "audit_leaves", "audit_heads", "audit_checkpoints", "proof_keys", "audit_unsealed"} {
		w.do(t, "create table kept_"+table+" as select * from "+table)
		rows, err := w.superuser.Query(
			t.Context(),
			"select conname from pg_constraint where conrelid = $1::regclass and contype = 'c'",
			table,
		)
		if err != nil {
			t.Fatal(err)
		}
		checks, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		for _, check := range checks {
			w.do(t, "alter table "+table+" drop constraint "+check)
		}
	}
	return w
}

// ids lists the entries by their places.
func (w *world) ids(t *testing.T) {
	t.Helper()
	rows, err := w.Database.Superuser(t).
		Query(t.Context(), "select entry_id::text from audit_leaves where customer_id = $1 order by leaf_index", w.acme.ID)
	if err != nil {
		t.Fatal(err)
	}
	if w.entries, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
		t.Fatal(err)
	}
}

func (w *world) record(t *testing.T, count int) {
	t.Helper()
	for i := range count {
		entry := map[string]any{
			"actor_user_id": w.acme.User.ID.String(),
			"action":        "product.updated",
			"target":        map[string]string{"type": "product", "id": "48151623"},
			"occurred_at":   "2026-02-28T09:30:00.123456Z",
		}
		if i%2 == 0 {
			entry["details"] = map[string]any{"revision": i, "changed": []string{"price", "stock"}}
		}
		w.Call(t, "POST", "/v1/audit-entries", apptest.As(w.acme.APIKey), apptest.JSON(entry)).Want(t, 201)
	}
}

func (w *world) checkpoint(t *testing.T) string {
	t.Helper()
	w.Database.Clock.Advance(time.Second)
	return w.Call(t, "GET", "/v1/audit-checkpoints/latest", apptest.As(w.acme.APIKey)).
		Want(t, 200).
		Text(t, "checkpoint")
}

func (w *world) do(t *testing.T, statement string) {
	t.Helper()
	if _, err := w.superuser.Exec(t.Context(), statement); err != nil {
		t.Fatalf("%v, of: %s", err, statement)
	}
}

// restore brings everything back to what it was.
func (w *world) restore(t *testing.T) {
	t.Helper()
	for _, table := range []string{"audit_entries", "audit_leaves", "audit_heads", "audit_checkpoints", "proof_keys", "audit_unsealed"} {
		w.do(t, "delete from "+table+"; insert into "+table+" select * from kept_"+table)
	}
}

func (w *world) verify(t *testing.T, check trail.Check) trail.Report {
	t.Helper()
	report, err := trail.Verify(t.Context(), w.DB, check)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// first returns what is told of acme's trail first.
func (w *world) first(t *testing.T, check trail.Check) trail.Problem {
	t.Helper()
	report := w.verify(t, check)
	for _, one := range report.Trails {
		if one.Customer != "acme" {
			if len(one.Problems) > 0 {
				t.Errorf("of %s is told %+v", one.Customer, one.Problems)
			}
		} else if len(one.Problems) > 0 {
			if report.OK {
				t.Error("a report with problems is good")
			}
			return one.Problems[0]
		}
	}
	return trail.Problem{}
}

func (w *world) wantFirst(t *testing.T, what string, got trail.Problem, kind string, leaf int) {
	t.Helper()
	if got.Kind != kind || (got.LeafIndex == nil) != (leaf < 0) || leaf >= 0 && *got.LeafIndex != int64(leaf) {
		at := "nothing"
		if got.LeafIndex != nil {
			at = fmt.Sprint("leaf ", *got.LeafIndex)
		}
		t.Errorf("%s: %s is told of %s (%s), want %s of leaf %d", what, got.Kind, at, got.Detail, kind, leaf)
	}
}

func TestAGoodTrailIsGood(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for what, check := range map[string]struct {
		trail.Check
		from trail.KeysFrom
	}{
		"by its own keys":                 {trail.Check{}, trail.KeysPublished},
		"by the master key":               {trail.Check{Box: w.box}, trail.KeysOpened},
		"of one customer":                 {trail.Check{Customers: []string{"acme"}}, trail.KeysPublished},
		"with a checkpoint":               {trail.Check{Checkpoint: w.handedOut}, trail.KeysPublished},
		"with one of other ends of lines": {trail.Check{Checkpoint: strings.ReplaceAll(w.handedOut, "\n", "\r\n") + "\r\n"}, trail.KeysPublished},
	} {
		report := w.verify(t, check.Check)
		if !report.OK || report.KeysFrom != check.from || report.Entries < int64(len(w.entries)) {
			t.Errorf("%s: %+v", what, report)
		}
	}
	if _, err := trail.Verify(t.Context(), w.DB, trail.Check{Customers: []string{"nobody"}}); err == nil {
		t.Error("a customer that does not exist was checked")
	}
	if _, err := trail.Verify(t.Context(), w.DB, trail.Check{Checkpoint: "nonsense"}); err == nil {
		t.Error("nonsense was taken for a checkpoint")
	}
}

// TestEveryColumnOfAnEntryIsWatched changes an entry in each of its columns, at several places of
// the tree.
func TestEveryColumnOfAnEntryIsWatched(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	rows, err := w.superuser.Query(
		t.Context(),
		"select attname, format_type(atttypid, null) from pg_attribute where attrelid = 'audit_entries'::regclass and attnum > 0 and not attisdropped",
	)
	if err != nil {
		t.Fatal(err)
	}
	type column struct{ Name, Type string }
	columns, err := pgx.CollectRows(rows, pgx.RowToStructByPos[column])
	if err != nil || len(columns) < 16 {
		t.Fatalf("%v %v", columns, err)
	}
	changes := map[string][]string{
		"uuid": {"gen_random_uuid()"},
		"text": {"coalesce(%[1]s, '') || 'x'", "upper(coalesce(nullif(%[1]s, upper(%[1]s)), 'x'))"},
		"text[]": {
			"array_append(%[1]s, 'email')",
			"array_append(%[1]s, null)",
			"array[%[1]s || array['x'], array['y'] || %[1]s]",
			"'[0:0]={email}'::text[]",
		},
		"jsonb": {
			`'{"revision": 1000}'`,
			`'{"revision": 1.0}'`,
			"'null'",
			"coalesce(%[1]s, '{}') || '{\"x\": true}'",
			"case when %[1]s is null then '{}' else null end::jsonb",
		},
		"timestamp with time zone": {
			"%[1]s + interval '1 microsecond'",
			"'infinity'",
			"'-infinity'",
			"%[1]s - interval '3000 years'",
		},
	}
	last := len(w.entries) - 1
	for _, one := range columns {
		for i, change := range changes[one.Type] {
			for _, leaf := range []int{0, 3, 4, last} {
				if i > 0 && leaf == 3 {
					continue
				}
				if strings.Contains(change, "%") {
					change = fmt.Sprintf(change, one.Name)
				}
				statement := fmt.Sprintf(
					"update audit_entries set %s = %s where customer_id = '%s' and id = '%s'",
					one.Name,
					change,
					w.acme.ID,
					w.entries[leaf],
				)
				if one.Type == "text[]" && strings.HasPrefix(change, "array[") {
					statement = fmt.Sprintf(
						"update audit_entries set changed = '{{a},{b}}' where customer_id = '%s' and id = '%s'",
						w.acme.ID,
						w.entries[leaf],
					)
				}
				w.do(t, statement)
				problem := w.first(t, trail.Check{})
				w.wantFirst(t, statement, problem, "entry", leaf)
				if problem.EntryID != w.entries[leaf] {
					t.Errorf("%s: the entry %s is named, want %s", statement, problem.EntryID, w.entries[leaf])
				}
				w.restore(t)
			}
		}
		if changes[one.Type] == nil {
			t.Errorf("the column %s is of type %s, of which this test knows no changes", one.Name, one.Type)
		}
	}
	if report := w.verify(t, trail.Check{}); !report.OK {
		t.Errorf("after everything was brought back: %+v", report)
	}
}

func TestEveryHashIsWatched(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for leaf := range w.entries {
		var size int
		if err := w.superuser.QueryRow(t.Context(), "select length(hashes) from audit_leaves where customer_id = $1 and leaf_index = $2", w.acme.ID, leaf).
			Scan(&size); err != nil {
			t.Fatal(err)
		}
		for level := range size / 32 {
			at := level*32 + (leaf*7)%32
			w.do(
				t,
				fmt.Sprintf(
					"update audit_leaves set hashes = set_byte(hashes, %d, get_byte(hashes, %d) # 1) where customer_id = '%s' and leaf_index = %d",
					at,
					at,
					w.acme.ID,
					leaf,
				),
			)
			kind := "node"
			if level == 0 {
				kind = "leaf_hash"
			}
			w.wantFirst(
				t,
				fmt.Sprintf("byte %d of the hashes of leaf %d", at, leaf),
				w.first(t, trail.Check{}),
				kind,
				leaf,
			)
			w.restore(t)
		}
	}
}

func TestWhatElseCanBeChangedIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	of, last := "where customer_id = '"+w.acme.ID.String()+"' ", len(w.entries)-1
	for statement, want := range map[string]struct {
		kind string
		leaf int
	}{
		"delete from audit_entries " + of + "and id = '" + w.entries[2] + "'":                                         {"entry", 2},
		"delete from audit_leaves " + of + "and leaf_index = 2":                                                       {"order", 2},
		"update audit_leaves set leaf_index = leaf_index + 100 " + of + "and leaf_index = 4":                          {"order", 4},
		"delete from audit_leaves " + of + fmt.Sprint("and leaf_index = ", last):                                      {"head", -1},
		"update audit_leaves set entry_id = gen_random_uuid() " + of + "and leaf_index = 5":                           {"entry", 5},
		"update audit_leaves set hashes = hashes || hashes " + of + "and leaf_index = 6":                              {"leaf_hash", 6},
		"update audit_leaves set hashes = '' " + of + "and leaf_index = 0":                                            {"leaf_hash", 0},
		"update audit_heads set roots = set_byte(roots, 5, get_byte(roots, 5) # 1) " + of:                             {"head", -1},
		"update audit_heads set roots = '' " + of:                                                                     {"head", -1},
		"update audit_heads set size = size + 1 " + of:                                                                {"head", -1},
		"update audit_heads set size = size - 1 " + of:                                                                {"head", -1},
		"delete from audit_heads " + of:                                                                               {"checkpoint", -1},
		"update audit_checkpoints set size = size + 1 " + of + "and size = (select max(size) from audit_checkpoints)": {"checkpoint", -1},
		"update audit_checkpoints set note = replace(note, 'steward.test', 'steward.best') " + of:                     {"checkpoint", -1},
		"update audit_checkpoints set created_at = created_at - interval '1 microsecond' " + of:                       {"checkpoint", -1},
		"update audit_checkpoints a set note = b.note from audit_checkpoints b where a.customer_id = '" + w.acme.ID.String() +
			"' and b.customer_id = a.customer_id and a.size < b.size": {"checkpoint", -1},
		"insert into audit_entries select customer_id, gen_random_uuid(), source, 'late', actor_type, actor_user_id, actor_api_key_id, action, target_type, target_id, " +
			"changed, details, occurred_at, recorded_at from audit_entries " + of + "and id = '" + w.entries[last] + "'": {"unsealed", -1},
	} {
		w.do(t, statement)
		w.wantFirst(t, statement, w.first(t, trail.Check{}), want.kind, want.leaf)
		w.restore(t)
	}
	// Two entries that change places.
	w.do(
		t,
		fmt.Sprintf(
			"update audit_leaves set entry_id = gen_random_uuid() %[1]s and leaf_index = 1; update audit_leaves set entry_id = '%[2]s' %[1]s and leaf_index = 2; "+
				"update audit_leaves set entry_id = '%[3]s' %[1]s and leaf_index = 1",
			of,
			w.entries[1],
			w.entries[2],
		),
	)
	w.wantFirst(t, "two that change places", w.first(t, trail.Check{}), "entry", 1)
	w.restore(t)

	// The very bytes of a checkpoint.
	var note string
	if err := w.superuser.QueryRow(t.Context(), "select note from audit_checkpoints "+of+"order by size desc limit 1").
		Scan(&note); err != nil {
		t.Fatal(err)
	}
	for at := range len(note) {
		changed := []byte(note)
		if changed[at] ^= 1; changed[at] >= 0x80 || changed[at] == 0 {
			continue // the database takes no such text
		}
		if _, err := w.superuser.Exec(
			t.Context(),
			"update audit_checkpoints set note = $1 where note = $2",
			string(changed),
			note,
		); err != nil {
			t.Fatal(err)
		}
		w.wantFirst(t, fmt.Sprint("byte ", at, " of a checkpoint"), w.first(t, trail.Check{}), "checkpoint", -1)
		w.restore(t)
	}

	// Keys that somebody put there.
	w.do(t, "update proof_keys set public_key = set_byte(public_key, 0, get_byte(public_key, 0) # 1)")
	for _, check := range []trail.Check{{}, {Box: w.box}} {
		if report, err := trail.Verify(t.Context(), w.DB, check); err == nil {
			t.Errorf("a replaced key was taken: %+v", report)
		}
	}
	w.restore(t)
}

// Whoever owns the database can make every hash again. The checkpoints that were signed before do
// not fit then, and where those are taken away, those that were handed out do not.
func TestATrailThatWasWrittenAnewIsFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	of := "where customer_id = '" + w.acme.ID.String() + "' "
	w.do(
		t,
		"update audit_entries set target_id = '4815' "+of+"and id = '"+w.entries[4]+"'; delete from audit_leaves "+of+"; delete from audit_heads "+of+
			"; insert into audit_unsealed select customer_id, id from audit_entries "+of,
	)
	w.Seal(t)
	w.wantFirst(t, "made anew", w.first(t, trail.Check{}), "checkpoint", -1)
	w.do(t, "delete from audit_checkpoints")
	if problem := w.first(t, trail.Check{}); problem.Kind != "" {
		t.Errorf("by itself the trail is whole; told is %+v", problem)
	}
	w.wantFirst(
		t,
		"made anew, and held against what was handed out",
		w.first(t, trail.Check{Checkpoint: w.handedOut}),
		"checkpoint",
		-1,
	)
	// Entries cut off at the end.
	w.restore(t)
	w.do(
		t,
		"delete from audit_entries "+of+"; delete from audit_leaves "+of+"; delete from audit_heads "+of+"; delete from audit_checkpoints "+of,
	)
	w.wantFirst(t, "cut off", w.first(t, trail.Check{Checkpoint: w.handedOut}), "checkpoint", -1)
}

func TestEntriesThatWaitForLongAreTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(t, "alter table audit_entries enable trigger audit_entries_unsealed")
	// as a sealer that hangs
	w.do(t, "begin; select from audit_heads where customer_id = '"+w.acme.ID.String()+"' for update")
	err := w.DB.InCustomer(t.Context(), w.acme.ID, w.append)
	if err != nil {
		t.Fatal(err)
	}
	if report := w.verify(t, trail.Check{}); !report.OK {
		t.Errorf("an entry that was recorded just now: %+v", report)
	}
	w.Database.Clock.Advance(2 * time.Minute)
	w.wantFirst(t, "one that waits", w.first(t, trail.Check{}), "unsealed", -1)
	w.do(t, "rollback")
}

// TestEveryByteOfAnExportCounts changes every byte of an export, one after the other.
func TestEveryByteOfAnExportCounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var export bytes.Buffer
	done, err := trail.Export(t.Context(), w.DB, "acme", w.Trail, &export)
	if err != nil || done.Entries != int64(len(w.entries)) {
		t.Fatalf("%+v %v", done, err)
	}
	check := func(content []byte, check trail.Check) (trail.Report, error) {
		return trail.VerifyExport(t.Context(), bytes.NewReader(content), check)
	}
	for _, with := range []trail.Check{{}, {Keys: done.VerifierKeys}, {Checkpoint: w.handedOut}, {Keys: done.VerifierKeys, Checkpoint: w.handedOut}} {
		if report, err := check(export.Bytes(), with); err != nil || !report.OK || report.Entries != done.Entries {
			t.Fatalf("%+v: %+v %v", with, report, err)
		}
	}
	lines := bytes.SplitAfter(export.Bytes(), []byte("\n"))
	line, column := 0, 0
	for at := range export.Len() {
		changed := bytes.Clone(export.Bytes())
		changed[at] ^= 1 << (at % 8)
		report, err := check(changed, trail.Check{Keys: done.VerifierKeys})
		if err != nil || report.OK {
			t.Fatalf("byte %d, %d of line %d: %+v %v", at, column, line, report, err)
		}
		problem := report.Trails[0].Problems[0]
		if line > 0 && (problem.LeafIndex == nil || *problem.LeafIndex != int64(line-1)) &&
			column < len(lines[line])-1 {
			t.Fatalf("byte %d, %d of line %d: told is %+v", at, column, line, problem)
		}
		if column++; column == len(lines[line]) {
			line, column = line+1, 0
		}
	}
	for what, content := range map[string][]byte{
		"nothing":         nil,
		"the header":      lines[0],
		"one line less":   bytes.Join(lines[:len(lines)-2], nil),
		"a cut line":      export.Bytes()[:export.Len()-1],
		"one line more":   append(bytes.Clone(export.Bytes()), lines[1]...),
		"a line twice":    bytes.Join(slices.Concat(lines[:2], lines[1:]), nil),
		"a changed order": bytes.Join(slices.Concat(lines[:1], lines[2:3], lines[1:2], lines[3:]), nil),
	} {
		if report, err := check(content, trail.Check{}); err != nil || report.OK {
			t.Errorf("%s: %+v %v", what, report, err)
		}
	}
	// Without the service nothing is signed: the export goes as far as the newest checkpoint.
	var shorter bytes.Buffer
	w.record(t, 1)
	w.Seal(t)
	again, err := trail.Export(t.Context(), w.DB, "acme", nil, &shorter)
	if err != nil || again.Entries != done.Entries || !bytes.Equal(shorter.Bytes(), export.Bytes()) {
		t.Errorf("%+v %v", again, err)
	}
	// What is not as it was sealed is not passed on.
	w.do(t, "update audit_entries set action = 'x' where id = '"+w.entries[1]+"'")
	if _, err := trail.Export(t.Context(), w.DB, "acme", w.Trail, io.Discard); err == nil {
		t.Error("a changed trail was exported")
	}
}

// append records an act of the service.
func (w *world) append(tx *postgres.Tx) error {
	return audit.AppendTx(
		tx,
		audit.Act{
			Caller: principal.Principal{Customer: tx.Customer},
			Action: audit.CustomerChanged,
			Target: audit.OnCustomer(tx.Customer),
		},
	)
}
