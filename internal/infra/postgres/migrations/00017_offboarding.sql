-- The end of a contract: a customer is returned what is its own, and everything of it is deleted.
--
-- From the moment that a deletion begins, the database shows the ordinary roles nothing of the customer and takes nothing for it any more. So sign-ins, sessions, keys, jobs
-- and whatever else goes on in its name end by themselves, on every replica. One role, which does nothing else, deletes what is left, the trail included: it sees the rows of
-- such customers alone, and the triggers that keep the trail append-only let it through for them alone.

-- +goose Up

-- +goose StatementBegin
do $$
begin
  if not exists (select from pg_roles where rolname = 'steward_offboarder') then -- to try would take the right to make roles
    begin
      create role steward_offboarder nologin nosuperuser nobypassrls nocreatedb nocreaterole noinherit;
    exception when duplicate_object or unique_violation then
      null;
    end;
  end if;
  if not pg_has_role(current_user, 'steward_offboarder', 'member') then
    begin
      grant steward_offboarder to current_user;
    exception when unique_violation then
      null;
    end;
  end if;
end
$$;
-- +goose StatementEnd

-- The rows outlive the customer: they are the proof that it is gone. So there is no foreign key.
create table offboardings (
  customer_id          uuid        not null,
  id                   uuid        not null unique,
  slug                 text        not null check (slug <> 'fusions'),
  name                 text        not null,
  state                text        not null check (state in ('requested', 'approved', 'cancelled', 'deleting', 'deleted')),
  shut                 boolean     not null generated always as (state in ('deleting', 'deleted')) stored,
  requested_at         timestamptz not null,
  requested_by         uuid        not null,
  approved_at          timestamptz,
  approved_by          uuid        check (approved_by <> requested_by),
  deletes_at           timestamptz,
  cancelled_at         timestamptz,
  cancelled_by         uuid,
  deleting_at          timestamptz,
  recorded_at          timestamptz,
  deleted_at           timestamptz,
  removed              jsonb       not null,
  backups_expire_at    timestamptz,
  jws                  text        check (length(jws) <= 16384),
  wake_at              timestamptz,
  notices              smallint    not null check (notices between 0 and 2),
  recipient            text        check (length(recipient) <= 100),
  bundle_wanted_at     timestamptz,
  bundle_id            uuid,
  bundle_key           bytea,
  bundle_size          bigint      check (bundle_size >= 0),
  bundle_made_at       timestamptz,
  bundle_for           text        check (length(bundle_for) <= 100),
  bundle_collected_at  timestamptz,
  version              bigint      not null,
  updated_at           timestamptz not null,
  primary key (customer_id, id),
  constraint offboardings_approved check (
    case when state in ('approved', 'deleting', 'deleted') then num_nulls(approved_at, approved_by, deletes_at) = 0 else num_nulls(approved_at, approved_by, deletes_at) in (0, 3) end),
  constraint offboardings_cancelled check ((state = 'cancelled') = (cancelled_at is not null)),
  constraint offboardings_deleting check ((state in ('deleting', 'deleted')) = (deleting_at is not null) and deleting_at >= deletes_at),
  constraint offboardings_recorded check (recorded_at is null or deleting_at is not null),
  constraint offboardings_deleted check ((state = 'deleted') = (deleted_at is not null) and (state = 'deleted') = (jws is not null) and (deleted_at is null or recorded_at is not null)),
  constraint offboardings_bundle check (
    num_nulls(bundle_id, bundle_size, bundle_made_at) in (0, 3)
    and case when bundle_id is null then num_nonnulls(bundle_key, bundle_for, bundle_collected_at) = 0 else num_nonnulls(bundle_key, bundle_for) = 1 end)
);
-- One customer is offboarded once at a time.
create unique index offboardings_open on offboardings (customer_id) where state in ('requested', 'approved', 'deleting');
create unique index offboardings_shut on offboardings (customer_id) where shut;
create index offboardings_wake on offboardings (wake_at) where wake_at is not null;
comment on table offboardings is 'Contracts that end or have ended: who ordered it, what is to be deleted when, and what was deleted. They outlive the customer.';
comment on column offboardings.customer_id is 'id';
comment on column offboardings.id is 'id';
comment on column offboardings.slug is 'setting: of the business, when its offboarding was begun';
comment on column offboardings.name is 'setting: of the business, when its offboarding was begun';
comment on column offboardings.state is 'state';
comment on column offboardings.shut is 'state: whether nobody sees or adds anything of the customer any more; asked by every statement';
comment on column offboardings.requested_at is 'time';
comment on column offboardings.requested_by is 'id: of the operator';
comment on column offboardings.approved_at is 'time';
comment on column offboardings.approved_by is 'id: of another operator';
comment on column offboardings.deletes_at is 'time: until then it can be cancelled';
comment on column offboardings.cancelled_at is 'time';
comment on column offboardings.cancelled_by is 'id: of the operator; null: it gave way to what a ledger says';
comment on column offboardings.deleting_at is 'time: from then on nothing of the customer is seen or taken any more';
comment on column offboardings.recorded_at is 'time: when the ledger had it; nothing is deleted before';
comment on column offboardings.deleted_at is 'time';
comment on column offboardings.removed is 'state: counts by store';
comment on column offboardings.backups_expire_at is 'time: by then no backup holds anything of the customer any more; null: none does';
comment on column offboardings.jws is 'state: the certificate of what was deleted, as it was signed';
comment on column offboardings.wake_at is 'time: when somebody has to look after it next; moved ahead by whoever does';
comment on column offboardings.notices is 'state: how many notices of the end the administrators were sent';
comment on column offboardings.recipient is 'setting: the public key that the bundle is encrypted to';
comment on column offboardings.bundle_wanted_at is 'time: when a bundle was asked for that is not made yet';
comment on column offboardings.bundle_id is 'id: of the object';
comment on column offboardings.bundle_key is 'secret: what the bundle is encrypted with, sealed with the master key; null: to the customer''s recipient';
comment on column offboardings.bundle_size is 'state: bytes of the encrypted object';
comment on column offboardings.bundle_made_at is 'time';
comment on column offboardings.bundle_for is 'setting: the public key that the bundle is encrypted to';
comment on column offboardings.bundle_collected_at is 'time';
comment on column offboardings.version is 'state';
comment on column offboardings.updated_at is 'time';

