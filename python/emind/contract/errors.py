"""Errors that are the user's to mend: one line that says what is wrong and what to do."""


class EMindError(Exception):
    """A fault with a one-line message for the user. The command line prints it and exits with 1."""

    exit_status = 1


class UsageError(EMindError):
    """Arguments that cannot work together. The command line prints it and exits with 2."""

    exit_status = 2


def require(*rules: tuple[bool, str]) -> None:
    """UsageError with the words of the rules that do not hold, and only those."""
    broken = [words for holds, words in rules if not holds]
    if broken:
        raise UsageError("; ".join(broken))
