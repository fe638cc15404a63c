-- Credentials: browser sessions, mailed links, second factors, limits on signing in, the life of signing keys; settings of customers that go with them.

-- +goose Up

-- Rows are changed here, which forced row security would hide from an owner that is no superuser.
alter table users no force row level security;
alter table customers no force row level security;
alter table sessions no force row level security;
alter table api_keys no force row level security;

alter table customers
  add column login_record_days    integer not null default 90 check (login_record_days between 1 and 400),
  add column second_factor_policy text    not null default 'off' check (second_factor_policy in ('off', 'administrators', 'everybody'));
alter table customers alter column login_record_days drop default, alter column second_factor_policy drop default;
comment on column customers.login_record_days is 'setting: how many days login records are kept';
comment on column customers.second_factor_policy is 'setting: of whom a second factor is required';
grant update (name, login_record_days, second_factor_policy) on customers to steward_app;

alter table users add column links_since timestamptz;
update users set links_since = created_at;
alter table users alter column links_since set not null;
comment on column users.links_since is 'time: changes when the mailed links that there are shall be good no more';
grant update (links_since) on users to steward_app;

alter table sessions
  add column transport   text not null default 'token' check (transport in ('token', 'cookie')),
  add column cookie_hash bytea,
  add constraint sessions_cookie check ((transport = 'cookie') = (cookie_hash is not null));
alter table sessions alter column transport drop default;
comment on column sessions.transport is 'state';
comment on column sessions.cookie_hash is 'secret: SHA-256 of the cookie';
grant update (cookie_hash) on sessions to steward_app;

-- Rotation brings the end of a key forward, and its successor lasts as long as the key was made to last.
alter table api_keys add column lifetime_seconds bigint check (lifetime_seconds > 0);
update api_keys set lifetime_seconds = greatest(1, extract(epoch from expires_at - created_at)::bigint) where expires_at is not null;
comment on column api_keys.lifetime_seconds is 'setting: how long the key was made to last; null: for ever';
grant update (expires_at) on api_keys to steward_app;

alter table users force row level security;
alter table customers force row level security;
alter table sessions force row level security;
alter table api_keys force row level security;

alter table login_records drop constraint login_records_outcome_check;
alter table login_records add constraint login_records_outcome_check
  check (outcome in ('succeeded', 'wrong_password', 'wrong_code', 'code_required', 'disabled', 'no_password', 'network_refused'));

create table password_links (
  customer_id  uuid        not null,
  hash         bytea       not null,
  user_id      uuid        not null,
  purpose      text        not null check (purpose in ('invitation', 'password_reset')),
  created_at   timestamptz not null,
  expires_at   timestamptz not null,
  used_at      timestamptz,
  links_since  timestamptz not null,
  primary key (customer_id, hash),
  foreign key (customer_id, user_id) references users (customer_id, id)
);
create index password_links_user on password_links (customer_id, user_id);
create index password_links_expiry on password_links (expires_at);
comment on table password_links is 'Mailed links that set a password.';
comment on column password_links.customer_id is 'id';
comment on column password_links.hash is 'secret: SHA-256 of the token of the link';
comment on column password_links.user_id is 'id';
comment on column password_links.purpose is 'state';
comment on column password_links.created_at is 'time';
comment on column password_links.expires_at is 'time';
comment on column password_links.used_at is 'time';
comment on column password_links.links_since is 'time: that of the person when the link was made; the link is good while the two are the same';

create table second_factors (
  customer_id    uuid        not null,
  user_id        uuid        not null,
  sealed_secret  bytea       not null,
  last_step      bigint      not null,
  created_at     timestamptz not null,
  confirmed_at   timestamptz,
  primary key (customer_id, user_id),
  foreign key (customer_id, user_id) references users (customer_id, id)
);
alter table second_factors alter column sealed_secret set statistics 0;
comment on table second_factors is 'Authenticators (TOTP, RFC 6238). One that is not confirmed does not count yet.';
comment on column second_factors.customer_id is 'id';
comment on column second_factors.user_id is 'id';
comment on column second_factors.sealed_secret is 'personal: credential, sealed with the master key';
comment on column second_factors.last_step is 'state: the newest time step of which a code was used';
comment on column second_factors.created_at is 'time';
comment on column second_factors.confirmed_at is 'time';

