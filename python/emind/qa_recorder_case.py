#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
"""What the tests of the recorder share: streams with tags, and the block after it has recorded one."""

import tempfile
from pathlib import Path

import numpy as np
import pmt
from gnuradio import blocks, gr, gr_unittest

if __package__:  # collected by pytest from the source tree
    from . import recorder
    from .qa_chain import make_tag
    from .storage.parquet import Reader
else:  # run by ctest on the module that was built
    from gnuradio.emind import recorder
    from gnuradio.emind.storage.parquet import Reader
    from qa_chain import make_tag

__all__ = ["Recorded", "answer", "bursts", "make_tag", "ramp", "samples_of"]


def answer(label, length):
    value = pmt.dict_add(pmt.make_dict(), pmt.intern("label"), pmt.intern(label))
    value = pmt.dict_add(value, pmt.intern("confidence"), pmt.from_double(0.9))
    return pmt.dict_add(value, pmt.intern("length"), pmt.from_long(length))


def ramp(count):
    return (np.arange(1, count + 1) + 1j).astype(np.complex64)


def bursts(count, places):
    """Noise with a tone 30 dB above it at these places."""
    rng = np.random.default_rng(2)
    x = 0.003 * (rng.standard_normal((count, 2)) @ [1, 1j])
    for start, stop in places:
        x[start:stop] += 0.1 * np.exp(0.3j * np.arange(stop - start))
    return x.astype(np.complex64)


def samples_of(rows):
    return np.concatenate([row.iq for row in rows])


class Recorded(gr_unittest.TestCase):
    """Tests with a folder of their own, in which recordings are called ``base``."""

    def setUp(self):
        self._folder = tempfile.TemporaryDirectory()
        self.base = Path(self._folder.name) / "take"

    def tearDown(self):
        self._folder.cleanup()

    def record(self, samples, stream_tags=(), pieces=10_000_000, **parameters):
        """The block after it has recorded, ``pieces`` samples at a time, and the rows of its Parquet files."""
        block = recorder(str(self.base), **{"policy": "lossless", "length": 64, **parameters})
        tb = gr.top_block()
        tb.connect(blocks.vector_source_c(samples.tolist(), False, 1, list(stream_tags)), block)
        tb.run(pieces)
        return block, self.rows()

    def rows(self):
        return [row for file in sorted(self.base.parent.glob("*.parquet")) for row in Reader(file)]
