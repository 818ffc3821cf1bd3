"""Other weights for a stream that runs: loaded and warmed up on a thread of their own, then handed over whole."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Changer:
    """Loads what is asked for, one at a time; of several requests that wait the newest counts.

    Parameters
    ----------
    load: from a name or path to an engine that is ready to infer; raises what is wrong with it
    accept: called with the engine; refuse: called with the name and the error. Both on the loading thread
    """

    def __init__(
        self,
        load: Callable[[str], object],
        accept: Callable[[object], None],
        refuse: Callable[[str, Exception], None],
    ) -> None:
        self._load, self._accept, self._refuse = load, accept, refuse
        self._wanted: str | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def ask(self, weights: str) -> None:
        """Load these weights; returns at once."""
        with self._lock:
            self._wanted = weights
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="emind-weights", daemon=True)
                self._thread.start()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until nothing is being loaded any more; True when so."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)
        return self._thread is None

    def _run(self) -> None:
        while True:
            with self._lock:
                weights, self._wanted = self._wanted, None
                if weights is None:
                    self._thread = None
                    return
            try:
                engine = self._load(weights)
            except Exception as error:  # whatever the file's fault, the stream goes on with what it has
                self._refuse(weights, error)
            else:
                self._accept(engine)
