"""Memory images of the board: who the device is and which daughterboard it carries."""

from __future__ import annotations

import socket

N210_R4 = 0x0A11
MOTHERBOARD, TX_BOARD, RX_BOARD, GDB_BOARD = 0x50, 0x54, 0x55, 0x51
DAUGHTERBOARDS = {"sbx": (0x0054, 0x0055), "basic": (0x0001, 0x0000)}  # identities of receiver and transmitter


def motherboard(address: str, name: str, serial: str) -> bytearray:
    image = bytearray(b"\xff" * 256)
    image[0:2] = N210_R4.to_bytes(2, "little")
    image[2:8] = bytes.fromhex("a0360a000001")
    image[8:12] = bytes([255, 0, 0, 0])
    image[12:16] = socket.inet_aton(address)
    image[18:20] = image[20:22] = (4).to_bytes(2, "little")
    image[23] = 0  # no GPS-disciplined oscillator
    image[24:33] = serial.encode().ljust(9, b"\0")[:9]
    image[33:56] = name.encode().ljust(23, b"\0")[:23]
    image[56:60] = bytes([255, 255, 255, 255])
    return image


def daughterboard(identity: int, serial: str) -> bytearray:
    image = bytearray(256)
    image[0] = 0xDB
    image[1:3] = identity.to_bytes(2, "little")
    image[9:18] = serial.encode().ljust(9, b"\0")[:9]
    image[31] = -sum(image[:31]) & 0xFF
    return image


class I2cBus:
    """The memories on the two-wire bus: the first byte of a write is an address, reads go on from there."""

    def __init__(self, address: str, board: str, name: str, serial: str):
        receiver, transmitter = DAUGHTERBOARDS[board]
        self.images = {
            MOTHERBOARD: motherboard(address, name, serial),
            RX_BOARD: daughterboard(receiver, serial),
            TX_BOARD: daughterboard(transmitter, serial),
            GDB_BOARD: bytearray(b"\xff" * 256),
        }
        self.pointer = dict.fromkeys(self.images, 0)

    def write(self, device: int, data: bytes) -> None:
        if device not in self.images or not data:
            return
        pointer = data[0]
        for value in data[1:]:
            self.images[device][pointer] = value
            pointer = pointer + 1 & 0xFF
        self.pointer[device] = pointer

    def read(self, device: int, count: int) -> bytes:
        if device not in self.images:
            return b"\xff" * count
        start = self.pointer[device]
        self.pointer[device] = start + count & 0xFF
        image = self.images[device]
        return bytes(image[start + k & 0xFF] for k in range(count))
