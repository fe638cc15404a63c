-- Backups: their catalogue, what was restored when, and until when a backup may still hold somebody who was erased.

-- +goose Up

-- The truth about backups lies beside them, outside the database; this table follows it. It belongs to the service, not to a customer.
create table backups (
  id               uuid        not null primary key,
  state            text        not null check (state in ('creating', 'available', 'expired', 'deleted', 'missing', 'damaged', 'failed')),
  requested_at     timestamptz not null,
  taken_at         timestamptz not null,
  expires_at       timestamptz not null check (expires_at > taken_at),
  size             bigint      check (size >= 0),
  sha256           bytea       check (length(sha256) = 32),
  ledger_number    bigint      check (ledger_number >= 0),
  ledger_hash      text        check (length(ledger_hash) <= 200),
  server_version   text        check (length(server_version) <= 64),
  program_version  integer,
  schema_version   bigint,
  deleted_at       timestamptz,
  constraint backups_ledger check ((ledger_number is null) = (ledger_hash is null)),
  constraint backups_known_when_made check (state in ('creating', 'failed') or num_nulls(size, sha256, server_version, program_version, schema_version) = 0),
  constraint backups_gone check ((state in ('expired', 'deleted')) = (deleted_at is not null))
);
-- One backup is made at a time.
create unique index backups_under_way on backups ((true)) where state = 'creating';
create index backups_expiry on backups (expires_at) where state in ('creating', 'available', 'missing', 'damaged');
comment on table backups is 'The backups of the whole database, following what lies in the store of objects.';
comment on column backups.id is 'id';
comment on column backups.state is 'state';
comment on column backups.requested_at is 'time';
comment on column backups.taken_at is 'time: the backup holds what was kept then, and nothing later';
comment on column backups.expires_at is 'time: the object is deleted by then';
comment on column backups.size is 'state: bytes of the encrypted object';
comment on column backups.sha256 is 'state: of the encrypted object';
comment on column backups.ledger_number is 'state: position of the ledger before the backup was taken';
comment on column backups.ledger_hash is 'state: position of the ledger before the backup was taken';
comment on column backups.server_version is 'state: of PostgreSQL';
comment on column backups.program_version is 'state: major version of pg_dump';
comment on column backups.schema_version is 'state: the newest migration in the backup';
comment on column backups.deleted_at is 'time';

create table restores (
  id             uuid        not null primary key,
  backup_id      uuid        not null,
  taken_at       timestamptz not null,
  ledger_number  bigint      check (ledger_number >= 0),
  ledger_hash    text        check (length(ledger_hash) <= 200),
  restored_at    timestamptz not null,
  constraint restores_ledger check ((ledger_number is null) = (ledger_hash is null))
);
comment on table restores is 'Each time that this database was restored from a backup. What was erased after taken_at has to be erased again.';
comment on column restores.id is 'id';
comment on column restores.backup_id is 'id';
comment on column restores.taken_at is 'time: when the backup was taken';
comment on column restores.ledger_number is 'state: position of the ledger before the backup was taken';
comment on column restores.ledger_hash is 'state: position of the ledger before the backup was taken';
comment on column restores.restored_at is 'time';

alter table erasure_receipts add column backups_expire_at timestamptz;
comment on column erasure_receipts.backups_expire_at is 'time: by then no backup holds the person any more; null if none ever did';

alter table backups enable row level security;
alter table backups force row level security;
alter table restores enable row level security;
alter table restores force row level security;
create policy keep on backups to steward_platform using (true) with check (true);
grant select, insert on backups to steward_platform;
grant update (state, taken_at, expires_at, size, sha256, ledger_number, ledger_hash, server_version, program_version, schema_version, deleted_at) on backups to steward_platform;
create policy keep on restores to steward_platform using (true) with check (true);
grant select, insert on restores to steward_platform;
-- An erasure says until when backups hold the person; an operator asks for a backup in a transaction of Fusions.
create policy look on backups for select to steward_app using (current_customer() is not null);
create policy ask on backups for insert to steward_app with check (current_customer() is not null and state = 'creating');
grant select (id, state, requested_at, taken_at, expires_at) on backups to steward_app;
grant insert (id, state, requested_at, taken_at, expires_at) on backups to steward_app;

-- +goose Down
alter table erasure_receipts drop column backups_expire_at;
drop table restores, backups;
