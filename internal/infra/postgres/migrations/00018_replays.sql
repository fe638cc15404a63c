-- Replays of the ledger, so that operators see them, and mails about alerts that are not sent because a restore brought them back.

-- +goose Up

create table replays (
  id             uuid        not null primary key,
  started_at     timestamptz not null,
  finished_at    timestamptz check (finished_at >= started_at),
  restored       boolean     not null,
  ledger_from    bigint      not null check (ledger_from >= 0),
  ledger_to      bigint      not null check (ledger_to >= ledger_from),
  outcomes       jsonb       not null,
  dropped        jsonb       not null
);
comment on table replays is 'Each time that a replica carried out once more what the ledger tells of and this database lacked.';
comment on column replays.id is 'id';
comment on column replays.started_at is 'time';
comment on column replays.finished_at is 'time: null while it goes on, and for good where it was broken off; another one then went on';
comment on column replays.restored is 'state: whether an earlier state of the database had been brought back; otherwise a crash or a failure had left something open';
comment on column replays.ledger_from is 'state: the number of the first entry that was looked at, less one';
comment on column replays.ledger_to is 'state: the number of the last entry that was looked at';
comment on column replays.outcomes is 'state: how many entries, by kind and outcome';
comment on column replays.dropped is 'state: how much of before the restore was dropped, by store';

alter table replays enable row level security;
alter table replays force row level security;
create policy keep on replays to steward_platform using (true) with check (true);
grant select, insert on replays to steward_platform;
grant update (finished_at, outcomes, dropped) on replays to steward_platform;

alter table alert_deliveries drop constraint alert_deliveries_reason_check;
alter table alert_deliveries add constraint alert_deliveries_reason_check check (reason in ('recipient_refused', 'content_refused', 'not_mailable', 'expired', 'opted_out',
  'not_active', 'restored'));
-- Who restores a database has to find the alerts that are not finished.
grant select (finished_at) on alerts to steward_platform;
create index alerts_unfinished on alerts (customer_id) where finished_at is null;

-- +goose Down
drop index alerts_unfinished;
revoke select (finished_at) on alerts from steward_platform;
update alert_deliveries set reason = 'expired' where reason = 'restored';
alter table alert_deliveries drop constraint alert_deliveries_reason_check;
alter table alert_deliveries add constraint alert_deliveries_reason_check check (reason in ('recipient_refused', 'content_refused', 'not_mailable', 'expired', 'opted_out',
  'not_active'));
drop table replays;
