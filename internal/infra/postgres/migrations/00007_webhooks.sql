-- Events that customers are told of, and the webhooks by which they are told.

-- +goose Up

-- What of the trail a customer is told. The number is the entry's place in the order of the trail, so the order is the same for ever and whoever reads
-- on from a number misses nothing.
create table events (
  customer_id   uuid        not null references customers (id),
  number        bigint      not null check (number >= 0),
  id            uuid        not null,
  type          text        not null check (type in ('user.created', 'user.corrected', 'user.disabled', 'user.redacted', 'user.deleted',
                  'user.alerts_changed', 'alert.sent', 'data_subject_request.updated', 'subprocessor.announced', 'breach.notified')),
  subject_type  text        not null check (subject_type in ('user', 'alert', 'data_subject_request', 'subprocessor', 'breach_notice')),
  subject_id    uuid        not null,
  occurred_at   timestamptz not null,
  created_at    timestamptz not null,
  primary key (customer_id, number),
  unique (customer_id, id)
);
create index events_type on events (customer_id, type, number);
create index events_time on events (created_at);
comment on table events is 'What customers are told: acts on the trail, by ids, type and time alone.';
comment on column events.customer_id is 'id';
comment on column events.number is 'state: the place of the entry in the order of the trail';
comment on column events.id is 'id: of the entry of the trail';
comment on column events.type is 'state';
comment on column events.subject_type is 'state';
comment on column events.subject_id is 'id: whom or what it is about';
comment on column events.occurred_at is 'time';
comment on column events.created_at is 'time: when the event was taken from the trail; counts for how long it is kept';

create table webhook_endpoints (
  customer_id             uuid        not null references customers (id),
  id                      uuid        not null,
  url                     text        not null check (length(url) between 1 and 2000),
  description             text        not null check (length(description) <= 200),
  event_types             text[]      not null,
  status                  text        not null check (status in ('active', 'paused', 'deleted')),
  paused_reason           text        check (paused_reason in ('by_customer', 'failing', 'gone')),
  paused_at               timestamptz,
  sealed_secret           bytea       not null,
  sealed_previous_secret  bytea,
  previous_expires_at     timestamptz,
  position                bigint      not null,
  due_at                  timestamptz,
  held_until              timestamptz,
  lease_id                uuid,
  lease_until             timestamptz,
  failing_since           timestamptz,
  failures                integer     not null,
  version                 bigint      not null,
  created_at              timestamptz not null,
  updated_at              timestamptz not null,
  primary key (customer_id, id),
  constraint webhook_endpoints_paused check ((status = 'paused') = (paused_reason is not null) and (paused_reason is null) = (paused_at is null)),
  constraint webhook_endpoints_previous check ((sealed_previous_secret is null) = (previous_expires_at is null)),
  constraint webhook_endpoints_lease check ((lease_id is null) = (lease_until is null))
);
-- By this one every replica looks for work, several times a second, for all customers at once.
create index webhook_endpoints_due on webhook_endpoints (due_at) where due_at is not null;
create index webhook_endpoints_deleted on webhook_endpoints (customer_id, id) where status = 'deleted';
comment on table webhook_endpoints is 'Where customers want to be told of events.';
comment on column webhook_endpoints.customer_id is 'id';
comment on column webhook_endpoints.id is 'id';
comment on column webhook_endpoints.url is 'setting: may hold a secret of the customer''s, so it is in no log and no metric';
comment on column webhook_endpoints.description is 'setting: what the endpoint is for';
comment on column webhook_endpoints.event_types is 'setting: none for all';
comment on column webhook_endpoints.status is 'state: a deleted one stays until its deliveries are dropped';
comment on column webhook_endpoints.paused_reason is 'state';
comment on column webhook_endpoints.paused_at is 'time';
comment on column webhook_endpoints.sealed_secret is 'secret: sealed with the master key';
comment on column webhook_endpoints.sealed_previous_secret is 'secret: sealed with the master key; signs too until its time';
comment on column webhook_endpoints.previous_expires_at is 'time';
comment on column webhook_endpoints.position is 'state: the number of the last event of which there are deliveries';
comment on column webhook_endpoints.due_at is 'time: when there is something to send; null for not yet';
comment on column webhook_endpoints.held_until is 'time: before which the receiver wants nothing';
comment on column webhook_endpoints.lease_id is 'id: of the replica that sends';
comment on column webhook_endpoints.lease_until is 'time: until which no other replica sends';
comment on column webhook_endpoints.failing_since is 'time: of the first failure after the last success';
comment on column webhook_endpoints.failures is 'state: failures in a row';
comment on column webhook_endpoints.version is 'state';
comment on column webhook_endpoints.created_at is 'time';
comment on column webhook_endpoints.updated_at is 'time';

