-- A deleted customer's rows lie dead in their tables until they are vacuumed, as an erased person's do. When that was done is written down.

-- +goose Up
alter table offboardings
  add column deleted_in bigint,
  add column live_complete_at timestamptz,
  add column final_at timestamptz,
  add constraint offboardings_live_complete check (live_complete_at is null or state = 'deleted'),
  add constraint offboardings_final check (final_at is null or live_complete_at is not null);
comment on column offboardings.deleted_in is 'state: number of the transaction by which all rows had gone; null before that, and where it is no longer known';
comment on column offboardings.live_complete_at is 'time';
comment on column offboardings.final_at is 'time';
grant update (deleted_in, live_complete_at, final_at) on offboardings to steward_app;
grant select (deleted_in, live_complete_at, final_at) on offboardings to steward_platform;
create index offboardings_unsettled on offboardings (deleted_at) where state = 'deleted' and final_at is null;

-- +goose Down
drop index offboardings_unsettled;
revoke select (deleted_in, live_complete_at, final_at) on offboardings from steward_platform;
revoke update (deleted_in, live_complete_at, final_at) on offboardings from steward_app;
alter table offboardings drop constraint offboardings_final, drop constraint offboardings_live_complete, drop column deleted_in, drop column live_complete_at,
  drop column final_at;
