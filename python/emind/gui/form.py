"""The control of a label panel: which class, further labels, and whether to record. Qt only."""

from __future__ import annotations

from collections.abc import Callable

from PyQt5 import QtCore, QtGui, QtWidgets

from ..contract.errors import EMindError
from ..contract.schema import checked_label

RECORD_KEY = "F9"


class LabelForm(QtWidgets.QWidget):
    """Emits what is chosen through two callbacks: ``on_labels(dict)`` and ``on_record(bool)``.

    ``columns``: those that can be filled, the first is shown. ``choices``: of the first column. ``keys``: key to labels
    that it sets.
    """

    def __init__(self, title: str, columns: tuple[str, ...], choices: tuple[str, ...], labels: dict,
                 keys: dict[str, dict], recording: bool, on_labels: Callable[[dict], None],
                 on_record: Callable[[bool], None]) -> None:
        super().__init__()
        self.setWindowTitle(title or "EMind Label Panel")
        # In a grid with a display the room is the waterfall's.
        self.setSizePolicy(QtWidgets.QSizePolicy.Preferred, QtWidgets.QSizePolicy.Maximum)
        self._on_labels, self._on_record = on_labels, on_record
        self._labels = dict(labels)
        self.column = QtWidgets.QComboBox()
        self.column.addItems(columns)
        self.value = QtWidgets.QComboBox()
        self.value.setEditable(True)
        self.value.addItems(choices)
        self.value.setCurrentText(str(labels.get(columns[0], "") or ""))
        self.value.setMinimumContentsLength(12)
        self.apply = QtWidgets.QPushButton("Label")
        self.apply.setToolTip("what is recorded from here on has this label; an empty one is taken away")
        self.record = QtWidgets.QPushButton()
        self.record.setCheckable(True)
        self.record.setChecked(recording)  # before anybody listens
        self.now = QtWidgets.QLabel()
        self.now.setTextFormat(QtCore.Qt.PlainText)
        self.status = QtWidgets.QLabel()
        self.status.setTextFormat(QtCore.Qt.PlainText)
        self.status.setWordWrap(True)
        line = QtWidgets.QHBoxLayout()
        for widget, stretch in ((self.column, 0), (self.value, 1), (self.apply, 0), (self.record, 0)):
            line.addWidget(widget, stretch)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        if title:
            layout.addWidget(QtWidgets.QLabel(f"<b>{title}</b>"))
        layout.addLayout(line)
        layout.addWidget(self.now)
        layout.addWidget(self.status)
        if keys:
            told = "   ".join(f"{key}: {', '.join(str(v) for v in found.values())}" for key, found in keys.items())
            layout.addWidget(QtWidgets.QLabel(f"{told}   {RECORD_KEY}: record"))
        self.apply.clicked.connect(self._apply)
        self.value.lineEdit().returnPressed.connect(self._apply)
        self.record.toggled.connect(self._recorded)
        self.column.currentTextChanged.connect(self._show_value)
        self._shortcut(RECORD_KEY, self.record.toggle)
        for key, found in keys.items():
            self._shortcut(key, lambda found=found: self.set_labels(found))
        self._show_record(recording)
        self._show_labels()

    def labels(self) -> dict:
        """The labels in force."""
        return dict(self._labels)

    def set_labels(self, labels: dict) -> None:
        """Change these labels; None takes one away. What cannot be is said and changes nothing."""
        try:
            checked = {name: checked_label(name, value) for name, value in labels.items()}
        except EMindError as fault:
            self.now.setText(str(fault))
            return
        self._labels = {name: value for name, value in {**self._labels, **checked}.items() if value is not None}
        self._show_labels()
        self._show_value(self.column.currentText())
        self._on_labels(checked)

    def _apply(self) -> None:
        self.set_labels({self.column.currentText(): self.value.currentText().strip() or None})

    def _shortcut(self, key: str, action: Callable[[], None]) -> None:
        shortcut = QtWidgets.QShortcut(QtGui.QKeySequence(key), self)
        shortcut.setContext(QtCore.Qt.WindowShortcut)
        shortcut.activated.connect(action)

    def _recorded(self, on: bool) -> None:
        self._show_record(on)
        self._on_record(on)

    def _show_record(self, on: bool) -> None:
        self.record.setText("● recording" if on else "○ record")
        self.record.setStyleSheet("color: #c00000" if on else "")

    def _show_value(self, column: str) -> None:
        self.value.setCurrentText(str(self._labels.get(column, "") or ""))

    def _show_labels(self) -> None:
        told = ", ".join(f"{name} = {value}" for name, value in self._labels.items())
        self.now.setText(told or "no labels")
