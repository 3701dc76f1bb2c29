"""The wheel that users install: what must be inside is inside, what must not be is not, and its command starts."""

import os
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import cv2
import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import tracker
from tracker.extras import how_to_get
from tracker.scene import Scene

ROOT = Path(__file__).parents[1]
MIB = 2**20


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    # A copy, because a build leaves its traces in the source tree.
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source)
    for name in ("siamtrack", "tracker", "train", "tests", "demos", "LICENSES"):
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
        p.relative_to(ROOT).as_posix()
        for package in ("siamtrack", "tracker", "train")
        for p in (ROOT / package).rglob("*.py")
    }
    assert wanted - names == set()
    page = {p.relative_to(ROOT).as_posix() for p in (ROOT / "tracker/web/static").iterdir()}
    assert len(page) > 5 and page <= names
    assert {"siamtrack/py.typed", "tracker/py.typed", "train/__init__.py"} <= names
    info = f"siamtrack-{tracker.__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"siamtrack", "tracker", "train", info}


def test_weights_are_inside_and_small(wheel: Path) -> None:
    sizes = {i.filename: i.file_size for i in zipfile.ZipFile(wheel).infolist() if i.filename.endswith(".safetensors")}
    shipped = {
        p.relative_to(ROOT).as_posix(): p.stat().st_size for p in (ROOT / "tracker/weights").rglob("*.safetensors")
    }
    assert sizes == shipped
    assert {"tracker/weights/swift.safetensors", "tracker/weights/similarity/photos.safetensors"} < set(sizes)
    assert max(sizes.values()) <= 6 * MIB


def test_licence_and_typing_are_declared(unpacked: Path) -> None:
    (info,) = unpacked.glob("*.dist-info")
    assert "License-Expression: MIT AND Apache-2.0" in (info / "METADATA").read_text()
    assert "NanoTrack" in (info / "licenses" / "NOTICE").read_text()
    assert "Apache License" in (info / "licenses" / "LICENSES" / "Apache-2.0.txt").read_text()
    assert "The siamtrack authors" in (info / "licenses" / "LICENSE").read_text()


# --- installed, and used in a folder with a tracker.py and a train.py of its own


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", str(path), str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return path


@pytest.fixture
def robot(tmp_path: Path) -> Path:
    for name in ("tracker", "train"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('the {name}.py of the robot')")
    return tmp_path


def run(installed: Path, folder: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(installed)}
    return subprocess.run([*map(str, command)], cwd=folder, env=env, capture_output=True, text=True, timeout=120)


def test_a_program_beside_a_tracker_of_its_own_follows_with_ours(installed: Path, robot: Path) -> None:
    (robot / "robot.py").write_text(
        """
import numpy as np
from siamtrack import Tracker, frames

image = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
tracker = Tracker.load("swift")
tracker.init(image, (50, 40, 30, 30))
assert abs(tracker.update(image).box.x - 50) < 15
import tracker.geometry, siamtrack
print(siamtrack.__file__, tracker.__file__, siamtrack.__version__, frames.__module__)
"""
    )
    done = run(installed, robot, sys.executable, "robot.py")
    assert done.returncode == 0, done.stderr
    door, package, version, module = done.stdout.split()
    assert Path(door).is_relative_to(installed) and Path(package).is_relative_to(installed)
    assert version == tracker.__version__ and module.startswith("tracker.")


def test_the_command_runs_beside_them(installed: Path, robot: Path) -> None:
    done = run(installed, robot, installed / "bin/siamtrack", "--version")
    assert (done.returncode, done.stdout) == (0, f"siamtrack {tracker.__version__}\n"), done.stderr
    done = run(installed, robot, installed / "bin/siamtrack", "train", "inspect", "nothing")
    assert done.returncode == 2 and done.stderr.startswith("siamtrack train: error: nothing"), done.stderr
    words = ["-m", "siamtrack", "similarity", "fit", "--config", "nothing.yaml", "--out", "run"]
    done = run(installed, robot, sys.executable, *words)
    assert done.returncode == 2 and done.stderr.startswith("siamtrack similarity: error: "), done.stderr


def test_so_do_the_processes_that_a_command_starts(installed: Path, robot: Path) -> None:
    scene = Scene((160, 120), 6, 1)
    (robot / "data/one/img").mkdir(parents=True)
    for t in range(len(scene)):
        cv2.imwrite(str(robot / f"data/one/img/{t}.png"), scene.render(t))
    boxes = "\n".join(",".join(map(str, scene.box(t))) for t in range(len(scene)))
    (robot / "data/one/groundtruth_rect.txt").write_text(boxes)
    done = run(
        installed, robot, sys.executable, "-m", "siamtrack", "bench", "data", "--trackers", "ncc", "--workers", "1"
    )
    assert done.returncode == 0 and "protocol ope" in done.stdout, done.stderr


def test_installed_too_it_knows_what_an_extra_consists_of(installed: Path, robot: Path) -> None:
    done = run(
        installed,
        robot,
        sys.executable,
        "-c",
        "import siamtrack; from tracker.extras import *; print(packages_of('plots'))",
    )
    assert done.stdout == "['matplotlib>=3.8']\n", done.stderr


def test_a_foreign_tracker_that_is_there_first_is_named(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "tracker.py").touch()
    done = run(installed, tmp_path, sys.executable, "-c", "import tracker, siamtrack")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: another module named tracker is imported already") and str(tmp_path) in last


def test_the_minimum_versions_agree() -> None:
    """configs/oldest.txt tries what pyproject.toml declares; configs/lean.txt and configs/headless ask for no other."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = versions(sum(project["optional-dependencies"].values(), project["dependencies"]))
    tried, lean = (versions((ROOT / "configs" / name).read_text().splitlines()) for name in ("oldest.txt", "lean.txt"))
    assert tried.items() <= declared.items()
    assert set(versions(project["dependencies"])) <= set(tried)
    assert {name.removesuffix("-headless"): version for name, version in lean.items()}.items() <= declared.items()
    stand_in = tomllib.loads((ROOT / "configs" / "headless" / "pyproject.toml").read_text())["project"]
    assert Version(stand_in["version"]) == declared[stand_in["name"]]
    assert versions(stand_in["dependencies"]) == {"opencv-python-headless": declared["opencv-python"]}


def versions(lines: list[str]) -> dict[str, Version | None]:
    """The one version that each requirement names."""
    needs = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {need.name: next((Version(one.version) for one in need.specifier), None) for need in needs}


# --- how to get an extra


def test_the_command_that_is_printed_for_an_extra_is_one_that_pip_takes(tmp_path: Path) -> None:
    """siamtrack is on no index: pip must find the extra in what is installed, or in the checkout that runs."""
    installed = how_to_get("plots")
    assert installed.startswith(sys.executable)
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); from tracker.extras import how_to_get; print(how_to_get('plots'))"
    )

    def without_packages(code: str) -> str:  # -S: only what comes with Python
        words = [sys.executable, "-S", "-c", code, str(ROOT)]
        return subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=True).stdout.strip()

    lean = without_packages(script)
    assert lean == f'{sys.executable} -m pip install "matplotlib>=3.8"'  # and no PyTorch with it
    (tmp_path / "torch.py").touch()
    bare = without_packages(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {script}")
    assert bare == f'{sys.executable} -m pip install "{ROOT}[plots]"'
    for command in (installed, lean, bare):
        words = [*shlex.split(command), "--dry-run", "--no-index", "--no-build-isolation"]
        done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0 and "matplotlib" in done.stdout, done.stdout + done.stderr
