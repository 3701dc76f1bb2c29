"""What README promises runs as it stands."""

import re
from pathlib import Path

import pytest

from tracker.scene import Scene
from tracker.video import VideoWriter

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


@pytest.fixture
def clip(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scene = Scene((320, 240), 8, seed=2)
    with VideoWriter(tmp_path / "clip.mp4", 25, (320, 240)) as writer:
        for t in range(8):
            writer.write(scene.render(t))
    return scene


def test_the_five_lines_run(clip, capsys):
    code = blocks("python")[0].replace("(64, 34, 51, 68)", str(tuple(clip.box(0))))
    exec(compile(code, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert [int(line.split()[0]) for line in lines] == list(range(1, 8))


def test_many_targets_run(clip):
    from tracker import Tracker

    names = {"tracker": Tracker.load("swift"), "image": clip.render(0), "next_image": clip.render(1)}
    names["boxes"] = [clip.box(0), (10, 10, 40, 40)]
    exec(compile(blocks("python")[1], "README.md", "exec"), names)
    assert len(names["results"]) == 2


def test_every_linked_file_exists():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert len(links) > 8
    missing = [link for link in links if not (ROOT / link).exists()]
    assert not missing


def test_every_named_command_exists(capsys):
    from siamtrack.__main__ import main

    named = {tuple(words.split()) for words in re.findall(r"(?:`|^)siamtrack ((?:train )?[a-z]+)", README, re.M)}
    assert len(named) > 8
    for words in named:
        assert main([*words, "--help"]) == 0, words
