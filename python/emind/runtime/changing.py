"""Other weights for a stream that runs: loaded and warmed up on a thread of their own, then handed over whole."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from ..contract.errors import EMindError

MOST_WAITING = 64  # requests


class Changer:
    """Loads what is asked for, one at a time, in order; of several names that wait only the newest counts.

    A request that is no name (a class is to be enrolled) is never left out for a newer one: it also leaves a file.

    Parameters
    ----------
    load: from a request, a name or path as a rule, to an engine that is ready to infer; raises what is wrong with it
    accept: called with the engine; refuse: called with the request and the error. Both on the loading thread, but for a
        request that finds MOST_WAITING others: it is refused at once
    """

    def __init__(
        self,
        load: Callable[[object], object],
        accept: Callable[[object], None],
        refuse: Callable[[object, Exception], None],
    ) -> None:
        self._load, self._accept, self._refuse = load, accept, refuse
        self._waiting: deque = deque()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def ask(self, weights: object) -> None:
        """Load these weights; returns at once."""
        with self._lock:
            if isinstance(weights, str):
                self._waiting = deque(one for one in self._waiting if not isinstance(one, str))
            room = len(self._waiting) < MOST_WAITING
            if room:
                self._waiting.append(weights)
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="emind-weights", daemon=True)
                    self._thread.start()
        if not room:
            full = f"weights {weights}: {MOST_WAITING} requests wait already; ask again later"
            self._refuse(weights, EMindError(full))

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until nothing is being loaded any more; True when so."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)
        return self._thread is None

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                weights = self._waiting.popleft()
            try:
                engine = self._load(weights)
            except Exception as error:  # whatever the file's fault, the stream goes on with what it has
                self._refuse(weights, error)
            else:
                self._accept(engine)
