"""A name server whose answers change, and listeners that count, in a network of their own.

Runs a command there and prints how many connections came to public and to private addresses.
Started as root of new network and mount namespaces (`unshare --net --mount`): nothing of the machine's
network is seen or touched.
"""

import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading

PUBLIC, PRIVATE = "1.1.1.1", ["127.0.0.1", "10.9.9.9", "169.254.169.254"]
# By the first label of a name: what each question in turn is answered; the last answer stays.
ANSWERS = {
    "rebind": [[PUBLIC], ["127.0.0.1"]],
    "late": [[PUBLIC], [PUBLIC], ["10.9.9.9"]],
    "both": [[PUBLIC, "127.0.0.1"]],
    "bothways": [["127.0.0.1", PUBLIC]],
    "inside": [[PUBLIC, "10.9.9.9"]],
    "metadata": [["169.254.169.254"]],
    "six": [[PUBLIC]],
    "fine": [[PUBLIC]],
}


def answer(question, asked):
    end, labels = 12, []
    while question[end]:
        labels.append(question[end + 1:end + 1 + question[end]].decode().lower())
        end += question[end] + 1
    kind = struct.unpack(">H", question[end + 1:end + 3])[0]
    records = []
    if kind == 1:
        turns = ANSWERS.get(labels[0], [[]])
        turn = asked.get(labels[0], 0)
        asked[labels[0]] = turn + 1
        records = [(1, socket.inet_aton(address)) for address in turns[min(turn, len(turns) - 1)]]
    if kind == 28 and labels[0] == "six":
        records = [(28, socket.inet_pton(socket.AF_INET6, "::1"))]
    head = question[:2] + struct.pack(">HHHHH", 0x8180, 1, len(records), 0, 0)
    body = b"".join(b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 0, len(data)) + data for kind, data in records)
    return head + question[12:end + 5] + body


def names(server, asked):
    while True:
        question, client = server.recvfrom(512)
        server.sendto(answer(question, asked), client)


def count(listener, counts, which):
    while True:
        connection, _ = listener.accept()
        counts[which] += 1
        connection.settimeout(5)
        try:
            connection.recv(4096)
            # One more way to a name that has changed: a redirect to oneself.
            connection.sendall(b"HTTP/1.1 302 Found\r\nlocation: /again\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        except OSError:
            pass
        connection.close()


def main():
    run = lambda *words: subprocess.run(words, check=True)
    run("ip", "link", "set", "lo", "up")
    for address in [PUBLIC, *PRIVATE[1:]]:
        run("ip", "address", "add", f"{address}/32", "dev", "lo")
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as settings, tempfile.NamedTemporaryFile("w", suffix=".conf") as order:
        settings.write("nameserver 127.0.0.1\noptions timeout:2 attempts:1\n")
        settings.flush()
        order.write("hosts: files dns\n")
        order.flush()
        run("mount", "--bind", settings.name, "/etc/resolv.conf")
        run("mount", "--bind", order.name, "/etc/nsswitch.conf")
        asked, counts = {}, {"public": 0, "private": 0}
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind(("127.0.0.1", 53))
        threading.Thread(target=names, args=(server, asked), daemon=True).start()
        for address in [PUBLIC, *PRIVATE, "::1"]:
            listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
            listener.bind((address, 8080))
            listener.listen(64)
            which = "public" if address == PUBLIC else "private"
            threading.Thread(target=count, args=(listener, counts, which), daemon=True).start()
        done = subprocess.run(sys.argv[1:], capture_output=True, text=True, env=os.environ)
        print(json.dumps({"asked": asked, "code": done.returncode, "stdout": done.stdout, "stderr": done.stderr, **counts}))


main()
