-- Who may do what with jobs. The step before this one had River make its tables, in the schema jobs.

-- +goose Up

-- One more role like those of the first step: it works jobs off and sees nothing else.
-- +goose StatementBegin
do $$
begin
  if not exists (select from pg_roles where rolname = 'steward_worker') then -- to try would take the right to make roles
    begin
      create role steward_worker nologin nosuperuser nobypassrls nocreatedb nocreaterole noinherit;
    exception when duplicate_object or unique_violation then
      null;
    end;
  end if;
  if not pg_has_role(current_user, 'steward_worker', 'member') then
    begin
      grant steward_worker to current_user;
    exception when unique_violation then
      null;
    end;
  end if;
end
$$;
-- +goose StatementEnd

revoke all on schema jobs from public;
grant usage on schema jobs to steward_app, steward_worker;
revoke all on all functions in schema jobs from public;
grant execute on all functions in schema jobs to steward_app, steward_worker;

-- River's list of its own migrations is left out, like ours: it holds nothing of anybody, and whoever migrates reads it.
-- +goose StatementBegin
do $$
declare
  name text;
begin
  foreach name in array array['river_job', 'river_leader', 'river_queue', 'river_notification'] loop
    execute format('alter table jobs.%I enable row level security', name);
    execute format('alter table jobs.%I force row level security', name);
    execute format('create policy work on jobs.%I to steward_worker using (true) with check (true)', name);
    execute format('grant select, insert, update, delete on jobs.%I to steward_worker', name);
  end loop;
end
$$;
-- +goose StatementEnd
grant usage on all sequences in schema jobs to steward_worker;

-- A piece of work adds jobs of its own customer. River has each row that it added returned, and its "on conflict" clause names an update.
create policy own_customer on jobs.river_job to steward_app
  using (args ->> 'customer_id' = current_customer()::text) with check (args ->> 'customer_id' = current_customer()::text);
grant select, insert on jobs.river_job to steward_app;
grant update (kind) on jobs.river_job to steward_app;
grant usage on sequence jobs.river_job_id_seq to steward_app;

comment on schema jobs is 'What is to be done in the background. The tables are made and worked on by River.';
comment on table jobs.river_job is 'What is to be done, and what became of it.';
comment on column jobs.river_job.id is 'id';
comment on column jobs.river_job.state is 'state';
comment on column jobs.river_job.attempt is 'state';
comment on column jobs.river_job.max_attempts is 'setting';
comment on column jobs.river_job.attempted_at is 'time';
comment on column jobs.river_job.created_at is 'time';
comment on column jobs.river_job.finalized_at is 'time';
comment on column jobs.river_job.scheduled_at is 'time';
comment on column jobs.river_job.priority is 'setting';
comment on column jobs.river_job.args is 'id: identifiers and closed words, never anything of a person';
comment on column jobs.river_job.attempted_by is 'id: the replicas that tried';
comment on column jobs.river_job.errors is 'state: why it failed, in words that hold nothing of a person';
comment on column jobs.river_job.kind is 'state';
comment on column jobs.river_job.metadata is 'state: River''s own notes';
comment on column jobs.river_job.queue is 'state';
comment on column jobs.river_job.tags is 'state: unused';
comment on column jobs.river_job.unique_key is 'state: unused';
comment on column jobs.river_job.unique_states is 'state: unused';
comment on table jobs.river_leader is 'The replica that looks after the table of jobs.';
comment on column jobs.river_leader.elected_at is 'time';
comment on column jobs.river_leader.expires_at is 'time';
comment on column jobs.river_leader.leader_id is 'id';
comment on column jobs.river_leader.name is 'state';
comment on table jobs.river_queue is 'The queues that jobs wait in.';
comment on column jobs.river_queue.name is 'state';
comment on column jobs.river_queue.created_at is 'time';
comment on column jobs.river_queue.metadata is 'state';
comment on column jobs.river_queue.paused_at is 'time';
comment on column jobs.river_queue.updated_at is 'time';
comment on table jobs.river_notification is 'Unused: River''s way to tell of jobs where the database has none of its own.';
comment on column jobs.river_notification.id is 'id';
comment on column jobs.river_notification.created_at is 'time';
comment on column jobs.river_notification.payload is 'state';
comment on column jobs.river_notification.topic is 'state';

-- +goose Down
revoke all on all tables in schema jobs from steward_app, steward_worker;
revoke all on all sequences in schema jobs from steward_app, steward_worker;
revoke all on all functions in schema jobs from steward_app, steward_worker;
revoke all on schema jobs from steward_app, steward_worker;
drop policy own_customer on jobs.river_job;
-- +goose StatementBegin
do $$
declare
  name text;
begin
  foreach name in array array['river_job', 'river_leader', 'river_queue', 'river_notification'] loop
    execute format('drop policy work on jobs.%I', name);
    execute format('alter table jobs.%I no force row level security', name);
    execute format('alter table jobs.%I disable row level security', name);
  end loop;
end
$$;
-- +goose StatementEnd
