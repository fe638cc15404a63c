-- The foundation: roles, customers and their people, credentials, the audit trail, erasure receipts.
--
-- Every column has a comment whose first word is its class. The comments are the data inventory: erasure, export and the register of processing
-- are checked against them, and a column without one fails a test. The classes:
--   id        an identifier made by the service, or one of the caller's that must not be personal
--   state     a closed word, a number, a version or a flag
--   time      a moment
--   setting   what a customer chose; not about a person
--   personal  about a person: name, contact, address (of a network), credential
--   secret    a key or a hash of one; not about a person

-- +goose Up

-- Two roles, neither of which owns anything or signs in. The service takes one of them on every connection: steward_app sees one customer at a time,
-- steward_platform sees the little that is needed before a customer is known. Roles belong to the whole cluster, so another database of it may
-- have made them, also at this very moment.
-- +goose StatementBegin
do $$
declare
  name text;
begin
  foreach name in array array['steward_app', 'steward_platform'] loop
    if not exists (select from pg_roles where rolname = name) then -- to try would take the right to make roles
      begin
        execute format('create role %I nologin nosuperuser nobypassrls nocreatedb nocreaterole noinherit', name);
      exception when duplicate_object or unique_violation then
        null;
      end;
    end if;
    if not pg_has_role(current_user, name, 'member') then
      begin
        execute format('grant %I to current_user', name);
      exception when unique_violation then
        null;
      end;
    end if;
  end loop;
end
$$;
-- +goose StatementEnd

revoke all on schema public from public;
grant usage on schema public to steward_app, steward_platform;

-- The customer whose rows the connection may see. Unset and empty both mean none.
-- +goose StatementBegin
create function current_customer() returns uuid
  language sql stable parallel safe
  as $$ select nullif(current_setting('app.customer_id', true), '')::uuid $$;
-- +goose StatementEnd

create table customers (
  id                  uuid        not null primary key,
  slug                text        not null unique check (slug ~ '^[a-z0-9](-?[a-z0-9])*$' and length(slug) <= 63),
  name                text        not null check (length(name) between 1 and 200),
  guidance_text       text        not null check (length(guidance_text) <= 4000),
  privacy_contact     text        check (length(privacy_contact) <= 254),
  mail_domain_policy  text        not null check (mail_domain_policy in ('off', 'flag', 'refuse')),
  mail_domains        text[]      not null,
  network_policy      text        not null check (network_policy in ('off', 'flag', 'refuse')),
  networks            cidr[]      not null,
  version             bigint      not null,
  created_at          timestamptz not null,
  updated_at          timestamptz not null
);
comment on table customers is 'The businesses that have a contract with Fusions: the controllers.';
comment on column customers.id is 'id';
comment on column customers.slug is 'setting: short name, used to sign in';
comment on column customers.name is 'setting: name of the business';
comment on column customers.guidance_text is 'setting: what users read about amending their details';
comment on column customers.privacy_contact is 'setting: mailbox of the business that users may ask';
comment on column customers.mail_domain_policy is 'setting';
comment on column customers.mail_domains is 'setting';
comment on column customers.network_policy is 'setting';
comment on column customers.networks is 'setting';
comment on column customers.version is 'state';
comment on column customers.created_at is 'time';
comment on column customers.updated_at is 'time';

