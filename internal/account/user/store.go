package user

import (
	"database/sql"
	"encoding/hex"
	"errors"
	"maps"
	"strings"
	"time"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/base/version"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/record/audit"
	"github.com/fusionspim/steward/internal/record/ledger"
)

// columns are those of a User, from relations u of users and c of customers.
const columns = `u.id, u.role, u.status, u.first_name, u.last_name, u.email,
	coalesce(c.mail_domain_policy = 'flag' and not split_part(u.email_key, '@', 2) = any (c.mail_domains), false),
	u.password_hash is not null, u.alerts_opted_in, u.alerts_set_by, u.alerts_set_at,
	u.label, u.redacted_at, u.receipt_id, u.correction_lost_at, u.version, u.created_at, u.updated_at`

const usersWithCustomer = "users u join customers c on c.id = u.customer_id"

const selectUser = "select " + columns + " from " + usersWithCustomer

// fields are the destinations of columns, in their order.
func (u *User) fields() []any {
	return []any{
		&u.ID, &u.Role, &u.Status, &u.FirstName, &u.LastName, &u.Email, &u.EmailFlagged, &u.PasswordSet,
		&u.Alerts.OptedIn, &u.Alerts.SetBy, &u.Alerts.SetAt, &u.Label, &u.RedactedAt, &u.ReceiptID, &u.CorrectionLostAt,
		&u.Version, &u.CreatedAt, &u.UpdatedAt,
	}
}

func scanUser(row postgres.Row) (found User, err error) {
	err = row.Scan(found.fields()...)
	if errors.Is(err, sql.ErrNoRows) {
		return User{}, notFound()
	}
	found.Alerts.Version = found.Version
	return found, err
}

func get(tx *postgres.Tx, user id.User) (User, error) {
	return scanUser(tx.QueryRow(selectUser+" where u.customer_id = $1 and u.id = $2", tx.Customer, user))
}

// lock reads a user and locks the row against changes, but not against new references to it.
func lock(tx *postgres.Tx, user id.User) (User, error) {
	return scanUser(tx.QueryRow(
		selectUser+" where u.customer_id = $1 and u.id = $2 for no key update of u", tx.Customer, user))
}

// lockForDelete reads a user and locks the row against changes and new references, whose foreign
// keys take a share lock of the key.
func lockForDelete(tx *postgres.Tx, user id.User) (User, error) {
	return scanUser(tx.QueryRow(
		selectUser+" where u.customer_id = $1 and u.id = $2 for update of u", tx.Customer, user))
}

func me(tx *postgres.Tx, user id.User) (found Me, err error) {
	err = tx.QueryRow("select "+columns+", c.id, c.slug, c.name, c.version, c.guidance_text, c.privacy_contact from "+
		usersWithCustomer+" where u.customer_id = $1 and u.id = $2", tx.Customer, user).
		Scan(append(found.fields(), &found.CustomerID, &found.CustomerSlug, &found.CustomerName, &found.CustomerVersion,
			&found.GuidanceText, &found.PrivacyContact)...)
	if errors.Is(err, sql.ErrNoRows) {
		return Me{}, notFound()
	}
	return found, err
}

// afterAll, appended to a prefix, sorts after every text with that prefix, in the order of bytes.
const afterAll = "\U0010FFFF"

func list(tx *postgres.Tx, filter Filter, before id.User, limit int) ([]User, error) {
	conditions := []string{"u.customer_id = @customer"}
	arguments := postgres.Args{"customer": tx.Customer, "limit": limit}
	where := func(condition, name string, value any) {
		conditions = append(conditions, condition)
		arguments[name] = value
	}
	if !before.IsZero() {
		where("u.id < @before", "before", before)
	}
	if filter.Email != "" {
		where("u.email_key = @email", "email", filter.Email)
	}
	if filter.Prefix != "" {
		from := Key(filter.Prefix)
		// A range instead of LIKE, so that a prepared statement uses the index too.
		where(`(u.first_name_key ~>=~ @from and u.first_name_key ~<~ @to
			or u.last_name_key ~>=~ @from and u.last_name_key ~<~ @to
			or u.email_key ~>=~ @from and u.email_key ~<~ @to)`, "from", from)
		arguments["to"] = from + afterAll
	}
	if filter.Status != "" {
		where("u.status = @status", "status", filter.Status)
	}
	if filter.Role != "" {
		where("u.role = @role", "role", filter.Role)
	}
	if filter.AlertsOptedIn != nil {
		where("u.alerts_opted_in = @opted_in", "opted_in", *filter.AlertsOptedIn)
	}
	return postgres.Collect(tx, scanUser,
		selectUser+" where "+strings.Join(conditions, " and ")+" order by u.id desc limit @limit", arguments)
}

