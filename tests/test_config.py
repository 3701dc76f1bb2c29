from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from tracker.config import SIAMFC, SWIFT, BoxCrops, ModelConfig, SquareCrops, from_dict, load_yaml, to_dict
from tracker.errors import ConfigError
from tracker.geometry import Box
from train.config import TrainConfig

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("config", [SIAMFC, SWIFT], ids=lambda c: c.network)
def test_round_trip(config):
    assert from_dict(ModelConfig, to_dict(config)) == config
    assert from_dict(ModelConfig, yaml.safe_load(yaml.safe_dump(to_dict(config)))) == config


def test_there_are_configs():
    assert {"swift", "siamfc"} <= {c.stem for c in CONFIGS}


@pytest.mark.parametrize("file", CONFIGS, ids=lambda f: f.stem)
def test_every_config_loads_and_is_complete(file):
    config, said = to_dict(load_yaml(TrainConfig, file)), yaml.safe_load(file.read_text())
    if "base" in said:
        base = to_dict(load_yaml(TrainConfig, file.parent / said.pop("base")))
        assert said and all(said[key] != base[key] for key in said)
    else:
        assert config == said


def test_a_recipe_with_a_base_says_what_differs(tmp_path):
    (tmp_path / "base.yaml").write_text((CONFIGS[0].parent / "swift.yaml").read_text())
    text = "base: base.yaml\nseed: 7\npairs: {flip: 0.25, mix: {own: 2.0}}\noptim: {lr: 2.0e-4}\n"
    (tmp_path / "own.yaml").write_text(text)
    base, own = (load_yaml(TrainConfig, tmp_path / f"{name}.yaml") for name in ("base", "own"))
    pairs = replace(base.pairs, flip=0.25, mix={**base.pairs.mix, "own": 2.0})
    assert own == replace(base, seed=7, pairs=pairs, optim=replace(base.optim, lr=2e-4))
    for text, message in (
        ("base: own.yaml\n", r"odd\.yaml: base: own\.yaml must be complete, without a base of its own"),
        ("base: 3\n", "base: expected the name of a YAML, got 3"),
        ("base: base.yaml\noptim: {lrr: 1.0}\n", r"optim\.lrr: unknown key; did you mean 'lr'"),
    ):
        (tmp_path / "odd.yaml").write_text(text)
        with pytest.raises(ConfigError, match=message):
            load_yaml(TrainConfig, tmp_path / "odd.yaml")
    (tmp_path / "odd.yaml").write_text("base: gone.yaml\n")
    with pytest.raises(FileNotFoundError, match=r"gone\.yaml"):
        load_yaml(TrainConfig, tmp_path / "odd.yaml")


def change(**values):
    return to_dict(SWIFT) | values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (change(exemplr_size=3), r"exemplr_size: unknown key; did you mean 'exemplar_size'"),
        (change(tracking={"penalty_k": 0.1, "size_lr": 0.3}), "tracking: missing key 'window_influence'"),
        (change(search_size="big"), "search_size: expected int, got 'big'"),
        (change(search_size=True), "search_size: expected int, got True"),
        (change(network="swft"), "network: 'swft' is not allowed; choose from 'siamfc', 'swift'"),
        (change(network="swift-nano"), "tracking.refine: swift-nano has no refiner, give 0; got 0.5"),
        (change(network="siamfc"), "tracking: network siamfc takes PyramidTracking"),
        (change(exemplar_size=300), "exemplar_size < search_size; got 300 and 193"),
        ([1], "expected a mapping"),
    ],
)
def test_errors_name_the_key(values, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(ModelConfig, values)


def test_whole_numbers_are_good_floats():
    assert from_dict(ModelConfig, change(crops={"context_amount": 1})).crops == SquareCrops(1.0)


@pytest.mark.parametrize("crops", [SquareCrops(0.5), BoxCrops(1.4, 5.0)])
def test_windows_lie_about_the_box_and_its_size_in_the_search_crop_is_known(crops):
    config, box = replace(SWIFT, crops=crops), Box(100, 80, 60, 30)
    square = isinstance(crops, SquareCrops)
    exemplar, search = config.exemplar_window(box), config.search_window(box)
    wider = config.search_window(box, 1.5)
    for window in (exemplar, search, wider):
        assert (window.x + window.w / 2, window.y + window.h / 2) == pytest.approx(box.centre)
        assert (window.w == window.h) == square
    assert (wider.w, wider.h) == pytest.approx((1.5 * search.w, 1.5 * search.h))
    if square:  # both crops show the target at one scale
        assert search.scale == pytest.approx(exemplar.scale)
    else:  # every target has one size
        assert exemplar.to_crop(box)[2:] == pytest.approx((128 / 1.4, 128 / 1.4))
        assert search.to_crop(box)[2:] == pytest.approx((SWIFT.search_size / 5, SWIFT.search_size / 5))


def test_a_broken_yaml_is_named(tmp_path):
    (tmp_path / "a.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match=r"a\.yaml: not YAML"):
        load_yaml(TrainConfig, tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: &a 1\nsearch_size: *a\n", "an alias, \\*a; write it out"),
        ("a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
            f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in pairwise("abcdefghij")), "an alias"),
        ("[" * 5000, "nested too deep"),
        ("seed: .nan\n", "unknown key|missing key|expected int"),
        ("seed: 1" + "0" * 400, "missing key|finite"),
    ],
    ids=["alias", "billion laughs", "deep", "nan", "huge"],
)  # fmt: skip
def test_a_hostile_yaml_is_one_short_error(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_yaml(TrainConfig, tmp_path / "a.yaml")
    assert len(str(caught.value)) < 1000
