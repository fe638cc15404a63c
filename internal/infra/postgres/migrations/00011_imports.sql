-- Imports of people, and the addresses of erased people.

-- +goose Up

create table user_imports (
  customer_id            uuid        not null references customers (id),
  id                     uuid        not null,
  state                  text        not null check (state in ('running', 'completed', 'interrupted')),
  format                 text        not null check (format in ('csv', 'ndjson')),
  dry_run                boolean     not null,
  invite                 boolean     not null,
  authority              text        not null check (authority in ('user', 'customer', 'api_key', 'operator', 'system')),
  ordered_by_user_id     uuid,
  ordered_by_api_key_id  uuid,
  created                integer     not null check (created >= 0),
  would_create           integer     not null check (would_create >= 0),
  existing               integer     not null check (existing >= 0),
  refused                integer     not null check (refused >= 0),
  stopped_by             text        check (stopped_by ~ '^[a-z][a-z-]{0,63}$'),
  key_hash               bytea,
  fingerprint            bytea,
  started_at             timestamptz not null,
  progressed_at          timestamptz not null,
  finished_at            timestamptz,
  primary key (customer_id, id),
  constraint user_imports_finished check ((state = 'running') = (finished_at is null)),
  constraint user_imports_stopped check (state = 'interrupted' or stopped_by is null)
);
-- A key stands for one import.
create unique index user_imports_key on user_imports (customer_id, key_hash);
create index user_imports_time on user_imports (started_at);
create index user_imports_key_time on user_imports (started_at) where key_hash is not null;
alter table user_imports alter column fingerprint set statistics 0;
comment on table user_imports is 'Imports of people from files: what was asked for and how far it came.';
comment on column user_imports.customer_id is 'id';
comment on column user_imports.id is 'id';
comment on column user_imports.state is 'state';
comment on column user_imports.format is 'state';
comment on column user_imports.dry_run is 'setting';
comment on column user_imports.invite is 'setting';
comment on column user_imports.authority is 'state';
comment on column user_imports.ordered_by_user_id is 'id';
comment on column user_imports.ordered_by_api_key_id is 'id';
comment on column user_imports.created is 'state';
comment on column user_imports.would_create is 'state';
comment on column user_imports.existing is 'state';
comment on column user_imports.refused is 'state';
comment on column user_imports.stopped_by is 'state: the kind of problem that interrupted it';
comment on column user_imports.key_hash is 'secret: keyed hash of the Idempotency-Key';
comment on column user_imports.fingerprint is 'personal: contact, keyed hash of the file; null once somebody of it is erased';
comment on column user_imports.started_at is 'time';
comment on column user_imports.progressed_at is 'time: one that runs and has not come on for a while was cut off';
comment on column user_imports.finished_at is 'time';

create table user_import_rows (
  customer_id  uuid     not null,
  import_id    uuid     not null,
  number       integer  not null check (number > 0),
  line         integer  not null check (line > 0),
  status       text     not null check (status in ('created', 'would_create', 'existing', 'refused')),
  user_id      uuid,
  reason       text     check (reason in ('wrong_field_count', 'bad_quote', 'not_utf8', 'not_json', 'too_long', 'unknown_member', 'missing', 'wrong_type',
                 'unknown_role', 'invalid_name', 'invalid_email', 'foreign_mail_domain', 'duplicate', 'user_differs', 'address_suppressed')),
  pointer      text     check (pointer in ('/first_name', '/last_name', '/email', '/role', '/allow_erased')),
  primary key (customer_id, import_id, number),
  -- That the user is there needs no key: rows are written and people are erased under the lock of the customer. A key would be checked for each row of a file with a
  -- plan that PostgreSQL made while the table of users was nearly empty.
  foreign key (customer_id, import_id) references user_imports (customer_id, id),
  constraint user_import_rows_refused check ((status = 'refused') = (reason is not null) and (status in ('created', 'existing') or user_id is null)
    and (reason is not null or pointer is null))
);
create index user_import_rows_user on user_import_rows (customer_id, user_id) where user_id is not null;
create index user_import_rows_status on user_import_rows (customer_id, import_id, status, number);
comment on table user_import_rows is 'What became of each row of an import. Nothing that stood in the file is kept.';
comment on column user_import_rows.customer_id is 'id';
comment on column user_import_rows.import_id is 'id';
comment on column user_import_rows.number is 'state: which row of the file';
comment on column user_import_rows.line is 'state: on which line of the file the row begins';
comment on column user_import_rows.status is 'state';
comment on column user_import_rows.user_id is 'id: null once the user is erased';
comment on column user_import_rows.reason is 'state: why the row was refused';
comment on column user_import_rows.pointer is 'state: the column at fault';

create table suppressed_addresses (
  customer_id  uuid        not null references customers (id),
  hash         bytea       not null check (length(hash) = 32),
  erased_at    timestamptz not null,
  primary key (customer_id, hash)
);
alter table suppressed_addresses alter column hash set statistics 0;
comment on table suppressed_addresses is 'Who was erased, as far as it takes to notice when a file would bring the person back. Kept as long as the customer.';
comment on column suppressed_addresses.customer_id is 'id';
comment on column suppressed_addresses.hash is 'personal: contact, keyed hash that only the master key makes again';
comment on column suppressed_addresses.erased_at is 'time';

-- +goose StatementBegin
do $$
declare
  name text;
begin
  foreach name in array array['user_imports', 'user_import_rows', 'suppressed_addresses'] loop
    execute format('alter table %I enable row level security', name);
    execute format('alter table %I force row level security', name);
    execute format('create policy own_customer on %I to steward_app using (customer_id = current_customer()) with check (customer_id = current_customer())', name);
  end loop;
end
$$;
-- +goose StatementEnd
grant select, insert on user_imports to steward_app;
grant update (state, created, would_create, existing, refused, stopped_by, key_hash, fingerprint, progressed_at, finished_at) on user_imports to steward_app;
grant select, insert on user_import_rows to steward_app;
grant update (user_id) on user_import_rows to steward_app;
grant select, insert on suppressed_addresses to steward_app;

create policy expire on user_imports to steward_platform using (true);
grant select (customer_id, id, started_at, key_hash), update (key_hash, fingerprint), delete on user_imports to steward_platform;
create policy expire on user_import_rows to steward_platform using (true);
grant select (customer_id, import_id, number), delete on user_import_rows to steward_platform;

-- +goose Down
drop table suppressed_addresses, user_import_rows, user_imports;
