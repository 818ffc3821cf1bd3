"""Where a weights file comes from: what a run started from, and the commands that make a file again.

A released file keeps its name when it is trained further, so a name alone does not say which one a run started from:
the hash does, and the commit whose tree has the file with that hash.
"""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from emind.contract.errors import EMindError
from emind.models.checkpoint import AUTOENCODER, read_header

from .synthesis.build import file_hash

FOLDER = "python/emind/weights"
ENVIRONMENT = ".venv/bin/"  # where `make install` puts the commands; they are on nobody's PATH


def as_run(command: str) -> str:
    """A command of ours as it is typed at the root of the repository; headers have it without the environment."""
    return ENVIRONMENT + command if command.startswith("emind-train ") else command


def origin(path: Path) -> dict:
    """Of a file that something starts from: ``name``, ``sha256``; ``commit``, if the repository has or had it;
    ``grown_from`` (the same of the smaller one) and ``command``, if it was grown; ``pretrained`` (name and hash), if it
    all began with a pretrained file and the files between tell so."""
    header, found = read_header(path), {"name": path.name, "sha256": file_hash(path)}
    training = header["training"]
    commit = commit_with(path, found["sha256"])
    if commit:
        found["commit"] = commit
    before = training.get("grown_from")
    if before:
        found |= {"grown_from": {key: value for key, value in before.items() if key != "training"},
                  "command": training["command"]}
    first = ({"name": path.name, "sha256": found["sha256"]} if AUTOENCODER in header
             else (before or training.get("init") or {}).get("pretrained"))
    if first:
        found["pretrained"] = first
    return found


def refuse_grown(header: dict) -> None:
    """EMindError for a file of `emind-train grow`, whose heads have no figures and no calibration of their own."""
    smaller = header["training"].get("grown_from")
    if smaller:
        raise EMindError(f"these weights were grown from {smaller['name']} and not trained since: train them with "
                         "`emind-train finetune --init`, or take the smaller ones")


def commit_with(path: Path, sha256: str) -> str | None:
    """The newest commit in which the file at this place has this hash; None without git, or where it never had."""
    def git(*words: str) -> bytes:
        return subprocess.run(["git", *words], cwd=path.parent, capture_output=True, check=True).stdout

    try:
        for commit in git("log", "--format=%h", "--", path.name).decode().split():
            try:
                if hashlib.sha256(git("show", f"{commit}:./{path.name}")).hexdigest() == sha256:
                    return commit
            except subprocess.CalledProcessError:
                continue  # the commit that took the file away
    except (OSError, subprocess.CalledProcessError):
        pass
    return None


def steps(training: dict) -> list[tuple[str, str]]:
    """Command, as it is typed, in backticks, and how it went, the oldest first, from the header of a fine-tuned file."""
    kept, init = training.get("kept_heads"), training.get("init")
    before, place = started(init) if init else ([], None)
    start = f"started from `{init['name']}`, SHA-256 `{init['sha256']}`" if init else "from random weights"
    command = training.get("command")
    if command and place:
        command = _with_option(command, "--init", place)
    told = f"`{as_run(command)}`" if command else "The command stands in the card of the file that the heads are from."
    how = (f"Code `{training['code']}`, seed {training['config']['run']['seed']}, {training['steps']:,} steps, "
           f"{training['seconds'] / 60:.0f} minutes; {start}.")
    made = [*(steps(kept["training"]) if kept else []), *before, (told, how)]
    return made + afterwards(training)


def started(source: dict) -> tuple[list[tuple[str, str]], str | None]:
    """Steps that make the file that a run started from, and where they put it; none where its name says enough."""
    if "grown_from" in source:
        before, place = started(source["grown_from"])
        command = _with_first(source["command"], place) if place else source["command"]
        return [*before, (f"`{as_run(command)}`", f"SHA-256 `{source['sha256']}`.")], None  # `--init` names it as it is
    if "commit" not in source:
        return [], None
    place = f"runs/{Path(source['name']).stem}-{source['commit']}.safetensors"
    return [(f"`mkdir -p runs && git show {source['commit']}:{FOLDER}/{source['name']} > {place}`",
             f"The released file of that commit; its card says how it was made. SHA-256 `{source['sha256']}`.")], place


def afterwards(training: dict) -> list[tuple[str, str]]:
    """What was done to the file after training, without training it."""
    weights = _option(training.get("command") or "", "--out") or "WEIGHTS"
    out = []
    for head, told in training.get("unknown", {}).items():
        command = f"emind-train unknown {weights} --known-kept {told['known_kept']:g} --windows {told['windows']}"
        out.append((f"`{as_run(command)}`", f"From where on `{head}` says `unknown`."))
    if "reference" in training:
        told = training["reference"]
        kinds = f" --kinds {told['kinds']['windows']}" if "kinds" in told else ""
        command = f"emind-train reference {weights} --windows {told['windows']} --kept {told['kept']}{kinds}"
        out.append((f"`{as_run(command)}`",
                    "Windows of known classes, so that classes can be enrolled (a head without classes yet)."))
    return out


def _option(command: str, name: str) -> str | None:
    words = command.split()
    return words[words.index(name) + 1] if name in words[:-1] else None


def _with_option(command: str, name: str, value: str) -> str:
    own = _option(command, name)
    return command if own is None else command.replace(f"{name} {own}", f"{name} {value}")


def _with_first(command: str, value: str) -> str:
    """With another file as the first argument of `emind-train NAME`."""
    words = command.split()
    return " ".join([*words[:2], value, *words[3:]])
