-- The ledger, which lies outside the database: what the database remembers of it, and the mark of a person of whom a restore lost a correction.

-- +goose Up

create table ledger_applied (
  customer_id  uuid    not null,
  number       bigint  not null,
  hash         bytea   not null,
  primary key (customer_id, number)
);
comment on table ledger_applied is 'Entries of the ledger whose acts are in this database, each written by the transaction of the act; those up to ledger_position.through are dropped.';
comment on column ledger_applied.customer_id is 'id: of the customer in whose transaction it was';
comment on column ledger_applied.number is 'id: of the entry';
comment on column ledger_applied.hash is 'state: SHA-256 of the entry';

create table ledger_position (
  only_one   boolean      not null primary key default true check (only_one),
  ledger_id  uuid,
  through    bigint       not null,
  segment    bigint       not null,
  hash       bytea,
  home       text,
  seen_at    timestamptz,
  check ((through = 0) = (hash is null) and (through = 0) = (segment = 0) and through >= segment)
);
insert into ledger_position (through, segment) values (0, 0);
comment on table ledger_position is 'Up to where all entries of the ledger are applied: one row.';
comment on column ledger_position.only_one is 'state';
comment on column ledger_position.ledger_id is 'id: of the ledger that this database goes with; null: it has met none';
comment on column ledger_position.through is 'state: the number of an entry up to which all are applied';
comment on column ledger_position.segment is 'state: the number of the first entry of the segment that ends there';
comment on column ledger_position.hash is 'state: SHA-256 of that entry';
comment on column ledger_position.home is 'id: of the server and the database where this was written; another one means a copy';
comment on column ledger_position.seen_at is 'time: when a replica at work last compared the two';

alter table ledger_applied enable row level security;
alter table ledger_applied force row level security;
alter table ledger_position enable row level security;
alter table ledger_position force row level security;
create policy own_customer on ledger_applied to steward_app using (customer_id = current_customer()) with check (customer_id = current_customer());
create policy compare on ledger_applied to steward_platform using (true);
create policy compare on ledger_position to steward_platform using (true) with check (true);
grant select, insert on ledger_applied to steward_app;
grant select, delete on ledger_applied to steward_platform;
grant select on ledger_position to steward_platform;
grant update (ledger_id, through, segment, hash, home, seen_at) on ledger_position to steward_platform;

alter table users add column correction_lost_at timestamptz;
create index users_correction_lost on users (customer_id, id) where correction_lost_at is not null;
comment on column users.correction_lost_at is 'time: when a restore lost a correction of the person; null: none, or corrected since';
grant update (correction_lost_at) on users to steward_app;

-- +goose Down
alter table users drop column correction_lost_at;
drop table ledger_position, ledger_applied;
