"""Takes a picture of what a command prints, for the documentation."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont
from smaller import smaller

WIDTH = 110  # characters
PAPER, INK, PROMPT = (24, 24, 28), (220, 220, 220), (120, 255, 120)
MARGIN, LINE = 14, 20  # pixels
_REPAINTED = re.compile(r"\x1b\[\d*[AJK]|\x1b\[2K")  # what lies before it is no longer on the screen
_STYLE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[()][A-Z0-9]")


def terminal_picture(shown: str, command: list[str], picture: Path, folder: Path, terminal: bool = False) -> int:
    """Runs the command in the folder; the picture has ``shown`` behind the prompt and what was printed. Its status.

    ``terminal``: the command gets one, and the picture shows the last state of what it painted there.
    """
    environment = {**os.environ, "COLUMNS": str(WIDTH), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                   "UHD_LOG_CONSOLE_LEVEL": "error", "TERM": "xterm"}
    if terminal:
        status, text = in_terminal(command, folder, environment)
    else:
        done = subprocess.run(command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        status, text = done.returncode, done.stdout
    printed = text.replace("\r", "\n").strip("\n").splitlines()
    lines = [f"$ {shown}", *(part for line in printed if line.strip() for part in
                             [line[k : k + WIDTH] for k in range(0, len(line), WIDTH)])]
    font = ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSansMono.ttf"), 15)
    widest = max(font.getlength(line) for line in lines)
    image = Image.new("RGB", (round(widest) + 2 * MARGIN, LINE * len(lines) + 2 * MARGIN), PAPER)
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        draw.text((MARGIN, MARGIN + LINE * number), line, font=font, fill=INK if number else PROMPT)
    image.save(picture)
    smaller(picture)
    return status


def in_terminal(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Status of a command that has a terminal, and what stands there in the end, without colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 60, WIDTH, 0, 0))
    process = subprocess.Popen(command, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    painted = b""
    while True:
        try:
            data = os.read(ours, 1 << 16)
        except OSError:  # the last one who had it has closed it
            break
        painted += data
    os.close(ours)
    text = painted.decode(errors="replace").replace("\r\n", "\n")
    return process.wait(), _STYLE.sub("", _REPAINTED.split(text)[-1])
