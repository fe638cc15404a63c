-- Alerts: what a customer's software tells its users of by mail, and what became of each mail.

-- +goose Up

create table alerts (
  customer_id     uuid        not null references customers (id),
  id              uuid        not null,
  severity        text        not null check (severity in ('error', 'critical')),
  subject         text        not null check (length(subject) between 1 and 200),
  body            text        not null check (length(body) between 1 and 10000),
  dedupe_key      text        check (dedupe_key ~ '^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$'),
  joining         boolean     not null,
  times           bigint      not null check (times > 0),
  created_at      timestamptz not null,
  last_raised_at  timestamptz not null,
  fanned_to       uuid,
  fanned_out_at   timestamptz,
  recipients      bigint      not null check (recipients >= 0),
  sent            bigint      not null check (sent >= 0),
  digested        bigint      not null check (digested >= 0),
  failed          bigint      not null check (failed >= 0),
  skipped         bigint      not null check (skipped >= 0),
  wake_at         timestamptz,
  finished_at     timestamptz,
  primary key (customer_id, id),
  constraint alerts_joining_by_key check (not joining or dedupe_key is not null),
  constraint alerts_counted check (sent + digested + failed + skipped <= recipients),
  constraint alerts_finished check (finished_at is null or fanned_out_at is not null and wake_at is null and sent + digested + failed + skipped = recipients)
);
-- Of two that raise the same at once, one makes the alert and the other joins it.
create unique index alerts_joining on alerts (customer_id, dedupe_key, severity) where joining;
create index alerts_wake on alerts (wake_at) where wake_at is not null;
create index alerts_time on alerts (created_at);
-- The text is the customer's, and could name somebody; the planner keeps no samples of it.
alter table alerts alter column subject set statistics 0, alter column body set statistics 0;
comment on table alerts is 'Alerts that customers raised. Dropped after 90 days.';
comment on column alerts.customer_id is 'id';
comment on column alerts.id is 'id';
comment on column alerts.severity is 'state';
comment on column alerts.subject is 'setting: text of the customer, who is asked not to name people in it; could hold anything';
comment on column alerts.body is 'setting: text of the customer, who is asked not to name people in it; could hold anything';
comment on column alerts.dedupe_key is 'id: in the system of the customer';
comment on column alerts.joining is 'state: whether repeats with the same key join it';
comment on column alerts.times is 'state: how often it was raised';
comment on column alerts.created_at is 'time';
comment on column alerts.last_raised_at is 'time';
comment on column alerts.fanned_to is 'id: the last user whom the fan-out came to';
comment on column alerts.fanned_out_at is 'time: when every recipient was found';
comment on column alerts.recipients is 'state: how many people it is for';
comment on column alerts.sent is 'state: how many mails were sent';
comment on column alerts.digested is 'state: how many people were told of it in a mail that gathers several';
comment on column alerts.failed is 'state: how many mails could not be sent';
comment on column alerts.skipped is 'state: how many mails were not to be sent any more';
comment on column alerts.wake_at is 'time: when somebody has to look after it again';
comment on column alerts.finished_at is 'time: when every delivery was settled';

