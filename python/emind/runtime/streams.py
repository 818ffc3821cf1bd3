"""The streams that reconstruction heads make of windows: one port a waveform, beside the windows themselves.

Every window fills its place on every port, so that all ports stay in step to the sample. A window without an answer
(skipped, gated) puts what came in on a head's first port and zeros on its others: nothing is lost, the sum of a head's
ports is the input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..contract.errors import EMindError, UsageError
from ..contract.tags import GATED, RECONSTRUCTED, SKIPPED
from ..contract.window import RECONSTRUCTION, HeadSpec
from .dispatch import INFERRED, Released
from .dispatch import SKIPPED as FATE_SKIPPED

STATES = (RECONSTRUCTED, SKIPPED, GATED)
_MADE, _SKIPPED, _GATED = range(3)


class Streams:
    """The waveforms of ``names``, reconstruction heads of the engine, on ``ports`` ports.

    UsageError for a name that stands twice, EMindError where a head is missing or makes no waveforms.
    """

    def __init__(self, names: Sequence[str], heads: Mapping[str, HeadSpec], weights: str) -> None:
        names = (names,) if isinstance(names, str) else tuple(names)
        if len(set(names)) < len(names):
            raise UsageError(f"a stream stands twice among {', '.join(names)}")
        self.names = names
        self._sources = self._sources_of(heads, weights)
        self.ports = sum(self._sources)
        self.restart()

    @property
    def sources(self) -> dict[str, int]:
        """How many ports each head has, in their order."""
        return dict(zip(self.names, self._sources))

    def check(self, heads: Mapping[str, HeadSpec], weights: str) -> None:
        """EMindError where these heads do not fill the same ports."""
        for name, here, there in zip(self.names, self._sources, self._sources_of(heads, weights)):
            if here != there:
                raise EMindError(f"weights {weights}: head {name} makes {there} streams, this flowgraph has {here}")

    def restart(self) -> None:
        """The next window is the first."""
        self._state = -1

    def fill(self, ports: Sequence[np.ndarray], windows: np.ndarray, released: Released) -> list[tuple[int, str]]:
        """Write what was made of released windows (n, L) to the ports, each (n, L).

        Returns at which of them the state changes, and what it is from there on: one of ``STATES``.
        """
        if not self.ports:
            return []
        inferred = np.flatnonzero(released.fates == INFERRED)
        all_ = len(inferred) == len(windows)
        first = 0
        for name, sources in zip(self.names, self._sources):
            for source, port in enumerate(ports[first : first + sources]):
                if not all_:
                    port[...] = 0 if source else windows
                if len(inferred):
                    port[slice(None) if all_ else inferred] = released.answers[name][:, source]
            first += sources
        states = np.full(len(windows), _GATED)
        states[inferred] = _MADE
        states[released.fates == FATE_SKIPPED] = _SKIPPED
        changes = np.flatnonzero(states != np.concatenate([[self._state], states[:-1]])).tolist()
        self._state = int(states[-1])
        return [(index, STATES[states[index]]) for index in changes]

    def _sources_of(self, heads: Mapping[str, HeadSpec], weights: str) -> list[int]:
        fit = [name for name, head in heads.items() if head.kind == RECONSTRUCTION]
        for name in self.names:
            if name not in fit:
                has = f"those it can make: {', '.join(fit)}" if fit else "they have no head that makes one"
                raise EMindError(f"weights {weights}: no stream {name!r} comes of them; {has}")
        return [heads[name].sources for name in self.names]
