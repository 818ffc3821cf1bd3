"""What the Parquet files of this program look like inside: column types, frames, footer."""

from __future__ import annotations

import struct

import pyarrow as pa

from ..contract.schema import COLUMNS, IQ, KINDS
from .part_file import FLOAT32
from .thrift import I64, LIST, STRUCT, Struct, ThriftReader
from .thrift import encode as encode_struct

MAGIC = b"PAR1"
OPENING, FRAME = struct.Struct("<4sII"), struct.Struct("<4sIQII")
OPENING_MAGIC, FRAME_MAGIC = b"EMHD", b"EMRG"
PREFIX = "emind."


def arrow_schema(iq_format: str = FLOAT32) -> pa.Schema:
    """The columns as Arrow types; ``iq`` is a list of [I, Q]."""
    number = pa.field("element", pa.float32() if iq_format == FLOAT32 else pa.int16(), nullable=False)
    pair = pa.field("element", pa.list_(number, 2), nullable=False)
    types = {"samples": pa.list_(pair), "text": pa.dictionary(pa.int32(), pa.string()), "real": pa.float64(),
             "whole": pa.int32()}
    return pa.schema([pa.field(name, types[KINDS[name]], nullable=name != IQ) for name in COLUMNS])


def parse_footer(data: bytes) -> Struct:
    return ThriftReader(data[len(data) - 8 - int.from_bytes(data[-8:-4], "little") :]).struct()


def footer_bytes(template: Struct, groups: list[Struct]) -> bytes:
    """The file's end: where its row groups are."""
    rows = sum(group[3][1] for group in groups)
    footer = encode_struct({**template, 3: (I64, rows), 4: (LIST, (STRUCT, groups))})
    return footer + len(footer).to_bytes(4, "little") + MAGIC
