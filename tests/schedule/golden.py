"""Writes golden.txt: when Debian's cron would run each line, minute by minute.

An independent reading of cron(8) and crontab(5), as slow and as plain as possible; it shares nothing with the
program. For each minute of real time it looks at the clocks of the zone. A job with a `*` in its minute or hour runs
whenever the clocks match. Any other runs at the first instant after a gap that the clocks jumped over, and in a fold
only when the clocks show its time for the first time.

    python3 tests/schedule/golden.py > tests/schedule/golden.txt
"""

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

NEW_YORK, BERLIN, LORD_HOWE = "America/New_York", "Europe/Berlin", "Australia/Lord_Howe"
SANTIAGO, KOLKATA, UTC = "America/Santiago", "Asia/Kolkata", "UTC"

# Zone, first moment after which it is looked at (UTC), rule.
LINES = [
    # What fields mean.
    (UTC, "2026-01-01T00:00", "* * * * *"),
    (UTC, "2026-01-01T00:00", "*/5 * * * *"),
    (UTC, "2026-01-01T00:00", "*/7 * * * *"),
    (UTC, "2026-01-01T00:00", "0 * * * *"),
    (UTC, "2026-01-01T00:00", "59 23 * * *"),
    (UTC, "2026-01-01T00:00", "0 0 * * *"),
    (UTC, "2026-01-01T00:00", "5,10,55 * * * *"),
    (UTC, "2026-01-01T00:00", "10-20 3 * * *"),
    (UTC, "2026-01-01T00:00", "10-30/10 3,4 * * *"),
    (UTC, "2026-01-01T00:00", "0 9-17 * * *"),
    (UTC, "2026-01-01T00:00", "0 9-17/4 * * *"),
    (UTC, "2026-01-01T00:00", "0 */6 * * *"),
    (UTC, "2026-01-01T00:00", "15 1,13 * * *"),
    (UTC, "2026-01-01T00:00", "0-59/20 6-8/2 * * *"),
    (UTC, "2026-01-01T00:00", "1-3,7,50-59/3 12 * * *"),
    # Days of the week.
    (UTC, "2026-01-01T00:00", "0 9 * * 0"),
    (UTC, "2026-01-01T00:00", "0 9 * * 7"),
    (UTC, "2026-01-01T00:00", "0 9 * * SUN"),
    (UTC, "2026-01-01T00:00", "0 9 * * sun"),
    (UTC, "2026-01-01T00:00", "0 9 * * 1"),
    (UTC, "2026-01-01T00:00", "0 9 * * 1-5"),
    (UTC, "2026-01-01T00:00", "0 9 * * MON-FRI"),
    (UTC, "2026-01-01T00:00", "0 9 * * 5-7"),
    (UTC, "2026-01-01T00:00", "0 9 * * 0-7"),
    (UTC, "2026-01-01T00:00", "0 9 * * 0,6"),
    (UTC, "2026-01-01T00:00", "0 9 * * 6,7"),
    (UTC, "2026-01-01T00:00", "0 9 * * tue,Thu"),
    (UTC, "2026-01-01T00:00", "0 9 * * 1-5/2"),
    (UTC, "2026-01-01T00:00", "0 9 * * */2"),
    # Days of the month and months.
    (UTC, "2026-01-01T00:00", "0 0 1 * *"),
    (UTC, "2026-01-01T00:00", "0 0 31 * *"),
    (UTC, "2026-01-01T00:00", "0 0 29 2 *"),
    (UTC, "2026-01-01T00:00", "0 0 28-31 2 *"),
    (UTC, "2026-01-01T00:00", "30 4 1,15 * *"),
    (UTC, "2026-01-01T00:00", "0 0 1 1 *"),
    (UTC, "2026-01-01T00:00", "0 0 1 JAN,JUL *"),
    (UTC, "2026-01-01T00:00", "0 0 1 mar-may *"),
    (UTC, "2026-01-01T00:00", "0 0 1 */3 *"),
    (UTC, "2026-01-01T00:00", "0 12 */10 * *"),
    (UTC, "2026-01-01T00:00", "0 12 1-31/10 6 *"),
    # Either day.
    (UTC, "2026-01-01T00:00", "30 4 1,15 * 5"),
    (UTC, "2026-01-01T00:00", "0 0 13 * FRI"),
    (UTC, "2026-01-01T00:00", "0 0 1 * 0-6"),
    (UTC, "2026-01-01T00:00", "0 0 1-31 * MON"),
    (UTC, "2026-01-01T00:00", "0 0 31 2 MON"),
    (UTC, "2026-01-01T00:00", "0 0 1-7 * */7"),
    (UTC, "2026-01-01T00:00", "0 0 */2 * 1"),
    (UTC, "2026-01-01T00:00", "0 0 * 2 1"),
    (UTC, "2026-01-01T00:00", "0 0 29 2 1"),
    # Names.
    (UTC, "2026-01-01T00:00", "@hourly"),
    (UTC, "2026-01-01T00:00", "@daily"),
    (UTC, "2026-01-01T00:00", "@midnight"),
    (UTC, "2026-01-01T00:00", "@weekly"),
    (UTC, "2026-01-01T00:00", "@monthly"),
    (UTC, "2026-01-01T00:00", "@yearly"),
    (UTC, "2026-01-01T00:00", "@annually"),
    # Clocks put forward.
    (NEW_YORK, "2026-03-07T12:00", "30 2 * * *"),
    (NEW_YORK, "2026-03-07T12:00", "30 2 * * SUN"),
    (NEW_YORK, "2026-03-07T12:00", "0,30 2 * * *"),
    (NEW_YORK, "2026-03-07T12:00", "0 3 * * *"),
    (NEW_YORK, "2026-03-07T12:00", "0 2,3 * * *"),
    (NEW_YORK, "2026-03-08T04:00", "0 * * * *"),
    (NEW_YORK, "2026-03-08T04:00", "*/30 * * * *"),
    (BERLIN, "2026-03-28T12:00", "30 2 * * *"),
    (BERLIN, "2026-03-28T22:00", "*/20 * * * *"),
    (BERLIN, "2026-03-28T12:00", "*/20 2 * * *"),
    (LORD_HOWE, "2026-10-03T00:00", "15 2 * * *"),
    (LORD_HOWE, "2026-10-03T12:00", "*/10 * * * *"),
    (SANTIAGO, "2026-09-04T12:00", "0 0 * * *"),
    (SANTIAGO, "2026-09-04T12:00", "@daily"),
    (SANTIAGO, "2026-09-06T00:00", "30 * * * *"),
    # Clocks put back.
    (NEW_YORK, "2026-10-31T12:00", "30 1 * * *"),
    (NEW_YORK, "2026-10-31T12:00", "0 1,2 * * *"),
    (NEW_YORK, "2026-11-01T04:30", "0 * * * *"),
    (NEW_YORK, "2026-11-01T04:30", "*/30 * * * *"),
    (NEW_YORK, "2026-11-01T06:10", "30 1 * * *"),
    (BERLIN, "2026-10-24T12:00", "30 2 * * *"),
    (BERLIN, "2026-10-24T22:00", "15,45 * * * *"),
    (LORD_HOWE, "2026-04-04T00:00", "45 1 * * *"),
    (LORD_HOWE, "2026-04-04T12:00", "*/10 * * * *"),
    (SANTIAGO, "2026-04-04T00:00", "30 23 * * *"),
    (SANTIAGO, "2026-04-05T00:00", "0 * * * *"),
    # Half hours.
    (KOLKATA, "2026-01-01T00:00", "0 9 * * 1-5"),
    (KOLKATA, "2026-01-01T00:00", "*/15 * * * *"),
    (KOLKATA, "2026-01-01T00:00", "0 0 1 * *"),
]

