"""Networks of others in our naming: the same outputs, from the graph in which they are published."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tracker.backbones import IMAGENET_MEAN, IMAGENET_STD
from tracker.config import SWIFT
from tracker.heads import BoxHead, Template
from tracker.network import CheckpointError, SiameseNet, load_network
from train.__main__ import main
from train.convert import from_fear


class Published(nn.Module):
    """FEAR-XS's search branch with random weights, as its authors export it: no factors, the box map in px."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = SiameseNet(SWIFT).eval()

    def forward(self, image, template):
        image = (image - IMAGENET_MEAN) / IMAGENET_STD + IMAGENET_MEAN  # ours subtracts the mean itself
        maps = self.net(Template(template * SiameseNet.WIDTH**0.5, template), image)
        return maps.logits[:, None], maps.box_map / BoxHead.HALF_SIZE


def export(module: nn.Module, file: Path, names: tuple[str, str]) -> None:
    size = SWIFT.search_size
    inputs = torch.zeros(1, 3, size, size), torch.zeros(1, SiameseNet.WIDTH, 8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, inputs, str(file), input_names=["image", "z"], output_names=names, dynamo=False)


def test_a_converted_fear_gives_the_outputs_of_its_graph(tmp_path, capsys):
    published, file, out = Published(), tmp_path / "fear.onnx", tmp_path / "start.safetensors"
    export(published, file, ("cls", "bbox"))
    assert main(["convert", "--fear", str(file), "--out", str(out)]) == 0
    assert "refiner" in capsys.readouterr().out
    net = load_network(out)
    assert net.config == SWIFT
    image, template = 255 * torch.rand(1, 3, 209, 209), torch.randn(1, SiameseNet.WIDTH, 8, 8)
    with torch.no_grad():
        logits, box_map = published(image, template)
        maps = net(Template(template, template), image)
    assert np.allclose(maps.logits, logits[:, 0], atol=2e-3 * float(logits.abs().max()))  # stored in half precision
    assert np.allclose(maps.box_map, box_map, rtol=0.02)


def test_another_graph_is_refused(tmp_path):
    (tmp_path / "text.onnx").write_text("not a graph")
    with pytest.raises(CheckpointError, match=r"text\.onnx: not an ONNX file"):
        from_fear(tmp_path / "text.onnx")
    export(Published(), tmp_path / "swapped.onnx", ("bbox", "cls"))
    with pytest.raises(CheckpointError, match="not the search branch of FEAR-XS"):
        from_fear(tmp_path / "swapped.onnx")
    with pytest.raises(FileNotFoundError):
        from_fear(tmp_path / "missing.onnx")