create table users (
  customer_id      uuid        not null references customers (id),
  id               uuid        not null,
  role             text        not null check (role in ('operator', 'customer', 'user')),
  status           text        not null check (status in ('active', 'disabled', 'redacted')),
  first_name       text,
  last_name        text,
  email            text,
  first_name_key   text,
  last_name_key    text,
  email_key        text,
  password_hash    text,
  alerts_opted_in  boolean     not null,
  alerts_set_by    text        not null check (alerts_set_by in ('creation', 'user', 'customer', 'api_key', 'operator')),
  alerts_set_at    timestamptz not null,
  label            text,
  redacted_at      timestamptz,
  receipt_id       uuid,
  sessions_since   timestamptz not null,
  version          bigint      not null,
  created_at       timestamptz not null,
  updated_at       timestamptz not null,
  primary key (customer_id, id),
  -- A person is there whole or not at all.
  constraint users_whole_or_redacted check (
    case when status = 'redacted' then
      num_nonnulls(first_name, last_name, email, first_name_key, last_name_key, email_key, password_hash) = 0
      and not alerts_opted_in and num_nulls(label, redacted_at, receipt_id) = 0
    else
      num_nulls(first_name, last_name, email, first_name_key, last_name_key, email_key) = 0
      and num_nonnulls(label, redacted_at, receipt_id) = 0
    end)
);
-- Redacted users have no address, so the address is unique among the living.
create unique index users_email on users (customer_id, email_key);
create unique index users_label on users (customer_id, label);
create index users_first_name on users (customer_id, first_name_key text_pattern_ops);
create index users_last_name on users (customer_id, last_name_key text_pattern_ops);
create index users_email_prefix on users (customer_id, email_key text_pattern_ops);
create index users_administrators on users (customer_id) where role = 'customer' and status = 'active';
-- The planner's samples are copies of values, and would outlive an erasure until the next ANALYZE.
alter table users
  alter column first_name set statistics 0,
  alter column last_name set statistics 0,
  alter column email set statistics 0,
  alter column first_name_key set statistics 0,
  alter column last_name_key set statistics 0,
  alter column email_key set statistics 0,
  alter column password_hash set statistics 0;
comment on table users is 'The user accounts of customers. The only home of names, addresses and passwords.';
comment on column users.customer_id is 'id';
comment on column users.id is 'id';
comment on column users.role is 'state';
comment on column users.status is 'state';
comment on column users.first_name is 'personal: name';
comment on column users.last_name is 'personal: name';
comment on column users.email is 'personal: contact';
comment on column users.first_name_key is 'personal: name, folded for looking up';
comment on column users.last_name_key is 'personal: name, folded for looking up';
comment on column users.email_key is 'personal: contact, folded for comparing';
comment on column users.password_hash is 'personal: credential';
comment on column users.alerts_opted_in is 'state: whether e-mail alerts are sent';
comment on column users.alerts_set_by is 'state: on whose authority the alert setting was last set';
comment on column users.alerts_set_at is 'time';
comment on column users.label is 'state: what a redacted user is called; random';
comment on column users.redacted_at is 'time';
comment on column users.receipt_id is 'id';
comment on column users.sessions_since is 'time: sessions that began before it count no more';
comment on column users.version is 'state';
comment on column users.created_at is 'time';
comment on column users.updated_at is 'time';

create table sessions (
  customer_id   uuid        not null,
  id            uuid        not null,
  user_id       uuid        not null,
  created_at    timestamptz not null,
  refreshed_at  timestamptz not null,
  expires_at    timestamptz not null,
  ended_at      timestamptz,
  primary key (customer_id, id),
  foreign key (customer_id, user_id) references users (customer_id, id)
);
create index sessions_user on sessions (customer_id, user_id);
create index sessions_expiry on sessions (expires_at);
comment on table sessions is 'Sign-ins that may still be good.';
comment on column sessions.customer_id is 'id';
comment on column sessions.id is 'id';
comment on column sessions.user_id is 'id';
comment on column sessions.created_at is 'time';
comment on column sessions.refreshed_at is 'time';
comment on column sessions.expires_at is 'time';
comment on column sessions.ended_at is 'time';

create table refresh_tokens (
  customer_id  uuid        not null,
  session_id   uuid        not null,
  hash         bytea       not null,
  created_at   timestamptz not null,
  used_at      timestamptz,
  primary key (customer_id, session_id, hash),
  foreign key (customer_id, session_id) references sessions (customer_id, id)
);
comment on table refresh_tokens is 'The refresh tokens of a session, used ones included, so that a stolen one shows.';
comment on column refresh_tokens.customer_id is 'id';
comment on column refresh_tokens.session_id is 'id';
comment on column refresh_tokens.hash is 'secret: SHA-256 of the token';
comment on column refresh_tokens.created_at is 'time';
comment on column refresh_tokens.used_at is 'time';

