"""Thrift's compact protocol, as far as Parquet's page headers and footers need it.

A struct is a dict {field number: (type, value)}, a list is (type of its elements, [values]). What is read is written
back byte for byte alike, fields that this program knows nothing of included.
"""

from __future__ import annotations

import struct
from typing import Any

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)

Struct = dict[int, tuple[int, Any]]


class ThriftReader:
    """Reads from ``data`` at ``position``. ValueError where the bytes make no sense."""

    def __init__(self, data: bytes | memoryview, position: int = 0) -> None:
        self.data, self.position = data, position

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._take(1)[0]
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a number is too long")

    def struct(self) -> Struct:
        fields: Struct = {}
        last = 0
        while True:
            head = self._take(1)[0]
            if head == 0:
                return fields
            kind = head & 0x0F
            last = last + (head >> 4) if head >> 4 else _unzigzag(self.varint())
            fields[last] = (kind, kind == TRUE if kind in (TRUE, FALSE) else self._value(kind))

    def _value(self, kind: int) -> Any:
        if kind in (I16, I32, I64):
            return _unzigzag(self.varint())
        if kind == BINARY:
            return bytes(self._take(self.varint()))
        if kind == STRUCT:
            return self.struct()
        if kind in (LIST, SET):
            head = self._take(1)[0]
            count = head >> 4 if head >> 4 < 15 else self.varint()
            if count > len(self.data):
                raise ValueError("a list is longer than the file")
            return head & 0x0F, [self._value(head & 0x0F) for _ in range(count)]
        if kind in (BYTE, TRUE, FALSE):  # a bool in a list is a byte
            return self._take(1)[0]
        if kind == DOUBLE:
            return struct.unpack("<d", self._take(8))[0]
        raise ValueError(f"a field of type {kind}")

    def _take(self, count: int) -> bytes | memoryview:
        part = self.data[self.position : self.position + count]
        if len(part) < count:
            raise ValueError("it ends too early")
        self.position += count
        return part


def encode(fields: Struct) -> bytes:
    """The bytes of a struct."""
    out = bytearray()
    _put_struct(out, fields)
    return bytes(out)


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _put_struct(out: bytearray, fields: Struct) -> None:
    last = 0
    for number in sorted(fields):
        kind, value = fields[number]
        if kind in (TRUE, FALSE):
            kind = TRUE if value else FALSE
        step = number - last
        if 0 < step <= 15:
            out.append(step << 4 | kind)
        else:
            out.append(kind)
            out += varint(_zigzag(number))
        last = number
        if kind not in (TRUE, FALSE):
            _put(out, kind, value)
    out.append(0)


def _put(out: bytearray, kind: int, value: Any) -> None:
    if kind in (I16, I32, I64):
        out += varint(_zigzag(value))
    elif kind == BINARY:
        out += varint(len(value))
        out += value
    elif kind == STRUCT:
        _put_struct(out, value)
    elif kind in (LIST, SET):
        element, values = value
        if len(values) < 15:
            out.append(len(values) << 4 | element)
        else:
            out.append(0xF0 | element)
            out += varint(len(values))
        for one in values:
            _put(out, element, one)
    elif kind == DOUBLE:
        out += struct.pack("<d", value)
    else:
        out.append(value)


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


def _unzigzag(value: int) -> int:
    return value >> 1 ^ -(value & 1)
