#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
"""Messages to a running block for other weights: their name, or a class to enrol in them or to take away."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pmt

from .contract import tags
from .contract.errors import EMindError

_WEIGHTS = pmt.intern(tags.PORT_WEIGHTS)
MOST = 200  # windows of a file, spread evenly
KEYS = {"enrol", "remove", "recording", "windows", "rate", "head", "save"}


@dataclass(frozen=True, eq=False)
class EnrolRequest:
    """The class ``name`` for ``head``, from a file of rows or from samples; ``save``: where the new weights go."""

    name: str
    save: str
    head: str = "modulation"
    remove: bool = False
    recording: str = ""
    samples: np.ndarray | None = None
    rate: float = math.nan

    def __str__(self) -> str:
        return f"with {self.name!r} {'taken away' if self.remove else 'enrolled'}"

    def carried_out(self, weights: str, backend: str) -> tuple[str, list[str]]:
        """Path of the new weights, made from those named, and what is to be said of the class."""
        from .runtime.enrolling import enrol, load, remove, save

        _, model, window, header = load(weights)
        if self.remove:
            remove(model, header, self.name, self.head)
            said = [f"{self.name} is no longer enrolled in head {self.head}"]
        else:
            report = enrol(model, window, header, self.name, *self._windows(window.length), self.head, backend)
            said = [f"{self.name} enrolled in head {self.head} from {report.windows} windows, "
                    f"{report.recognised:.0%} of them recognised by the others", *report.remarks]
        save(self.save, model, window, header)
        return self.save, said

    def _windows(self, length: int) -> tuple[np.ndarray, np.ndarray]:
        from .dsp.cutting import rows_to_take, windows_of, windows_of_rows

        if self.samples is not None:
            windows = windows_of(self.samples, length)
            windows = windows[np.isfinite(windows).all(axis=1) & windows.any(axis=1)][:MOST]
            return windows, np.full(len(windows), self.rate)
        from .storage.parquet import Reader  # pyarrow comes in here

        with Reader(self.recording) as rows:
            chosen = rows_to_take(rows.columns(["snr"])["snr"], MOST)
            windows, rates = windows_of_rows((rows[row] for row in chosen.tolist()), length)
        return windows[:MOST], rates[:MOST]


def read_weights(message: pmt.pmt_base) -> str | EnrolRequest:
    """Name or path of the weights asked for, or what to make them of. EMindError for what cannot be obeyed.

    A symbol, or a pair or dict that has one under ``weights``; or a dict as :func:`read_enrol` reads it.
    """
    request = read_enrol(message)
    if request is not None:
        return request
    if pmt.is_dict(message) and pmt.dict_has_key(message, _WEIGHTS):
        message = pmt.dict_ref(message, _WEIGHTS, pmt.PMT_NIL)
    elif pmt.is_pair(message) and pmt.equal(pmt.car(message), _WEIGHTS):
        message = pmt.cdr(message)
    if not pmt.is_symbol(message):
        raise EMindError(f"a message to change the weights is their name or path, not {message}")
    return pmt.symbol_to_string(message)


def read_enrol(message: pmt.pmt_base) -> EnrolRequest | None:
    """What a message asks for; None where it is about something else. EMindError for one that cannot be obeyed.

    A dict: ``enrol`` or ``remove`` (the name), ``save`` (path), ``recording`` (path of a .parquet file) or ``windows``
    (complex samples, with ``rate`` in Hz), ``head`` if it is another than `modulation`.
    """
    try:
        fields = pmt.to_python(message) if pmt.is_dict(message) else None
    except (ValueError, TypeError, RuntimeError):
        return None
    if not isinstance(fields, dict) or not {"enrol", "remove"} & set(fields):
        return None
    unknown = set(fields) - KEYS
    remove = "remove" in fields
    name = fields["remove"] if remove else fields["enrol"]
    if unknown or not isinstance(name, str) or not isinstance(fields.get("save"), str):
        raise EMindError("a message to enrol has 'enrol' or 'remove' (a name), 'save' (path of the new weights), "
                         "'recording' (a .parquet file) or 'windows' (samples) with 'rate', and perhaps 'head'"
                         + (f", not {', '.join(map(str, unknown))}" if unknown else ""))
    samples = fields.get("windows")
    if not remove and (samples is None) == ("recording" not in fields):
        raise EMindError(f"a message to enrol {name!r} needs either 'recording' or 'windows'")
    try:
        samples = None if samples is None else np.asarray(samples, np.complex64).ravel()
        rate = float(fields.get("rate", math.nan))
    except (ValueError, TypeError):
        raise EMindError(f"a message to enrol {name!r}: 'windows' are complex samples, 'rate' is a number in Hz") from None
    return EnrolRequest(name, fields["save"], str(fields.get("head", "modulation")), remove,
                        str(fields.get("recording", "")), samples, rate)