create table login_records (
  customer_id     uuid        not null,
  id              uuid        not null,
  user_id         uuid        not null,
  occurred_at     timestamptz not null,
  address         inet        not null,
  outcome         text        not null check (outcome in ('succeeded', 'wrong_password', 'disabled', 'no_password', 'network_refused')),
  inside_networks boolean     not null,
  primary key (customer_id, id),
  foreign key (customer_id, user_id) references users (customer_id, id)
);
create index login_records_user on login_records (customer_id, user_id, id);
create index login_records_time on login_records (occurred_at);
alter table login_records alter column address set statistics 0;
comment on table login_records is 'Attempts to sign in to an account, with the address that they came from. They belong to the account.';
comment on column login_records.customer_id is 'id';
comment on column login_records.id is 'id';
comment on column login_records.user_id is 'id';
comment on column login_records.occurred_at is 'time';
comment on column login_records.address is 'personal: address';
comment on column login_records.outcome is 'state';
comment on column login_records.inside_networks is 'state: whether the address lay in the networks of the customer';

create table api_keys (
  customer_id       uuid        not null references customers (id),
  id                uuid        not null unique,
  name              text        not null check (length(name) between 1 and 100),
  secret_hash       bytea       not null,
  scopes            text[]      not null check (cardinality(scopes) > 0 and scopes <@ array['users:read', 'users:write', 'users:erase',
                      'alerts:write', 'audit:read', 'audit:write', 'requests:read', 'requests:write', 'webhooks:manage', 'analytics:write']),
  allowed_networks  cidr[]      not null,
  created_at        timestamptz not null,
  expires_at        timestamptz,
  last_used_at      timestamptz,
  revoked_at        timestamptz,
  primary key (customer_id, id)
);
comment on table api_keys is 'Credentials of integrations. Kept after revocation, for the trail names them.';
comment on column api_keys.customer_id is 'id';
comment on column api_keys.id is 'id';
comment on column api_keys.name is 'setting: what the key is for';
comment on column api_keys.secret_hash is 'secret: SHA-256 of the key';
comment on column api_keys.scopes is 'setting';
comment on column api_keys.allowed_networks is 'setting';
comment on column api_keys.created_at is 'time';
comment on column api_keys.expires_at is 'time';
comment on column api_keys.last_used_at is 'time';
comment on column api_keys.revoked_at is 'time';

create table audit_entries (
  customer_id       uuid        not null references customers (id),
  id                uuid        not null,
  source            text        not null check (source in ('integration', 'steward')),
  source_id         text        check (source_id ~ '^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$'),
  actor_type        text        not null check (actor_type in ('user', 'self', 'api_key', 'operator', 'system')),
  actor_user_id     uuid,
  actor_api_key_id  uuid,
  action            text        not null check (action ~ '^[a-z][a-z0-9_.-]{0,99}$'),
  target_type       text        not null check (target_type ~ '^[a-z][a-z0-9_.-]{0,63}$'),
  target_id         text        not null check (target_id ~ '^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$'),
  changed           text[]      not null,
  details           jsonb,
  occurred_at       timestamptz not null,
  recorded_at       timestamptz not null,
  primary key (customer_id, id),
  constraint audit_entries_actor check ((actor_type = 'user') = (actor_user_id is not null) and (actor_type = 'api_key') = (actor_api_key_id is not null)),
  -- This is the net under every delete: an entry whose actor is gone cannot be.
  constraint audit_entries_actor_user foreign key (customer_id, actor_user_id) references users (customer_id, id) on delete restrict,
  constraint audit_entries_actor_api_key foreign key (customer_id, actor_api_key_id) references api_keys (customer_id, id) on delete restrict
);
create unique index audit_entries_source_id on audit_entries (customer_id, source_id) where source_id is not null;
create index audit_entries_actor on audit_entries (customer_id, actor_user_id, id) include (source, occurred_at) where actor_user_id is not null;
create index audit_entries_action on audit_entries (customer_id, action, id);
create index audit_entries_target on audit_entries (customer_id, target_type, target_id, id);
create index audit_entries_occurred on audit_entries (customer_id, occurred_at);
comment on table audit_entries is 'The audit trail: who did what to what, and when. Append-only; holds ids, closed words, numbers and times.';
comment on column audit_entries.customer_id is 'id';
comment on column audit_entries.id is 'id';
comment on column audit_entries.source is 'state: who recorded the entry';
comment on column audit_entries.source_id is 'id: in the system of the customer';
comment on column audit_entries.actor_type is 'state';
comment on column audit_entries.actor_user_id is 'id';
comment on column audit_entries.actor_api_key_id is 'id';
comment on column audit_entries.action is 'state';
comment on column audit_entries.target_type is 'state';
comment on column audit_entries.target_id is 'id: in the system of the customer, or of the service';
comment on column audit_entries.changed is 'state: names of changed members';
comment on column audit_entries.details is 'state: numbers, closed words, ids and times';
comment on column audit_entries.occurred_at is 'time';
comment on column audit_entries.recorded_at is 'time';