-- An offboarding goes forward step by step, whoever writes it.
-- +goose StatementBegin
create function check_offboarding() returns trigger language plpgsql as $$
begin
  if tg_op = 'INSERT' and new.state = 'requested' then
    return null;
  end if;
  if tg_op = 'UPDATE' and (new.state = old.state or (old.state, new.state) in
      (('requested', 'approved'), ('requested', 'cancelled'), ('approved', 'cancelled'), ('approved', 'deleting'), ('deleting', 'deleted'))) then
    return null;
  end if;
  raise exception 'an offboarding goes forward step by step' using errcode = 'integrity_constraint_violation';
end
$$;
-- +goose StatementEnd
create trigger offboardings_step_by_step after insert or update on offboardings for each row execute function check_offboarding();

alter table offboardings enable row level security;
alter table offboardings force row level security;
create policy own_customer on offboardings to steward_app, steward_offboarder using (customer_id = current_customer()) with check (customer_id = current_customer());
create policy oversee on offboardings to steward_platform using (true) with check (true);
grant select, insert on offboardings to steward_app;
grant update (state, approved_at, approved_by, deletes_at, cancelled_at, cancelled_by, deleting_at, recorded_at, deleted_at, backups_expire_at, jws, wake_at, notices, recipient,
              bundle_wanted_at, bundle_id, bundle_key, bundle_size, bundle_made_at, bundle_for, bundle_collected_at, version, updated_at) on offboardings to steward_app;
grant select (customer_id, id, slug, name, state, shut, requested_at, requested_by, approved_at, approved_by, deletes_at, cancelled_at, cancelled_by, deleting_at, recorded_at,
              deleted_at, removed, backups_expire_at, jws, wake_at, notices, recipient, bundle_wanted_at, bundle_id, bundle_size, bundle_made_at, bundle_for, bundle_collected_at,
              version, updated_at) on offboardings to steward_platform;
grant update (wake_at) on offboardings to steward_platform;
grant select (customer_id, id, state, recorded_at, removed, version), update (removed, version, updated_at) on offboardings to steward_offboarder;

