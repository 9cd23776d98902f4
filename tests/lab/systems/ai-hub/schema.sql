create table users (id serial primary key, email text unique not null, created_at timestamptz not null default now());
create table sessions (id serial primary key, user_id int references users, created_at timestamptz not null);
create table api_keys (id serial primary key, name text not null, created_by int references users);
create table usage_records (id serial primary key, user_id int references users, date date not null, tokens bigint not null);
create index on usage_records (date);
insert into users (email) select 'user' || n || '@example.com' from generate_series(1, 50) n;
insert into sessions (user_id, created_at) select 1 + n % 50, now() - n * interval '6 hours' from generate_series(1, 400) n;
insert into api_keys (name, created_by) select 'key ' || n, n from generate_series(1, 20) n;
insert into usage_records (user_id, date, tokens) select 1 + n % 50, current_date - n % 120, 100 * n from generate_series(1, 3000) n;
