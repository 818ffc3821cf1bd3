"""What an engine raises when it has no answer for some windows of a batch, and nothing is wrong with itself."""

from __future__ import annotations

import numpy as np


class Unanswered(Exception):
    """``answered`` bool (N,): which windows of the batch have their answer; ``answers``: a row for every window of the
    batch and head, of which the others' mean nothing. Empty where no window has one."""

    def __init__(self, answers: dict[str, np.ndarray], answered: np.ndarray) -> None:
        super().__init__(f"{np.count_nonzero(~answered)} of {len(answered)} windows have no answer")
        self.answers, self.answered = answers, answered
