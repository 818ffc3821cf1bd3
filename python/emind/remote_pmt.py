#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
"""The messages between a flowgraph and its inference hosts, as PMT. docs/hosts.md describes them.

All are PDUs: a dict, and a vector: samples of windows, or the bytes of answers, little-endian numbers one after the
other.
"""

from __future__ import annotations

import json
import math
import struct
from typing import NamedTuple

import numpy as np
import pmt

VERSION = 1

_VERSION = pmt.intern("emind_host")
_KIND = pmt.intern("kind")
_CLIENT = pmt.intern("client")
_SESSION = pmt.intern("session")
_NUMBER = pmt.intern("number")
_COUNT = pmt.intern("count")
_RATES = pmt.intern("rates")
_LENGTH = pmt.intern("length")
_LAYOUT = pmt.intern("layout")
_INFO = pmt.intern("info")
_WINDOWS, _ANSWERS, _HELLO = map(pmt.intern, ("windows", "answers", "hello"))
_HEADER = struct.Struct(">BBIBB")  # of a serialised vector: tag, type, items, bytes of padding, padding
_UNIFORM, _U8, _C32 = 10, 0, 10


class Windows(NamedTuple):
    """A chunk: windows (N, L) complex64 with their rates (N,) in Hz, from a client that counts its chunks."""

    client: int
    number: int
    windows: np.ndarray
    rates_hz: np.ndarray


class Answers(NamedTuple):
    """What a host answered to a client's chunk: for each head an array whose first axis is the window."""

    client: int
    session: int
    number: int
    answers: dict[str, np.ndarray]


class Hello(NamedTuple):
    """A host is there. ``session`` is another one after each start, ``info`` JSON on its engine."""

    session: int
    info: str


def windows_pdu(message: Windows) -> pmt.pmt_base:
    count, length = message.windows.shape
    fields = _fields(_WINDOWS, client=message.client, number=message.number)
    fields = pmt.dict_add(fields, _LENGTH, pmt.from_long(length))
    fields = pmt.dict_add(fields, _RATES, pmt.init_f64vector(count, np.asarray(message.rates_hz, float).tolist()))
    return pmt.cons(fields, _vector(_C32, count * length, np.asarray(message.windows, ">c8").tobytes()))


def answers_pdu(message: Answers) -> pmt.pmt_base:
    arrays = {head: np.ascontiguousarray(rows) for head, rows in message.answers.items()}
    arrays = {head: rows.astype(rows.dtype.newbyteorder("<"), copy=False) for head, rows in arrays.items()}
    # Symbols are never forgotten: the layout says nothing that differs from one message to the next.
    layout = json.dumps([[head, rows.dtype.str, rows.shape[1:]] for head, rows in arrays.items()])
    count = len(next(iter(arrays.values()), ()))
    fields = _fields(_ANSWERS, client=message.client, session=message.session, number=message.number)
    fields = pmt.dict_add(fields, _COUNT, pmt.from_long(count))
    fields = pmt.dict_add(fields, _LAYOUT, pmt.intern(layout))
    return pmt.cons(fields, _bytes(b"".join(rows.tobytes() for rows in arrays.values())))


def hello_pdu(message: Hello) -> pmt.pmt_base:
    fields = pmt.dict_add(_fields(_HELLO, session=message.session), _INFO, pmt.intern(message.info))
    return pmt.cons(fields, _bytes(b""))


def read(message: pmt.pmt_base) -> Windows | Answers | Hello:
    """What came over the network. ValueError for anything that is none of these."""
    if not (pmt.is_pair(message) and pmt.is_dict(pmt.car(message)) and pmt.is_uniform_vector(pmt.cdr(message))):
        raise ValueError("no message of an inference host: not a PDU")
    fields, vector = pmt.car(message), pmt.cdr(message)
    if _whole(fields, _VERSION) != VERSION:
        raise ValueError(f"a message of version {_whole(fields, _VERSION)}; this is {VERSION}")
    kind = pmt.dict_ref(fields, _KIND, pmt.PMT_NIL)
    if pmt.eq(kind, _HELLO):
        return Hello(_whole(fields, _SESSION), _text(fields, _INFO))
    data = pmt.serialize_str(vector)[_HEADER.size :]
    client, number = _whole(fields, _CLIENT), _whole(fields, _NUMBER)
    if pmt.eq(kind, _WINDOWS):
        length, rates = _whole(fields, _LENGTH), pmt.dict_ref(fields, _RATES, pmt.PMT_NIL)
        if not (pmt.is_f64vector(rates) and pmt.is_c32vector(vector)):
            raise ValueError("windows that are not complex samples with their rates")
        rates_hz = np.array(pmt.f64vector_elements(rates))
        if not (len(rates_hz) and length) or pmt.length(vector) != len(rates_hz) * length:
            raise ValueError(f"{pmt.length(vector)} samples are not {len(rates_hz)} windows of {length}")
        windows = np.frombuffer(data, ">c8").astype(np.complex64).reshape(len(rates_hz), length)
        return Windows(client, number, windows, rates_hz)
    if pmt.eq(kind, _ANSWERS) and pmt.is_u8vector(vector):
        layout = _text(fields, _LAYOUT)
        return Answers(client, _whole(fields, _SESSION), number, _arrays(data, _whole(fields, _COUNT), layout))
    raise ValueError("a message of an unknown kind")


def _arrays(data: bytes, count: int, layout: str) -> dict[str, np.ndarray]:
    arrays, place = {}, 0
    for head, dtype, shape in json.loads(layout):
        if dtype not in ("<f4", "<f8", "<c8"):
            raise ValueError(f"answers of type {dtype!r}")
        if not all(isinstance(size, int) and size >= 0 for size in shape):
            raise ValueError(f"answers of shape {shape!r}")
        arrays[head] = np.frombuffer(data, dtype, count * math.prod(shape), place).reshape(count, *shape)
        place += arrays[head].nbytes
    if place != len(data):
        raise ValueError(f"{len(data)} bytes of answers; the layout asks for {place}")
    return arrays


def _fields(kind: pmt.pmt_base, **numbers: int) -> pmt.pmt_base:
    fields = pmt.dict_add(pmt.make_dict(), _VERSION, pmt.from_long(VERSION))
    fields = pmt.dict_add(fields, _KIND, kind)
    for name, number in numbers.items():
        fields = pmt.dict_add(fields, pmt.intern(name), pmt.from_uint64(number))
    return fields


def _whole(fields: pmt.pmt_base, key: pmt.pmt_base) -> int:
    value = pmt.dict_ref(fields, key, pmt.PMT_NIL)
    if not (pmt.is_integer(value) or pmt.is_uint64(value)):
        raise ValueError(f"{pmt.symbol_to_string(key)} is missing")
    number = int(pmt.to_python(value))
    if number < 0:
        raise ValueError(f"{pmt.symbol_to_string(key)} is {number}")
    return number


def _text(fields: pmt.pmt_base, key: pmt.pmt_base) -> str:
    value = pmt.dict_ref(fields, key, pmt.PMT_NIL)
    if not pmt.is_symbol(value):
        raise ValueError(f"{pmt.symbol_to_string(key)} is missing")
    return pmt.symbol_to_string(value)


def _bytes(data: bytes) -> pmt.pmt_base:
    return _vector(_U8, len(data), data)


def _vector(kind: int, items: int, data: bytes) -> pmt.pmt_base:
    """A vector of numbers, big-endian in ``data``. Made by way of its serialised form: the constructors take lists, and
    are a thousand times slower."""
    return pmt.deserialize_str(_HEADER.pack(_UNIFORM, kind, items, 1, 0) + data)