// insert inserts a new user; foreign reports that the customer refuses the domain of the address.
func insert(tx *postgres.Tx, in person) (made User, foreign bool, err error) {
	err = tx.QueryRow(`
		with c as (
			select * from customers where id = @customer
		), u as (
			insert into users (customer_id, id, role, status, first_name, last_name, email,
				first_name_key, last_name_key, email_key, password_hash, alerts_opted_in, alerts_set_by, alerts_set_at,
				sessions_since, links_since, version, created_at, updated_at)
			select c.id, @user::uuid, @role, 'active', @first_name, @last_name, @email,
				@first_name_key, @last_name_key, @email_key::text, @password_hash, true, 'creation', n.now,
				n.now, n.now, 1, n.now, n.now
			from c, (select @now::timestamptz as now) n
			where not (c.mail_domain_policy = 'refuse'
				and not split_part(@email_key::text, '@', 2) = any (c.mail_domains))
			returning *
		)
		select `+columns+` from u join c on c.id = u.customer_id`,
		postgres.Args{
			"customer":       tx.Customer,
			"user":           in.id,
			"role":           in.role,
			"first_name":     in.firstName,
			"last_name":      in.lastName,
			"email":          in.address.Text,
			"first_name_key": Key(in.firstName),
			"last_name_key":  Key(in.lastName),
			"email_key":      in.address.Key,
			"password_hash":  in.passwordHash,
			"now":            tx.Now,
		}).Scan(made.fields()...)
	if errors.Is(err, sql.ErrNoRows) {
		return User{}, true, nil
	}
	made.Alerts.Version = made.Version
	return made, false, err
}

// endLinks is the assignment that ends all mailed links of a user, with the argument @now. The
// value is a new one, whatever the clocks of the replicas say.
const endLinks = "links_since = greatest(@now::timestamptz, links_since + interval '1 microsecond')"

// corrected is the result of a correction.
type corrected struct {
	foreign       bool // the customer refuses the domain of the new address
	versionBefore int64
	changed       []string // names of the members that differ; of those changed, if judge gives no fault
	user          User     // after the correction
}

// carried are the columns that the parts of the statement of correct pass on.
const carried = `customer_id, id, role, status, first_name, last_name, email, email_key,
	password_hash, alerts_opted_in, alerts_set_by, alerts_set_at, label, redacted_at, receipt_id, correction_lost_at, version, created_at, updated_at`

