-- The trail proves itself: signed checkpoints of the tree over its entries, and the keys that sign them.

-- +goose Up

create table trail_keys (
  id              text        not null primary key,
  public_key      bytea       not null check (length(public_key) = 32),
  sealed_private  bytea       not null,
  created_at      timestamptz not null
);
comment on table trail_keys is 'The keys that checkpoints of trails are signed with. The newest signs; none is ever taken out, for what it signed is to be verified for good.';
comment on column trail_keys.id is 'id: thumbprint of the public key';
comment on column trail_keys.public_key is 'state: published';
comment on column trail_keys.sealed_private is 'secret: sealed with the master key';
comment on column trail_keys.created_at is 'time';

create table audit_checkpoints (
  customer_id   uuid        not null references customers (id),
  size          bigint      not null check (size >= 0),
  note          text        not null,
  created_at    timestamptz not null,
  published_at  timestamptz,
  primary key (customer_id, size)
);
create index audit_checkpoints_published on audit_checkpoints (customer_id, size) where published_at is not null;
comment on table audit_checkpoints is 'Signed heads of the trail: how many entries it had, and the root of the tree over them.';
comment on column audit_checkpoints.customer_id is 'id';
comment on column audit_checkpoints.size is 'state: how many entries there were';
comment on column audit_checkpoints.note is 'state: the checkpoint as it was signed';
comment on column audit_checkpoints.created_at is 'time';
comment on column audit_checkpoints.published_at is 'time: when the customer was sent it; null: it was not';

alter table trail_keys enable row level security;
alter table trail_keys force row level security;
create policy sign on trail_keys to steward_platform using (true) with check (true);
grant select, insert on trail_keys to steward_platform;

alter table audit_checkpoints enable row level security;
alter table audit_checkpoints force row level security;
create policy own_customer on audit_checkpoints to steward_app using (customer_id = current_customer()) with check (customer_id = current_customer());
grant select, insert on audit_checkpoints to steward_app;
grant update (published_at) on audit_checkpoints to steward_app;

-- +goose Down
drop table audit_checkpoints, trail_keys;
