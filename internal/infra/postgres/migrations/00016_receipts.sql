-- Receipts are signed, and say how far an erasure has come. The keys of checkpoints become those of everything that is to be verified for good.

-- +goose Up

alter table trail_keys rename to proof_keys;
alter index trail_keys_pkey rename to proof_keys_pkey;
alter table proof_keys rename constraint trail_keys_public_key_check to proof_keys_public_key_check;
alter table proof_keys add column purpose text not null default 'trail' check (purpose in ('trail', 'receipt'));
alter table proof_keys alter column purpose drop default;
create index proof_keys_purpose on proof_keys (purpose, created_at);
comment on table proof_keys is 'The keys that sign what is to be verified for good: checkpoints of trails, erasure receipts. Of each purpose one signs; none is ever taken out.';
comment on column proof_keys.purpose is 'state: what the key signs, and nothing else';

-- Filling rows of all customers takes the step out of row security for as long as it lasts.
alter table erasure_receipts no force row level security;
alter table erasure_receipts
  add column state             text    not null default 'pending' check (state in ('pending', 'live-complete', 'final')),
  add column erased_at         timestamptz,
  -- Also what is there already was erased before this step is over.
  add column erased_in         bigint  not null default (pg_current_xact_id()::text::bigint),
  add column live_complete_at  timestamptz,
  add column final_at          timestamptz,
  add column jws               text    check (length(jws) <= 16384),
  add column signed_at         timestamptz;
update erasure_receipts set erased_at = completed_at;
alter table erasure_receipts
  alter column state drop default,
  alter column erased_at set not null,
  add constraint erasure_receipts_state check ((state = 'pending') = (live_complete_at is null) and (state = 'final') = (final_at is not null)),
  add constraint erasure_receipts_signed check ((jws is null) = (signed_at is null));
alter table erasure_receipts force row level security;
comment on column erasure_receipts.state is 'state: how far the erasure has come';
comment on column erasure_receipts.erased_at is 'time: when the rows went; later than completed_at where a restore had brought them back';
comment on column erasure_receipts.erased_in is 'state: number of the transaction in which the rows went';
comment on column erasure_receipts.live_complete_at is 'time: from then on the database had no dead row of the person either';
comment on column erasure_receipts.final_at is 'time: from then on no backup held the person';
comment on column erasure_receipts.jws is 'state: the receipt as it was signed last; null if it is from before there were signatures and nobody has asked for it since';
comment on column erasure_receipts.signed_at is 'time';
create index erasure_receipts_pending on erasure_receipts (completed_at) where state = 'pending';
create index erasure_receipts_live_complete on erasure_receipts (erased_at) where state = 'live-complete';
create index erasure_receipts_unsigned on erasure_receipts (completed_at) where signed_at is null;

grant update (state, live_complete_at, final_at, jws, signed_at) on erasure_receipts to steward_app;
-- Which receipts are to be brought forward is found outside customers, without seeing whom they are about.
create policy settle on erasure_receipts for select to steward_platform using (true);
grant select (customer_id, id, state, completed_at, erased_at, erased_in, signed_at) on erasure_receipts to steward_platform;

-- +goose Down
drop policy settle on erasure_receipts;
revoke select (customer_id, id, state, completed_at, erased_at, erased_in, signed_at) on erasure_receipts from steward_platform;
revoke update (state, live_complete_at, final_at, jws, signed_at) on erasure_receipts from steward_app;
alter table erasure_receipts drop column state, drop column erased_at, drop column erased_in, drop column live_complete_at, drop column final_at, drop column jws, drop column signed_at;
alter table proof_keys no force row level security;
delete from proof_keys where purpose <> 'trail';
alter table proof_keys force row level security;
drop index proof_keys_purpose;
alter table proof_keys drop column purpose;
alter table proof_keys rename constraint proof_keys_public_key_check to trail_keys_public_key_check;
alter index proof_keys_pkey rename to trail_keys_pkey;
alter table proof_keys rename to trail_keys;
comment on table trail_keys is 'The keys that checkpoints of trails are signed with. The newest signs; none is ever taken out, for what it signed is to be verified for good.';
