"""What a card says of where a file comes from: every start file can be had again, by its hash."""

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from emind.models.checkpoint import read_header
from emind.runtime.weights import released, resolve
from emind_training import cli, compare_report, lineage
from emind_training.synthesis.build import file_hash

FINE_TUNED = [name for name, path in released().items() if "pretrained" not in name]


def header(**training):
    own = {"code": "abc", "steps": 10, "seconds": 60, "config": {"run": {"seed": 3}}, "init": None,
           "command": "emind-train finetune --task radar --config c.toml --init emind-nano --out runs/x.safetensors"}
    return own | training


def test_a_released_file_is_had_from_its_commit_and_the_later_steps_are_told():
    start = {"name": "emind-nano.safetensors", "sha256": "ff", "commit": "1234567"}
    made = lineage.steps(header(
        init=start, unknown={"modulation": {"known_kept": 0.998, "windows": 8192}},
        reference={"windows": 6144, "kept": 3072, "kinds": {"windows": 16000}}))
    assert [command for command, _ in made] == [
        "`mkdir -p runs && git show 1234567:python/emind/weights/emind-nano.safetensors > runs/emind-nano-1234567.safetensors`",
        "`.venv/bin/emind-train finetune --task radar --config c.toml --init runs/emind-nano-1234567.safetensors "
        "--out runs/x.safetensors`",
        "`.venv/bin/emind-train unknown runs/x.safetensors --known-kept 0.998 --windows 8192`",
        "`.venv/bin/emind-train reference runs/x.safetensors --windows 6144 --kept 3072 --kinds 16000`",
    ]


def test_a_grown_start_is_grown_from_the_file_of_its_commit():
    smaller = {"name": "emind-nano.safetensors", "sha256": "aa", "commit": "1234567"}
    start = {"name": "g.safetensors", "sha256": "bb", "grown_from": smaller,
             "command": "emind-train grow emind-nano --size tiny --out runs/g.safetensors"}
    command = "emind-train finetune --init runs/g.safetensors --out o.safetensors"
    made = [command for command, _ in lineage.steps(header(init=start, command=command))]
    assert made[1] == "`.venv/bin/emind-train grow runs/emind-nano-1234567.safetensors --size tiny --out runs/g.safetensors`"
    assert made[2] == f"`.venv/bin/{command}`" and len(made) == 3


def test_a_start_that_no_commit_has_is_named_by_its_hash():
    (command, how), = lineage.steps(header(init={"name": "mine.safetensors", "sha256": "cc"}))
    assert "--init emind-nano" in command and "started from `mine.safetensors`, SHA-256 `cc`" in how


def test_the_commit_is_found_by_the_hash(tmp_path):
    def git(*words):
        return subprocess.run(["git", "-c", "user.name=n", "-c", "user.email=e@x", *words], cwd=tmp_path, check=True,
                              capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    file, commits = tmp_path / "w.safetensors", []
    for text in ("one", "two"):
        file.write_text(text)
        git("add", "w.safetensors")
        git("commit", "-qm", text)
        commits.append(git("log", "-n1", "--format=%h"))
    for text, commit in zip(("one", "two"), commits, strict=True):
        assert lineage.commit_with(file, hashlib.sha256(text.encode()).hexdigest()) == commit
    assert lineage.commit_with(file, "00") is None
    shutil.rmtree(tmp_path / ".git")
    assert lineage.commit_with(file, "00") is None


def test_the_first_step_works_in_a_clone_that_has_no_folder_of_runs(tmp_path):
    def git(*words):
        return subprocess.run(["git", "-c", "user.name=n", "-c", "user.email=e@x", *words], cwd=tmp_path, check=True,
                              capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    file = tmp_path / lineage.FOLDER / "w.safetensors"
    file.parent.mkdir(parents=True)
    file.write_text("weights")
    git("add", ".")
    git("commit", "-qm", "w")
    start = {"name": file.name, "sha256": "ff", "commit": git("log", "-n1", "--format=%h")}
    command, _ = lineage.steps(header(init=start))[0]
    subprocess.run(["sh", "-c", command.strip("`")], cwd=tmp_path, check=True)
    assert (tmp_path / "runs" / f"w-{start['commit']}.safetensors").read_text() == "weights"


def test_a_page_of_comparisons_prints_the_command_as_it_is_typed(tmp_path, monkeypatch):
    monkeypatch.setattr(compare_report, "draw", lambda *a: None)
    page = tmp_path / "p.md"
    page.write_text("<!-- c: from here on written by emind-train compare --write -->\n<!-- c: to here -->\n")
    compare_report.write_page(page, "c", "table", "emind-train compare --config c.toml", [], "set")
    assert "\n`.venv/bin/emind-train compare --config c.toml`\n" in page.read_text()


def test_what_is_grown_knows_its_origin_and_the_pretrained_file_that_all_began_with(tmp_path):
    pretrained = resolve("emind-nano-pretrained")
    assert lineage.origin(pretrained)["pretrained"] == {"name": pretrained.name, "sha256": file_hash(pretrained)}
    out = tmp_path / "grown.safetensors"
    assert cli.main(["grow", "emind-nano", "--size", "tiny", "--out", str(out)]) == 0
    told = lineage.origin(out)
    assert told["grown_from"]["sha256"] == file_hash(resolve("emind-nano"))
    assert told["command"].startswith("emind-train grow emind-nano --size tiny --out ")


@pytest.mark.parametrize("name", FINE_TUNED)
def test_no_released_card_starts_from_the_file_that_it_is_the_card_of(name):
    path = resolve(name)
    made = lineage.steps(read_header(path)["training"])
    for command, _ in made:
        assert not re.search(rf"--init {name}\b(?!-)", command)
    shown = [command for command, _ in made if "git show" in command]
    def git(*words):
        return subprocess.run(["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True)

    if git("rev-parse", "--is-shallow-repository").stdout.strip() != "false":
        pytest.skip("not the whole history")
    for command in shown:
        commit, where = re.search(r"git show (\w+):(\S+)", command).groups()
        assert git("cat-file", "-e", f"{commit}:{where}").returncode == 0
