// Package bench tells what the service costs beside the least that its work could cost.
//
// Owns: the ideal server to compare with, the data that both are measured on, and, in the folder
// compare, the command that does it. The Go benchmarks of the parts that run in every request stand
// here too, and the test that the queries find their indexes.
// Does not own: anything that the product is made of. Nothing here is ever part of a program that
// is shipped.
package bench

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/sensitive"
)

// Ideal answers five operations of the contract as fast as a careful programmer could make a server
// do who has nothing else to see to: net/http, pgx, encoding/json, and for each operation one
// statement, which is one round trip and a transaction of its own.
//
// It gives the bodies that the service gives, from the same tables, and leaves out everything else:
//   - credentials, roles, scopes, and sessions that may have ended: it is told once which customer
//     and which account it serves;
//   - row security: it connects as superuser, so PostgreSQL plans and runs without policies;
//   - the contract: no check of parameters, bodies or media types, and no problem documents;
//   - headers: no request id, entity tag, security headers or Link; no log, metrics or time-outs;
//   - rules: no conditional requests, no normal form of names, no check of the mail domains before a
//     change, no verdict on each entry of a batch, no Idempotency-Key, and a cursor that anyone could
//     forge.
//
// What the tables themselves see to (constraints, foreign keys, indexes, the append-only trigger)
// it has in common with the service.
type Ideal struct {
	customer [16]byte
	me       [16]byte
	pool     *pgxpool.Pool
	mux      *http.ServeMux
}

// NewIdeal makes the server for one customer and one account of it.
func NewIdeal(
	ctx context.Context,
	superuser sensitive.String,
	connections int,
	customer id.Customer,
	me id.User,
) (*Ideal, error) {
	config, err := pgxpool.ParseConfig(superuser.Reveal())
	if err != nil {
		return nil, err
	}
	config.MaxConns = int32(connections)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	s := &Ideal{customer: customer.UUID, me: me.UUID, pool: pool, mux: http.NewServeMux()}
	s.mux.HandleFunc("GET /v1/me", s.getMe)
	s.mux.HandleFunc("GET /v1/users/{id}", s.getUser)
	s.mux.HandleFunc("GET /v1/users", s.listUsers)
	s.mux.HandleFunc("PATCH /v1/users/{id}", s.updateUser)
	s.mux.HandleFunc("POST /v1/audit-entries", s.createAuditEntries)
	return s, nil
}

// Close ends the connections.
func (s *Ideal) Close() { s.pool.Close() }

// ServeHTTP implements http.Handler.
func (s *Ideal) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

type idealAlerts struct {
	OptedIn bool      `json:"opted_in"`
	SetAt   time.Time `json:"set_at"`
	SetBy   string    `json:"set_by"`
}

type idealUser struct {
	Alerts       idealAlerts `json:"alerts"`
	LostAt       *time.Time  `json:"correction_lost_at"`
	CreatedAt    time.Time   `json:"created_at"`
	Email        *string     `json:"email"`
	EmailFlagged bool        `json:"email_flagged"`
	FirstName    *string     `json:"first_name"`
	ID           uuid.UUID   `json:"id"`
	Label        *string     `json:"label"`
	LastName     *string     `json:"last_name"`
	PasswordSet  bool        `json:"password_set"`
	Receipt      *string     `json:"receipt"`
	RedactedAt   *time.Time  `json:"redacted_at"`
	Role         string      `json:"role"`
	Status       string      `json:"status"`
	UpdatedAt    time.Time   `json:"updated_at"`
}

// idealColumns are those of an idealUser, of a relation u of users and c of customers.
const idealColumns = `u.id, u.role, u.status, u.first_name, u.last_name, u.email,
	coalesce(c.mail_domain_policy = 'flag' and not split_part(u.email_key, '@', 2) = any (c.mail_domains), false),
	u.password_hash is not null, u.alerts_opted_in, u.alerts_set_by, u.alerts_set_at, u.label, u.redacted_at,
	'/v1/erasure-receipts/' || u.receipt_id, u.correction_lost_at, u.created_at, u.updated_at`

func (u *idealUser) fields() []any {
	return []any{
		(*[16]byte)(
			&u.ID,
		),
		&u.Role,
		&u.Status,
		&u.FirstName,
		&u.LastName,
		&u.Email,
		&u.EmailFlagged,
		&u.PasswordSet,
		&u.Alerts.OptedIn,
		&u.Alerts.SetBy,
		&u.Alerts.SetAt,
		&u.Label,
		&u.RedactedAt,
		&u.Receipt,
		&u.LostAt,
		&u.CreatedAt,
		&u.UpdatedAt,
	}
}

