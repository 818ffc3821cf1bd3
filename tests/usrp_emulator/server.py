"""The sockets of the emulated device and the one loop that serves them, sends samples and listens to the test."""

from __future__ import annotations

import json
import os
import selectors
import socket
import struct
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO

from . import protocol
from .device import Device
from .faults import Fault
from .sources import Source

QUANTUM = 0.001  # s; the loop does not wake for less than this much signal
CHECK_EVERY = 16  # packets between looks at the receiver's queue
SEND_BUFFER = 4 << 20


class ReceiverQueue:
    """How full the receiving socket is, so that a busy test machine loses nothing that no fault asked for.

    A real device knows nothing of this and goes on sending. Linux only: elsewhere the answer is always "room".
    """

    def __init__(self) -> None:
        self._table = Path("/proc/net/udp")
        try:
            # The kernel grants twice what is asked and UHD asks for all: stop at half of what it has.
            self.room = int(Path("/proc/sys/net/core/rmem_max").read_text())
        except OSError:
            self.room = 0
        self.drops = 0

    def full(self, local_port: int, remote_port: int) -> bool:
        """Whether the socket at ``local_port`` that is connected to our ``remote_port`` is half full."""
        if not self.room:
            return False
        for line in self._table.read_text().splitlines()[1:]:
            field = line.split()
            if int(field[1][-4:], 16) == local_port and int(field[2][-4:], 16) == remote_port:
                self.drops = int(field[-1])
                return int(field[4].split(":")[1], 16) > self.room
        return False