create table alert_deliveries (
  customer_id  uuid        not null,
  alert_id     uuid        not null,
  user_id      uuid        not null,
  state        text        not null check (state in ('pending', 'collected', 'sent', 'digested', 'failed', 'skipped')),
  reason       text        check (reason in ('recipient_refused', 'content_refused', 'not_mailable', 'expired', 'opted_out', 'not_active')),
  capped       boolean     not null,
  attempts     smallint    not null,
  created_at   timestamptz not null,
  due_at       timestamptz not null,
  settled_at   timestamptz,
  primary key (customer_id, alert_id, user_id),
  foreign key (customer_id, alert_id) references alerts (customer_id, id),
  foreign key (customer_id, user_id) references users (customer_id, id),
  constraint alert_deliveries_settled check ((settled_at is null) = (state in ('pending', 'collected'))),
  constraint alert_deliveries_reason check ((reason is not null) = (state in ('failed', 'skipped')))
);
create index alert_deliveries_due on alert_deliveries (customer_id, alert_id, due_at) where state = 'pending';
create index alert_deliveries_user on alert_deliveries (customer_id, user_id, created_at);
comment on table alert_deliveries is 'One row for each person whom an alert is for. Removed with the person, dropped with the alert.';
comment on column alert_deliveries.customer_id is 'id';
comment on column alert_deliveries.alert_id is 'id';
comment on column alert_deliveries.user_id is 'id';
comment on column alert_deliveries.state is 'state';
comment on column alert_deliveries.reason is 'state: why it failed or was skipped';
comment on column alert_deliveries.capped is 'state: whether the mail counts among the few that a person gets in an hour';
comment on column alert_deliveries.attempts is 'state: how often sending was begun';
comment on column alert_deliveries.created_at is 'time';
comment on column alert_deliveries.due_at is 'time: when to try, or to try again if whoever is at it is not heard of';
comment on column alert_deliveries.settled_at is 'time';

create table alert_digests (
  customer_id  uuid        not null,
  user_id      uuid        not null,
  hour         timestamptz not null,
  state        text        not null check (state in ('pending', 'sent', 'failed', 'skipped')),
  attempts     smallint    not null,
  created_at   timestamptz not null,
  due_at       timestamptz not null,
  primary key (customer_id, user_id, hour),
  foreign key (customer_id, user_id) references users (customer_id, id)
);
create index alert_digests_due on alert_digests (customer_id, due_at) where state = 'pending';
create index alert_digests_any on alert_digests (due_at) where state = 'pending';
create index alert_digests_time on alert_digests (created_at);
comment on table alert_digests is 'Mails that gather the alerts of an hour that were too many for single ones. Removed with the person, dropped after 90 days.';
comment on column alert_digests.customer_id is 'id';
comment on column alert_digests.user_id is 'id';
comment on column alert_digests.hour is 'time: when the hour began';
comment on column alert_digests.state is 'state';
comment on column alert_digests.attempts is 'state: how often sending was begun';
comment on column alert_digests.created_at is 'time';
comment on column alert_digests.due_at is 'time: when to try, or to try again if whoever is at it is not heard of';

-- +goose StatementBegin
do $$
declare
  name text;
begin
  foreach name in array array['alerts', 'alert_deliveries', 'alert_digests'] loop
    execute format('alter table %I enable row level security', name);
    execute format('alter table %I force row level security', name);
    execute format('create policy own_customer on %I to steward_app using (customer_id = current_customer()) with check (customer_id = current_customer())', name);
  end loop;
end
$$;
-- +goose StatementEnd
grant select, insert on alerts to steward_app;
grant update (joining, times, last_raised_at, fanned_to, fanned_out_at, recipients, sent, digested, failed, skipped, wake_at, finished_at) on alerts to steward_app;
grant select, insert, delete on alert_deliveries to steward_app;
grant update (state, reason, attempts, due_at, settled_at) on alert_deliveries to steward_app;
grant select, insert, delete on alert_digests to steward_app;
grant update (state, attempts, created_at, due_at) on alert_digests to steward_app;

-- Outside customers: which alerts and digests somebody has to look after, and dropping what is past its time. No text is readable here.
create policy look_after on alerts to steward_platform using (true) with check (true);
grant select (customer_id, id, created_at, wake_at), update (wake_at), delete on alerts to steward_platform;
create policy look_after on alert_deliveries to steward_platform using (true);
grant select (customer_id, alert_id, user_id), delete on alert_deliveries to steward_platform;
create policy look_after on alert_digests to steward_platform using (true);
grant select (customer_id, user_id, hour, state, created_at, due_at), delete on alert_digests to steward_platform;

-- +goose Down
drop table alert_digests, alert_deliveries, alerts;
