"""What stands before the digital part: synthesiser, attenuator and antenna switch of an SBX, gain of the converter.

The driver programs an ADF4350 and an ADS62P44 by SPI and the attenuator by pins; this module reads back from the same
bits what the driver asked for, so that a test can tell the frequency that the hardware would have from the one it was
told. A "basic" board has only the converter: its synthesiser stays at 0 Hz.
"""

from __future__ import annotations

from .protocol import TICK_RATE

SPI_RX_BOARD, SPI_CONVERTER = 16, 256
CONVERTER_GAIN = {0x17: 0.5, 0x1A: 0.05}  # register → dB a step of its low four bits
RX_PIN_LOCKED = 3  # bits 0 and 1
ATTENUATOR_SHIFT, ATTENUATOR_MASK = 8, 63
ANTENNA_RX2 = 1 << 14


class FrontEnd:
    def __init__(self, board: str):
        self.board = board
        self.reset()

    def reset(self) -> None:
        self._synthesiser = [0] * 6
        self.lo_hz = 0.0
        self._converter = dict.fromkeys(CONVERTER_GAIN, 0)
        self._pins = {}  # offset in the pin registers (0 idle, 1 receive, 2 transmit, 3 both) → word

    def spi(self, slave: int, word: int, bits: int) -> None:
        if slave == SPI_CONVERTER and bits == 16 and word >> 8 in self._converter:
            self._converter[word >> 8] = word & 15
        if self.board != "sbx" or slave != SPI_RX_BOARD or bits != 32:
            return
        register = word & 7
        if register < 6:
            self._synthesiser[register] = word
        if register == 0:  # the write that starts a new tuning
            self.lo_hz = self._output()

    def _output(self) -> float:
        r0, r1, r2, _, r4, _ = self._synthesiser
        integer, fraction, modulus = r0 >> 15 & 0xFFFF, r0 >> 3 & 0xFFF, r1 >> 3 & 0xFFF
        reference = TICK_RATE * (2 if r2 >> 25 & 1 else 1) / (2 if r2 >> 24 & 1 else 1) / max(r2 >> 14 & 0x3FF, 1)
        fundamental = r4 >> 23 & 1  # the counter is fed by the oscillator itself, not by the divided output
        divider = 1 << (r4 >> 20 & 7) if fundamental else 1
        return reference * (integer + fraction / max(modulus, 1)) / divider

    def pins(self, offset: int, word: int) -> None:
        self._pins[offset] = word

    @property
    def gain_db(self) -> float:
        """0 to 38 dB: the attenuator's pins while receiving, half a decibel a step, and the converter's own gain."""
        board = (self._pins.get(1, 0) >> ATTENUATOR_SHIFT & ATTENUATOR_MASK) / 2 if self.board == "sbx" else 0.0
        return round(board + sum(step * self._converter[number] for number, step in CONVERTER_GAIN.items()), 2)

    @property
    def antenna(self) -> str:
        if self.board != "sbx":
            return ""
        if self._pins.get(1, 0) & ANTENNA_RX2:
            return "RX2"
        return "TX/RX" if self._pins.get(2, 0) & ANTENNA_RX2 else "CAL"

    @property
    def pins_read(self) -> int:
        """Receiver's pins in the low half, transmitter's in the high half: both synthesisers are locked."""
        return RX_PIN_LOCKED << 16 | RX_PIN_LOCKED
