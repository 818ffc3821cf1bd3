"""Whether another program has an N2x0 open. UHD 4.3 marks such a device as taken, and never looks at the mark.

While it holds the device it writes the device's time to firmware register 0 every 1.5 s, and zero when it lets go; a
program that was killed leaves its last mark there. So a mark counts once it is seen to be renewed. The driver's search
for devices (`uhd.find`) writes zero as well, whoever has the device: behind it zero says nothing until a mark would have
come again.
"""

from __future__ import annotations

import socket
import struct
import time

CONTROL_PORT = 49152
CONTROL = struct.Struct(">III24s")  # protocol, id, sequence, union
PROTOCOL = 12
FIRMWARE_PEEK = 5
MARK = 0  # firmware register
RENEWED_WITHIN_S = 3.2  # twice UHD's interval
AGAIN_WITHIN_S = 2.0  # more than one of them
ASK_EVERY_S = 0.2


def taken(address: str, within: float = RENEWED_WITHIN_S, searched: bool = False) -> bool:
    """Whether a program renews its mark on the device at ``address``. False too where nothing answers.

    ``searched``: the driver has just searched for the device.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        try:
            link.connect((address, CONTROL_PORT))
            first, number, end = None, 1, time.monotonic() + within
            while time.monotonic() < end:
                now = _mark(link, number)  # waits; a device that streams to a busy computer may be slow to answer
                if first is None:
                    if now is not None:
                        first, end = now, time.monotonic() + (within if now else AGAIN_WITHIN_S)
                    if now == 0 and not searched:
                        break
                elif now is not None and now != first:
                    return now != 0
                number += 1
                time.sleep(ASK_EVERY_S)
        except OSError:
            pass
    return False


def _mark(link: socket.socket, number: int) -> int | None:
    """The mark, None where no answer came; ``number`` tells one question's answer from another's."""
    union = struct.pack(">IIB", MARK, 0, FIRMWARE_PEEK)
    end = time.monotonic() + 1.0
    link.send(CONTROL.pack(PROTOCOL, ord("r"), number, union))
    while (left := end - time.monotonic()) > 0:
        link.settimeout(left)
        try:
            reply = link.recv(2048)
        except TimeoutError:
            break
        if len(reply) >= 20:
            _, kind, sequence = struct.unpack_from(">III", reply)
            if (kind, sequence) == (ord("R"), number):
                return struct.unpack_from(">I", reply, 16)[0]
    return None


def address_of(found: list[dict]) -> str | None:
    """Where to ask, from what the driver found: the first device's address if it is of this series."""
    return found[0].get("addr") if found and found[0].get("type") == "usrp2" else None
