create table users (id serial primary key, email text unique not null);
create table teams (id serial primary key, name text not null);
create table matches (id serial primary key, home_team_id int references teams, away_team_id int references teams, starts_at timestamptz not null);
create table predictions (id serial primary key, user_id int references users, match_id int references matches, created_at timestamptz not null, status text not null);
create index on predictions (user_id, created_at);
insert into users (email) select 'user' || n || '@example.com' from generate_series(1, 40) n;
insert into teams (name) select 'Team ' || n from generate_series(1, 20) n;
insert into matches (home_team_id, away_team_id, starts_at) select 1 + n % 20, 1 + (n + 7) % 20, now() + (n - 100) * interval '1 day' from generate_series(1, 200) n;
insert into predictions (user_id, match_id, created_at, status) select 1 + n % 40, 1 + n % 200, now() - n * interval '20 minutes', (array['won', 'lost', 'pending'])[1 + n % 3] from generate_series(1, 2000) n;