// correct changes a user, increments the version and audits the names of the changed members, in
// one statement. It changes nothing if the user is redacted, the condition is not met, the domain
// is refused, or no member differs. If the ledger has an entry of the correction, at marked, it is
// recorded as applied in any case.
func correct(
	tx *postgres.Tx, caller principal.Principal, action audit.Action, user id.User, in change,
	condition version.Condition, marked *ledger.Position,
) (out corrected, err error) {
	var email, emailKey *string
	if in.address != nil {
		email, emailKey = &in.address.Text, &in.address.Key
	}
	clause, arguments := audit.Clause(tx, audit.Act{Caller: caller, Action: action, Target: audit.OnUser(user)}, "u")
	if marked != nil {
		applied, more := ledger.AppliedClause(tx, *marked)
		clause += "\n), applied as (\n" + applied
		maps.Copy(arguments, more)
	}
	maps.Copy(arguments, postgres.Args{
		"customer":       tx.Customer,
		"user":           user,
		"now":            tx.Now,
		"versions":       condition.Array(),
		"first_name":     in.firstName,
		"first_name_key": keyOf(in.firstName),
		"last_name":      in.lastName,
		"last_name_key":  keyOf(in.lastName),
		"email":          email,
		"email_key":      emailKey,
		"role":           in.role,
		"status":         in.status,
	})
	var changed postgres.JSON[[]string]
	err = tx.QueryRow(`
		with c as (
			select id, mail_domain_policy, mail_domains from customers where id = @customer
		), wanted as (
			select @first_name::text as first_name, @first_name_key::text as first_name_key,
				@last_name::text as last_name, @last_name_key::text as last_name_key,
				@email::text as email, @email_key::text as email_key, @role::text as role, @status::text as status
		), b as (
			select u.*,
				coalesce(c.mail_domain_policy = 'refuse'
					and not split_part(w.email_key, '@', 2) = any (c.mail_domains), false) as is_foreign,
				array_remove(array[
					case when w.first_name <> u.first_name then 'first_name' end,
					case when w.last_name <> u.last_name then 'last_name' end,
					case when w.email <> u.email then 'email' end,
					case when w.role <> u.role then 'role' end,
					case when w.status <> u.status then 'status' end,
					case when u.correction_lost_at is not null and num_nonnulls(w.first_name, w.last_name, w.email) > 0
						then 'correction_lost_at' end
				], null) as changed
			from users u join c on c.id = u.customer_id cross join wanted w
			where u.id = @user for no key update of u
		), u as (
			update users u set
				first_name = coalesce(w.first_name, u.first_name),
				first_name_key = coalesce(w.first_name_key, u.first_name_key),
				last_name = coalesce(w.last_name, u.last_name),
				last_name_key = coalesce(w.last_name_key, u.last_name_key),
				email = coalesce(w.email, u.email), email_key = coalesce(w.email_key, u.email_key),
				role = coalesce(w.role, u.role), status = coalesce(w.status, u.status),
				sessions_since = case when array['role', 'status'] && b.changed
					then @now::timestamptz else u.sessions_since end,
				links_since = case when array['email', 'status'] && b.changed
					then greatest(@now::timestamptz, u.links_since + interval '1 microsecond') else u.links_since end,
				correction_lost_at = case when num_nonnulls(w.first_name, w.last_name, w.email) = 0
					then u.correction_lost_at end,
				version = u.version + 1, updated_at = @now::timestamptz
			from b, wanted w
			where u.customer_id = b.customer_id and u.id = b.id and b.status <> 'redacted' and not b.is_foreign
				and cardinality(b.changed) > 0
				and (@versions::bigint[] is null or b.version = any (@versions::bigint[]))
			returning u.*, b.changed
		), entry as (
			`+clause+`
		)
		select b.is_foreign, b.version, to_jsonb(b.changed), `+columns+`
		from b join c on true
		join (
			select `+carried+` from u union all select `+carried+` from b where not exists (select from u)
		) u on true`,
		arguments).Scan(append([]any{&out.foreign, &out.versionBefore, &changed}, out.user.fields()...)...)
	if errors.Is(err, sql.ErrNoRows) {
		return corrected{}, notFound()
	}
	out.changed, out.user.Alerts.Version = changed.Of, out.user.Version
	return out, err
}

func keyOf(text *string) *string {
	if text == nil {
		return nil
	}
	key := Key(*text)
	return &key
}

func setAlerts(tx *postgres.Tx, user id.User, optedIn bool, by string) (User, error) {
	return scanUser(tx.QueryRow(`
		with u as (
			update users set alerts_opted_in = @opted_in, alerts_set_by = @by, alerts_set_at = @now,
				version = version + 1, updated_at = @now
			where customer_id = @customer and id = @user and status <> 'redacted' returning *
		)
		select `+columns+` from u join customers c on c.id = u.customer_id`,
		postgres.Args{"customer": tx.Customer, "user": user, "opted_in": optedIn, "by": by, "now": tx.Now}))
}

