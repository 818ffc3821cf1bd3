#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
"""Other weights for a running block, asked for by a message or by a call."""

from __future__ import annotations

from collections.abc import Callable

import pmt

from .contract import tags
from .contract.errors import EMindError
from .runtime.changing import Changer
from .weights_pmt import EnrolRequest, read_weights


class WeightsPort:
    """The input port `weights` of a block, and what has become of the newest request.

    Parameters
    ----------
    block: has the port from now on
    weights: name or path of those that it runs, "" where its engine is of no file, and ``name`` as the engine has it;
        ``backend``: that enrols with them
    load: from a name or path to an engine that the block can use, ready to infer; raises what is wrong with it
    accept: takes the engine over, on the thread that loaded it
    """

    def __init__(self, block, weights: str, name: str, backend: str, load: Callable[[str], object],
                 accept: Callable[[object], None]) -> None:
        self.error: str | None = None  # what is wrong with the newest weights asked for, where they were refused
        self._block, self._running, self._backend = block, name, backend
        self._load_engine, self._take_over = load, accept
        self._asked_for = self._weights = weights
        self.changer = Changer(self._load, self._accept, self._refuse)
        port = pmt.intern(tags.PORT_WEIGHTS)
        block.message_port_register_in(port)
        block.set_msg_handler(port, self.on_message)

    def ask(self, weights: str) -> None:
        """Go over to these, a name or path, once they are loaded; returns at once. The newest ones are not asked for
        twice."""
        if weights != self._asked_for:
            self._asked_for = weights
            self.changer.ask(weights)

    def on_message(self, message: pmt.pmt_base) -> None:
        """What a message may be: see :func:`.weights_pmt.read_weights`."""
        try:
            asked = read_weights(message)
        except EMindError as fault:
            self._block.logger.error(str(fault))
            return
        if isinstance(asked, EnrolRequest):
            self._asked_for = asked.save
            self.changer.ask(asked)
        else:
            self.ask(asked)

    def _load(self, weights: str | EnrolRequest) -> object:
        if isinstance(weights, EnrolRequest):
            if not self._weights:
                raise EMindError(f"{self._running} was not loaded from a weights file, so that no class of it can be "
                                 "enrolled or taken away: ask for weights of a file first")
            weights, said = weights.carried_out(self._weights, self._backend)
            self._block.logger.info("; ".join(said))
        engine = self._load_engine(weights)
        self._weights = weights
        return engine

    def _accept(self, engine: object) -> None:
        self._take_over(engine)
        self.error, self._running = None, engine.name
        self._block.logger.info(f"weights {engine.name} take over")

    def _refuse(self, weights: str, error: Exception) -> None:
        fault = str(error) if isinstance(error, EMindError) else f"{type(error).__name__}: {error}"
        self.error = fault
        self._asked_for = ""  # the same may be asked for again, mended
        self._block.logger.error(f"{fault}; {self._running} goes on")
