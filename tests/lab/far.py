#!/usr/bin/env python3
"""A host that is far away: what is sent to it is answered late, and every so often not at all.

far.py INTERFACE OWN-ADDRESS ITS-ADDRESS MILLISECONDS EVERY makes a tunnel to it, says `ready`, and takes the
tunnel away when its standard input ends. It answers echoes, and refuses every connection."""

import fcntl
import os
import struct
import subprocess
import sys
import threading

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
ICMP, TCP, SYN, RST_ACK = 1, 6, 0x02, 0x14


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


def echo(body):
    """The answer to an ICMP echo, or nothing."""
    if body[0] != 8:
        return None
    answer = b"\0\0\0\0" + body[4:]
    return answer[:2] + checksum(answer) + answer[4:]


def refusal(body, source, target):
    """The answer to the first packet of a connection, or nothing."""
    from_port, to_port, sequence, _, _, flags = struct.unpack("!HHIIBB", body[:14])
    if not flags & SYN:
        return None
    answer = struct.pack("!HHIIBBHHH", to_port, from_port, 0, sequence + 1 & 0xFFFFFFFF, 5 << 4, RST_ACK, 0, 0, 0)
    return answer[:16] + checksum(target + source + struct.pack("!BBH", 0, TCP, len(answer)) + answer) + answer[18:]


def answer_to(packet):
    if packet[0] >> 4 != 4:
        return None
    header, protocol, source, target = (packet[0] & 15) * 4, packet[9], packet[12:16], packet[16:20]
    body = packet[header:]
    if protocol == ICMP:
        body = echo(body)
    elif protocol == TCP:
        body = refusal(body, source, target)
    else:
        body = None
    if body is None:
        return None
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 0, 0, 64, protocol, 0, target, source)
    return head[:10] + checksum(head) + head[12:] + body


def main(interface, own, its, milliseconds, every):
    tunnel = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tunnel, TUNSETIFF, struct.pack("16sH", interface.encode(), IFF_TUN | IFF_NO_PI))
    subprocess.run(["ip", "address", "add", own, "peer", its, "dev", interface], check=True)
    subprocess.run(["ip", "link", "set", interface, "up"], check=True)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    print("ready", flush=True)
    asked = 0
    while True:
        answer = answer_to(os.read(tunnel, 65536))
        if answer is None:
            continue
        asked += 1
        if asked % int(every):
            threading.Timer(int(milliseconds) / 1000, os.write, (tunnel, answer)).start()


main(*sys.argv[1:])
