-- Jobs may say that no second one like them is added while they wait, for which River has two columns that were unused.

-- +goose Up
comment on column jobs.river_job.unique_key is 'secret: hash of kind and arguments, of jobs that wait only once';
comment on column jobs.river_job.unique_states is 'state: while in which states the job keeps others like it out';

-- +goose Down
comment on column jobs.river_job.unique_key is 'state: unused';
comment on column jobs.river_job.unique_states is 'state: unused';
