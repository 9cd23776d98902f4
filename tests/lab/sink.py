#!/usr/bin/env python3
"""Receives what runbook sends, records every message, and misbehaves on request.

One process, standard library only: an SMTP server and an HTTP server with /webhook, /slack,
/dingtalk and /sms. Each message is one JSON line, one write(2), in DIR/CHANNEL.jsonl. With
`--http 0 --smtp 0` the system chooses the ports; the first line on stdout is always
{"http": PORT, "smtp": PORT, "dir": DIR}. README.md has the modes.
"""

import argparse
import base64
import hashlib
import hmac
import json
import os
import signal
import socket
import socketserver
import ssl
import struct
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

CHANNELS = ("smtp", "webhook", "slack", "dingtalk", "sms")
MODES = {
    "ok", "refuse", "hang", "body",  # any channel: reset, black hole, 200 with a web page
    "errcode",  # 200 with an error in the body, as DingTalk and many SMS gateways do
    "stripped-starttls", "reject-auth", "reject-rcpt", "temporary",  # SMTP only
}  # besides: an HTTP status as a number
DINGTALK_ERRORS = {310000: "keywords not in content", 130101: "send too fast, exceed 20 times per minute"}
DINGTALK_SKEW = 3600  # seconds a signature is good for
REPLIES = {
    "webhook": {"ok": True},
    "slack": "ok",
    "dingtalk": {"errcode": 0, "errmsg": "ok"},
    "sms": {"Code": "OK", "Message": "OK"},
}


class Channel:
    """The mode of a channel and its record file."""

    def __init__(self, name, folder):
        self.name, self.path, self.lock = name, os.path.join(folder, f"{name}.jsonl"), threading.Lock()
        self.file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.changed = threading.Event()
        self.set({"mode": "ok"})

    def set(self, settings):
        """`times` limits a mode to that many messages; then the channel is `ok` again."""
        with self.lock:
            self.settings = {"times": None, **settings}
            self.changed.set()
            self.changed = threading.Event()

    def take(self):
        """The settings for one message."""
        with self.lock:
            now = self.settings
            if now["times"] is not None and now["mode"] != "ok":
                left = now["times"] - 1
                self.settings = {**now, "times": left} if left > 0 else {"mode": "ok", "times": None}
            return now, self.changed

    def record(self, message):
        line = json.dumps({"at": round(time.time(), 3), "channel": self.name, **message}, ensure_ascii=False)
        os.write(self.file, line.encode("utf-8", "replace") + b"\n")

    def messages(self):
        with open(self.path, encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def clear(self):
        os.truncate(self.path, 0)


class Sink:
    """What both servers share."""

    def __init__(self, folder, dingtalk_secret, context):
        self.channels = {name: Channel(name, folder) for name in CHANNELS}
        self.dingtalk_secret, self.context = dingtalk_secret, context


def reset(connection):
    """Ends a connection with RST, so that the client cannot take it for an answer."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def signature(secret, timestamp):
    """DingTalk's signature of a millisecond timestamp."""
    digest = hmac.new(secret.encode(), f"{timestamp}\n{secret}".encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def address(text):
    """The address in `FROM:<a@b> SIZE=1`, or the text itself."""
    return text[text.find("<") + 1:text.rfind(">")] if "<" in text else text


class Http(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self):
        url = urlsplit(self.path)
        query = {key: values[-1] for key, values in parse_qs(url.query, keep_blank_values=True).items()}
        name = url.path.strip("/").split("/")[0]
        body = self.body()
        if name.startswith("__"):
            self.admin(name, query, body)
        elif name in REPLIES:
            self.message(self.server.sink.channels[name], url, query, body)
        else:
            self.reply(404, {"error": "no such channel"})

    do_POST = do_PUT = do_GET

    def body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def message(self, channel, url, query, body):
        settings, changed = channel.take()
        mode = settings["mode"]
        status, reply, headers = 200, REPLIES[channel.name], []
        if mode.isdigit():
            status, reply = int(mode), {"error": f"the sink was told to answer {mode}"}
            if status == 429:
                headers = [("Retry-After", str(settings.get("retry_after", 30)))]
        elif mode == "errcode":
            code = settings.get("code", 310000)
            reply = ({"errcode": code, "errmsg": DINGTALK_ERRORS.get(code, "error")} if channel.name == "dingtalk"
                     else {"Code": str(code), "Message": "rejected"})
        elif mode == "body":
            reply = "<html><title>It works</title></html>\n"
        elif channel.name == "dingtalk" and self.server.sink.dingtalk_secret:
            wrong = self.dingtalk_fault(query)
            if wrong:
                mode, reply = "signature", {"errcode": 310000, "errmsg": wrong}
        text = body.decode("utf-8", "replace")
        try:
            data = json.loads(text)
        except ValueError:
            data = None
        accepted = mode == "ok"
        channel.record({"accepted": accepted, "mode": mode, "method": self.command, "path": url.path, "query": query,
                        "headers": dict(self.headers.items()), "body": text, "json": data,
                        "status": None if mode in ("refuse", "hang") else status})
        if mode == "hang":
            changed.wait()
        if mode in ("refuse", "hang"):
            self.close_connection = True
            return reset(self.connection)
        self.reply(status, reply, headers)

    def dingtalk_fault(self, query):
        """Why the signature in the query is wrong, or nothing."""
        stamp, secret = query.get("timestamp", ""), self.server.sink.dingtalk_secret
        if not stamp.isdigit() or abs(time.time() - int(stamp) / 1000) > DINGTALK_SKEW:
            return "invalid timestamp"
        if not hmac.compare_digest(signature(secret, stamp).encode(), query.get("sign", "").encode()):
            return "sign not match"
        return None

    def admin(self, name, query, body):
        channels = self.server.sink.channels
        wanted = query.get("channel")
        if name == "__messages":
            chosen = [channels[wanted]] if wanted in channels else channels.values()
            found = sorted((m for channel in chosen for m in channel.messages()), key=lambda m: m["at"])
            return self.reply(200, found)
        if name == "__clear":
            for channel in channels.values():
                channel.clear()
                channel.set({"mode": "ok"})
            return self.reply(200, {"cleared": True})
        if name == "__mode" and self.command == "GET":
            return self.reply(200, {name: channel.settings for name, channel in channels.items()})
        if name != "__mode":
            return self.reply(404, {"error": "no such command"})
        try:
            settings = json.loads(body)
            settings["mode"] = str(settings["mode"])
            if settings["mode"] not in MODES and not settings["mode"].isdigit():
                raise ValueError(f"no mode {settings['mode']!r}")
            if "secret" in settings:
                self.server.sink.dingtalk_secret = settings.pop("secret")
            target = settings.pop("channel")
            for channel in channels.values() if target == "all" else [channels[target]]:
                channel.set(settings)
        except (ValueError, KeyError, TypeError) as error:
            return self.reply(400, {"error": repr(error)})
        self.reply(200, settings)

    def reply(self, status, body, headers=()):
        text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False) + "\n"
        kind = "application/json" if not isinstance(body, str) else "text/html" if text.startswith("<") else "text/plain"
        raw = text.encode()
        self.send_response(status)
        for key, value in [("Content-Type", f"{kind}; charset=utf-8"), ("Content-Length", str(len(raw))), *headers]:
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_):
        pass