// isLastAdministrator reports whether no other user could administer the customer. The caller holds
// the lock of the customer.
func isLastAdministrator(tx *postgres.Tx, user User) (last bool, err error) {
	err = tx.QueryRow(`
		select not exists (
			select from users
			where customer_id = $1 and id <> $2
				and role = 'customer' and status = 'active' and password_hash is not null
		)`, tx.Customer, user.ID).Scan(&last)
	return last, err
}

// lockAll reads the users that exist, and locks their rows as lockForDelete does.
func lockAll(tx *postgres.Tx, users []id.User) (map[id.User]User, error) {
	all, err := postgres.Collect(tx, scanUser,
		selectUser+" where u.customer_id = $1 and u.id = any ($2) order by u.id for update of u", tx.Customer, users)
	if err != nil {
		return nil, err
	}
	found := make(map[id.User]User, len(all))
	for _, user := range all {
		found[user.ID] = user
	}
	return found, nil
}

// takenLabels returns those of the labels that a user of the customer has.
func takenLabels(tx *postgres.Tx, labels []string) (map[string]bool, error) {
	taken, err := postgres.Column[string](tx,
		"select label from users where customer_id = $1 and label = any ($2)", tx.Customer, labels)
	return setOf(taken), err
}

func setOf[T comparable](members []T) map[T]bool {
	set := make(map[T]bool, len(members))
	for _, member := range members {
		set[member] = true
	}
	return set
}

func remove(tx *postgres.Tx, users []id.User) error {
	if len(users) == 0 {
		return nil
	}
	_, err := tx.Exec("delete from users where customer_id = $1 and id = any ($2)", tx.Customer, users)
	return err
}

func redactRows(tx *postgres.Tx, redacted []erasure) error {
	if len(redacted) == 0 {
		return nil
	}
	type row struct {
		ID      id.User    `json:"id"`
		Label   string     `json:"label"`
		At      time.Time  `json:"at"`
		Receipt id.Receipt `json:"receipt"`
	}
	rows := make([]row, len(redacted))
	for i, e := range redacted {
		rows[i] = row{
			ID: e.person.ID, Label: *e.receipt.Label, At: e.receipt.CompletedAt, Receipt: e.receipt.ID,
		}
	}
	_, err := tx.Exec(`
		update users u set status = 'redacted', first_name = null, last_name = null, email = null,
			first_name_key = null, last_name_key = null, email_key = null, password_hash = null,
			alerts_opted_in = false, correction_lost_at = null, sessions_since = @now, `+endLinks+`,
			label = r.label, redacted_at = r.at, receipt_id = r.receipt, version = version + 1, updated_at = @now
		from jsonb_to_recordset(@rows::jsonb) as r(id uuid, label text, at timestamptz, receipt uuid)
		where u.customer_id = @customer and u.id = r.id`,
		postgres.Args{"customer": tx.Customer, "rows": postgres.JSON[[]row]{Of: rows}, "now": tx.Now})
	return err
}

// replayedChange is a change of a user in the ledger; empty members do not apply.
type replayedChange struct {
	ID        id.User    `json:"id"`
	OptedIn   *bool      `json:"opted_in,omitempty"`
	SetBy     string     `json:"set_by,omitempty"`
	SetAt     *time.Time `json:"set_at,omitempty"`
	Status    string     `json:"status,omitempty"`
	Role      string     `json:"role,omitempty"`
	Corrected bool       `json:"corrected"` // in the ledger, so the correction is lost
	SignOut   bool       `json:"sign_out"`
	EndLinks  bool       `json:"end_links"`
	Forget    bool       `json:"forget"` // the password
}

