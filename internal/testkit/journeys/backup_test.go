package journeys

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fusionspim/steward/internal/app"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/seal"
	"github.com/fusionspim/steward/internal/record/backup"
	"github.com/fusionspim/steward/internal/testkit/apptest"
	"github.com/fusionspim/steward/internal/testkit/dbtest"
	"github.com/fusionspim/steward/internal/testkit/journeys/steps"
)

const backupsPath = "/v1/operator/backups"

// backupView is a backup as the API shows one.
type backupView struct {
	ID        string    `json:"id"`
	State     string    `json:"state"`
	TakenAt   time.Time `json:"taken_at"`
	ExpiresAt time.Time `json:"expires_at"`
	Size      *int64    `json:"size"`
}

// backedUp is a service with backups, and the operator who looks after them.
type backedUp struct {
	*tenant
	settings app.Settings
	operator apptest.Credential
}

func newBackedUp(t *testing.T) *backedUp {
	t.Helper()
	b := &backedUp{}
	b.tenant = newTenantAlone(t, apptest.WithBackups(t), func(settings *app.Settings) { b.settings = *settings })
	b.operator = b.SignIn(t, "fusions", b.Operators(t))
	return b
}

// order has a backup made and waits until it is there.
func (b *backedUp) order(t *testing.T) (made backupView) {
	t.Helper()
	call(t, b.Service, "POST", backupsPath, apptest.As(b.operator)).Want(t, 202).Into(t, &made)
	if made.State != "creating" || made.Size != nil {
		t.Errorf("ordered: %+v", made)
	}
	return b.await(t, made.ID, "available")
}

func (b *backedUp) await(t *testing.T, backup, state string) (found backupView) {
	t.Helper()
	for began := time.Now(); time.Since(began) < steps.Patience; time.Sleep(50 * time.Millisecond) {
		for _, one := range b.list(t) {
			if found = one; one.ID == backup && one.State == state {
				return one
			}
		}
	}
	t.Fatalf("the backup is not %s: %+v\n%s", state, found, b.Database.Log.String())
	return found
}

func (b *backedUp) list(t *testing.T) []backupView {
	t.Helper()
	var page struct {
		Data []backupView `json:"data"`
	}
	call(t, b.Service, "GET", backupsPath, apptest.As(b.operator)).Want(t, 200).Into(t, &page)
	return page.Data
}

func TestBackupsOnAnOperatorsOrder(t *testing.T) {
	t.Parallel()
	b := newBackedUp(t)
	made := b.order(t)
	if made.Size == nil || !made.ExpiresAt.Equal(made.TakenAt.Add(b.settings.Backups.Kept)) {
		t.Errorf("%+v", made)
	}
	// A second one while one is under way. The row stands for one that never ends.
	steps.Execute(t, b.Database.Superuser(t), "insert into backups (id, state, requested_at, taken_at, expires_at) values (gen_random_uuid(), 'creating', $1, $1, $2)",
		b.Database.Clock.Now(), b.Database.Clock.Now().Add(time.Hour))
	call(t, b.Service, "POST", backupsPath, apptest.As(b.operator)).WantProblem(t, 409, "backup-under-way")

	var entries int
	peek(t, b.Service, `select count(*) from audit_entries e join customers c on c.id = e.customer_id
		where c.slug = 'fusions' and action = 'backup.ordered' and target_id = $1 and actor_operator_id is not null`, &entries, made.ID)
	if entries != 1 {
		t.Errorf("%d entries tell of the order", entries)
	}
	for range 3 {
		steps.Execute(t, b.Database.Superuser(t), "update backups set state = 'failed' where state = 'creating'")
		b.order(t)
	}
	var first struct {
		Data []backupView `json:"data"`
		Next *string      `json:"next_cursor"`
	}
	call(t, b.Service, "GET", backupsPath+"?limit=2", apptest.As(b.operator)).Want(t, 200).Into(t, &first)
	if len(first.Data) != 2 || first.Next == nil {
		t.Fatalf("%+v", first)
	}
	second := first
	call(t, b.Service, "GET", backupsPath+"?limit=2&cursor="+*first.Next, apptest.As(b.operator)).Want(t, 200).Into(t, &second)
	if len(second.Data) != 2 || second.Data[0].ID == first.Data[1].ID {
		t.Errorf("%+v after %+v", second, first)
	}
}

