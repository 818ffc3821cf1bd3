"""The window of a display: waterfall with boxes, last answers, statistics. Qt only; what it shows comes from a scene.

The newest line is at the top. Colours follow the level between the noise floor and the strongest bins.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PyQt5 import QtCore, QtGui, QtWidgets

from ..dsp.waterfall import noise_floor, occupied_part
from .scene import Run, Scene

_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 12, 8, 36  # margins of the plot, pixels
_RAMP = ((0, (8, 8, 40)), (90, (20, 60, 140)), (150, (30, 150, 130)), (205, (230, 200, 60)), (255, (255, 255, 240)))
_LEAST_HEIGHT = 4  # of a box, pixels: a single window is often less than a line
_ROOM = 860, 720  # of the window at first, pixels
_LEAST_SPAN_DB = 20.0  # of the colours
_BOX_COLOURS = ((255, 120, 220), (120, 255, 120), (255, 150, 60), (120, 230, 255), (200, 150, 255), (255, 105, 105),
                (255, 255, 255), (190, 255, 60))  # none of the waterfall's
_given: dict[str, int] = {}  # label -> number of its colour
_COLUMNS = ("at (s)", "windows", "answer", "confidence", "SNR (dB)")
_ROWS = 6


def _palette() -> np.ndarray:
    """Colours of 256 levels as 0xffRRGGBB, uint32."""
    steps = np.arange(256)
    at = [level for level, _ in _RAMP]
    red, green, blue = (np.interp(steps, at, [colour[k] for _, colour in _RAMP]).astype(np.uint32) for k in range(3))
    return (0xFF << 24) | (red << 16) | (green << 8) | blue


def colour_of(label: str) -> QtGui.QColor:
    """Of a label's boxes, the same one in all displays of the program: the next that no label has yet."""
    number = _given.setdefault(label, len(_given))
    return QtGui.QColor(*_BOX_COLOURS[number % len(_BOX_COLOURS)])


def _place_of(box: QtCore.QRect, text: QtCore.QSize, area: QtCore.QRect) -> tuple[int, int]:
    """Where a box's text begins: beside it, where it covers nothing of the signal, else above it or inside."""
    top = max(area.top(), box.top())
    if box.right() + 3 + text.width() <= area.right():
        return box.right() + 3, top
    if box.left() - 3 - text.width() >= area.left():
        return box.left() - 2 - text.width(), top
    above = box.top() - text.height() - 1
    return (max(area.left(), min(box.left(), area.right() - text.width())),
            above if above >= area.top() else max(box.top() + 2, area.top()))


