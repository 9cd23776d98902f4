#!/bin/sh
# Starts PostgreSQL in a container; on the first start it creates the system's role, database and rows.
set -eu
data=/var/lib/postgresql/data
as() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }

install -d -o postgres -g postgres -m 0755 /var/log/postgresql
install -d -o postgres -g postgres -m 0775 /var/run/postgresql
install -o postgres -g postgres -m 0600 /etc/lab/ssl/cert.pem /etc/lab/ssl/key.pem /var/lib/postgresql/
if [ ! -e "$data/lab-ready" ]; then
    as pg_ctl -D "$data" -s -w -o "-c listen_addresses=''" start
    as psql -Xq -v ON_ERROR_STOP=1 -f /etc/lab/database.sql postgres
    as pg_ctl -D "$data" -s -w -m fast stop
    as touch "$data/lab-ready"
fi
exec setpriv --reuid=postgres --regid=postgres --init-groups postgres -D "$data" "$@" \
    -c ssl_cert_file=/var/lib/postgresql/cert.pem -c ssl_key_file=/var/lib/postgresql/key.pem -c ssl=on \
    -c logging_collector=on -c log_directory=/var/log/postgresql
