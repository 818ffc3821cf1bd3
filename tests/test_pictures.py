"""The pictures of the documentation: there, small, and one of each example."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "examples" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_links_to_is_there(page):
    missing = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if not (page.parent / link).exists()]
    assert missing == []


def test_pictures_are_small_and_used():
    linked = {(page.parent / link).resolve()
              for page in PAGES for link in LINK.findall(page.read_text(encoding="utf-8"))}
    pictures = set((ROOT / "docs" / "images").glob("*.png"))
    assert len(pictures) > 10
    assert {picture.name for picture in pictures if picture.stat().st_size > 150_000} == set()
    assert {picture.name for picture in pictures - linked} == set()


def test_each_example_flowgraph_has_its_picture():
    page = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    for flowgraph in (ROOT / "examples").glob("*.grc"):
        assert f"../docs/images/{flowgraph.stem}_grc.png" in page, flowgraph.name


def test_smaller_keeps_rare_colours_and_makes_the_file_small(tmp_path):
    image = pytest.importorskip("PIL.Image")
    noise = np.random.default_rng(1).integers(0, 90, (300, 400, 3), np.uint8)
    noise[120:160, 180:240] = (250, 30, 200)
    path = tmp_path / "noise.png"
    image.fromarray(noise).save(path)
    assert path.stat().st_size > 150_000
    done = subprocess.run([sys.executable, str(ROOT / "scripts" / "smaller.py"), str(path)], capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    assert path.stat().st_size < 150_000
    made = image.open(path).convert("RGB")
    middle = made.getpixel((round(210 / 400 * made.width), round(140 / 300 * made.height)))
    assert np.abs(np.subtract(middle, (250, 30, 200))).max() < 30
