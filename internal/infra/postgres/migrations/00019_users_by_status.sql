-- Users of a status are few among many: the list of them reads no others.

-- +goose Up
create index users_status on users (customer_id, status, id);

-- +goose Down
drop index users_status;