// utc brings the times, which pgx reads in the zone of the machine, to UTC.
func (u *idealUser) utc() {
	u.Alerts.SetAt, u.CreatedAt, u.UpdatedAt = u.Alerts.SetAt.UTC(), u.CreatedAt.UTC(), u.UpdatedAt.UTC()
}

func (s *Ideal) getUser(w http.ResponseWriter, r *http.Request) {
	user, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		refuse(w, err)
		return
	}
	var found idealUser
	err = s.pool.QueryRow(r.Context(), "select "+idealColumns+" from users u join customers c on c.id = u.customer_id where u.customer_id = $1 and u.id = $2",
		s.customer, [16]byte(user)).
		Scan(found.fields()...)
	found.utc()
	answer(w, &found, err)
}

func (s *Ideal) listUsers(w http.ResponseWriter, r *http.Request) {
	limit, err := strconv.Atoi(r.URL.Query().Get("limit"))
	if err != nil {
		refuse(w, err)
		return
	}
	rows, err := s.pool.Query(
		r.Context(),
		"select "+idealColumns+` from users u join customers c on c.id = u.customer_id where u.customer_id = $1
		order by u.id desc limit $2`,
		s.customer,
		limit+1,
	)
	if err != nil {
		refuse(w, err)
		return
	}
	defer rows.Close()
	page := struct {
		Data       []idealUser `json:"data"`
		NextCursor *uuid.UUID  `json:"next_cursor"`
	}{Data: make([]idealUser, 0, limit+1)}
	for rows.Next() {
		page.Data = append(page.Data, idealUser{})
		one := &page.Data[len(page.Data)-1]
		if err := rows.Scan(one.fields()...); err != nil {
			refuse(w, err)
			return
		}
		one.utc()
	}
	if len(page.Data) > limit {
		page.Data = page.Data[:limit]
		page.NextCursor = &page.Data[limit-1].ID
	}
	answer(w, &page, rows.Err())
}

func (s *Ideal) getMe(w http.ResponseWriter, r *http.Request) {
	type contact struct {
		Email string `json:"email"`
		Party string `json:"party"`
	}
	var guidance string
	var privacy *string
	var me struct {
		Alerts        idealAlerts `json:"alerts"`
		AmendGuidance struct {
			Contacts []contact `json:"contacts"`
			Text     string    `json:"text"`
		} `json:"amend_guidance"`
		Customer struct {
			ID   uuid.UUID `json:"id"`
			Name string    `json:"name"`
			Slug string    `json:"slug"`
		} `json:"customer"`
		DataRequestGuidance struct {
			Text string `json:"text"`
		} `json:"data_request_guidance"`
		Email     *string   `json:"email"`
		FirstName *string   `json:"first_name"`
		ID        uuid.UUID `json:"id"`
		LastName  *string   `json:"last_name"`
		Role      string    `json:"role"`
	}
	err := s.pool.QueryRow(r.Context(), `
		select u.id, u.role, u.first_name, u.last_name, u.email, u.alerts_opted_in, u.alerts_set_by, u.alerts_set_at, c.id, c.slug, c.name,
			c.guidance_text, c.privacy_contact
		from users u join customers c on c.id = u.customer_id where u.customer_id = $1 and u.id = $2 and u.status = 'active'`, s.customer, s.me).
		Scan((*[16]byte)(&me.ID), &me.Role, &me.FirstName, &me.LastName, &me.Email, &me.Alerts.OptedIn, &me.Alerts.SetBy, &me.Alerts.SetAt,
			(*[16]byte)(&me.Customer.ID), &me.Customer.Slug, &me.Customer.Name, &guidance, &privacy)
	me.Alerts.SetAt = me.Alerts.SetAt.UTC()
	if privacy != nil {
		me.AmendGuidance.Contacts = append(me.AmendGuidance.Contacts, contact{Party: "controller", Email: *privacy})
	}
	me.AmendGuidance.Contacts = append(
		me.AmendGuidance.Contacts,
		contact{Party: "processor", Email: "privacy@fusionspim.com"},
	)
	if me.AmendGuidance.Text = guidance; guidance == "" {
		me.AmendGuidance.Text = "Ask an administrator of " + me.Customer.Name + " to amend your name or e-mail address. You can amend your password yourself."
	}
	me.DataRequestGuidance.Text = "To have a copy of the data kept with your account, or to have it erased, ask " + me.Customer.Name +
		", the controller of your account. It considers your request and instructs Fusions, which keeps the account on its behalf."
	answer(w, &me, err)
}