NAMES = {
    "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
}
MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
DAYS = "sun mon tue wed thu fri sat".split()
MINUTE = timedelta(minutes=1)


def values(text, low, high, names=(), base=0):
    def value(word):
        return names.index(word.lower()) + base if word.lower() in names else int(word)

    found = set()
    for item in text.split(","):
        span, _, step = item.partition("/")
        first, _, last = span.partition("-")
        if span == "*":
            first, last = low, high
        else:
            first, last = value(first), value(last or first)
        found.update(range(first, last + 1, int(step or 1)))
    return found


class Rule:
    def __init__(self, text):
        minute, hour, day, month, weekday = NAMES.get(text, text).split()
        self.minutes, self.hours = values(minute, 0, 59), values(hour, 0, 23)
        self.days, self.months = values(day, 1, 31), values(month, 1, 12, MONTHS, 1)
        self.weekdays = {number % 7 for number in values(weekday, 0, 7, DAYS)}
        self.follows_the_clock = minute[0] == "*" or hour[0] == "*"
        self.both_days = day[0] == "*" or weekday[0] == "*"

    def matches(self, clock):
        if clock.minute not in self.minutes or clock.hour not in self.hours or clock.month not in self.months:
            return False
        day, weekday = clock.day in self.days, clock.isoweekday() % 7 in self.weekdays
        return (day and weekday) if self.both_days else (day or weekday)


def fires(zone, start, rule, count):
    zone, now = ZoneInfo(zone), datetime.fromisoformat(start).replace(tzinfo=timezone.utc)
    clock = now.astimezone(zone)
    # What the clocks have shown up to here.
    shown = max((now - back * MINUTE).astimezone(zone).replace(tzinfo=None) for back in range(0, 181))
    while count:
        now += MINUTE
        clock = now.astimezone(zone).replace(tzinfo=None, fold=0)
        if rule.follows_the_clock:
            due = rule.matches(clock)
        elif clock <= shown:
            due = False
        else:
            due = False
            while shown < clock:
                shown += MINUTE
                due = due or rule.matches(shown)
        shown = max(shown, clock)
        if due:
            count -= 1
            yield now.strftime("%Y-%m-%dT%H:%MZ")
        elif now.year > 2080:
            return


def main():
    for zone, start, rule in LINES:
        # A day of a leap year comes seldom, and minutes are many.
        count = 3 if rule == "0 0 29 2 *" else 20
        print(zone, start + "Z", rule, *fires(zone, start, Rule(rule), count), sep=" | ")


main()
