"""A network USRP N210 in software, for tests of the live path with the unmodified driver. See README.md."""

from .client import Emulator, EmulatorError
from .sources import Emitter, Loop, Scene, Tuning

__all__ = ["Emitter", "Emulator", "EmulatorError", "Loop", "Scene", "Tuning"]
