-- The order of the trail: each entry of a customer gets a number, without gaps, a moment after it was recorded.
--
-- Ids order entries by when they were made, which is not when they are kept: a transaction that takes long brings its entries in later than others with higher ids.
-- Whoever reads the trail once and goes on from there (events, the tree over the entries) needs an order in which nothing ever comes in behind.

-- +goose Up

create table audit_unsealed (
  customer_id  uuid  not null,
  entry_id     uuid  not null,
  primary key (customer_id, entry_id)
);
comment on table audit_unsealed is 'Entries of the trail that have no number yet.';
comment on column audit_unsealed.customer_id is 'id';
comment on column audit_unsealed.entry_id is 'id';

create table audit_heads (
  customer_id  uuid    not null primary key references customers (id),
  size         bigint  not null check (size >= 0),
  roots        bytea   not null
);
comment on table audit_heads is 'How many entries of a customer have their number, and the right edge of the tree over them. The row is the lock of who gives numbers.';
comment on column audit_heads.customer_id is 'id';
comment on column audit_heads.size is 'state: also the number of the next one';
comment on column audit_heads.roots is 'state: the roots of the complete trees that the tree falls into, the largest first, 32 bytes each';

create table audit_leaves (
  customer_id  uuid    not null,
  leaf_index   bigint  not null check (leaf_index >= 0),
  entry_id     uuid    not null,
  hashes       bytea   not null check (length(hashes) >= 32 and length(hashes) % 32 = 0),
  primary key (customer_id, leaf_index),
  -- No foreign key: nothing is ever taken out of either table, and the check would cost as much as the row.
  constraint audit_leaves_entry unique (customer_id, entry_id)
);
comment on table audit_leaves is 'The numbers of the entries of the trail, 0, 1, 2 and so on for each customer, and the Merkle tree (RFC 6962) over them.';
comment on column audit_leaves.customer_id is 'id';
comment on column audit_leaves.leaf_index is 'state: the number';
comment on column audit_leaves.entry_id is 'id';
comment on column audit_leaves.hashes is 'state: the hash of the leaf, and of each node of the tree that it completes, from the bottom up';
create trigger audit_leaves_append_only before update or delete on audit_leaves for each row execute function refuse_change();
create trigger audit_leaves_keep before truncate on audit_leaves for each statement execute function refuse_change();
alter table audit_leaves enable always trigger audit_leaves_append_only;
alter table audit_leaves enable always trigger audit_leaves_keep;

-- Whoever appends entries, however many, notes that they have no number yet: once for a statement, with the rights of who appends.
-- +goose StatementBegin
create function note_unsealed() returns trigger language plpgsql as $$
begin
  insert into audit_unsealed (customer_id, entry_id) select customer_id, id from appended;
  return null;
end
$$;
-- +goose StatementEnd

-- Entries from before are numbered in the order of their ids.
alter table audit_entries no force row level security;
insert into audit_unsealed (customer_id, entry_id) select customer_id, id from audit_entries;
alter table audit_entries force row level security;
create trigger audit_entries_unsealed after insert on audit_entries referencing new table as appended for each statement execute function note_unsealed();

-- +goose StatementBegin
do $$
declare
  name text;
begin
  foreach name in array array['audit_unsealed', 'audit_heads', 'audit_leaves'] loop
    execute format('alter table %I enable row level security', name);
    execute format('alter table %I force row level security', name);
    execute format('create policy own_customer on %I to steward_app using (customer_id = current_customer()) with check (customer_id = current_customer())', name);
  end loop;
end
$$;
-- +goose StatementEnd
grant select, insert, delete on audit_unsealed to steward_app;
grant select, insert on audit_heads to steward_app;
grant update (size, roots) on audit_heads to steward_app;
grant select, insert on audit_leaves to steward_app;
-- Which customers have entries without a number is asked before any customer is known.
create policy find_unsealed on audit_unsealed for select to steward_platform using (true);
grant select (customer_id) on audit_unsealed to steward_platform;

-- +goose Down
drop trigger audit_entries_unsealed on audit_entries;
drop function note_unsealed();
drop table audit_leaves, audit_heads, audit_unsealed;
