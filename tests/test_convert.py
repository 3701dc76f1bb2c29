"""Networks of others in our naming: the same outputs, from the graph in which they are published."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tracker.backbones import IMAGENET_MEAN, IMAGENET_STD
from tracker.checkpoints import load_network
from tracker.config import NANO, SWIFT
from tracker.errors import CheckpointError
from tracker.heads import BoxHead, Template
from tracker.network import Swift, build_network
from train.__main__ import main
from train.convert import from_fear, from_nanotrack


class PublishedFear(nn.Module):
    """FEAR-XS's search branch with random weights, as its authors export it: no factors, the box map in px."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = build_network(SWIFT).eval()

    def forward(self, image, template):
        image = (image - IMAGENET_MEAN) / IMAGENET_STD + IMAGENET_MEAN  # ours subtracts the mean itself
        maps = self.net(Template(template * Swift.WIDTH**0.5, template), image)
        return maps.logits[:, None], maps.box_map / BoxHead.HALF_SIZE


def export(module: nn.Module, file: Path, names: tuple[str, str]) -> None:
    size = SWIFT.search_size
    inputs = torch.zeros(1, 3, size, size), torch.zeros(1, Swift.WIDTH, 8, 8)
    write_graph(module, inputs, file, input_names=["image", "z"], output_names=names)


def write_graph(module: nn.Module, inputs: tuple[torch.Tensor, ...], file: Path, **names: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module.eval(), inputs, str(file), dynamo=False, **names)


def test_a_converted_fear_gives_the_outputs_of_its_graph(tmp_path, capsys):
    published, file, out = PublishedFear(), tmp_path / "fear.onnx", tmp_path / "start.safetensors"
    export(published, file, ("cls", "bbox"))
    assert main(["convert", "--fear", str(file), "--out", str(out)]) == 0
    assert "refiner" in capsys.readouterr().out
    net = load_network(out)
    assert net.config == SWIFT
    image, template = 255 * torch.rand(1, 3, 209, 209), torch.randn(1, Swift.WIDTH, 8, 8)
    with torch.no_grad():
        logits, box_map = published(image, template)
        maps = net(Template(template, template), image)
    assert np.allclose(maps.logits, logits[:, 0], atol=2e-3 * float(logits.abs().max()))  # stored in half precision
    assert np.allclose(maps.box_map, box_map, rtol=0.02)


def test_another_graph_is_refused(tmp_path):
    (tmp_path / "text.onnx").write_text("not a graph")
    with pytest.raises(CheckpointError, match=r"text\.onnx: not an ONNX file"):
        from_fear(tmp_path / "text.onnx")
    export(PublishedFear(), tmp_path / "swapped.onnx", ("bbox", "cls"))
    with pytest.raises(CheckpointError, match="not the search branch of FEAR-XS"):
        from_fear(tmp_path / "swapped.onnx")
    with pytest.raises(FileNotFoundError):
        from_fear(tmp_path / "missing.onnx")


# --- NanoTrack v3, spelt out as its authors have it: batch-norm folded, BGR, two classes, no layer worked out before


class PublishedTrunk(nn.Module):
    """The stages one by one; squeeze and excitation by matrix products."""

    def __init__(self) -> None:
        super().__init__()

        def conv(inputs, outputs, kernel=1, stride=1, groups=1):
            return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups)

        self.first = conv(3, 16, 3, 2)
        self.stages = nn.ModuleList()
        width = 16
        for kernel, hidden, out, squeezed, stride in [
            (3, 16, 16, 8, 2), (3, 72, 24, 0, 2), (3, 88, 24, 0, 1), (5, 96, 40, 24, 2), (5, 240, 40, 64, 1),
            (5, 240, 40, 64, 1), (5, 120, 48, 32, 1), (5, 144, 48, 40, 1), (5, 288, 96, 72, 1),
        ]:  # fmt: skip
            parts = {"expand": conv(width, hidden)} if hidden != width else {}
            parts["filter"] = conv(hidden, hidden, kernel, stride, hidden)
            if squeezed:
                parts |= {"squeeze": nn.Linear(hidden, squeezed), "excite": nn.Linear(squeezed, hidden)}
            self.stages.append(nn.ModuleDict({**parts, "project": conv(hidden, out)}))
            width = out

    def forward(self, image):
        x = nn.functional.hardswish(self.first(image))
        for number, stage in enumerate(self.stages):
            act = nn.functional.relu if number < 3 else nn.functional.hardswish
            y = act(stage["expand"](x)) if "expand" in stage else x
            y = stage["filter"](y)
            if number < 3:
                y = act(y)
            if "squeeze" in stage:
                weights = stage["excite"](nn.functional.relu(stage["squeeze"](y.mean((2, 3)))))
                y = y * nn.functional.hardsigmoid(weights)[:, :, None, None]
            if number >= 3:
                y = act(y)
            y = stage["project"](y)
            x = x + y if y.shape == x.shape else y
        return x