create table webhook_deliveries (
  customer_id      uuid        not null,
  endpoint_id      uuid        not null,
  id               uuid        not null,
  number           bigint      not null,
  state            text        not null check (state in ('pending', 'waiting', 'succeeded', 'failed')),
  attempts         integer     not null,
  step             integer     not null,
  next_attempt_at  timestamptz,
  last_attempt_at  timestamptz,
  last_outcome     text        check (last_outcome in ('delivered', 'status', 'address_refused', 'name_unknown', 'timed_out', 'tls_failed', 'unreachable', 'broken_off')),
  last_status      integer     check (last_status between 100 and 999),
  created_at       timestamptz not null,
  primary key (customer_id, endpoint_id, id),
  foreign key (customer_id, endpoint_id) references webhook_endpoints (customer_id, id),
  foreign key (customer_id, number) references events (customer_id, number),
  constraint webhook_deliveries_waiting check ((state = 'waiting') = (next_attempt_at is not null)),
  constraint webhook_deliveries_attempted check ((last_attempt_at is null) = (last_outcome is null))
);
create index webhook_deliveries_pending on webhook_deliveries (customer_id, endpoint_id, number) where state = 'pending';
create index webhook_deliveries_waiting on webhook_deliveries (customer_id, endpoint_id, next_attempt_at) where state = 'waiting';
create index webhook_deliveries_number on webhook_deliveries (customer_id, number, endpoint_id);
create index webhook_deliveries_state on webhook_deliveries (customer_id, endpoint_id, state, id);
create index webhook_deliveries_time on webhook_deliveries (created_at);
comment on table webhook_deliveries is 'What becomes of each event at each endpoint. Nothing of an answer is kept but its status.';
comment on column webhook_deliveries.customer_id is 'id';
comment on column webhook_deliveries.endpoint_id is 'id';
comment on column webhook_deliveries.id is 'id: of the event';
comment on column webhook_deliveries.number is 'state: of the event';
comment on column webhook_deliveries.state is 'state';
comment on column webhook_deliveries.attempts is 'state: how often it was tried altogether';
comment on column webhook_deliveries.step is 'state: how often it was tried since it was last asked for';
comment on column webhook_deliveries.next_attempt_at is 'time';
comment on column webhook_deliveries.last_attempt_at is 'time';
comment on column webhook_deliveries.last_outcome is 'state';
comment on column webhook_deliveries.last_status is 'state: of the receiver''s last answer';
comment on column webhook_deliveries.created_at is 'time';

-- +goose StatementBegin
do $$
declare
  name text;
begin
  foreach name in array array['events', 'webhook_endpoints', 'webhook_deliveries'] loop
    execute format('alter table %I enable row level security', name);
    execute format('alter table %I force row level security', name);
    execute format('create policy own_customer on %I to steward_app using (customer_id = current_customer()) with check (customer_id = current_customer())', name);
    execute format('create policy upkeep on %I to steward_platform using (true)', name);
  end loop;
end
$$;
-- +goose StatementEnd
grant select, insert on events to steward_app;
grant select, insert on webhook_endpoints to steward_app;
grant update (url, description, event_types, status, paused_reason, paused_at, sealed_secret, sealed_previous_secret, previous_expires_at, position, due_at,
              held_until, lease_id, lease_until, failing_since, failures, version, updated_at) on webhook_endpoints to steward_app;
grant select, insert on webhook_deliveries to steward_app;
grant update (state, attempts, step, next_attempt_at, last_attempt_at, last_outcome, last_status) on webhook_deliveries to steward_app;

-- Outside customers: find the endpoints that are due, and drop what is past its time.
grant select (customer_id, id, status, due_at, lease_id, lease_until), delete on webhook_endpoints to steward_platform;
grant select (customer_id, endpoint_id, id, number, state, created_at), delete on webhook_deliveries to steward_platform;
grant select (customer_id, number, created_at), delete on events to steward_platform;

-- +goose Down
drop table webhook_deliveries, webhook_endpoints, events;
