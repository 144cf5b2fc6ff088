"""Runs a command without a network, beside a name server that notes what is asked. Started by ``unshare -rnm``.

    offline_box.py FOLDER COMMAND...

Writes FOLDER/looked-up.json and ends with the command's exit code.
"""

from __future__ import annotations

import fcntl
import json
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

SIOCSIFFLAGS, IFF_UP = 0x8914, 1  # linux/sockios.h, linux/if.h


def name_in(query: bytes) -> str:
    """The name that a DNS query asks for."""
    labels, place = [], 12
    while query[place]:
        labels.append(query[place + 1 : place + 1 + query[place]].decode("ascii", "replace"))
        place += 1 + query[place]
    return ".".join(labels)


def serve(server: socket.socket, names: list[str]) -> None:
    """Note each query and refuse it, so that nobody waits."""
    while True:
        query, sender = server.recvfrom(4096)
        names.append(name_in(query))
        server.sendto(query[:2] + b"\x81\x83" + query[4:], sender)  # no such name


def main(folder: Path, command: list[str]) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))
    resolver = folder / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    place = Path("/etc/resolv.conf").resolve()
    subprocess.run(["mount", "--bind", str(resolver), str(place)], check=True)
    names: list[str] = []
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))
    threading.Thread(target=serve, args=(server, names), daemon=True).start()
    code = subprocess.run(command).returncode
    (folder / "looked-up.json").write_text(json.dumps(names))
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
