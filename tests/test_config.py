from pathlib import Path

import pytest
import yaml

from tracker.config import SIAMFC, SWIFT, ConfigError, ModelConfig, from_dict, load_yaml, to_dict
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
    config = load_yaml(TrainConfig, file)
    assert to_dict(config) == yaml.safe_load(file.read_text())


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
        (change(network="siamfc"), "tracking: network siamfc takes PyramidTracking"),
        (change(exemplar_size=300), "0 < exemplar_size < search_size"),
        ([1], "expected a mapping"),
    ],
)
def test_errors_name_the_key(values, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(ModelConfig, values)


def test_whole_numbers_are_good_floats():
    assert from_dict(ModelConfig, change(context_amount=1)).context_amount == 1.0


def test_a_broken_yaml_is_named(tmp_path):
    (tmp_path / "a.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match=r"a\.yaml: not YAML"):
        load_yaml(TrainConfig, tmp_path / "a.yaml")
