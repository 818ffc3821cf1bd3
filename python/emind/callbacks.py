#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
"""Setters as GNU Radio Companion's flowgraphs call them: a value that cannot be is logged and changes nothing.

A flowgraph of QT GUI calls them in a slot, where PyQt5 aborts the whole program for whatever is raised: half-typed text
in an entry would end a recording in the midst of its file. A block says that it may be told so by a base, and its yml
names the setter:

    class recorder(Guarded, Told, gr.sync_block)

    callbacks:
    - told('set_labels', ${labels})

From Python the setters themselves are called, which raise.
"""

from __future__ import annotations

from gnuradio import gr

from .guarded import text_of


class Told:
    """Base, before GNU Radio's own, of a block whose parameters may follow variables; hierarchical blocks too."""

    def told(self, setter: str, *values: object) -> None:
        """Call the method of this name with these values. What it raises is logged in one line; it must have left what
        was there, as a setter does that checks first."""
        try:
            getattr(self, setter)(*values)
        except Exception as fault:
            logger = getattr(self, "logger", None) or gr.logger(self.alias())  # a hierarchical block has none
            logger.error(f"{setter}: {text_of(fault)}; what was set stays")