class Smtp(socketserver.StreamRequestHandler):
    """One session. Every session is recorded, delivered or not, with all that came over the wire."""

    timeout = 60

    def handle(self):
        self.channel = self.server.sink.channels["smtp"]
        settings, changed = self.channel.take()
        self.mode, self.tls, self.auth, self.wire, self.delivered = settings["mode"], False, None, [], 0
        self.reset_mail()
        if self.mode in ("refuse", "hang"):
            self.record(False, "")
            if self.mode == "hang":
                changed.wait()
            return reset(self.connection)
        try:
            if self.mode.isdigit():
                return self.say(f"{self.mode} the sink was told to refuse" if int(self.mode) < 600 else "554 no")
            self.say("220 sink.lab ESMTP")
            while self.command():
                pass
        except OSError:
            pass  # the client went away or the handshake failed; the record says how far it came
        finally:
            if not self.delivered:
                self.record(False, "")

    def reset_mail(self):
        self.sender, self.recipients = None, []

    def say(self, *lines):
        out = [f"{line[:3]}-{line[4:]}" for line in lines[:-1]] + [lines[-1]]
        self.wfile.write("".join(f"{line}\r\n" for line in out).encode())

    def line(self):
        raw = self.rfile.readline(65536)
        text = raw.decode("utf-8", "replace").rstrip("\r\n")
        if raw:
            self.wire.append(text)
        return text if raw else None

    def command(self):
        line = self.line()
        if line is None:
            return False
        verb, _, rest = line.partition(" ")
        verb = verb.upper()
        if verb in ("EHLO", "HELO"):
            offer = ["250 sink.lab", "250 8BITMIME", "250 SMTPUTF8"]
            if self.server.sink.context and not self.tls and self.mode != "stripped-starttls":
                offer.append("250 STARTTLS")
            self.say(*offer, "250 AUTH PLAIN LOGIN") if verb == "EHLO" else self.say("250 sink.lab")
        elif verb == "STARTTLS":
            self.starttls()
        elif verb == "AUTH":
            self.authenticate(rest)
        elif verb == "MAIL":
            self.reset_mail()
            self.sender = address(rest)
            self.say("451 try again later" if self.mode == "temporary" else "250 ok")
        elif verb == "RCPT":
            if self.mode == "reject-rcpt":
                self.say("550 no such user")
            else:
                self.recipients.append(address(rest))
                self.say("250 ok")
        elif verb == "DATA":
            self.data()
        elif verb == "RSET":
            self.reset_mail()
            self.say("250 ok")
        elif verb == "NOOP":
            self.say("250 ok")
        elif verb == "QUIT":
            self.say("221 bye")
            return False
        else:
            self.say("502 not known")
        return True

    def starttls(self):
        if not self.server.sink.context or self.tls or self.mode == "stripped-starttls":
            return self.say("502 not known")
        self.say("220 go ahead")
        self.connection = self.server.sink.context.wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb", buffering=0)
        self.tls = True
        self.reset_mail()

    def authenticate(self, rest):
        def decoded(text):
            return base64.b64decode(text + "===").decode("utf-8", "replace")

        kind, _, first = rest.partition(" ")
        try:
            if kind.upper() == "PLAIN":
                if not first:
                    self.say("334 ")
                    first = self.line() or ""
                _, user, password = decoded(first).split("\0")
            elif kind.upper() == "LOGIN":
                if not first:
                    self.say("334 VXNlcm5hbWU6")
                    first = self.line() or ""
                user = decoded(first)
                self.say("334 UGFzc3dvcmQ6")
                password = decoded(self.line() or "")
            else:
                return self.say("504 no such mechanism")
        except ValueError:
            return self.say("501 cannot decode")
        self.auth = {"mechanism": kind.upper(), "user": user, "password": password, "tls": self.tls}
        self.say("535 authentication failed" if self.mode == "reject-auth" else "235 ok")

    def data(self):
        if not self.recipients:
            return self.say("503 no recipients")
        self.say("354 end with a dot")
        lines = []
        while True:
            raw = self.rfile.readline()
            if not raw:
                return self.record(False, b"".join(lines).decode("utf-8", "replace"))
            if raw.rstrip(b"\r\n") == b".":
                break
            lines.append(raw[1:] if raw.startswith(b".") else raw)
        accepted = self.mode != "errcode"
        self.record(accepted, b"".join(lines).decode("utf-8", "replace"))
        self.say("250 queued" if accepted else "554 message rejected")
        self.reset_mail()

    def record(self, accepted, text):
        """The mail is kept as it came in `raw`; `headers` and `body` are split from it and not decoded."""
        self.delivered += 1
        head, _, body = text.partition("\r\n\r\n")
        headers = {}
        for line in head.replace("\r\n ", " ").replace("\r\n\t", " ").split("\r\n"):
            name, colon, value = line.partition(":")
            if colon:
                headers[name] = value.strip()
        self.channel.record({"accepted": accepted, "mode": self.mode, "tls": self.tls, "auth": self.auth, "from": self.sender,
                             "to": self.recipients, "headers": headers, "body": body, "raw": text, "commands": self.wire})


class HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request, address):
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, address)


class SmtpServer(socketserver.ThreadingTCPServer):
    daemon_threads = allow_reuse_address = True
    request_queue_size = 256
    handle_error = HttpServer.handle_error


def main():
    parser = argparse.ArgumentParser(description="A sink for mail, webhooks, DingTalk and SMS.")
    parser.add_argument("--dir", help="where the records go (default: a new temporary directory)")
    parser.add_argument("--http", type=int, default=0, help="HTTP port, 0 = any")
    parser.add_argument("--smtp", type=int, default=0, help="SMTP port, 0 = any")
    parser.add_argument("--cert", help="certificate for STARTTLS; without it STARTTLS is not offered")
    parser.add_argument("--key")
    parser.add_argument("--dingtalk-secret", default="", help="verify DingTalk signatures with this secret")
    options = parser.parse_args()
    folder = options.dir or tempfile.mkdtemp(prefix="runbook-sink-")
    os.makedirs(folder, exist_ok=True)
    context = None
    if options.cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.cert, options.key)
    sink = Sink(folder, options.dingtalk_secret, context)
    http = HttpServer(("127.0.0.1", options.http), Http)
    smtp = SmtpServer(("127.0.0.1", options.smtp), Smtp)
    http.sink = smtp.sink = sink
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    threading.Thread(target=smtp.serve_forever, daemon=True).start()
    print(json.dumps({"http": http.server_address[1], "smtp": smtp.server_address[1], "dir": folder}), flush=True)
    http.serve_forever()


if __name__ == "__main__":
    main()