create table recovery_codes (
  customer_id  uuid        not null,
  user_id      uuid        not null,
  hash         bytea       not null,
  created_at   timestamptz not null,
  used_at      timestamptz,
  primary key (customer_id, user_id, hash),
  foreign key (customer_id, user_id) references users (customer_id, id)
);
comment on table recovery_codes is 'Codes that stand in for an authenticator, each once.';
comment on column recovery_codes.customer_id is 'id';
comment on column recovery_codes.user_id is 'id';
comment on column recovery_codes.hash is 'secret: SHA-256 of the code';
comment on column recovery_codes.created_at is 'time';
comment on column recovery_codes.used_at is 'time';

-- Unlogged: after a crash everybody begins anew, and a failed attempt costs no flush to disk.
create unlogged table attempt_limits (
  key       bytea       not null primary key,
  until     timestamptz not null
);
create index attempt_limits_until on attempt_limits (until);
comment on table attempt_limits is 'How far each counter of failed attempts has run ahead of time (GCRA). Shared by all replicas.';
comment on column attempt_limits.key is 'secret: keyed hash of what is counted: an account, an address, a customer';
comment on column attempt_limits.until is 'time: when the counter is empty again';

alter table signing_keys add column signs_from timestamptz;
update signing_keys set signs_from = created_at;
alter table signing_keys alter column signs_from set not null;
comment on column signing_keys.signs_from is 'time: from when on it signs; it is published before';

-- An operator acts on other customers than the one that operators are users of.
alter table audit_entries
  add column actor_operator_customer_id uuid,
  add column actor_operator_id uuid,
  add constraint audit_entries_actor_operator foreign key (actor_operator_customer_id, actor_operator_id) references users (customer_id, id) on delete restrict,
  add constraint audit_entries_operator check ((actor_type = 'operator') = (num_nonnulls(actor_operator_customer_id, actor_operator_id) = 2)
    and num_nonnulls(actor_operator_customer_id, actor_operator_id) in (0, 2));
-- Deleting anybody asks for what names the person as operator.
create index audit_entries_by_operator on audit_entries (actor_operator_customer_id, actor_operator_id) where actor_operator_id is not null;
comment on column audit_entries.actor_operator_customer_id is 'id';
comment on column audit_entries.actor_operator_id is 'id';

-- +goose StatementBegin
do $$
declare
  name text;
begin
  foreach name in array array['password_links', 'second_factors', 'recovery_codes', 'attempt_limits'] loop
    execute format('alter table %I enable row level security', name);
    execute format('alter table %I force row level security', name);
  end loop;
  foreach name in array array['password_links', 'second_factors', 'recovery_codes'] loop
    execute format('create policy own_customer on %I to steward_app using (customer_id = current_customer()) with check (customer_id = current_customer())', name);
  end loop;
end
$$;
-- +goose StatementEnd
grant select, insert, delete on password_links to steward_app;
grant update (used_at) on password_links to steward_app;
grant select, insert, delete on second_factors to steward_app;
grant update (sealed_secret, last_step, created_at, confirmed_at) on second_factors to steward_app;
grant select, insert, delete on recovery_codes to steward_app;
grant update (used_at) on recovery_codes to steward_app;
create policy limit_attempts on attempt_limits to steward_platform using (true) with check (true);
grant select, insert, update, delete on attempt_limits to steward_platform;
create policy expire on password_links to steward_platform using (true);
grant select (customer_id, hash, expires_at), delete on password_links to steward_platform;
grant update (signs_from) on signing_keys to steward_platform;

-- +goose Down
alter table audit_entries drop column actor_operator_customer_id, drop column actor_operator_id;
alter table signing_keys drop column signs_from;
revoke update (expires_at) on api_keys from steward_app;
alter table api_keys drop column lifetime_seconds;
drop table attempt_limits, recovery_codes, second_factors, password_links;
alter table login_records drop constraint login_records_outcome_check;
delete from login_records where outcome in ('wrong_code', 'code_required');
alter table login_records add constraint login_records_outcome_check
  check (outcome in ('succeeded', 'wrong_password', 'disabled', 'no_password', 'network_refused'));
alter table sessions no force row level security;
delete from refresh_tokens where (customer_id, session_id) in (select customer_id, id from sessions where transport = 'cookie');
delete from sessions where transport = 'cookie';
alter table sessions drop column transport, drop column cookie_hash;
alter table sessions force row level security;
alter table users drop column links_since;
alter table customers drop column login_record_days, drop column second_factor_policy;