-- +goose StatementBegin
create function refuse_change() returns trigger language plpgsql as $$
begin
  raise exception 'the audit trail is append-only' using errcode = 'integrity_constraint_violation';
end
$$;
-- +goose StatementEnd
create trigger audit_entries_append_only before update or delete on audit_entries for each row execute function refuse_change();
create trigger audit_entries_keep before truncate on audit_entries for each statement execute function refuse_change();
-- Also under session_replication_role = replica.
alter table audit_entries enable always trigger audit_entries_append_only;
alter table audit_entries enable always trigger audit_entries_keep;

create table erasure_receipts (
  customer_id            uuid        not null references customers (id),
  id                     uuid        not null,
  kind                   text        not null check (kind in ('deletion', 'redaction')),
  user_id                uuid        not null,
  label                  text,
  reason                 text        check (reason in ('left_employment', 'requested_by_person', 'created_in_error', 'contract_ended', 'legal_obligation', 'other')),
  authority              text        not null check (authority in ('user', 'customer', 'api_key', 'operator', 'system')),
  ordered_by_user_id     uuid,
  ordered_by_api_key_id  uuid,
  completed_at           timestamptz not null,
  removed                jsonb       not null,
  kept                   jsonb       not null,
  primary key (customer_id, id),
  -- One person is erased once: a second attempt that races the first fails here at the latest.
  unique (customer_id, user_id, kind)
);
comment on table erasure_receipts is 'What was erased, when, and on whose order.';
comment on column erasure_receipts.customer_id is 'id';
comment on column erasure_receipts.id is 'id';
comment on column erasure_receipts.kind is 'state';
comment on column erasure_receipts.user_id is 'id';
comment on column erasure_receipts.label is 'state: what a redacted user is called; random';
comment on column erasure_receipts.reason is 'state';
comment on column erasure_receipts.authority is 'state';
comment on column erasure_receipts.ordered_by_user_id is 'id';
comment on column erasure_receipts.ordered_by_api_key_id is 'id';
comment on column erasure_receipts.completed_at is 'time';
comment on column erasure_receipts.removed is 'state: counts by store';
comment on column erasure_receipts.kept is 'state: counts by store';

create table idempotency_answers (
  customer_id      uuid        not null references customers (id),
  credential_id    uuid        not null,
  key_hash         bytea       not null,
  fingerprint      bytea,
  answer           bytea,
  subject_user_id  uuid,
  created_at       timestamptz not null,
  primary key (customer_id, credential_id, key_hash),
  constraint idempotency_answers_whole_or_erased check ((fingerprint is null) = (answer is null))
);
create index idempotency_answers_subject on idempotency_answers (customer_id, subject_user_id) where subject_user_id is not null;
create index idempotency_answers_time on idempotency_answers (created_at);
alter table idempotency_answers alter column answer set statistics 0, alter column fingerprint set statistics 0;
comment on table idempotency_answers is 'First answers to Idempotency-Keys, sealed, for 24 hours and no longer than the person whom they tell of.';
comment on column idempotency_answers.customer_id is 'id';
comment on column idempotency_answers.credential_id is 'id: the API key or the user';
comment on column idempotency_answers.key_hash is 'secret: keyed hash of the Idempotency-Key';
comment on column idempotency_answers.fingerprint is 'personal: contact, keyed hash of the request';
comment on column idempotency_answers.answer is 'personal: contact, the answer sealed with a key that only the caller and the service together have';
comment on column idempotency_answers.subject_user_id is 'id: the person whom the answer tells of';
comment on column idempotency_answers.created_at is 'time';