class WaterfallView(QtWidgets.QWidget):
    """The plot. ``show_lines`` gives it what to draw; ``drawn`` lists the boxes in the newest picture."""

    def __init__(self, channel: tuple[float, float] | None, levels: tuple[float | None, float | None]) -> None:
        super().__init__()
        self.setMinimumSize(320, 200)
        self.drawn: list[tuple[QtCore.QRect, str]] = []
        self.named: list[tuple[QtCore.QRect, str]] = []  # texts for which there was room
        self.channel = channel  # Hz from the middle of the band, of what is boxed from now on; None: all of it
        self._levels = levels
        self._channels: dict[int, tuple[float, float] | None] = {}  # of the boxes that are there
        self._colours = _palette()
        self._lines = np.empty((0, 1), np.float32)
        self._first, self._rows, self._every, self._rate, self._center = 0, 1, 1, 1.0, 0.0
        self._boxes: list[Run] = []
        self._bands: dict[int, tuple[int, tuple[float, float]]] = {}
        self._floor = 0.0

    def plot(self) -> QtCore.QRect:
        """Where the waterfall itself is, in pixels of this widget."""
        return QtCore.QRect(_LEFT, _TOP, max(1, self.width() - _LEFT - _RIGHT),
                            max(1, self.height() - _TOP - _BOTTOM))

    def y_of(self, sample: float) -> float:
        """Pixel of a sample: the newest line's end is the plot's top."""
        area = self.plot()
        newest = (self._first + len(self._lines)) * self._every
        return area.top() + (newest - sample) / self._every * area.height() / self._rows

    def x_of(self, hertz: float) -> float:
        """Pixel of a frequency, Hz from the middle of the band."""
        area = self.plot()
        return area.left() + (hertz / self._rate + 0.5) * area.width()

    def show_lines(self, lines: np.ndarray, first: int, rows: int, every: int, rate: float, center: float,
                   boxes: list[Run]) -> None:
        """Levels (lines, bins) in dB of which the first is line number ``first``, and what is boxed in them."""
        self._lines, self._first, self._rows, self._every = lines, first, rows, every
        self._rate, self._center, self._boxes = rate, center, boxes
        self._floor = noise_floor(lines[:: max(1, len(lines) // 64)]) if len(lines) else 0.0
        self._channels = {id(box): self._channels.get(id(box), self.channel) for box in boxes}
        self._bands = {id(box): self._band_of(box) for box in boxes}
        self.update()

    def band_of(self, box: Run) -> tuple[float, float]:
        """Frequency extent of a box in Hz from the middle: what of the channel is occupied while it lasts."""
        return self._bands[id(box)][1]

    def _band_of(self, box: Run) -> tuple[int, tuple[float, float]]:
        low, high = self._channels[id(box)] or (-self._rate / 2, self._rate / 2)
        begin = max(0, math.floor(box.start / self._every) - self._first)
        end = min(len(self._lines), max(begin, math.ceil(box.stop / self._every) - self._first))
        known = self._bands.get(id(box))
        if begin >= end:  # answers come before the samples that they are about
            return 0, known[1] if known else (low, high)
        if known is not None and known[0] == end - begin:  # nothing new of it
            return known
        return end - begin, occupied_part(self._lines[begin:end], self._floor, self._rate, low, high)

    def _range(self) -> tuple[float, float]:
        low, high = self._levels
        sample = self._lines[::8, ::2] if self._lines.size > 8192 else self._lines
        if low is None:
            low = float(np.percentile(sample, 20)) - 3.0 if sample.size else -100.0
        if high is None:
            high = float(np.percentile(sample, 99.8)) if sample.size else 0.0
        return low, max(high, low + _LEAST_SPAN_DB)

    def paintEvent(self, event) -> None:
        painter = QtGui.QPainter(self)
        painter.fillRect(self.rect(), QtGui.QColor(24, 24, 28))
        area = self.plot()
        painter.fillRect(area, QtGui.QColor(0, 0, 0))
        if len(self._lines):
            low, high = self._range()
            index = np.clip((self._lines[::-1] - low) * (255.0 / (high - low)), 0, 255).astype(np.uint8)
            pixels = np.ascontiguousarray(self._colours[index].astype(np.uint32))
            height, width = pixels.shape
            image = QtGui.QImage(pixels.data, width, height, 4 * width, QtGui.QImage.Format_RGB32)
            shown = QtCore.QRectF(area.left(), area.top(), area.width(), area.height() * height / self._rows)
            painter.drawImage(shown, image)
        self._axes(painter, area)
        self._paint_boxes(painter, area)
        painter.end()

    def _paint_boxes(self, painter: QtGui.QPainter, area: QtCore.QRect) -> None:
        self.drawn, self.named = [], []
        painter.setClipRect(area.adjusted(-1, -1, 2, 2))
        metrics = painter.fontMetrics()
        painter.setBrush(QtCore.Qt.NoBrush)
        texts = []
        for box in reversed(self._boxes):
            low, high = self.band_of(box)
            left, right = round(self.x_of(low)), round(self.x_of(high))
            top, bottom = round(self.y_of(box.stop)), round(self.y_of(box.start))
            if bottom < area.top() or top > area.bottom():
                continue
            rect = QtCore.QRect(left, top, max(2, right - left), max(_LEAST_HEIGHT, bottom - top))
            colour = colour_of(box.label)
            painter.setPen(QtGui.QPen(colour, 2))
            painter.drawRect(rect)
            self.drawn.append((rect, box.text()))
            texts.append((rect, box.text(), colour))
        for rect, text, colour in sorted(texts, key=lambda one: -one[0].height()):  # those that last get a text first
            name = QtCore.QRect(0, 0, metrics.horizontalAdvance(text) + 6, metrics.height())
            name.moveTo(*_place_of(rect, name.size(), area))
            if name.bottom() > area.bottom() or any(name.intersects(other) for other, _ in self.named):
                continue
            painter.fillRect(name, QtGui.QColor(0, 0, 0, 170))
            painter.setPen(colour)
            painter.drawText(name, QtCore.Qt.AlignCenter, text)
            self.named.append((name, text))
        painter.setClipping(False)

    def _axes(self, painter: QtGui.QPainter, area: QtCore.QRect) -> None:
        painter.setPen(QtGui.QColor(200, 200, 205))
        painter.drawRect(area.adjusted(-1, -1, 0, 0))
        metrics = painter.fontMetrics()
        unit, name = (1e6, "MHz") if max(abs(self._center), self._rate) >= 1e6 else (1e3, "kHz")
        digits = max(0, 2 - math.floor(math.log10(self._rate / unit)))
        for fraction in (0.0, 0.25, 0.5, 0.75, 1.0):
            hertz = (fraction - 0.5) * self._rate
            x = round(self.x_of(hertz))
            painter.drawLine(x, area.bottom(), x, area.bottom() + 4)
            text = f"{(self._center + hertz) / unit:.{digits}f}"
            if fraction == 1.0:
                text += f" {name}"
            width = metrics.horizontalAdvance(text)
            place = max(2, min(x - width // 2, self.width() - width - 2))
            painter.drawText(place, area.bottom() + 6 + metrics.ascent(), text)
        seconds = self._rows * self._every / self._rate
        for part in range(5):
            y = area.top() + part * area.height() / 4
            painter.drawLine(area.left() - 5, round(y), area.left() - 1, round(y))
            text = "now" if part == 0 else f"-{seconds * part / 4:.3g} s"
            painter.drawText(QtCore.QRectF(0, y - (0 if part == 0 else metrics.height() / 2 if part < 4 else
                                                   metrics.height()), _LEFT - 8, metrics.height()),
                             QtCore.Qt.AlignRight | QtCore.Qt.AlignVCenter, text)


class DisplayWidget(QtWidgets.QWidget):
    """All of it. ``refresh`` is called by it at ``frame_rate``, and draws what ``feed`` gave since.

    ``feed(scene)`` brings the scene up to date and returns lines, number of the first, rows, samples a line, rate and
    centre in Hz. It is not called while the window cannot be seen.
    """

    def __init__(self, title: str, scene: Scene, feed: Callable[[Scene], tuple], channel: tuple[float, float] | None,
                 levels: tuple[float | None, float | None], frame_rate: float, show_quiet: bool) -> None:
        super().__init__()
        self.setWindowTitle(title or "EMind Display")
        self._scene, self._feed, self._show_quiet = scene, feed, show_quiet
        self.frames = 0
        self._had_room = False
        self.waterfall = WaterfallView(channel, levels)
        self.title = QtWidgets.QLabel(f"<b>{title}</b>")
        self.title.setVisible(bool(title))
        self.answers = QtWidgets.QTableWidget(_ROWS, len(_COLUMNS))
        self.answers.setHorizontalHeaderLabels(_COLUMNS)
        self.answers.verticalHeader().hide()
        self.answers.setEditTriggers(QtWidgets.QAbstractItemView.NoEditTriggers)
        self.answers.setSelectionMode(QtWidgets.QAbstractItemView.NoSelection)
        self.answers.setFocusPolicy(QtCore.Qt.NoFocus)
        self.answers.verticalHeader().setDefaultSectionSize(self.fontMetrics().height() + 6)
        header = self.answers.horizontalHeader()
        header.setSectionResizeMode(QtWidgets.QHeaderView.ResizeToContents)
        header.setSectionResizeMode(_COLUMNS.index("answer"), QtWidgets.QHeaderView.Stretch)
        self.answers.setVerticalScrollBarPolicy(QtCore.Qt.ScrollBarAlwaysOff)
        self.answers.setFixedHeight((_ROWS + 1) * (self.fontMetrics().height() + 6) + 8)
        self.statistics = QtWidgets.QLabel()
        self.statistics.setTextFormat(QtCore.Qt.PlainText)
        self.statistics.setWordWrap(True)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addWidget(self.title)
        layout.addWidget(self.waterfall, 1)
        layout.addWidget(self.answers)
        layout.addWidget(self.statistics)
        self.resize(860, 760)
        self._timer = QtCore.QTimer(self)
        self._timer.timeout.connect(self._tick)
        self._timer.start(max(1, round(1000 / frame_rate)))

    def showEvent(self, event) -> None:
        super().showEvent(event)
        if not self._had_room:
            self._had_room = True
            QtCore.QTimer.singleShot(0, self._make_room)

    def _make_room(self) -> None:
        """Enlarges a window that would cut most of it off, as those of GNU Radio Companion do at first."""
        window = self.window()
        screen = QtWidgets.QApplication.primaryScreen().availableSize()
        if window.width() < _ROOM[0] or window.height() < _ROOM[1]:
            window.resize(min(screen.width(), max(window.width(), _ROOM[0])),
                          min(screen.height(), max(window.height(), _ROOM[1])))

    def _tick(self) -> None:
        if self.isVisible() and not self.window().isMinimized():
            self.refresh()

    def refresh(self) -> None:
        """Draw what has come."""
        lines, first, rows, every, rate, center = self._feed(self._scene)
        self._scene.forget_before(first * every)
        boxes = list(self._scene.boxes)
        if self._show_quiet:
            boxes += [run for run in self._scene.runs if run.quiet and run.stop >= first * every]
        self.waterfall.show_lines(lines, first, rows, every, rate, center, boxes)
        newest = list(self._scene.runs)[::-1][:_ROWS]
        for row in range(_ROWS):
            texts = [""] * len(_COLUMNS)
            if row < len(newest):
                run = newest[row]
                snr = run.snr_db
                agree = run.agreeing()
                texts = [f"{run.stop / rate:.3f}",
                         f"{run.windows:,}" if agree == run.windows else f"{agree:,} of {run.windows:,}",
                         " · ".join([run.label, *run.others()]), f"{run.confidence(run.main):.2f}",
                         "-" if snr is None else f"{snr:.1f}"]
            for column, text in enumerate(texts):
                item = self.answers.item(row, column)
                if item is None:
                    item = QtWidgets.QTableWidgetItem()
                    item.setTextAlignment(QtCore.Qt.AlignVCenter | (
                        QtCore.Qt.AlignLeft if column == 2 else QtCore.Qt.AlignRight))
                    self.answers.setItem(row, column, item)
                if item.text() != text:
                    item.setText(text)
                    item.setToolTip(text)
        self.statistics.setText("\n".join(self._scene.statistics_text()))
        self.frames += 1
