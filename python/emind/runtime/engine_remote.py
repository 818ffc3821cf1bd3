"""An engine whose windows are inferred on other hosts.

A batch is cut into chunks. Each host that is there has two at a time, one to infer and one that is on its way, so a
fast host takes more than a slow one:

    infer ──► chunks ──► link ══ network ══► hosts
          ◄── answers, by number ◄═══════════ answers and hellos

Hosts say hello several times a second, with what weights they have. One that falls silent, or owes a chunk for too
long, is lost: its chunks stay unanswered, which is `Unanswered` for the caller, and nothing is sent to it until its
next hello. How bytes travel is the link's business.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Protocol

import numpy as np

from ..contract.errors import EMindError, UsageError
from ..contract.window import Domain, HeadSpec, WindowSpec
from .unanswered import Unanswered

HELLO_EVERY_S = 0.1
CHUNK = 16  # windows
AT_ONCE = 2  # chunks that a host has

_log = logging.getLogger("emind")


class Link(Protocol):
    """Carries chunks to hosts, each known by its place in the list of addresses."""

    def send(self, host: int, number: int, windows: np.ndarray, rates_hz: np.ndarray) -> None:
        """Send a chunk, and come back at once."""

    def close(self) -> None: ...


class Listener(Protocol):
    """What a link calls, from its own thread."""

    def hello(self, host: int, session: int, info: str) -> None: ...

    def answer(self, host: int, session: int, number: int, answers: dict[str, np.ndarray]) -> None: ...


@dataclass
class _Host:
    address: str
    state: str = "silent"  # or "there", "lost", "refused"
    session: int = 0
    heard: float = 0.0  # when it last said anything
    chunks: dict[int, float] = field(default_factory=dict)  # number of those it owes -> when sent
    windows_sent: int = 0
    windows_answered: int = 0
    times_lost: int = 0


def described(engine: object) -> str:
    """What a host tells of its engine, as JSON. Hosts whose ``weights`` are the same serve one flowgraph together."""
    weights = hashlib.sha256(json.dumps(engine.header, sort_keys=True).encode()).hexdigest()
    return json.dumps({
        "name": engine.name, "backend": engine.backend, "weights": weights, "spec": engine.spec.to_dict(),
        "heads": [head.to_dict() for head in engine.heads.values()],
        "domains": {name: asdict(domain) for name, domain in engine.domains.items()},
    })  # fmt: skip


class RemoteEngine:
    """Infers on hosts, see above. ``spec``, ``heads``, ``domains``, ``name`` are those of the first host that said hello.

    Parameters
    ----------
    addresses: of the hosts
    open_link: makes the link, given the addresses and whom to tell what comes
    timeout_s: a host that is silent, or owes a chunk, for longer is lost
    wait_s: how long to wait for the first hello

    Raises
    ------
    EMindError: no host said hello
    """

    def __init__(
        self,
        addresses: Sequence[str],
        open_link: Callable[[Sequence[str], Listener], Link],
        timeout_s: float = 1.0,
        wait_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not addresses or len(set(addresses)) < len(addresses):
            raise UsageError(f"hosts must be one address or more, each once, not {list(addresses)}")
        if not timeout_s > 2 * HELLO_EVERY_S:
            raise UsageError(f"a timeout of {timeout_s:g} s is too short: hosts say hello every {HELLO_EVERY_S:g} s")
        self._hosts = [_Host(address) for address in addresses]
        self._timeout_s, self._clock = timeout_s, clock
        self._changed = threading.Condition()
        self._next = 0  # number of the next chunk
        self._answers: dict[int, dict[str, np.ndarray]] = {}  # of the batch that is being inferred
        self._awaited: set[int] = set()  # chunks of it that a host owes
        self._told: dict | None = None  # what the first host said of itself
        self._link = open_link(addresses, self)
        with self._changed:
            if not self._changed.wait_for(lambda: self._told is not None, wait_s):
                self._link.close()
                raise EMindError(f"no inference host answers at {', '.join(addresses)}: start one there with "
                                 "`emind host --bind ADDRESS`")

    @property
    def backend(self) -> str:
        """How many hosts are there, of how many, and what the first one runs."""
        there = sum(host.state == "there" for host in self._hosts)
        return f"{there} of {len(self._hosts)} hosts, {self._told['backend']}"

    def hosts(self) -> list[dict]:
        """Of each host: address, state, windows sent and answered, how often it was lost."""
        with self._changed:
            keys = ("address", "state", "windows_sent", "windows_answered", "times_lost")
            return [{key: getattr(host, key) for key in keys} for host in self._hosts]

    def infer(self, windows: np.ndarray, rates_hz: np.ndarray) -> dict[str, np.ndarray]:
        """As :meth:`.engine_base.Engine.infer`; Unanswered when hosts were lost or none is there."""
        count = len(windows)
        to_send = [slice(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
        parts: dict[int, slice] = {}
        with self._changed:
            self._answers, self._awaited = {}, set()
            while to_send or self._awaited:
                self._look_for_lost()
                while to_send and (place := self._idlest()) is not None:
                    part, number = to_send.pop(0), self._next
                    self._next += 1
                    host = self._hosts[place]
                    host.chunks[number] = self._clock()
                    host.windows_sent += part.stop - part.start
                    parts[number] = part
                    self._awaited.add(number)
                    self._link.send(place, number, windows[part], rates_hz[part])
                if to_send and not self._awaited:
                    break  # nobody is there, or those that are do not get on
                self._changed.wait(min(HELLO_EVERY_S, self._timeout_s / 4))
            answers, self._answers = self._answers, {}
        return self._assembled(count, parts, answers)

    def close(self) -> None:
        """Let go of the hosts. A closed engine infers no more."""
        self._link.close()

    def warm_up(self, batch: int) -> None:
        """Hosts are warm when they say hello."""

    def hello(self, host: int, session: int, info: str) -> None:
        told = json.loads(info)
        with self._changed:
            this = self._hosts[host]
            if self._told is None:
                self._take(told)
            if not self._agrees(told):
                if this.state != "refused":
                    _log.error("host %s has other weights (%s) than the first one (%s): it is not asked", this.address,
                               told.get("name"), self.name)
                self._give_up(this, "refused")
                return
            if session != this.session:
                self._give_up(this, "lost")  # a new process knows nothing of what the old one owed
            if this.state != "there":
                _log.info("host %s is there", this.address)
            this.session, this.state, this.heard = session, "there", self._clock()
            self._changed.notify_all()

    def answer(self, host: int, session: int, number: int, answers: dict[str, np.ndarray]) -> None:
        with self._changed:
            this = self._hosts[host]
            if session != this.session or this.chunks.pop(number, None) is None:
                return  # given up meanwhile
            this.heard = self._clock()
            if number in self._awaited:
                self._awaited.discard(number)
                self._answers[number] = answers
                this.windows_answered += len(next(iter(answers.values()), ()))
            self._changed.notify_all()

    def _take(self, told: dict) -> None:
        heads = [HeadSpec.from_dict(fields) for fields in told["heads"]]
        self.spec = WindowSpec.from_dict(told["spec"])
        self.heads = {head.name: head for head in heads}
        self.domains = {name: Domain(**fields) for name, fields in told["domains"].items()}
        self.name = told["name"]
        self._told = told

    def _agrees(self, told: dict) -> bool:
        return all(told.get(key) == self._told[key] for key in ("weights", "spec", "heads"))

    def _idlest(self) -> int | None:
        """The host that takes the next chunk: of those with room the one with the fewest."""
        free = [(len(host.chunks), place) for place, host in enumerate(self._hosts)
                if host.state == "there" and len(host.chunks) < AT_ONCE]
        return min(free)[1] if free else None

    def _look_for_lost(self) -> None:
        limit = self._clock() - self._timeout_s
        for host in self._hosts:
            if host.state == "there" and (host.heard < limit or any(sent < limit for sent in host.chunks.values())):
                _log.warning("host %s is lost: its windows are skipped until it says hello again", host.address)
                self._give_up(host, "lost")

    def _give_up(self, host: _Host, state: str) -> None:
        if host.state == "there":
            host.times_lost += 1
        host.state = state
        self._awaited.difference_update(host.chunks)
        host.chunks.clear()
        self._changed.notify_all()

    def _assembled(
        self, count: int, parts: dict[int, slice], answers: dict[int, dict[str, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        """The chunks' answers as those of the batch."""
        answered = np.zeros(count, bool)
        whole: dict[str, np.ndarray] = {}
        for number, rows_of in answers.items():
            part = parts[number]
            if set(rows_of) != set(self.heads) or any(len(rows) != part.stop - part.start for rows in rows_of.values()):
                continue
            for head, rows in rows_of.items():
                if head not in whole:
                    whole[head] = np.zeros((count, *rows.shape[1:]), rows.dtype)
                if whole[head].shape[1:] != rows.shape[1:]:
                    break
                whole[head][part] = rows
            else:
                answered[part] = True
        if not answered.all():
            raise Unanswered(whole, answered)
        return whole
