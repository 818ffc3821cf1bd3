"""Numbers and packet layouts of the N2xx network protocol; all words are in network byte order.

Control packets are 36 bytes: protocol, id, sequence, and 24 bytes whose meaning depends on the id. Data and context
packets follow VITA-49. Nothing here knows the state of a device.
"""

from __future__ import annotations

import struct

import numpy as np

PROTOCOL = 12
FPGA_COMPATIBILITY = 11 << 16 | 1
FIRMWARE_MINOR = 4
TICK_RATE = 100_000_000

PORT_CONTROL = 49152
PORT_RX = (49156, 49158)
PORT_TX = 49157
PORT_FIFO = 49159
PORT_UART = 49172
STREAM_ID = (3, 4)

CONTROL = struct.Struct(">III24s")
I2C_MAX = 20
REGISTER = struct.Struct(">IIB")
REGISTER_ACTION = {1: 32, 2: 16, 3: 32, 4: 16}  # peeks, then pokes; the value is the width in bits
FIRMWARE_PEEK, FIRMWARE_POKE = 5, 6
ECHO_MAX = 1472

SETTINGS_BASE = 0x7000
READBACK_BASE = 0x5C00

LATE, BROKEN_CHAIN, OVERFLOW = 2, 4, 8
END_OF_BURST = 0x100
TRAILER = 0x00100000
OVERHEAD_WORDS = 5  # header, stream id, two words of time, trailer


def control_reply(kind: bytes, sequence: int, union: bytes = b"") -> bytes:
    """A control packet with the letter ``kind``; ``union`` is filled up with zeros."""
    return CONTROL.pack(PROTOCOL, kind[0], sequence, union)


def data_packets(samples: np.ndarray, per_packet: int, stream: int, first_count: int, ticks: int,
                 ticks_per_sample: int, trailer: int = TRAILER) -> np.ndarray:
    """Whole data packets, one a row, as big-endian words (packets, per_packet + 5).

    ``samples`` are int16 pairs (packets × per_packet, 2); ``ticks`` is the time of the first one.
    """
    packets = len(samples) // per_packet
    words = np.empty((packets, per_packet + OVERHEAD_WORDS), ">u4")
    number = np.arange(packets, dtype=np.uint64)
    words[:, 0] = 0x14100000 | (first_count + number & 15) << 16 | words.shape[1]
    words[:, 1] = stream
    time = np.uint64(ticks) + number * np.uint64(per_packet * ticks_per_sample)
    words[:, 2] = time >> 32
    words[:, 3] = time & 0xFFFFFFFF
    words[:, 4:-1] = samples.astype(">i2").view(">u4").reshape(packets, per_packet)
    words[:, -1] = trailer
    return words


def error_packet(code: int, stream: int, count: int, ticks: int) -> bytes:
    """A context packet that reports an error at a time; it does not take a number of its own."""
    return struct.pack(">IIQI", 0x50100000 | (count & 15) << 16 | 5, stream, ticks, code)


def fifo_command(packet: bytes) -> tuple[int | None, int, int]:
    """Due time in ticks (None: at once), control word and data of a command on the FIFO control port."""
    header = struct.unpack_from(">I", packet, 4)[0]
    timed = bool(header >> 20 & 3)
    due = struct.unpack_from(">Q", packet, 8)[0] if timed else None
    word, data = struct.unpack_from(">II", packet, 16 if timed else 8)
    return due, word, data


def fifo_reply(word: int, data: int) -> bytes:
    return struct.pack(">IIII", 0x50000000 | (word >> 16 & 15) << 16 | 4, 0, word, data)
