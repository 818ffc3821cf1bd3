"""Takes a picture of what a command prints, for the documentation."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont
from smaller import smaller

WIDTH = 110  # characters
PAPER, INK, PROMPT = (24, 24, 28), (220, 220, 220), (120, 255, 120)
MARGIN, LINE = 14, 20  # pixels


def terminal_picture(shown: str, command: list[str], picture: Path, folder: Path) -> int:
    """Runs the command in the folder; the picture has ``shown`` behind the prompt and what was printed. Its status."""
    environment = {**os.environ, "COLUMNS": str(WIDTH), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    text = done.stdout.replace("\r", "\n").rstrip().splitlines()
    lines = [f"$ {shown}", *(part for line in text for part in
                             ([line[k : k + WIDTH] for k in range(0, len(line), WIDTH)] or [""]))]
    font = ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSansMono.ttf"), 15)
    widest = max(font.getlength(line) for line in lines)
    image = Image.new("RGB", (round(widest) + 2 * MARGIN, LINE * len(lines) + 2 * MARGIN), PAPER)
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        draw.text((MARGIN, MARGIN + LINE * number), line, font=font, fill=INK if number else PROMPT)
    image.save(picture)
    smaller(picture)
    return done.returncode
