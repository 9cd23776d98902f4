#!/usr/bin/env python3
"""The application of every lab system: backend, frontend or worker, by LAB_ROLE.

Standard library only. It really asks PostgreSQL and Redis, writes an application log, exports
Prometheus text, and breaks on request through /__break (see README.md). Its faults live in memory:
a restart heals it, as it would a real program. Only the file CRASH_FILE outlives a restart.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

ENV = os.environ.get
ROLE = ENV("LAB_ROLE", "backend")
SYSTEM = ENV("LAB_SYSTEM", "lab")
VERSION = ENV("APP_VERSION", "v1")
FAULT = ENV("APP_FAULT", "")  # baked into a bad release: unhealthy, smoke, migration, crash
CRASH_FILE = ENV("CRASH_FILE", "/app/run/crash")
STARTED = time.time()
BUCKETS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)


class Log:
    """Standard output and an append-only file, one write(2) per line, reopened on SIGHUP only, as logrotate expects."""

    def __init__(self, path):
        self.path, self.on, self.file = path, True, None
        self.reopen()

    def reopen(self, *_):
        self.file = open(self.path, "ab", buffering=0) if self.path else None

    def line(self, level, text):
        if self.on:
            stamp = time.strftime("%Y-%m-%d %H:%M:%S")
            line = f"{stamp} {level} {text}\n".encode()
            os.write(1, line)
            if self.file:
                self.file.write(line)


LOG = Log(ENV("APP_LOG", ""))


class Fault:
    """What `/__break` set: the mode, the paths it holds for, and its number."""

    mode, path, arg = "ok", "/", 0.0
    changed = threading.Event()
    ballast = []

    @classmethod
    def set(cls, mode, path, arg):
        cls.mode, cls.path, cls.arg = mode, path, arg
        cls.changed.set()
        cls.changed = threading.Event()
        cls.ballast = []
        LOG.line("WARNING", f"fault set to {mode}")
        if mode in ("cpu", "leak"):
            threading.Thread(target=cls.burn if mode == "cpu" else cls.leak, daemon=True).start()

    @classmethod
    def burn(cls):
        while cls.mode == "cpu":
            pass

    @classmethod
    def leak(cls):
        """Grows by 8 MiB each 100 ms up to `arg` MiB (default 256)."""
        while cls.mode == "leak" and len(cls.ballast) * 8 < (cls.arg or 256):
            cls.ballast.append(bytearray(os.urandom(1)) * (8 << 20))
            time.sleep(0.1)

    @classmethod
    def holds(cls, path):
        return cls.mode != "ok" and path.startswith(cls.path)


class Stats:
    lock = threading.Lock()
    count, active = {}, 0
    buckets, total, seconds = [0] * len(BUCKETS), 0, 0.0

    @classmethod
    def add(cls, method, path, status, seconds):
        with cls.lock:
            key = (method, path, status)
            cls.count[key] = cls.count.get(key, 0) + 1
            cls.total += 1
            cls.seconds += seconds
            for i, limit in enumerate(BUCKETS):
                cls.buckets[i] += seconds <= limit


def ask_database(sql="select 1"):
    """The answer of PostgreSQL over TCP with the password, or an error."""
    env = dict(os.environ, PGPASSWORD=ENV("DB_PASSWORD", ""), PGCONNECT_TIMEOUT="2", PGAPPNAME=f"{SYSTEM}-app")
    done = subprocess.run(
        ["psql", "-XAtq", "-F", " ", "-h", ENV("DB_HOST", "postgres"), "-p", ENV("DB_PORT", "5432"),
         "-U", ENV("DB_USER", ""), "-d", ENV("DB_NAME", ""), "-c", sql],
        env=env, capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise OSError(done.stderr.strip().replace("\n", " "))
    return done.stdout.strip()


class Redis:
    """A connection to Redis, authenticated."""

    def __init__(self, timeout=2):
        host, port = ENV("REDIS_HOST", "redis"), int(ENV("REDIS_PORT", "6379"))
        self.socket = socket.create_connection((host, port), timeout)
        self.file = self.socket.makefile("rb")
        self.call("AUTH", ENV("REDIS_PASSWORD", ""))

    def call(self, *words):
        parts = [f"*{len(words)}\r\n".encode()]
        for word in words:
            raw = str(word).encode()
            parts.append(b"$%d\r\n%s\r\n" % (len(raw), raw))
        self.socket.sendall(b"".join(parts))
        return self.answer()

    def answer(self):
        line = self.file.readline()
        if not line:
            raise OSError("redis closed the connection")
        kind, rest = line[:1], line[1:].strip().decode()
        if kind == b"-":
            raise OSError(f"redis: {rest}")
        if kind == b"$":
            return None if rest == "-1" else self.file.read(int(rest) + 2)[:-2].decode()
        if kind == b"*":
            return None if rest == "-1" else [self.answer() for _ in range(int(rest))]
        return rest

    def close(self):
        self.file.close()
        self.socket.close()


def ask_cache(*words):
    redis = Redis()
    try:
        return redis.call(*words)
    finally:
        redis.close()


def part(ask):
    """(healthy, detail) of one dependency; a failure is reported, never swallowed."""
    start = time.monotonic()
    try:
        ask()
        return True, {"status": "healthy", "ms": round((time.monotonic() - start) * 1000, 1)}
    except (OSError, subprocess.SubprocessError) as error:
        LOG.line("ERROR", f"dependency failed: {error}")
        return False, {"status": "unhealthy", "error": str(error)}


def metrics():
    out = []

    def family(name, kind, samples):
        out.append(f"# TYPE {name} {kind}")
        out.extend(f"{name}{labels} {value}" for labels, value in samples)

    with Stats.lock:
        family("http_requests_total", "counter", [
            (f'{{method="{m}",endpoint="{p}",status="{s}"}}', n) for (m, p, s), n in sorted(Stats.count.items())])
        out.append("# TYPE http_request_duration_seconds histogram")
        for limit, n in [*zip(BUCKETS, Stats.buckets), ("+Inf", Stats.total)]:
            out.append(f'http_request_duration_seconds_bucket{{le="{limit}"}} {n}')
        out.append(f"http_request_duration_seconds_sum {Stats.seconds:.6f}")
        out.append(f"http_request_duration_seconds_count {Stats.total}")
    family("active_connections", "gauge", [("", Stats.active)])
    pages = int(open("/proc/self/statm").read().split()[1])
    family("process_resident_memory_bytes", "gauge", [("", pages * os.sysconf("SC_PAGE_SIZE"))])
    family("process_cpu_seconds_total", "counter", [("", f"{time.process_time():.3f}")])
    family("process_start_time_seconds", "gauge", [("", f"{STARTED:.3f}")])
    # A dependency that does not answer leaves its series out: absent is not zero.
    try:
        rows = ask_database("select coalesce(state,'none'), count(*) from pg_stat_activity"
                            " where backend_type='client backend' group by 1").splitlines()
        family("database_connections", "gauge", [
            (f'{{state="{row.rsplit(" ", 1)[0]}"}}', row.rsplit(" ", 1)[1]) for row in rows])
    except (OSError, subprocess.SubprocessError):
        pass
    try:
        info = dict(line.split(":", 1) for line in ask_cache("INFO").splitlines() if ":" in line)
        hits, misses = int(info["keyspace_hits"]), int(info["keyspace_misses"])
        if hits + misses:
            family("cache_hit_rate", "gauge", [("", hits / (hits + misses))])
        family("redis_memory_used_bytes", "gauge", [("", info["used_memory"])])
    except (OSError, KeyError):
        pass
    return "\n".join(out) + "\n"


MODELS = [{"id": "lab-small", "owned_by": SYSTEM}, {"id": "lab-large", "owned_by": SYSTEM}]


def route(path):
    """(status, body) of a path; a dict is sent as JSON, a str as text."""
    if ROLE == "frontend":
        page = f"<!doctype html><title>{SYSTEM}</title><h1>{SYSTEM} {VERSION}</h1>\n"
        return (200, page) if path == "/" else (200, "ok\n") if path == "/healthz" else (404, "not found\n")
    if path in ("/health", "/healthz", "/api/v1/health"):
        bad = FAULT == "unhealthy"
        return (503 if bad else 200), {"status": "unhealthy" if bad else "healthy", "system": SYSTEM, "version": VERSION}
    if path in ("/health/db", "/health/cache"):
        good, detail = part(ask_database if path.endswith("db") else lambda: ask_cache("PING"))
        return (200 if good else 503), detail
    if path == "/api/v1/models":
        return (500, {"error": "no models"}) if FAULT == "smoke" else (200, {"data": MODELS})
    if path == "/api/v1/status":
        database, cache = part(ask_database), part(lambda: ask_cache("PING"))
        good = database[0] and cache[0]
        return (200 if good else 503), {
            "status": "healthy" if good else "degraded", "version": VERSION, "uptime_s": round(time.time() - STARTED),
            "database": database[1], "cache": cache[1]}
    if path == "/metrics":
        return 200, metrics()
    if path == "/":
        return 200, {"system": SYSTEM, "version": VERSION}
    return 404, {"error": "not found"}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self):
        start = time.monotonic()
        url = urlsplit(self.path)
        with Stats.lock:
            Stats.active += 1
        try:
            status = self.control(url.query) if url.path == "/__break" else self.serve(url.path)
        finally:
            with Stats.lock:
                Stats.active -= 1
        if url.path == "/__break" or not status:
            return
        Stats.add(self.command, url.path, status, time.monotonic() - start)
        if url.path != "/healthz":
            LOG.line("ERROR" if status >= 500 else "INFO", f'"{self.command} {url.path}" {status}')

    do_HEAD = do_POST = do_GET

    def control(self, query):
        query = {key: values[-1] for key, values in parse_qs(query).items()}
        if query.get("log") == "reopen":
            LOG.reopen()
        if "log" in query:
            LOG.on = query["log"] != "off"
        if "mode" in query:
            Fault.set(query["mode"], query.get("path", "/"), float(query.get("arg", 0)))
        return self.send(200, {"mode": Fault.mode, "path": Fault.path, "log": LOG.on})

    def serve(self, path):
        # Docker asks /healthz, people and proxies ask the rest, so that an endpoint can fail while
        # the container counts as healthy, and the other way round.
        if path != "/healthz" and Fault.holds(path):
            if Fault.mode == "hang":
                Fault.changed.wait()
                self.close_connection = True
                return 0
            if Fault.mode == "slow":
                Fault.changed.wait(Fault.arg or 3)
            elif Fault.mode == "redirect" and path != "/login":
                return self.send(302, "moved\n", ("Location", "/login"))
            elif Fault.mode in ("body", "redirect"):
                return self.send(200, "<html><title>It works</title>please log in</html>\n")
            elif Fault.mode.isdigit():
                return self.send(int(Fault.mode), {"error": "broken by the lab"})
        if Fault.mode == "unhealthy" and "/health" in path:
            return self.send(503, {"status": "unhealthy", "error": "broken by the lab"})
        return self.send(*route(path))

    def send(self, status, body, *headers):
        length = int(self.headers.get("Content-Length") or 0)
        if length:
            self.rfile.read(length)
        kind = "application/json" if isinstance(body, dict) else "text/html" if body.startswith("<") else "text/plain; version=0.0.4"
        raw = (json.dumps(body) + "\n" if isinstance(body, dict) else body).encode()
        self.send_response(status)
        for name, value in [("Content-Type", kind), ("Content-Length", str(len(raw))), *headers]:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)
        return status

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, address):
        if not isinstance(sys.exc_info()[1], OSError):  # a client that went away is no error
            super().handle_error(request, address)


def work():
    """A queue worker in the manner of Celery: takes jobs from the list `celery` and logs them."""
    while True:
        try:
            redis = Redis(timeout=10)
            while True:
                job = redis.call("BLPOP", "celery", "5")
                if job:
                    LOG.line("INFO", f"task done: {job[1][:200]}")
        except OSError as error:
            LOG.line("ERROR", f"broker lost: {error}")
            time.sleep(1)


def main():
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGHUP, LOG.reopen)
    if sys.argv[1:] == ["migrate"]:
        if FAULT == "migration":
            sys.exit("migration failed: column exists already")
        print(ask_database("create table if not exists releases(version text, at timestamptz default now());"
                           f"insert into releases values ('{VERSION}'); select count(*) from releases"))
        return
    if FAULT == "crash" or os.path.exists(CRASH_FILE):
        LOG.line("CRITICAL", "cannot start")
        sys.exit("cannot start: broken by the lab")
    LOG.line("INFO", f"{SYSTEM} {ROLE} {VERSION} started")
    if ROLE == "worker":
        work()
    Server((ENV("LAB_BIND", "0.0.0.0"), int(ENV("PORT", "8000"))), Handler).serve_forever()


if __name__ == "__main__":
    main()
