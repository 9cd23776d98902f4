# shellcheck shell=bash disable=SC2154 # sourced by lab, whose variables these are
# The machine: a Debian whose process 1 is systemd, in namespaces of its own. The education platform runs on it
# as its manual says: units, paths and ports. It has no network but its own loopback, and a sink of its own.

machine=$state/machine
machine_root=$machine/root

# Its process 1, when it runs.
machine_leader() {
    local pid
    running machine || return 1
    read -r pid _ <"$state/run/machine.pid"
    pgrep -P "$pid" | head -n 1 | grep .
}

# machine_run COMMAND…: in the machine, as its root, with a clean environment.
machine_run() {
    local leader
    leader=$(machine_leader) || die "the machine is not up"
    nsenter --target "$leader" --mount --uts --ipc --net --pid --wdns=/ -- \
        env -i HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

machine_up() {
    install_missing
    ((EUID == 0)) || not_run "a machine with systemd as process 1 needs root"
    load education
    ca_up
    if ! running machine; then
        machine_root_up
        start machine systemd-nspawn --quiet --settings=no --register=no --keep-unit --boot --private-network --link-journal=no \
            --resolv-conf=off --timezone=off --machine=runbook-lab --directory="$machine_root"
        wait_for 90 "the machine to start (see $state/run/machine.log)" machine_started || { machine_down; not_run "systemd does not start as process 1 here"; }
    fi
    machine_fill
    wait_for 60 "education on the machine" machine_healthy || die "education does not come up on the machine"
    say "up: the machine (root in $machine_root)"
}

machine_started() { [[ $(machine_run systemctl is-system-running) =~ ^(running|degraded)$ ]]; }

machine_healthy() {
    local path
    for path in /health/db /health/cache; do
        machine_run python3 -c "import urllib.request as u; u.urlopen('http://127.0.0.1:8000$path', timeout=3)" || return 1
    done
}

machine_down() {
    local leader
    if leader=$(machine_leader); then
        # The signal that asks systemd to power off.
        kill -s RTMIN+4 "$leader"
        wait_for 20 "the machine to end" not_running machine || true
    fi
    stop machine
    rm -rf --one-file-system "${machine:?}"
}

# The root as an installed Debian with the platform on it, before it first starts.
machine_root_up() {
    local tarball unit
    tarball=$cache/$(root_tag | cut -d: -f2).tar
    root_tarball "$tarball"
    rm -rf --one-file-system "${machine:?}"
    mkdir -p "$machine_root"
    tar -C "$machine_root" -xf "$tarball"
    for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service; do
        ln -sf /dev/null "$machine_root/etc/systemd/system/$unit"
    done
    echo education >"$machine_root/etc/hostname"
    machine_postgres
    sed -i "s/^port .*/port $redis_port/; s/^# requirepass .*/requirepass $redis_password/" "$machine_root/etc/redis/redis.conf"
    machine_application
    machine_nginx
    machine_sink
    machine_secrets
}

machine_postgres() {
    rm -rf "$machine_root/etc/postgresql/15"
    chroot "$machine_root" pg_createcluster 15 main --port "$postgres_port" --locale C.UTF-8 --start-conf auto -- --wal-segsize=1 >/dev/null
    { pg_config | grep -v ^listen_addresses; echo "port = $postgres_port"; } >"$machine_root/etc/postgresql/15/main/conf.d/lab.conf"
    mkdir -p "$machine_root/lab"
    database_sql >"$machine_root/lab/database.sql"
}

machine_application() {
    chroot "$machine_root" useradd --system --home-dir /app app
    install -m 0644 "$here/app.py" "$here/sink.py" "$machine_root/lab/"
    chroot "$machine_root" install -d -o app -g app /app /app/uploads /var/log/education
    seq 1000 >"$machine_root/app/uploads/file-1.txt"
    (umask 077 && application_env /var/log/education/app.log /app/crash >"$machine_root/app/.env")
    machine_unit education-api <<UNIT
[Unit]
Description=education platform, API
After=network.target postgresql.service redis-server.service
# The lab breaks it as often as it likes.
StartLimitIntervalSec=0

[Service]
User=app
EnvironmentFile=/app/.env
ExecStart=/usr/bin/python3 /lab/app.py
ExecReload=/bin/kill -HUP \$MAINPID

[Install]
WantedBy=multi-user.target
UNIT
}

machine_nginx() {
    certificate "$machine_root/etc/ssl/education" "$host" 90
    cat >"$machine_root/etc/nginx/sites-available/education-ai" <<SITE
server {
    listen 80;
    listen 443 ssl;
    server_name $host localhost;
    ssl_certificate /etc/ssl/education/cert.pem;
    ssl_certificate_key /etc/ssl/education/key.pem;
    location / { proxy_pass http://127.0.0.1:$backend_port; }
}
SITE
    ln -s ../sites-available/education-ai "$machine_root/etc/nginx/sites-enabled/education-ai"
}

machine_sink() {
    certificate "$machine_root/lab/ssl" sink.lab 90
    mkdir -p "$machine_root/usr/local/share/ca-certificates" "$machine_root/lab/sink"
    install -m 0644 "$state/ca/ca.pem" "$machine_root/lab/ca.pem"
    machine_unit lab-sink <<UNIT
[Unit]
Description=records every message that is sent

[Service]
ExecStart=/usr/bin/python3 /lab/sink.py --dir /lab/sink --http $sink_http --smtp $sink_smtp --cert /lab/ssl/cert.pem --key /lab/ssl/key.pem

[Install]
WantedBy=multi-user.target
UNIT
}

# What tests/lab/machine/runbook.toml takes from files.
machine_secrets() {
    local secrets=$machine_root/etc/runbook/secrets
    mkdir -p "$secrets"
    chmod 0700 "$secrets"
    (umask 077 && printf %s "$db_password" >"$secrets/db_password" && printf %s "$superuser_password" >"$secrets/db_admin_password" &&
        printf %s "$redis_password" >"$secrets/redis_password" && printf %s lab-dingtalk-secret >"$secrets/dingtalk_secret")
}

# machine_unit NAME: a unit that starts with the machine, its text on the standard input.
machine_unit() {
    cat >"$machine_root/etc/systemd/system/$1.service"
    ln -s "../$1.service" "$machine_root/etc/systemd/system/multi-user.target.wants/$1.service"
}

# What takes a running server, once.
machine_fill() {
    [[ -e $machine_root/lab/filled ]] && return
    wait_for 30 "PostgreSQL on the machine" machine_run runuser -u postgres -- psql -Xq -p "$postgres_port" -c 'select 1' || die "PostgreSQL does not start on the machine"
    machine_run runuser -u postgres -- psql -Xq -v ON_ERROR_STOP=1 -p "$postgres_port" -f /lab/database.sql
    machine_run systemctl restart education-api
    touch "$machine_root/lab/filled"
}

machine() {
    case ${1:-} in
        up | down) "machine_$1" ;;
        run) shift; machine_run "$@" ;;
        root) running machine && echo "$machine_root" ;;
        *) usage >&2; exit 2 ;;
    esac
}
