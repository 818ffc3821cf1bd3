"""The board's registers: what a write does and what a read gives. No sockets here."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from . import protocol
from .clock import Clock
from .eeprom import I2cBus
from .faults import Fault
from .frontend import FrontEnd
from .sources import Source
from .stream import RxChain

TIME_HIGH, TIME_LOW, TIME_IMMEDIATE = 10, 11, 13
SPI_CONTROL, SPI_DATA = 21, 22
PINS = 184
CHAIN_CONTROL, CHAIN_CONVERTER = (32, 80), (48, 96)
READ_SPI, READ_PINS, READ_TIME_HIGH, READ_TIME_LOW, READ_COMPATIBILITY, READ_LOCKS, READ_PULSE_HIGH, \
    READ_PULSE_LOW = 0, 9, 10, 11, 12, 13, 14, 15
REFERENCE_LOCKED = 1 << 11
NO_GPSDO = 0x1234ABCD
EVENTS_KEPT = 200


class Device:
    """An N210 r4 with one daughterboard. ``send(chain, packet)`` carries data packets off."""

    def __init__(self, source: Source, send: Callable[[int, memoryview | bytes], None], address: str = "127.0.0.1",
                 board: str = "sbx", name: str = "emulated", serial: str = "E0000001"):
        self.clock = Clock()
        self.front_end = FrontEnd(board)
        self.i2c = I2cBus(address, board, name, serial)
        self.events: deque[dict] = deque(maxlen=EVENTS_KEPT)
        self.chains = [
            RxChain(number, self.clock, source, lambda packet, number=number: send(number, packet),
                    self.tuned_hz, lambda: self.front_end.gain_db, self.note)
            for number in range(2)
        ]
        self.reset()

    def reset(self) -> None:
        """As after switching on; the memories and the counts stay."""
        self._time = [0, 0, 0]  # high, low, when
        self._spi_control = 0
        self._firmware = {3: NO_GPSDO, 7: protocol.FIRMWARE_MINOR}
        self.front_end.reset()
        self.clock.reset()
        for chain in self.chains:
            chain.reset()

    def note(self, event: str, **values) -> None:
        self.events.append({"event": event, **values})

    def tuned_hz(self, chain: int) -> float:
        """The radio frequency that the synthesiser and the chain's rotation bring to zero, from their registers."""
        return self.front_end.lo_hz - self.chains[chain].frequency_word / 2**32 * protocol.TICK_RATE

    # --- registers ---------------------------------------------------------------------------------------------

    def poke(self, number: int, value: int) -> None:
        """Write a setting register."""
        if number == TIME_LOW:
            self._time[1] = value
        elif number == TIME_IMMEDIATE:
            self._time[2] = value
        elif number == TIME_HIGH:
            self.clock.set(value << 32 | self._time[1], at_next_pulse=not self._time[2] & 1)
        elif number == SPI_CONTROL:
            self._spi_control = value
        elif number == SPI_DATA:
            bits = self._spi_control >> 24 & 0x3F
            self.front_end.spi(self._spi_control & 0xFFFFFF, value >> 32 - bits if bits else 0, bits)
        elif PINS <= number < PINS + 5:
            self.front_end.pins(number - PINS, value)
        else:
            for chain, control, converter in zip(self.chains, CHAIN_CONTROL, CHAIN_CONVERTER):
                if control <= number < control + 9:
                    chain.control(number - control, value)
                elif converter <= number < converter + 4:
                    chain.down_converter(number - converter, value)

    def peek(self, number: int) -> int:
        """Read a read-back register."""
        if number in (READ_TIME_HIGH, READ_TIME_LOW):
            ticks = self.clock.ticks(self.clock.raw())
            return ticks >> 32 & 0xFFFFFFFF if number == READ_TIME_HIGH else ticks & 0xFFFFFFFF
        if number in (READ_PULSE_HIGH, READ_PULSE_LOW):
            ticks = self.clock.last_pulse()
            return ticks >> 32 & 0xFFFFFFFF if number == READ_PULSE_HIGH else ticks & 0xFFFFFFFF
        return {READ_PINS: self.front_end.pins_read, READ_COMPATIBILITY: protocol.FPGA_COMPATIBILITY,
                READ_LOCKS: REFERENCE_LOCKED}.get(number, 0)

    def register(self, action: int, address: int, value: int) -> int:
        """A register transaction of the control port; returns what the reply carries."""
        if action == protocol.FIRMWARE_PEEK:
            return self._firmware.get(address, 0)
        if action == protocol.FIRMWARE_POKE:
            self._firmware[address] = value
        elif action in (1, 2):
            return self.peek((address - protocol.READBACK_BASE) // 4)
        elif action in (3, 4):
            self.poke((address - protocol.SETTINGS_BASE) // 4, value)
        return value

    # --- for the test ------------------------------------------------------------------------------------------

    def inject(self, fault: Fault, chain: int = 0) -> None:
        self.chains[chain].faults.add(fault)

    def status(self) -> dict:
        """All that a test may ask: see the README for the keys."""
        return {
            "time": self.clock.ticks(self.clock.raw()) / protocol.TICK_RATE,
            "lo_hz": self.front_end.lo_hz, "gain_db": self.front_end.gain_db, "antenna": self.front_end.antenna,
            "chains": [self.chain_status(number) for number in range(len(self.chains))],
            "events": list(self.events),
        }

    def chain_status(self, number: int) -> dict:
        c = self.chains[number]
        return {
            "frequency": self.tuned_hz(number), "rate": c.rate, "decimation": c.decimation,
            "samples_per_packet": c.per_packet, "streaming": c.active is not None, "halted": c.halted,
            "position": c.position, "starts": c.starts, "samples_sent": c.samples_sent,
            "packets_sent": c.packets_sent, "samples_lost": c.samples_lost, "overflows": c.overflows,
            "faults_waiting": len(c.faults),
        }
