"""The test's side: start the emulator as a process of its own, ask it, and let things go wrong."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from .sources import as_samples

PARENT = Path(__file__).resolve().parents[1]


class EmulatorError(RuntimeError):
    """The emulator did not start, ended early, or refused a request."""


class Emulator:
    """``with Emulator(samples) as device:`` runs an emulated N210 until the block ends.

    ``source``: complex samples (N,), int16 pairs (N, 2), or what the command line's ``--source`` takes (``counter``,
    ``scene:{json}``, ``module:function``, a file); for a function its folder must be in ``PYTHONPATH``.
    ``wait``: seconds to wait for an answer; the start may also have to wait for another emulator to end.
    """

    def __init__(self, source: np.ndarray | str = "counter", address: str = "127.0.0.1", board: str = "sbx",
                 never_wait: bool = False, wait: float = 10.0, wait_for_start: float = 120.0):
        self.address, self.wait, self._wait_for_start = address, wait, wait_for_start
        self._source, self._board, self._never_wait = source, board, never_wait
        self._process: subprocess.Popen | None = None

    @property
    def arguments(self) -> str:
        """What the driver must be told to find it."""
        return f"type=usrp2,addr={self.address}"

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Emulator:
        self._folder = tempfile.TemporaryDirectory(prefix="usrp-emulator-")
        try:
            source = self._source
            if not isinstance(source, str):
                path = Path(self._folder.name) / "source.npy"
                np.save(path, as_samples(source))
                source = str(path)
            search = os.pathsep.join(filter(None, [str(PARENT), os.environ.get("PYTHONPATH")]))
            command = [sys.executable, "-m", "usrp_emulator", "--source", source, "--address", self.address,
                       "--board", self._board, *(["--never-wait"] if self._never_wait else [])]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                             env={**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": "1"})
            self._read(self._wait_for_start)
        except BaseException:
            if self._process is not None:
                self._process.kill()  # one that waits for its turn does not look at its input
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        if self._process is not None:
            self._process.stdin.close()  # the emulator ends with its input
            try:
                self._process.wait(self.wait)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process.stdout.close()
            self._process = None
        self._folder.cleanup()

    def _read(self, wait: float) -> dict:
        if not select.select([self._process.stdout], [], [], wait)[0]:
            raise EmulatorError(f"no answer from the emulator within {wait:g} s (does another one hold its address?)")
        line = self._process.stdout.readline()
        if not line:
            raise EmulatorError(f"the emulator ended with status {self._process.wait(self.wait)}; its message is above")
        return json.loads(line)

    def ask(self, do: str, wait_for_answer: float | None = None, **values) -> dict:
        self._process.stdin.write((json.dumps({"do": do, **values}) + "\n").encode())
        self._process.stdin.flush()
        answer = self._read(wait_for_answer or self.wait)
        if "error" in answer:
            raise EmulatorError(answer["error"])
        return answer

    def status(self) -> dict:
        """Frequencies, gain, rate and counts of both chains, and the last events; the keys are in README.md."""
        return self.ask("status")

    def wait_for(self, within: float = 20.0, chain: int = 0, **counts) -> dict:
        """The status once these counts of a chain are reached (``samples_sent=1000``, ``starts=2``, ``halted=True``).

        TimeoutError when they are not within so many seconds.
        """
        status = self.ask("wait", within=within, chain=chain, wait_for_answer=within + self.wait, **counts)
        if not status["reached"]:
            raise TimeoutError(f"{counts} not reached within {within:g} s: {status['chains'][chain]}")
        return status

    def overflow(self, at: int | None = None, samples: int = 3630, halt: bool = False, chain: int = 0) -> None:
        """Lose ``samples`` samples at sample ``at`` of the stream and report it; with ``halt`` stop as well."""
        self.ask("fault", kind="overflow", at=at, samples=samples, halt=halt, chain=chain)

    def lose(self, packets: int = 16, at: int | None = None, chain: int = 0) -> None:
        """Lose packets on the way, unreported."""
        self.ask("fault", kind="loss", at=at, packets=packets, chain=chain)

    def silence(self, at: int | None = None, chain: int = 0) -> None:
        """Stop the stream without a word."""
        self.ask("fault", kind="silence", at=at, halt=True, chain=chain)

    def unplug(self, refuse: bool = False) -> None:
        """The device answers nothing and sends nothing; with ``refuse`` its ports are closed and sends to it fail."""
        self.ask("gone", refuse=refuse)

    def plug_in(self, switched_off: bool = True) -> None:
        """It is there again: as after switching on, or (False) as if only the cable had been out."""
        self.ask("back", switched_off=switched_off)
