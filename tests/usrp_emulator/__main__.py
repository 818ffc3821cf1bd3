"""Run the emulator: ``python -m tests.usrp_emulator [--source ...]``; requests come as JSON lines on standard input."""

from __future__ import annotations

import argparse
import fcntl
import os
import sys
import tempfile
from pathlib import Path
from typing import IO

if not __package__:  # run as `python tests/usrp_emulator`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = "usrp_emulator"
    import usrp_emulator  # noqa: F401

from .eeprom import DAUGHTERBOARDS
from .server import Server
from .sources import named

DEFAULT_SCENE = ('scene:{"emitters": [{"frequency": 433.92e6, "kind": "2fsk", "on": 0.02, "off": 0.03}, '
                 '{"frequency": 434.2e6, "kind": "qpsk"}, {"frequency": 868.3e6, "kind": "bpsk"}]}')


def lock(address: str) -> IO[str]:
    """The ports are fixed: wait until no other emulator of this user stands at this address."""
    file = open(Path(tempfile.gettempdir()) / f"usrp-emulator-{os.getuid()}-{address}.lock", "w")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="usrp_emulator", description="A network USRP N210 on a loopback address, for the unmodified UHD.",
        epilog="Example: python -m tests.usrp_emulator --source recording.cf32, then in another terminal "
               "uhd_usrp_probe --args type=usrp2,addr=127.0.0.1. Without a terminal it ends when standard input ends.")
    parser.add_argument("--source", default=DEFAULT_SCENE,
                        help="counter, scene:{json}, module:function or a file (.npy, or raw complex64); "
                             "default: three signals near 434 and 868 MHz")
    parser.add_argument("--address", default="127.0.0.1", help="loopback address to stand at (default %(default)s)")
    parser.add_argument("--board", choices=DAUGHTERBOARDS, default="sbx", help="daughterboard (default %(default)s)")
    parser.add_argument("--name", default="emulated")
    parser.add_argument("--serial", default="E0000001")
    parser.add_argument("--never-wait", action="store_true",
                        help="send at the set rate even if the receiver's queue is full, as the real device does")
    options = parser.parse_args()
    held = lock(options.address)
    try:
        source = named(options.source)
        server = Server(source, options.address, not options.never_wait, board=options.board, name=options.name,
                        serial=options.serial)
    except (OSError, ValueError, AttributeError, ImportError) as error:
        print(f"usrp_emulator: {error}", file=sys.stderr)
        return 1
    print('{"ready": true}', flush=True)
    try:
        server.run(sys.stdin.buffer, sys.stdout)
    except KeyboardInterrupt:
        pass
    finally:
        server.close()
        held.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