-- The ordinary roles see and change nothing of a customer that is being deleted or is gone. A table that is new gets both policies and the rights below; a test names it otherwise.
-- The first is asked once for a statement. What the ledger's acts are remembered by, and the offboardings themselves, stay.
grant usage on schema public to steward_offboarder;
-- +goose StatementBegin
do $$
declare
  name text;
  key text;
begin
  foreach name in array array['customers', 'users', 'sessions', 'refresh_tokens', 'login_records', 'api_keys', 'audit_entries', 'audit_unsealed', 'audit_heads', 'audit_leaves',
                              'audit_checkpoints', 'erasure_receipts', 'idempotency_answers', 'password_links', 'second_factors', 'recovery_codes', 'alerts', 'alert_deliveries',
                              'alert_digests', 'events', 'webhook_endpoints', 'webhook_deliveries', 'user_imports', 'user_import_rows', 'suppressed_addresses',
                              'data_subject_requests', 'request_bundles'] loop
    key := case name when 'customers' then 'id' else 'customer_id' end;
    execute format('create policy not_offboarded on %I as restrictive to steward_app
      using (not exists (select from offboardings o where o.shut and o.customer_id = current_customer()))', name);
    execute format('create policy not_offboarded_outside on %I as restrictive to steward_platform
      using (not exists (select from offboardings o where o.shut and o.customer_id = %I.%I))', name, name, key);
    execute format('create policy offboard on %I to steward_offboarder using (%I = current_customer()
      and exists (select from offboardings o where o.customer_id = current_customer() and o.state = ''deleting'' and o.recorded_at is not null))', name, key);
    execute format('grant select, delete on %I to steward_offboarder', name);
  end loop;
end
$$;
-- +goose StatementEnd

create policy not_offboarded on jobs.river_job as restrictive to steward_app
  using (not exists (select from offboardings o where o.shut and o.customer_id = current_customer()));
create policy offboard on jobs.river_job to steward_offboarder using (
  current_customer()::text in (args ->> 'customer_id', args ->> 'about_customer_id')
  and exists (select from offboardings o where o.customer_id = current_customer() and o.state = 'deleting' and o.recorded_at is not null));
grant usage on schema jobs to steward_offboarder;
grant select, delete on jobs.river_job to steward_offboarder;

-- The trail is append-only, and goes as a whole with its customer.
-- +goose StatementBegin
create or replace function refuse_change() returns trigger language plpgsql as $$
begin
  if tg_op = 'DELETE' and current_user = 'steward_offboarder' then
    if exists (select from offboardings where customer_id = old.customer_id and state = 'deleting' and recorded_at is not null) then
      return old;
    end if;
  end if;
  raise exception 'the audit trail is append-only' using errcode = 'integrity_constraint_violation';
end
$$;
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
create or replace function refuse_change() returns trigger language plpgsql as $$
begin
  raise exception 'the audit trail is append-only' using errcode = 'integrity_constraint_violation';
end
$$;
-- +goose StatementEnd
-- +goose StatementBegin
do $$
declare
  name text;
begin
  foreach name in array array['customers', 'users', 'sessions', 'refresh_tokens', 'login_records', 'api_keys', 'audit_entries', 'audit_unsealed', 'audit_heads', 'audit_leaves',
                              'audit_checkpoints', 'erasure_receipts', 'idempotency_answers', 'password_links', 'second_factors', 'recovery_codes', 'alerts', 'alert_deliveries',
                              'alert_digests', 'events', 'webhook_endpoints', 'webhook_deliveries', 'user_imports', 'user_import_rows', 'suppressed_addresses',
                              'data_subject_requests', 'request_bundles'] loop
    execute format('drop policy not_offboarded on %I', name);
    execute format('drop policy not_offboarded_outside on %I', name);
    execute format('drop policy offboard on %I', name);
    execute format('revoke all on %I from steward_offboarder', name);
  end loop;
end
$$;
-- +goose StatementEnd
drop policy not_offboarded on jobs.river_job;
drop policy offboard on jobs.river_job;
revoke all on jobs.river_job from steward_offboarder;
revoke usage on schema jobs from steward_offboarder;
drop table offboardings;
drop function check_offboarding();
revoke usage on schema public from steward_offboarder;