// applyReplayed applies changes of the ledger to users who are not redacted, and returns which
// these are. The version increases by two, so that no state before the restore had it.
func applyReplayed(tx *postgres.Tx, changes []replayedChange) (changed map[id.User]bool, err error) {
	users, err := postgres.Column[id.User](tx, `
		update users u set
			alerts_opted_in = coalesce(c.opted_in, u.alerts_opted_in),
			alerts_set_by = coalesce(c.set_by, u.alerts_set_by), alerts_set_at = coalesce(c.set_at, u.alerts_set_at),
			status = coalesce(c.status, u.status), role = coalesce(c.role, u.role),
			password_hash = case when not c.forget then u.password_hash end,
			correction_lost_at = case when c.corrected then @now::timestamptz else u.correction_lost_at end,
			sessions_since = case when c.sign_out then @now::timestamptz else u.sessions_since end,
			links_since = case when c.end_links
				then greatest(@now::timestamptz, u.links_since + interval '1 microsecond') else u.links_since end,
			version = u.version + 2, updated_at = @now::timestamptz
		from jsonb_to_recordset(@changes::jsonb) as c(
			id uuid, opted_in boolean, set_by text, set_at timestamptz, status text, role text,
			corrected boolean, sign_out boolean, end_links boolean, forget boolean)
		where u.customer_id = @customer and u.id = c.id and u.status <> 'redacted'
		returning u.id`,
		postgres.Args{"customer": tx.Customer, "changes": postgres.JSON[[]replayedChange]{Of: changes}, "now": tx.Now})
	return setOf(users), err
}

func countLostCorrections(tx *postgres.Tx) (count int64, err error) {
	err = tx.QueryRow("select count(*) from users where customer_id = $1 and correction_lost_at is not null",
		tx.Customer).Scan(&count)
	return count, err
}

// MailColumns are the columns, of users u, that a sender of mail reads in its own statement, which
// also locks the row: the address (email), the status, and the alert setting (alerts_opted_in). All
// others get an address from this package.
const MailColumns = "u.email, u.status, u.alerts_opted_in"

// countOf counts the rows of a store about a user.
func countOf(tx *postgres.Tx, store postgres.Store, user id.User) (count int64, err error) {
	if store.Erase.Count != nil {
		return store.Erase.Count(tx, user)
	}
	err = tx.QueryRow("select count(*) from "+store.Table+" t where t.customer_id = @customer and ("+store.Person.Where+")",
		postgres.Args{"customer": tx.Customer, "people": []id.User{user}}).
		Scan(&count)
	return count, err
}

// removeFrom removes the rows of a store about users, and returns how many there were of each.
func removeFrom(tx *postgres.Tx, store postgres.Store, users []id.User) (map[id.User]int64, error) {
	if store.Erase.Remove != nil {
		return store.Erase.Remove(tx, users)
	}
	return postgres.Counts[id.User](tx.Query(
		"with gone as (delete from "+store.Table+" t where t.customer_id = @customer and ("+store.Person.Where+") returning "+
			store.Person.Owner+" as person) select person, count(*) from gone group by person",
		postgres.Args{"customer": tx.Customer, "people": users},
	))
}

func insertSuppressed(tx *postgres.Tx, hashes [][]byte) error {
	if len(hashes) == 0 {
		return nil
	}
	_, err := tx.Exec(`
		insert into suppressed_addresses (customer_id, hash, erased_at)
		select @customer, hash, @now from unnest(@hashes::bytea[]) as erased(hash) on conflict do nothing`,
		postgres.Args{"customer": tx.Customer, "hashes": hashes, "now": tx.Now})
	return err
}

// preferIndexes makes the remaining statements of the transaction, and the checks of foreign keys,
// use indexes. A connection caches its plans, and those that were made while a table was nearly
// empty read all of it: importing the first ten thousand users would take minutes.
func preferIndexes(tx *postgres.Tx) error {
	_, err := tx.Exec("select set_config('enable_seqscan', 'off', true)")
	return err
}

// wireCandidate is a candidate as an argument of a statement.
type wireCandidate struct {
	Row          int            `json:"row"`
	ID           id.User        `json:"id"`
	Role         principal.Role `json:"role"`
	RoleGiven    bool           `json:"role_given"`
	FirstName    string         `json:"first_name"`
	LastName     string         `json:"last_name"`
	Email        string         `json:"email"`
	FirstNameKey string         `json:"first_name_key"`
	LastNameKey  string         `json:"last_name_key"`
	EmailKey     string         `json:"email_key"`
	Suppression  string         `json:"suppression"` // hash, hexadecimal
	AllowErased  bool           `json:"allow_erased"`
}

