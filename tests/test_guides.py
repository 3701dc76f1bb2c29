"""What the guides show: pieces of Python run as they stand, commands have their options, links lead on."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tracker import cli

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "tracker/weights/README.md"])


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)


def named(page):
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "python") and page.name != "README.md"], ids=named
)
def test_python_runs_as_it_stands(page, tmp_path, monkeypatch):
    """All pieces of a page one after the other, as a reader would paste them."""
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for text in blocks(page, "python"):
        if "import rerun" in text:
            pytest.importorskip("rerun", reason="pip install rerun-sdk")
        exec(compile(text, named(page), "exec"), names)


def commands():
    """Every line of a shell block that starts siamtrack or a script of ours."""
    for page in PAGES:
        for block in blocks(page, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                words[:1] = [word.removeprefix(".venv/bin/") for word in words[:1]]
                if words[:1] == ["siamtrack"] or words[:1] == ["python"]:
                    yield pytest.param(words, id=f"{named(page)}: {line.strip()[:60]}")


@pytest.mark.parametrize("words", list(commands()))
def test_commands_have_the_options_that_they_are_given(words, monkeypatch, capsys):
    if words[0] != "siamtrack":
        if words[1] != "-m":
            assert (ROOT / words[1]).is_file()
        return
    taken = []
    for name in cli.COMMANDS:
        monkeypatch.setitem(cli.COMMANDS, name, lambda args: taken.append(args) or 0)
    if words[1] == "train":
        from train import __main__ as train

        options = ["tune", *words[2:]] if words[2].startswith("--") else words[2:]
        assert train.make_parser().parse_args(options).run
        return
    if words[1] == "similarity":
        from train.similarity.__main__ import make_parser

        assert make_parser(words[2:]).parse_args(words[2:]).run
        return
    code = cli.main(words[1:])
    assert code == 0 and taken, capsys.readouterr().err


def test_guides_are_short():
    for page in ROOT.glob("docs/guide/*.md"):
        read = re.sub(r"```mermaid.*?```", "", page.read_text(), flags=re.DOTALL)  # a drawing is looked at
        assert len(read.split()) < 800, page.name
    assert len((ROOT / "README.md").read_text().split()) < 1000  # for the first two minutes


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_to_files(page):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


def test_the_site_can_be_built(tmp_path):
    """With every warning an error: a link that leads nowhere, a name of the API that is none."""
    pytest.importorskip("mkdocstrings", reason='pip install -e ".[docs]"')
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(tmp_path / "site")]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    home, api = ((tmp_path / "site" / name).read_text() for name in ("index.html", "api/index.html"))
    assert 'href="guide/web/"' in home and 'href="source/demos/"' in home
    for name in ("tracker.tracker.Tracker.update_all", "tracker.recorder.Recorder.write", "tracker.detections.Crowd"):
        assert f'id="{name}"' in api