func (s *Ideal) updateUser(w http.ResponseWriter, r *http.Request) {
	user, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		refuse(w, err)
		return
	}
	var patch struct {
		FirstName *string `json:"first_name"`
		LastName  *string `json:"last_name"`
		Email     *string `json:"email"`
	}
	if err := json.NewDecoder(r.Body).Decode(&patch); err != nil {
		refuse(w, err)
		return
	}
	var after idealUser
	err = s.pool.QueryRow(
		r.Context(),
		`
		with u as (
			update users set first_name = coalesce($3, first_name), first_name_key = coalesce($4, first_name_key), last_name = coalesce($5, last_name),
				last_name_key = coalesce($6, last_name_key), email = coalesce($7, email), email_key = coalesce($8, email_key),
				version = version + 1, updated_at = $9
			where customer_id = $1 and id = $2 and status <> 'redacted' returning *
		), entry as (
			insert into audit_entries (customer_id, id, source, actor_type, actor_user_id, action, target_type, target_id, changed, occurred_at, recorded_at)
			select customer_id, $10, 'steward', 'user', $11, 'user.corrected', 'user', id,
				array_remove(array[case when $3::text is not null then 'first_name' end, case when $5::text is not null then 'last_name' end,
					case when $7::text is not null then 'email' end], null), $9, $9 from u
		)
		select `+idealColumns+" from u join customers c on c.id = u.customer_id",
		s.customer,
		[16]byte(user),
		patch.FirstName,
		lower(patch.FirstName),
		patch.LastName,
		lower(patch.LastName),
		patch.Email,
		lower(patch.Email),
		time.Now(),
		[16]byte(id.New[id.Entry]().UUID),
		s.me,
	).Scan(after.fields()...)
	after.utc()
	answer(w, &after, err)
}

func lower(text *string) *string {
	if text == nil {
		return nil
	}
	key := strings.ToLower(*text)
	return &key
}

func (s *Ideal) createAuditEntries(w http.ResponseWriter, r *http.Request) {
	var sent []struct {
		ActorUserID uuid.UUID `json:"actor_user_id"`
		Action      string    `json:"action"`
		Target      struct {
			Type string `json:"type"`
			ID   string `json:"id"`
		} `json:"target"`
		OccurredAt time.Time       `json:"occurred_at"`
		SourceID   *string         `json:"source_id"`
		Details    json.RawMessage `json:"details"`
	}
	if err := json.NewDecoder(r.Body).Decode(&sent); err != nil {
		refuse(w, err)
		return
	}
	type result struct {
		ID       uuid.UUID `json:"id"`
		SourceID *string   `json:"source_id,omitempty"`
		Status   string    `json:"status"`
	}
	results := struct {
		Created  int      `json:"created"`
		Data     []result `json:"data"`
		Existing int      `json:"existing"`
		Refused  int      `json:"refused"`
	}{Created: len(sent), Data: make([]result, len(sent))}
	var ids, actors [][16]byte
	var sourceIDs, details []*string
	var actions, targetTypes, targetIDs []string
	var times []time.Time
	for i := range sent {
		one := &sent[i]
		results.Data[i] = result{ID: id.New[id.Entry]().UUID, SourceID: one.SourceID, Status: "created"}
		ids, actors, sourceIDs = append(
			ids,
			results.Data[i].ID,
		), append(
			actors,
			one.ActorUserID,
		), append(
			sourceIDs,
			one.SourceID,
		)
		actions, targetTypes, targetIDs = append(
			actions,
			one.Action,
		), append(
			targetTypes,
			one.Target.Type,
		), append(
			targetIDs,
			one.Target.ID,
		)
		times = append(times, one.OccurredAt)
		var text *string
		if one.Details != nil {
			kept := string(one.Details)
			text = &kept
		}
		details = append(details, text)
	}
	_, err := s.pool.Exec(r.Context(), `
		insert into audit_entries (customer_id, id, source, source_id, actor_type, actor_user_id, action, target_type, target_id, changed, details,
			occurred_at, recorded_at)
		select $1, id, 'integration', source_id, 'user', actor, action, target_type, target_id, '{}', details::jsonb, occurred_at, $2
		from unnest($3::uuid[], $4::text[], $5::uuid[], $6::text[], $7::text[], $8::text[], $9::text[], $10::timestamptz[])
			as s(id, source_id, actor, action, target_type, target_id, details, occurred_at)`,
		s.customer, time.Now(), ids, sourceIDs, actors, actions, targetTypes, targetIDs, details, times)
	answer(w, &results, err)
}

func answer(w http.ResponseWriter, body any, err error) {
	if err != nil {
		refuse(w, err)
		return
	}
	text, err := json.Marshal(body)
	if err != nil {
		refuse(w, err)
		return
	}
	header := w.Header()
	header["Content-Type"] = jsonType
	header["Content-Length"] = []string{strconv.Itoa(len(text))}
	_, _ = w.Write(text) // a caller that went away hears nothing, and need not
}

var jsonType = []string{"application/json"}

func refuse(w http.ResponseWriter, err error) {
	http.Error(w, err.Error(), http.StatusInternalServerError)
}
