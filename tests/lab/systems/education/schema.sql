create table users (id serial primary key, email text unique not null);
create table audit_logs (id serial primary key, created_at timestamptz not null, actor int references users, action text not null);
create table user_sessions (id serial primary key, user_id int references users, expires_at timestamptz not null);
insert into users (email) select 'user' || n || '@example.com' from generate_series(1, 60) n;
insert into audit_logs (created_at, actor, action) select now() - n * interval '4 hours', 1 + n % 60, 'login' from generate_series(1, 2000) n;
insert into user_sessions (user_id, expires_at) select 1 + n % 60, now() + (n - 100) * interval '1 hour' from generate_series(1, 200) n;
