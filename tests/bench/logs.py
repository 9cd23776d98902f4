"""Writes an access log and an application log of a given size, always the same ones.

    python3 tests/bench/logs.py DIRECTORY [MEBIBYTES] [DAYS]

`access.log` is nginx's combined format with the request time, `app.log` is Python logging with requests,
levels and tracebacks. Both end at 2026-11-21 12:00:00 UTC and cover DAYS (default 1) evenly. About 4 MiB
of distinct lines are made and repeated with new times, as fast as the disk is.
"""

import os
import random
import sys
import time

END = 1795262400  # 2026-11-21 12:00:00 UTC
AGENTS = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1",
    "python-requests/2.32.3",
    "kube-probe/1.31",
]
PATHS = ["/api/v1/health", "/api/v1/users/{id}", "/api/v1/users/{id}/notes?page={page}", "/api/v1/models", "/login", "/static/app.js", "/"]
STATUSES = [200] * 90 + [304] * 4 + [404] * 3 + [401, 500, 502]
LEVELS = ["INFO"] * 80 + ["DEBUG"] * 12 + ["WARNING"] * 5 + ["ERROR"] * 3
ERRORS = [
    "ValueError: invalid literal for int() with base 10: 'x{page}'",
    "sqlalchemy.exc.OperationalError: (psycopg2.OperationalError) connection to server lost",
    "could not deliver message {id} to '{page}@example.com'",
]


def access(source):
    address = f"10.{source.randrange(4)}.{source.randrange(256)}.{source.randrange(1, 255)}"
    if source.random() < 0.05:
        address = f"2001:db8::{source.randrange(65536):x}"
    path = source.choice(PATHS).format(id=source.randrange(100000), page=source.randrange(50))
    took = source.lognormvariate(-3.5, 1.0)
    return (
        f'{address} - - [',
        f' +0000] "{source.choice(["GET", "GET", "GET", "POST"])} {path} HTTP/1.1" {source.choice(STATUSES)} '
        f'{source.randrange(100, 90000)} "https://example.com/" "{source.choice(AGENTS)}" {took:.3f}\n',
    )


def app(source):
    level = source.choice(LEVELS)
    head = f",{source.randrange(1000):03} - app.{source.choice(['api', 'db', 'worker.tasks'])} - {level} - "
    if level == "ERROR":
        text = source.choice(ERRORS).format(id=source.randrange(100000), page=source.randrange(50))
        return "", f"{head}{text}\n"
    if source.random() < 0.5:
        path = source.choice(PATHS).format(id=source.randrange(100000), page=source.randrange(50))
        return "", f'{head}10.0.0.{source.randrange(1, 255)}:5{source.randrange(1000):03} - "GET {path} HTTP/1.1" {source.choice(STATUSES)} OK {source.randrange(1, 900)}ms\n'
    return "", f"{head}task {source.randrange(10**6)} of queue default done in {source.random():.3f} seconds, {source.randrange(100)} left\n"


def write(path, line, stamp, size, days):
    source = random.Random(7)
    lines = [line(source) for _ in range(30000)]
    length = sum(len(before) + len(after) + 20 for before, after in lines)
    rounds = max(1, round(size / length))
    step = days * 86400 / (rounds * len(lines))
    with open(path, "wb", buffering=1 << 20) as file:
        for turn in range(rounds):
            first = END - days * 86400 + turn * len(lines) * step
            stamps = {}
            text = []
            for number, (before, after) in enumerate(lines):
                second = int(first + number * step)
                when = stamps.get(second) or stamps.setdefault(second, time.strftime(stamp, time.gmtime(second)))
                text.append(f"{before}{when}{after}")
            file.write("".join(text).encode())


def main():
    directory = sys.argv[1]
    size = int(sys.argv[2] if len(sys.argv) > 2 else 1024) << 20
    days = float(sys.argv[3] if len(sys.argv) > 3 else 1)
    write(os.path.join(directory, "access.log"), access, "%d/%b/%Y:%H:%M:%S", size, days)
    write(os.path.join(directory, "app.log"), app, "%Y-%m-%d %H:%M:%S", size, days)


main()