func TestWithoutBackups(t *testing.T) {
	t.Parallel()
	h := newTenantAlone(t)
	operator := h.SignIn(t, "fusions", h.Operators(t))
	answer := call(t, h.Service, "POST", backupsPath, apptest.As(operator)).WantProblem(t, 503, "backups-not-set-up")
	if answer.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	call(t, h.Service, "GET", backupsPath, apptest.As(operator)).Want(t, 200)
	var receipt struct {
		BackupsExpireAt *time.Time `json:"backups_expire_at"`
	}
	made := h.create(t, named("A", "B", "nobody@acme.example"))
	h.asAdmin(t, "DELETE", "/v1/users/"+made.ID).Want(t, 200).Into(t, &receipt)
	if receipt.BackupsExpireAt != nil {
		t.Errorf("%v", receipt.BackupsExpireAt)
	}
}

func TestReceiptsSayWhenBackupsForget(t *testing.T) {
	t.Parallel()
	b := newBackedUp(t)
	gone, stays := b.create(t, named("A", "B", "gone@acme.example")), b.create(t, named("A", "B", "stays@acme.example"))
	taken := b.order(t)
	b.Database.Clock.Advance(time.Hour)
	b.admin = b.SignIn(t, b.acme.Slug, b.acme.Admin)
	type promise struct {
		ID              string     `json:"id"`
		BackupsExpireAt *time.Time `json:"backups_expire_at"`
	}
	var plan, receipt, redaction promise
	b.asAdmin(t, "GET", "/v1/users/"+gone.ID+"/erasure-plan").Want(t, 200).Into(t, &plan)
	b.asAdmin(t, "DELETE", "/v1/users/"+gone.ID).Want(t, 200).Into(t, &receipt)
	b.asAdmin(t, "POST", "/v1/users/"+stays.ID+"/redaction").Want(t, 200).Into(t, &redaction)
	for name, one := range map[string]promise{"plan": plan, "receipt": receipt, "redaction": redaction} {
		if at := one.BackupsExpireAt; at == nil || at.Before(taken.ExpiresAt) || at.After(taken.ExpiresAt.Add(2*time.Hour)) {
			t.Errorf("%s: %v, and the backup expires %v", name, at, taken.ExpiresAt)
		}
	}
	// A receipt never changes, whatever becomes of the backups.
	b.Database.Clock.Advance(b.settings.Backups.Kept)
	if _, err := b.Backups.Expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.admin = b.SignIn(t, b.acme.Slug, b.acme.Admin)
	var again promise
	b.asAdmin(t, "GET", "/v1/erasure-receipts/"+receipt.ID).Want(t, 200).Into(t, &again)
	if !again.BackupsExpireAt.Equal(*receipt.BackupsExpireAt) {
		t.Errorf("%v, before %v", again.BackupsExpireAt, receipt.BackupsExpireAt)
	}
}

// sums are the rows of every table, hashed.
func sums(t *testing.T, conn *pgx.Conn) map[string]string {
	t.Helper()
	of := make(map[string]string)
	rows, err := conn.Query(t.Context(), `select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where n.nspname in ('public', 'jobs') and c.relkind = 'r'`)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		var sum string
		if err := conn.QueryRow(t.Context(), "select count(*) || ' rows ' || md5(coalesce(string_agg(r::text, E'\\n' order by r::text), '')) from "+table+" as r").Scan(&sum); err != nil {
			t.Fatal(err)
		}
		of[table] = sum
	}
	return of
}

