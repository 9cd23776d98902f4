create table users (id serial primary key, email text unique not null);
create table documents (id serial primary key, user_id int references users, title text not null, body text not null, created_at timestamptz not null);
insert into users (email) select 'user' || n || '@example.com' from generate_series(1, 25) n;
insert into documents (user_id, title, body, created_at) select 1 + n % 25, '方案 ' || n, repeat('paragraph ', 20), now() - n * interval '2 hours' from generate_series(1, 500) n;
