-- What people ask of their data by way of their employer: access, portability, erasure, rectification, restriction, objection.

-- +goose Up

create table data_subject_requests (
  customer_id          uuid        not null references customers (id),
  id                   uuid        not null unique,
  user_id              uuid,
  kind                 text        not null check (kind in ('access', 'portability', 'erasure', 'rectification', 'restriction', 'objection')),
  state                text        not null check (state in ('received', 'acknowledged', 'fulfilled', 'rejected', 'withdrawn')),
  reason               text        check (reason in ('identity_not_verified', 'manifestly_unfounded', 'excessive', 'legal_obligation', 'rights_of_others',
                         'not_applicable', 'person_erased')),
  first_name           text,
  last_name            text,
  email                text,
  recipient            text        check (length(recipient) <= 128),
  receipt_id           uuid,
  received_at          timestamptz not null,
  acknowledged_at      timestamptz,
  due_at               timestamptz not null,
  closed_at            timestamptz,
  bundle_expires_at    timestamptz,
  bundle_collected_at  timestamptz,
  reminders            smallint    not null check (reminders between 0 and 2),
  version              bigint      not null,
  updated_at           timestamptz not null,
  primary key (customer_id, id),
  constraint data_subject_requests_open_or_closed check ((closed_at is null) = (state in ('received', 'acknowledged'))),
  constraint data_subject_requests_reason check (
    case state
      when 'rejected' then coalesce(reason <> 'person_erased', false)
      when 'withdrawn' then coalesce(reason = 'person_erased', true)
      else reason is null
    end),
  -- What the person is to be called is needed until it is done, and no longer; whom it is about is forgotten later.
  constraint data_subject_requests_corrections check (num_nonnulls(first_name, last_name, email) = 0 or kind = 'rectification' and closed_at is null),
  constraint data_subject_requests_person check (user_id is not null or closed_at is not null)
);
-- One person has one open request of a kind; another one joins it.
create unique index data_subject_requests_open on data_subject_requests (customer_id, user_id, kind) where closed_at is null;
create index data_subject_requests_user on data_subject_requests (customer_id, user_id) where user_id is not null;
create index data_subject_requests_received on data_subject_requests (received_at) where closed_at is null;
create index data_subject_requests_closed on data_subject_requests (closed_at) where closed_at is not null and user_id is not null;
alter table data_subject_requests
  alter column first_name set statistics 0,
  alter column last_name set statistics 0,
  alter column email set statistics 0;
comment on table data_subject_requests is 'What people ask of their data by way of the customer, and what became of it. They forget the person 90 days after they are closed.';
comment on column data_subject_requests.customer_id is 'id';
comment on column data_subject_requests.id is 'id';
comment on column data_subject_requests.user_id is 'id: the person';
comment on column data_subject_requests.kind is 'state';
comment on column data_subject_requests.state is 'state';
comment on column data_subject_requests.reason is 'state: why it was rejected, or withdrawn by itself';
comment on column data_subject_requests.first_name is 'personal: name, as it is to be; until the request is closed';
comment on column data_subject_requests.last_name is 'personal: name, as it is to be; until the request is closed';
comment on column data_subject_requests.email is 'personal: contact, as it is to be; until the request is closed';
comment on column data_subject_requests.recipient is 'setting: the public key that the bundle is encrypted to';
comment on column data_subject_requests.receipt_id is 'id: of the erasure that it led to';
comment on column data_subject_requests.received_at is 'time';
comment on column data_subject_requests.acknowledged_at is 'time';
comment on column data_subject_requests.due_at is 'time: one month after it was received';
comment on column data_subject_requests.closed_at is 'time';
comment on column data_subject_requests.bundle_expires_at is 'time: from then on the bundle is gone';
comment on column data_subject_requests.bundle_collected_at is 'time';
comment on column data_subject_requests.reminders is 'state: how many reminders operators were sent';
comment on column data_subject_requests.version is 'state';
comment on column data_subject_requests.updated_at is 'time';

create table request_bundles (
  customer_id  uuid        not null,
  request_id   uuid        not null,
  user_id      uuid        not null,
  content      bytea       not null,
  created_at   timestamptz not null,
  expires_at   timestamptz not null,
  primary key (customer_id, request_id),
  foreign key (customer_id, request_id) references data_subject_requests (customer_id, id)
);
create index request_bundles_user on request_bundles (customer_id, user_id);
create index request_bundles_expiry on request_bundles (expires_at);
-- It is compressed and encrypted already.
alter table request_bundles alter column content set storage external, alter column content set statistics 0;
comment on table request_bundles is 'What customers come to collect: everything that is held of one person, encrypted, for two weeks.';
comment on column request_bundles.customer_id is 'id';
comment on column request_bundles.request_id is 'id';
comment on column request_bundles.user_id is 'id: the person';
comment on column request_bundles.content is 'personal: everything held, encrypted to the recipient of the request or sealed with the master key';
comment on column request_bundles.created_at is 'time';
comment on column request_bundles.expires_at is 'time';

-- +goose StatementBegin
do $$
declare
  name text;
begin
  foreach name in array array['data_subject_requests', 'request_bundles'] loop
    execute format('alter table %I enable row level security', name);
    execute format('alter table %I force row level security', name);
    execute format('create policy own_customer on %I to steward_app using (customer_id = current_customer()) with check (customer_id = current_customer())', name);
  end loop;
end
$$;
-- +goose StatementEnd
grant select, insert on data_subject_requests to steward_app;
grant update (state, reason, first_name, last_name, email, recipient, receipt_id, acknowledged_at, closed_at, bundle_expires_at, bundle_collected_at, reminders,
              version, updated_at) on data_subject_requests to steward_app;
grant select, insert, delete on request_bundles to steward_app;

-- Operators look after the requests of all customers: what is open and when it is due, and nothing of whom it is about. What is past its time is dropped.
create policy oversee on data_subject_requests to steward_platform using (true) with check (true);
grant select (customer_id, id, user_id, kind, state, reason, receipt_id, received_at, acknowledged_at, due_at, closed_at, bundle_expires_at, bundle_collected_at,
              reminders, version, updated_at) on data_subject_requests to steward_platform;
grant update (user_id, recipient, receipt_id, version, updated_at) on data_subject_requests to steward_platform;
create policy expire on request_bundles to steward_platform using (true);
grant select (customer_id, request_id, expires_at), delete on request_bundles to steward_platform;

-- +goose Down
drop table request_bundles, data_subject_requests;
