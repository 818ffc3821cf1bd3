"""Fine-tunings of `emind-train fewshot` that are done: a file each, so that hours of them can be cut off and go on.

A result is found again by all that it follows from: weights, set, recipe, arm, seed and windows. Several processes may
share a folder, for one to fine-tune with some windows and another with others.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from emind.contract.errors import EMindError
from emind.storage.replacing import replacing


class Kept:
    """Results in a folder, which is made with the first. ``identity``: what all of them have in common.

    ``code``: version that makes new ones; ``codes``: versions that made those which were asked for or put."""

    def __init__(self, folder: Path, identity: dict, code: str) -> None:
        self.folder = folder
        self.code = code
        self.codes: set[str] = set()
        self.identity = json.loads(json.dumps(identity))

    def get(self, asked: dict) -> dict | None:
        """The result that was put for the same; None where there is none. EMindError for a file that is not one."""
        path = self._path(asked)
        if not path.is_file():
            return None
        try:
            held = json.loads(path.read_text())
            self.codes.add(held["code"])
            return held["found"]
        except (OSError, ValueError, KeyError, TypeError):
            raise EMindError(f"{path}: not a result of a fine-tuning; remove it to have it made again") from None

    def put(self, asked: dict, found: dict) -> None:
        self.codes.add(self.code)
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self._path(asked)) as path:
            path.write_text(json.dumps({**self.identity, **asked, "code": self.code, "found": found}, indent=1) + "\n")

    def _path(self, asked: dict) -> Path:
        text = json.dumps({**self.identity, **asked}, sort_keys=True)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