func TestARestoredDatabaseIsServed(t *testing.T) {
	t.Parallel()
	b := newBackedUp(t)
	redacted, person := b.create(t, named("A", "B", "redacted@acme.example")), b.Person(t, b.acme, "user", "person@acme.example")
	b.asAdmin(t, "POST", "/v1/users/"+redacted.ID+"/redaction").Want(t, 200)
	call(t, b.Service, "POST", "/v1/audit-entries", apptest.As(b.acme.APIKey), apptest.JSON(entryBy(person.ID, nil))).Want(t, 201)
	call(t, b.Service, "POST", "/v1/password-resets", apptest.JSON(members{"customer": b.acme.Slug, "email": person.Email})).Want(t, 202)
	b.MailTo(t, person.Email, "")
	before := b.SignIn(t, b.acme.Slug, b.acme.Admin)
	b.Settle()
	for unsealed := 1; unsealed > 0; {
		if err := b.Sequencer.Sequence(t.Context()); err != nil {
			t.Fatal(err)
		}
		peek(t, b.Service, "select count(*) from audit_unsealed", &unsealed)
	}
	// The leader of the replicas makes the trail's key when it is elected, which may be before the backup or after.
	call(t, b.Service, "GET", "/.well-known/audit-trail-keys.json").Want(t, 200)
	if err := b.CompareLedger(t.Context()); err != nil { // which would happen by itself, now or then
		t.Fatal(err)
	}
	if _, err := b.Backups.Create(t.Context()); err != nil { // by nobody's order, so that nothing else happens meanwhile
		t.Fatal(err)
	}
	made := b.list(t)[0]
	want := sums(t, b.Database.Superuser(t))

	box, err := seal.ParseMasterKey(apptest.MasterKey())
	if err != nil {
		t.Fatal(err)
	}
	of, err := id.Parse[id.Backup](made.ID)
	if err != nil {
		t.Fatal(err)
	}
	into := dbtest.NewEmpty(t)
	_, err = backup.Restore(t.Context(), backup.RestoreSettings{
		Stores: app.Stores(),
		Vault:  backup.Vault{Store: b.settings.Blobs, Box: box}, Identities: apptest.BackupIdentities(t), Into: into, Clock: b.Database.Clock.Now, Log: b.Database.Log.Logger(),
	}, of)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), into.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context()) //nolint:errcheck // nothing depends on how it ends
	got := sums(t, conn)
	if !slices.Equal(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))) {
		t.Errorf("tables %v, want %v", got, want)
	}
	forgotten := []string{
		"public.sessions", "public.refresh_tokens", "public.password_links", "public.idempotency_answers", "public.attempt_limits",
		"jobs.river_job", "jobs.river_leader", "jobs.river_notification",
	}
	others := []string{"public.backups", "public.restores", "public.goose_db_version", "jobs.river_queue"} // that change by the restore or while it goes on
	for table, sum := range want {
		switch {
		case slices.Contains(forgotten, table):
			if got[table] != "0 rows d41d8cd98f00b204e9800998ecf8427e" {
				t.Errorf("%s came back: %s", table, got[table])
			}
		case !slices.Contains(others, table) && got[table] != sum:
			t.Errorf("%s: %s, want %s", table, got[table], sum)
		}
	}
	restored := apptest.ReplicaWith(t, b.Database, func(settings *app.Settings) { *settings = b.settings; settings.DatabaseURL = into })
	call(t, restored, "GET", "/v1/me", apptest.As(before)).WantProblem(t, 401, "unauthorized")
	after := restored.SignIn(t, b.acme.Slug, b.acme.Admin)
	call(t, restored, "GET", "/v1/users/"+redacted.ID, apptest.As(after)).Want(t, 200)
	call(t, restored, "GET", "/v1/users/"+person.ID.String(), apptest.As(b.acme.APIKey)).Want(t, 200)
	call(t, restored, "POST", "/v1/users", apptest.As(after), apptest.JSON(named("A", "B", "later@acme.example"))).Want(t, 201)
}
