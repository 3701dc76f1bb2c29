"""The wheel that users install: what must be inside is inside, what must not be is not, and its command starts."""

import os
import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

import tracker

ROOT = Path(__file__).parents[1]
MIB = 2**20


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    # A copy, because a build leaves its traces in the source tree.
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("tracker", "train", "tests", "demos"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*command, "-w", str(out), str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("unpacked")
    zipfile.ZipFile(wheel).extractall(path)
    return path


def test_every_module_is_inside_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        p.relative_to(ROOT).as_posix() for package in ("tracker", "train") for p in (ROOT / package).rglob("*.py")
    }
    assert wanted - names == set()
    assert {"tracker/py.typed", "tracker/__init__.py", "train/__init__.py"} <= names
    assert {name.split("/")[0] for name in names} == {"tracker", "train", f"siamtrack-{tracker.__version__}.dist-info"}


def test_weights_are_inside_and_small(wheel: Path) -> None:
    sizes = {i.filename: i.file_size for i in zipfile.ZipFile(wheel).infolist() if i.filename.endswith(".safetensors")}
    shipped = {
        p.relative_to(ROOT).as_posix(): p.stat().st_size for p in (ROOT / "tracker/weights").glob("*.safetensors")
    }
    assert sizes == shipped
    assert "tracker/weights/swift.safetensors" in sizes
    assert max(sizes.values()) <= 6 * MIB


def test_licence_and_typing_are_declared(unpacked: Path) -> None:
    (info,) = unpacked.glob("*.dist-info")
    assert "License-Expression: MIT" in (info / "METADATA").read_text()
    assert "The siamtrack authors" in (info / "licenses" / "LICENSE").read_text()


def test_the_command_starts_from_the_wheel(unpacked: Path) -> None:
    (info,) = unpacked.glob("*.dist-info")
    entries = ConfigParser()
    entries.read(info / "entry_points.txt")
    module, function = entries["console_scripts"]["siamtrack"].split(":")
    code = f"import {module} as m, sys; print(m.__file__); sys.exit(m.{function}(['--version']))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=unpacked,
        env={**os.environ, "PYTHONPATH": str(unpacked)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    file, version = done.stdout.splitlines()
    assert Path(file).is_relative_to(unpacked)
    assert version == f"siamtrack {tracker.__version__}"
