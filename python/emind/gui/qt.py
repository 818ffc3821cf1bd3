"""Whether there is Qt, and a running application of it; without Qt, so that it can be asked anywhere."""

from __future__ import annotations

from ..contract.errors import EMindError


def need_application(what: str, instead: str) -> None:
    """EMindError, in one line, where ``what`` (such as "a display") cannot have a window; ``instead``: the command that
    does without."""
    try:
        from PyQt5 import QtWidgets
    except ImportError as fault:
        raise EMindError(f"{what} needs PyQt5 ({fault}): install python3-pyqt5, or use `{instead}`") from None
    if QtWidgets.QApplication.instance() is None:
        raise EMindError(f"{what} needs a running Qt application: in GNU Radio Companion set Generate Options to QT "
                         f"GUI; without a screen use `{instead}`")