create table signing_keys (
  id              text        not null primary key,
  sealed_private  bytea       not null,
  created_at      timestamptz not null,
  retired_at      timestamptz
);
comment on table signing_keys is 'The keys that access tokens are signed with.';
comment on column signing_keys.id is 'id: thumbprint of the public key';
comment on column signing_keys.sealed_private is 'secret: sealed with the master key';
comment on column signing_keys.created_at is 'time';
comment on column signing_keys.retired_at is 'time';

-- Row security: every table, forced, so that not even the owner passes by. Without a policy a role sees nothing.
-- +goose StatementBegin
do $$
declare
  name text;
begin
  foreach name in array array['customers', 'users', 'sessions', 'refresh_tokens', 'login_records', 'api_keys', 'audit_entries', 'erasure_receipts',
                              'idempotency_answers', 'signing_keys'] loop
    execute format('alter table %I enable row level security', name);
    execute format('alter table %I force row level security', name);
  end loop;
  foreach name in array array['users', 'sessions', 'refresh_tokens', 'login_records', 'api_keys', 'audit_entries', 'erasure_receipts',
                              'idempotency_answers'] loop
    execute format('create policy own_customer on %I to steward_app using (customer_id = current_customer()) with check (customer_id = current_customer())', name);
  end loop;
end
$$;
-- +goose StatementEnd
create policy own_customer on customers to steward_app using (id = current_customer()) with check (id = current_customer());

-- What the service may do inside a customer, table by table. The columns of an update are named, so that no statement can rewrite an id.
grant select, insert on customers to steward_app;
grant update (guidance_text, privacy_contact, mail_domain_policy, mail_domains, network_policy, networks, version, updated_at) on customers to steward_app;
grant select, insert, delete on users to steward_app;
grant update (role, status, first_name, last_name, email, first_name_key, last_name_key, email_key, password_hash, alerts_opted_in, alerts_set_by,
              alerts_set_at, label, redacted_at, receipt_id, sessions_since, version, updated_at) on users to steward_app;
grant select, insert, delete on sessions to steward_app;
grant update (refreshed_at, expires_at, ended_at) on sessions to steward_app;
grant select, insert, delete on refresh_tokens to steward_app;
grant update (used_at) on refresh_tokens to steward_app;
grant select, insert, delete on login_records to steward_app;
grant select, insert on api_keys to steward_app;
grant update (last_used_at, revoked_at) on api_keys to steward_app;
grant select, insert on audit_entries to steward_app;
grant select, insert on erasure_receipts to steward_app;
grant select, insert, delete on idempotency_answers to steward_app;
grant update (fingerprint, answer, subject_user_id) on idempotency_answers to steward_app;

-- What the service may do before it knows the customer: find one by its slug, find the customer of an API key, load the signing keys,
-- and drop what is past its time. No person's row is readable here.
create policy find_customer on customers for select to steward_platform using (true);
grant select on customers to steward_platform;
grant select on goose_db_version to steward_platform;
create policy find_api_key on api_keys for select to steward_platform using (true);
grant select (customer_id, id) on api_keys to steward_platform;
create policy sign on signing_keys to steward_platform using (true) with check (true);
grant select, insert on signing_keys to steward_platform;
grant update (retired_at) on signing_keys to steward_platform;
create policy expire on idempotency_answers to steward_platform using (true);
grant select (customer_id, credential_id, key_hash, created_at), delete on idempotency_answers to steward_platform;
create policy expire on sessions to steward_platform using (true);
grant select (customer_id, id, expires_at, ended_at), delete on sessions to steward_platform;
create policy expire on refresh_tokens to steward_platform using (true);
grant select (customer_id, session_id), delete on refresh_tokens to steward_platform;
create policy expire on login_records to steward_platform using (true);
grant select (customer_id, id, occurred_at), delete on login_records to steward_platform;

-- +goose Down
drop table signing_keys, idempotency_answers, erasure_receipts, audit_entries, api_keys, login_records, refresh_tokens, sessions, users, customers;
drop function refuse_change();
drop function current_customer();
revoke usage on schema public from steward_app, steward_platform;