class PublishedHead(nn.Module):
    """Two branches, the box's first; both sides of each comparison pass a layer of their own."""

    def __init__(self) -> None:
        super().__init__()

        def branch(outputs):
            tower = []
            for _ in range(6):
                tower += [nn.Conv2d(96, 96, 3, padding=1, groups=96), nn.ReLU6(), nn.Conv2d(96, 96, 1)]
            names = "template", "search", "squeeze", "excite", "gather", "mix", "middle", "encode", "join"
            layers = [
                nn.Conv2d(96, 96, 1), nn.Conv2d(96, 96, 1), nn.Conv2d(64, 64, 1), nn.Conv2d(64, 64, 1),
                nn.Conv2d(64, 64, 2, groups=64), nn.Conv2d(64, 64, 1), nn.Conv2d(96, 96, 1), nn.Conv2d(96, 96, 1),
                nn.Conv2d(160, 96, 1),
            ]  # fmt: skip
            last = {"tower": nn.Sequential(*tower), "last": nn.Conv2d(96, outputs, 1)}
            return nn.ModuleDict({**dict(zip(names, layers, strict=True)), **last})

        self.box, self.score = branch(4), branch(2)

    @staticmethod
    def alike(branch, template, search):
        known, seen = branch["template"](template), branch["search"](search)
        alike = torch.einsum("bck,bcs->bks", known.flatten(2), seen.flatten(2)).reshape(1, 64, *seen.shape[2:])
        squeezed = nn.functional.relu(branch["squeeze"](alike.mean((2, 3), keepdim=True)))
        alike = alike * torch.sigmoid(branch["excite"](squeezed))
        return branch["mix"](nn.functional.relu6(branch["gather"](alike)))

    @staticmethod
    def filtered(branch, template, search):
        kernel = branch["middle"](template[:, :, 2:6, 2:6])[0][:, None]
        return nn.functional.conv2d(branch["encode"](search), kernel, padding=1, groups=96)

    def forward(self, template, search):
        alike = [self.alike(branch, template, search) for branch in (self.box, self.score)]
        filtered = [self.filtered(branch, template, search) for branch in (self.box, self.score)]
        joined = [torch.cat(both, dim=1) for both in zip(alike, filtered, strict=True)]
        box, score = (b["join"](x) for b, x in zip((self.box, self.score), joined, strict=True))
        return self.score["last"](self.score["tower"](score)), self.box["last"](self.box["tower"](box)).exp()


@pytest.fixture(scope="module")
def nanotrack(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nanotrack")
    torch.manual_seed(1)
    trunk, head = PublishedTrunk(), PublishedHead()
    write_graph(trunk, (torch.zeros(1, 3, 255, 255),), folder / "trunk.onnx")
    write_graph(head, (torch.zeros(1, 96, 8, 8), torch.zeros(1, 96, 16, 16)), folder / "head.onnx")
    return trunk, head, folder


def test_a_converted_nanotrack_gives_the_outputs_of_its_graphs(nanotrack, tmp_path):
    trunk, head, folder = nanotrack
    out = tmp_path / "nano.safetensors"
    graphs = [str(folder / "trunk.onnx"), str(folder / "head.onnx")]
    assert main(["convert", "--nanotrack-v3", *graphs, "--out", str(out)]) == 0
    assert load_network(out).config == NANO
    net = from_nanotrack(*map(Path, graphs))  # in full precision
    exemplar, search = 255 * torch.rand(1, 3, 127, 127), 255 * torch.rand(1, 3, 255, 255)
    with torch.no_grad():
        template, features = trunk(exemplar.flip(1)), trunk(search.flip(1))  # BGR
        classes, sides = head(template, features)
        assert torch.allclose(net.features(search)[0], features, atol=1e-4 * float(features.abs().max()))
        maps = net(net.embed(exemplar, torch.full((1, 2), 0.5)), search)
    logits = classes[:, 1] - classes[:, 0]
    assert logits.std() > 1e-4 and sides.std() > 1e-4  # they say something
    assert torch.allclose(maps.logits, logits, atol=1e-3 * float(logits.std()))
    assert torch.allclose(maps.box_map, sides, rtol=1e-4)


def test_other_graphs_than_nanotracks_are_refused(nanotrack):
    *_, folder = nanotrack
    with pytest.raises(CheckpointError, match=r"head\.onnx: not the trunk of NanoTrack v3"):
        from_nanotrack(folder / "head.onnx", folder / "trunk.onnx")
    with pytest.raises(CheckpointError, match=r"trunk\.onnx: not the head of NanoTrack v3"):
        from_nanotrack(folder / "trunk.onnx", folder / "trunk.onnx")
