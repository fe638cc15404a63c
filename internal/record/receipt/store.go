package receipt

import (
	"database/sql"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

const columns = `id, kind, user_id, label, reason, authority, ordered_by_user_id, ordered_by_api_key_id,
	completed_at, removed, kept, backups_expire_at, state, live_complete_at, final_at, coalesce(jws, '')`

func scan(row postgres.Row) (found Receipt, err error) {
	var removed postgres.JSON[[]Removed]
	var kept postgres.JSON[[]Kept]
	err = row.Scan(
		&found.ID, &found.Kind, &found.UserID, &found.Label, &found.Reason, &found.Authority,
		&found.OrderedByUser, &found.OrderedByAPIKey, &found.CompletedAt, &removed, &kept,
		&found.BackupsExpireAt, &found.State, &found.LiveCompleteAt, &found.FinalAt, &found.JWS,
	)
	if errors.Is(err, sql.ErrNoRows) {
		return Receipt{}, notFound()
	}
	found.Removed, found.Kept = removed.Of, kept.Of
	return found, err
}

// arguments are the columns of a new receipt.
func arguments(tx *postgres.Tx, r Receipt) postgres.Args {
	return postgres.Args{
		"customer": tx.Customer, "id": r.ID, "kind": r.Kind, "user": r.UserID, "label": r.Label,
		"reason": r.Reason, "authority": r.Authority, "by_user": r.OrderedByUser,
		"by_api_key": r.OrderedByAPIKey, "completed_at": r.CompletedAt,
		"removed": postgres.JSON[[]Removed]{Of: r.Removed}, "kept": postgres.JSON[[]Kept]{Of: r.Kept},
		"backups_expire_at": r.BackupsExpireAt, "state": r.State, "jws": r.JWS, "now": tx.Now,
	}
}

func insert(tx *postgres.Tx, r Receipt) error {
	_, err := tx.Exec(`
		insert into erasure_receipts (customer_id, id, kind, user_id, label, reason, authority,
			ordered_by_user_id, ordered_by_api_key_id, completed_at, removed, kept, backups_expire_at,
			state, erased_at, jws, signed_at)
		values (@customer, @id, @kind, @user, @label, @reason, @authority,
			@by_user, @by_api_key, @completed_at, @removed, @kept, @backups_expire_at,
			@state, @now, @jws, @now)`, arguments(tx, r))
	return err
}

func insertIfMissing(tx *postgres.Tx, r Receipt) error {
	_, err := tx.Exec(`
		insert into erasure_receipts (customer_id, id, kind, user_id, label, reason, authority,
			ordered_by_user_id, ordered_by_api_key_id, completed_at, removed, kept, backups_expire_at,
			state, erased_at, jws, signed_at)
		select c.id, @id::uuid, @kind::text, @user::uuid, @label::text, @reason::text, @authority::text,
			@by_user::uuid, @by_api_key::uuid, @completed_at::timestamptz, @removed::jsonb, @kept::jsonb,
			@backups_expire_at::timestamptz, @state::text, @now::timestamptz, @jws::text, @now::timestamptz
		from customers c where c.id = @customer on conflict do nothing`, arguments(tx, r))
	return err
}

func byID(tx *postgres.Tx, receipt id.Receipt) (Receipt, error) {
	return scan(tx.QueryRow("select "+columns+" from erasure_receipts where customer_id = $1 and id = $2",
		tx.Customer, receipt))
}

// lockInState returns those of the receipts that are in a state, and locks them.
func lockInState(tx *postgres.Tx, receipts []uuid.UUID, state State) ([]Receipt, error) {
	return postgres.Collect(tx, scan, "select "+columns+` from erasure_receipts
		where customer_id = @customer and id = any (@ids) and state = @state order by id for update`,
		postgres.Args{"customer": tx.Customer, "ids": receipts, "state": state})
}

// lockUnsigned returns those of the receipts that have no signature, and locks them.
func lockUnsigned(tx *postgres.Tx, receipts []uuid.UUID) ([]Receipt, error) {
	return postgres.Collect(tx, scan, "select "+columns+` from erasure_receipts
		where customer_id = $1 and id = any ($2) and signed_at is null order by id for update`,
		tx.Customer, receipts)
}

// update saves how far receipts have come, with their signatures, in one round trip, and returns
// how many it saved.
func update(tx *postgres.Tx, receipts []Receipt) (int64, error) {
	if len(receipts) == 0 {
		return 0, nil
	}
	type wire struct {
		ID             id.Receipt `json:"id"`
		State          State      `json:"state"`
		LiveCompleteAt *time.Time `json:"live_complete_at"`
		FinalAt        *time.Time `json:"final_at"`
		JWS            string     `json:"jws"`
	}
	rows := make([]wire, len(receipts))
	for i, r := range receipts {
		rows[i] = wire{r.ID, r.State, r.LiveCompleteAt, r.FinalAt, r.JWS}
	}
	return tx.Exec(`
		update erasure_receipts r set state = s.state, live_complete_at = s.live_complete_at,
			final_at = s.final_at, jws = s.jws, signed_at = @now
		from jsonb_to_recordset(@rows::jsonb)
			as s(id uuid, state text, live_complete_at timestamptz, final_at timestamptz, jws text)
		where r.customer_id = @customer and r.id = s.id`,
		postgres.Args{"now": tx.Now, "rows": postgres.JSON[[]wire]{Of: rows}, "customer": tx.Customer})
}

// signFirst saves the first signature of a receipt. Another's that came first is as good.
func signFirst(tx *postgres.Tx, r Receipt) error {
	_, err := tx.Exec(`
		update erasure_receipts set jws = @jws, signed_at = @now
		where customer_id = @customer and id = @id and jws is null`,
		postgres.Args{"jws": r.JWS, "now": tx.Now, "customer": tx.Customer, "id": r.ID})
	return err
}

func scanUnsettled(row postgres.Row) (found Unsettled, err error) {
	err = row.Scan(&found.Customer, &found.ID, &found.ErasedAt, &found.ErasedIn)
	return found, err
}

// unsettled finds receipts by their states, which partial indexes know: so the states are literals.
func unsettled(tx *postgres.Tx, state State, limit int) ([]Unsettled, error) {
	statement := `select customer_id, id, erased_at, erased_in from erasure_receipts
		where state = 'pending' order by completed_at limit $1`
	if state == LiveComplete {
		statement = `select customer_id, id, erased_at, erased_in from erasure_receipts
			where state = 'live-complete' order by erased_at limit $1`
	}
	return postgres.Collect(tx, scanUnsettled, statement, limit)
}

func unsigned(tx *postgres.Tx, limit int) ([]Unsettled, error) {
	return postgres.Collect(tx, scanUnsettled, `select customer_id, id, erased_at, erased_in from erasure_receipts
		where signed_at is null order by completed_at limit $1`, limit)
}

func countPending(tx *postgres.Tx) (count int64, since *time.Time, err error) {
	err = tx.QueryRow("select count(*), min(erased_at) from erasure_receipts where state = 'pending'").
		Scan(&count, &since)
	return count, since, err
}

// connected reports whether a connection, by its process and its name, is one to this database.
func connected(tx *postgres.Tx, process uint32, name string) (found bool, err error) {
	err = tx.QueryRow(`
		select exists (select from pg_stat_activity
			where pid = $1 and application_name = $2 and datname = current_database())`,
		int64(process), name).Scan(&found)
	return found, err
}
