"""What README promises runs as it stands."""

import re
import runpy
from pathlib import Path

import cv2

from tracker.geometry import iou

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def test_the_five_lines_run_as_they_stand(capsys):
    """On real footage: he is followed, lost while the van hides him, and found again."""
    exec(compile(blocks("python")[0], "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert [int(line.split()[0]) for line in lines] == list(range(77, 137))
    assert not any("lost" in line for line in lines[:5] + lines[-20:])
    assert sum("lost" in line for line in lines[10:25]) >= 10
    last = [float(number) for number in re.findall(r"=([-\d.]+)", lines[-1])]
    assert iou([last], [(382, 3, 100, 187)])[0] > 0.7  # set by eye


def test_every_linked_file_exists():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if not link.startswith("https://")]
    assert len(links) > 8
    missing = [link for link in links if not (ROOT / link).exists()]
    assert not missing


def test_every_named_command_exists(capsys):
    from siamtrack.__main__ import main

    named = {tuple(words.split()) for words in re.findall(r"(?:`|^)siamtrack ((?:train )?[a-z]+)", README, re.M)}
    assert len(named) > 8
    for words in named:
        assert main([*words, "--help"]) == 0, words


def test_the_picture_of_the_guide_can_be_drawn(tmp_path):
    namespace = runpy.run_path(str(ROOT / "docs" / "draw_tracking.py"))
    assert namespace["main"](str(tmp_path / "tracking.webp")) == 0
    assert cv2.imread(str(tmp_path / "tracking.webp")).shape[0] == namespace["HEIGHT"]