class Server:
    """``paced_by_receiver``: hold back while the receiver's queue is half full, and catch up later."""

    def __init__(self, source: Source, address: str = "127.0.0.1", paced_by_receiver: bool = True, **device):
        self.address, self.paced_by_receiver = address, paced_by_receiver
        self._selector = selectors.DefaultSelector()
        self._sockets: dict[int, socket.socket] = {}
        self._handlers = {
            protocol.PORT_CONTROL: self._on_control, protocol.PORT_FIFO: self._on_fifo,
            protocol.PORT_RX[0]: lambda data, peer: self._on_data(0, data, peer),
            protocol.PORT_RX[1]: lambda data, peer: self._on_data(1, data, peer),
            protocol.PORT_TX: self._ignore, protocol.PORT_UART: self._ignore,
        }
        self._open()
        self._destination: list[tuple[str, int] | None] = [None, None]
        self._fifo: deque[tuple[int | None, int, int, tuple[str, int]]] = deque()
        self.present = True
        self._queue = ReceiverQueue()
        self._since_check = [0, 0]
        self._held_ticks = 0
        self.device = Device(source, self._send, address, **device)

    def _open(self) -> None:
        for port, handler in self._handlers.items():
            held = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            held.setblocking(False)
            try:
                held.bind((self.address, port))
            except OSError as error:
                raise OSError(f"cannot stand at {self.address} port {port}: {error.strerror}") from None
            self._sockets[port] = held
            self._selector.register(held, selectors.EVENT_READ, (held, handler))

    def _shut(self) -> None:
        for held in self._sockets.values():
            self._selector.unregister(held)
            held.close()
        self._sockets.clear()

    def close(self) -> None:
        self._shut()
        self._selector.close()

    # --- packets out -------------------------------------------------------------------------------------------

    def _send(self, chain: int, packet: memoryview | bytes) -> None:
        destination = self._destination[chain]
        if not self.present or destination is None:
            return
        self._since_check[chain] += 1
        self._reply(protocol.PORT_RX[chain], packet, destination)

    def _reply(self, port: int, packet: memoryview | bytes, peer: tuple[str, int]) -> None:
        try:
            self._sockets[port].sendto(packet, peer)
        except (ConnectionError, BlockingIOError):
            pass  # nobody listens there any more, or no room: a network loses such a packet

    def _may_send(self, chain: int) -> bool:
        destination = self._destination[chain]
        if not self.paced_by_receiver or destination is None or self._since_check[chain] < CHECK_EVERY:
            return True
        if self._queue.full(destination[1], protocol.PORT_RX[chain]):
            self._holding = True
            return False
        self._since_check[chain] = 0
        return True

    # --- packets in --------------------------------------------------------------------------------------------

    def _on_control(self, packet: bytes, peer: tuple[str, int]) -> None:
        if len(packet) < protocol.CONTROL.size:
            return  # the discovery of another series comes to the same port
        version, kind, sequence, union = protocol.CONTROL.unpack_from(packet)
        letter = bytes([kind & 0xFF])
        if version != protocol.PROTOCOL:
            letter = b"a"
        reply = None
        if letter == b"a":
            reply = protocol.control_reply(b"A", sequence, socket.inet_aton(self.address))
        elif letter == b"i":
            count = min(union[1], protocol.I2C_MAX)
            reply = protocol.control_reply(b"I", sequence, union[:2] + self.device.i2c.read(union[0], count))
        elif letter == b"h":
            count = min(union[1], protocol.I2C_MAX)
            self.device.i2c.write(union[0], union[2:2 + count])
            reply = protocol.control_reply(b"H", sequence, union)
        elif letter == b"r":
            address, value, action = protocol.REGISTER.unpack_from(union)
            value = self.device.register(action, address, value)
            reply = protocol.control_reply(b"R", sequence, protocol.REGISTER.pack(address, value & 0xFFFFFFFF, action))
        elif letter == b"s":
            reply = protocol.control_reply(b"S", sequence, union[:4] + bytes(4))
        elif letter == b"l":
            wanted = min(struct.unpack_from(">I", union)[0], protocol.ECHO_MAX)
            reply = protocol.control_reply(b"L", sequence, struct.pack(">I", min(len(packet), protocol.ECHO_MAX)))
            reply = reply.ljust(wanted, b"\0")
        if reply:
            self._reply(protocol.PORT_CONTROL, reply, peer)

    def _on_data(self, chain: int, packet: bytes, peer: tuple[str, int]) -> None:
        """Eight bytes: samples go where this came from. Sixteen: they go to the address and port named."""
        self._destination[chain] = peer
        if len(packet) >= 16:
            address, port = struct.unpack_from(">4s2xH", packet, 8)
            if port:
                self._destination[chain] = socket.inet_ntoa(address), port
                self._reply(protocol.PORT_RX[chain], bytes(4), peer)

    def _ignore(self, packet: bytes, peer: tuple[str, int]) -> None:
        """The transmitter and the serial port take what comes and say nothing."""

    def _on_fifo(self, packet: bytes, peer: tuple[str, int]) -> None:
        if len(packet) < 16:
            return  # only tells where replies go, and they go where a command came from
        self._fifo.append((*protocol.fifo_command(packet), peer))
        self._run_commands()

    def _run_commands(self) -> None:
        """Commands in their order; one with a time holds up those behind it."""
        while self._fifo:
            due, word, data, peer = self._fifo[0]
            if due and due > self.device.clock.ticks(self.device.clock.raw()):
                return
            self._fifo.popleft()
            if word & 0x100:
                self.device.poke(word & 0xFF, data)
                data = 0
            else:
                data = self.device.peek(word & 0xFF)
            self._reply(protocol.PORT_FIFO, protocol.fifo_reply(word, data), peer)

    # --- the loop ----------------------------------------------------------------------------------------------

    def run(self, commands: IO[bytes] | None = None, answers: IO[str] | None = None) -> None:
        """Serve until ``commands`` ends."""
        self._line = b""
        self._answers, self._running, self._holding = answers, True, False
        self._awaited: tuple[int, int, dict] | None = None  # raw time to give up, chain, counts
        if commands is not None:
            self._selector.register(commands, selectors.EVENT_READ, None)
        while self._running:
            before = self.device.clock.raw()
            ready = self._selector.select(self._sleep())
            if self._holding:
                self._held_ticks += self.device.clock.raw() - before
            self._holding = False
            for chain in self.device.chains:  # what is due goes out before what has just come in is answered
                chain.pump(lambda number=chain.number: self._may_send(number))
            self._run_commands()
            for key, _ in ready:
                if key.data is None:
                    self._running = self._listen(commands)
                else:
                    self._receive(*key.data)
            self._answer_wait()

    def _sleep(self) -> float | None:
        """Seconds until something is due without a packet coming in; None: nothing is."""
        raw = self.device.clock.raw()
        if self._holding:
            return QUANTUM
        due = [t for t in (chain.next_due() for chain in self.device.chains) if t is not None]
        if self._awaited:
            due.append(self._awaited[0])
        wait = max(min(due) - raw, 0) / protocol.TICK_RATE if due else None
        if wait is not None and wait:
            wait = max(wait, QUANTUM)
        if self._fifo and self._fifo[0][0]:
            command = max(self.device.clock.raw_of(self._fifo[0][0]) - raw, 0) / protocol.TICK_RATE
            wait = command if wait is None else min(wait, command)
        return wait

    def _receive(self, held: socket.socket, handler: Callable[[bytes, tuple[str, int]], None]) -> None:
        for _ in range(64):  # then the samples get their turn
            try:
                packet, peer = held.recvfrom(65536)
            except (BlockingIOError, ConnectionError):
                return
            if self.present:
                handler(packet, peer)

    # --- the test's side ---------------------------------------------------------------------------------------

    def _listen(self, commands: IO[bytes]) -> bool:
        """Obey the lines that have come; False when there will be no more."""
        data = os.read(commands.fileno(), 1 << 16)
        *lines, self._line = (self._line + data).split(b"\n")
        for line in filter(bytes.strip, lines):
            try:
                request = json.loads(line)
                if request.get("do") == "wait":
                    self._wait(**request)
                    continue
                self._answer(self.obey(**request))
            except (ValueError, TypeError, KeyError, IndexError, OSError) as error:
                self._answer({"error": str(error)})
        return bool(data)

    def _answer(self, answer: dict) -> None:
        if self._answers is not None:
            print(json.dumps(answer), file=self._answers, flush=True)

    def _wait(self, do: str, within: float, chain: int = 0, **counts) -> None:
        """The answer is the status, given once the chain's counts are at least these, or the time is over."""
        unknown = counts.keys() - self.device.chain_status(chain).keys()
        if unknown:
            raise ValueError(f"no count named {', '.join(sorted(unknown))}")
        self._awaited = self.device.clock.raw() + int(within * protocol.TICK_RATE), chain, counts

    def _answer_wait(self) -> None:
        if self._awaited:
            until, chain, counts = self._awaited
            held = self.device.chain_status(chain)
            reached = all(held[name] >= value for name, value in counts.items())
            if reached or self.device.clock.raw() >= until:
                self._awaited = None
                self._answer({**self.obey("status"), "reached": reached})

    def obey(self, do: str, chain: int = 0, **values) -> dict:
        """One request of the test: status, fault, clear_faults, gone, back."""
        if do == "status":
            return {**self.device.status(), "present": self.present, "receiver_drops": self._queue.drops,
                    "held_back_s": self._held_ticks / protocol.TICK_RATE}
        if do == "fault":
            self.device.inject(Fault(**values), chain)
        elif do == "clear_faults":
            self.device.chains[chain].faults.clear()
        elif do == "gone":
            self._gone(**values)
        elif do == "back":
            self._back(**values)
        else:
            raise ValueError(f"cannot {do!r}: wait, status, fault, clear_faults, gone, back")
        return {}

    def _gone(self, refuse: bool = False) -> None:
        """Nothing is answered or sent; with ``refuse`` the ports are closed, so that the driver's sends fail."""
        self.present = False
        if refuse:
            self._shut()

    def _back(self, switched_off: bool = True) -> None:
        """The device answers again; unless only the cable was out, it has forgotten all that it was told."""
        if switched_off:
            self.device.reset()
            self._destination = [None, None]
            self._fifo.clear()
        if not self._sockets:
            self._open()
        self.present = True