// What insertMany does with the candidates that it accepts, in a normal and in a dry run.
const (
	insertAccepted = `insert into users (customer_id, id, role, status, first_name, last_name, email,
				first_name_key, last_name_key, email_key, alerts_opted_in, alerts_set_by, alerts_set_at,
				sessions_since, links_since, version, created_at, updated_at)
			select @customer, a.id, role, 'active', first_name, last_name, email,
				first_name_key, last_name_key, email_key, true, 'creation', n.now,
				n.now, n.now, 1, n.now, n.now
			from accepted a, (select @now::timestamptz as now) n order by a.row
			on conflict (customer_id, email_key) do nothing
			returning id`
	selectAccepted = "select id from accepted"
)

// insertMany decides on the candidates that are open, by their indices, and inserts the accepted
// ones, in one round trip. It returns those that are still open: other transactions created them
// meanwhile.
func (s *Service) insertMany(
	tx *postgres.Tx, candidates []Candidate, open []int, verdicts []Verdict, dryRun bool,
) (left []int, err error) {
	rows := make([]wireCandidate, len(open))
	for i, number := range open {
		c := candidates[number]
		rows[i] = wireCandidate{
			Row: number, ID: c.id, Role: c.role, RoleGiven: c.roleGiven,
			FirstName: c.firstName, LastName: c.lastName, Email: c.address.Text,
			FirstNameKey: Key(c.firstName), LastNameKey: Key(c.lastName), EmailKey: c.address.Key,
			Suppression: hex.EncodeToString(s.suppressionHash(tx.Customer, c.address.Key)), AllowErased: c.allowErased,
		}
	}
	making := insertAccepted
	arguments := postgres.Args{"customer": tx.Customer, "sent": postgres.JSON[[]wireCandidate]{Of: rows}, "now": tx.Now}
	if dryRun {
		making = selectAccepted
		delete(arguments, "now")
	}
	found, err := tx.Query(`
		with sent as materialized (
			select * from jsonb_to_recordset(@sent::jsonb) as s(
				row int, id uuid, role text, role_given boolean, first_name text, last_name text, email text,
				first_name_key text, last_name_key text, email_key text, suppression text, allow_erased boolean)
		), judged as materialized (
			select s.*, u.id as existing,
				u.first_name = s.first_name and u.last_name = s.last_name
					and (not s.role_given or u.role = s.role) as same,
				coalesce(c.mail_domain_policy = 'refuse'
					and not split_part(s.email_key, '@', 2) = any (c.mail_domains), false) as is_foreign,
				e.hash is not null as erased
			from sent s join customers c on c.id = @customer left join lateral (
				-- One by one by the key: a plain join reads every user once the batch is large enough.
				select id, role, first_name, last_name from users
				where customer_id = @customer and email_key = s.email_key limit 1
			) u on true left join lateral (
				select hash from suppressed_addresses
				where customer_id = @customer and hash = decode(s.suppression, 'hex') limit 1
			) e on true
		), accepted as (
			select * from judged where existing is null and not is_foreign and (not erased or allow_erased)
		), made as (
			`+making+`
		)
		select row, existing, coalesce(same, false), is_foreign, erased, allow_erased, id in (select id from made)
		from judged`, arguments)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	for found.Next() {
		var number int
		var existing *id.User
		var same, foreign, erased, allowed, made bool
		if err := found.Scan(&number, &existing, &same, &foreign, &erased, &allowed, &made); err != nil {
			return nil, err
		}
		verdict := &verdicts[number]
		switch {
		case existing != nil && same:
			*verdict = Verdict{Status: Exists, User: *existing}
		case existing != nil:
			*verdict = Verdict{Status: Rejected, Refusal: fault.UserDiffers}
		case foreign:
			*verdict = Verdict{Status: Rejected, Refusal: fault.ForeignMailDomain}
		case erased && !allowed:
			*verdict = Verdict{Status: Rejected, Refusal: fault.AddressSuppressed}
		case !made:
			left = append(left, number)
		case dryRun:
			*verdict = Verdict{Status: WouldCreate}
		default:
			*verdict = Verdict{Status: Created, User: candidates[number].id, WasErased: erased}
		}
	}
	return left, found.Err()
}
