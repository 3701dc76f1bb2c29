from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import reference
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tracker.backbones import AlexNet, MobileNetV2
from tracker.backends import make_runner, parts_of
from tracker.checkpoints import average, load_network, save_network
from tracker.config import NANO, SIAMFC, SWIFT, BoxCrops
from tracker.correlation import xcorr, xcorr_all, xcorr_depthwise, xcorr_pixelwise
from tracker.crop import stack_rgb
from tracker.errors import CheckpointError
from tracker.heads import Template
from tracker.network import build_network, to_input


@pytest.fixture(params=[SIAMFC, SWIFT, NANO], ids=["siamfc", "swift", "swift-nano"])
def net(request):
    torch.manual_seed(0)
    net = build_network(request.param)
    for module in net.modules():  # batch-norm that is not the identity
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return net.eval()


def inputs(net, n=2):
    torch.manual_seed(1)
    z, x = net.config.exemplar_size, net.config.search_size
    exemplar, search = (torch.randint(256, (n, 3, side, side)).float() for side in (z, x))
    return exemplar, torch.rand(n, 2) / 2 + 0.2, search


def as_cut(search):
    """Crops as they are cut: (N, H, W, 3) uint8."""
    return search.permute(0, 2, 3, 1).to(torch.uint8).contiguous().numpy()


# --- correlation


def test_correlations_equal_the_twin(rng):
    z, x = rng.normal(size=(2, 4, 3, 3)), rng.normal(size=(2, 4, 7, 9))
    tz, tx = torch.from_numpy(z), torch.from_numpy(x)
    every, depth, pixel = xcorr_all(tz, tx), xcorr_depthwise(tz, tx), xcorr_pixelwise(tz, tx)
    padded = xcorr_depthwise(tz, tx, padding=1)
    assert padded.shape == (2, 4, 7, 9) and torch.equal(padded[:, :, 1:-1, 1:-1], depth)
    assert torch.allclose(padded, xcorr_depthwise(tz, nn.functional.pad(tx, (1, 1, 1, 1))))
    for i in range(2):
        expected = reference.xcorr(z[i], x[i])
        assert np.allclose(xcorr(tz, tx)[i, 0], expected)
        assert np.allclose(every[i, i], expected)
        assert np.allclose(every[i, 1 - i], reference.xcorr(z[1 - i], x[i]))
        for c in range(4):
            assert np.allclose(depth[i, c], reference.xcorr(z[i, c : c + 1], x[i, c : c + 1]))
        for cell in range(9):
            one = z[i, :, cell // 3, cell % 3]
            assert np.allclose(pixel[i, cell], np.einsum("c,chw->hw", one, x[i]) / 2)


# --- shapes that the papers give


def test_alexnet_has_the_papers_sizes():
    net = AlexNet().eval()
    with torch.no_grad():
        assert net(torch.zeros(1, 3, 127, 127))[0].shape == (1, 256, 6, 6)
        assert net(torch.zeros(1, 3, 255, 255))[0].shape == (1, 256, 22, 22)


def test_score_map_sizes(net):
    exemplar, extent, search = inputs(net)
    with torch.no_grad():
        maps = net(net.embed(exemplar, extent), search)
    cells = net.grid.cells
    assert maps.logits.shape == (2, cells, cells)
    assert cells == {"siamfc": 17, "swift": 13, "swift-nano": 12}[net.config.network]
    if net.config.network != "siamfc":
        assert maps.box_map.shape == (2, 4, cells, cells) and (maps.box_map > 0).all()
    else:
        assert maps.box_map is None


def test_the_map_is_centred_on_the_crop(net):
    for size in (net.config.search_size, net.config.search_size + 2 * net.stride):
        grid = net.grid_on(size)
        assert grid.centres[0] + grid.centres[-1] == size
        assert np.diff(grid.centres) == pytest.approx(net.stride)


def test_siamfc_is_fully_convolutional():
    """Moving the search region by the stride moves the response by a cell."""
    torch.manual_seed(0)
    net = build_network(SIAMFC).eval()
    wide = 255 * torch.rand(1, 3, 263, 263)
    with torch.no_grad():
        template = net.embed(wide[:, :, 60:187, 60:187], torch.ones(1, 2) / 2)
        a, b = net(template, wide[:, :, :255, :255]).logits, net(template, wide[:, :, 8:, 8:]).logits
    assert torch.allclose(a[:, 1:, 1:], b[:, :-1, :-1], atol=1e-4)


def test_imagenet_weights_with_batch_norm_folded_give_the_same_features():
    """A plain MobileNetV2 with its batch-norm in place is the twin of ours."""
    torch.manual_seed(0)

    def layer(i, o, k, s, g=1, act=True):
        block = [nn.Conv2d(i, o, k, s, k // 2, groups=g, bias=False), nn.BatchNorm2d(o)]
        return [*block, nn.ReLU6()] if act else block

    class Residual(nn.Module):
        def __init__(self, i, o, s, t):
            super().__init__()
            h = i * t
            expand = layer(i, h, 1, 1) if t > 1 else []
            # torchvision nests every activated convolution: conv.0.0, conv.0.1; the flat form has the same order
            self.conv = nn.Sequential(*expand, *layer(h, h, 3, s, h), *layer(h, o, 1, 1, act=False))
            self.skip = s == 1 and i == o

        def forward(self, x):
            return x + self.conv(x) if self.skip else self.conv(x)

    width, stages = 32, [nn.Sequential(*layer(3, 32, 3, 2))]
    for t, c, n, s in MobileNetV2.STAGES:
        for k in range(n):
            stages.append(Residual(width, c, s if k == 0 else 1, t))
            width = c
    twin = nn.Module()
    twin.features = nn.Sequential(*stages)
    for module in twin.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
    twin.eval()
    ours = MobileNetV2().eval()
    ours.load_imagenet(twin.state_dict())
    x = 255 * torch.rand(1, 3, 97, 97)
    with torch.no_grad():
        expected = twin.features((x - ours.mean) / ours.std)
        assert torch.allclose(ours(x)[-1], expected, atol=1e-4 * float(expected.abs().max()))


def test_imagenet_weights_of_another_network_are_refused():
    with pytest.raises(ValueError, match="no ImageNet weights of a MobileNetV2"):
        MobileNetV2().load_imagenet({"a.weight": torch.zeros(1)})


# --- inference form


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("engine", ["torch", "onnxruntime"])
def test_every_engine_gives_the_same_maps_at_any_batch(net, batch, engine):
    swift = net.config.network == "swift"
    if swift:
        nn.init.normal_(net.refiner.out[-1].weight, std=0.1)
    exemplar, extent, search = inputs(net, batch)
    with torch.no_grad():
        template = net.embed(exemplar, extent)
        maps = net(template, search)
    runner = make_runner(net, "cpu", engine)
    features, patches = runner.embed(as_cut(exemplar), extent.numpy())
    assert close(np.concatenate(features), template.features) and close(patches, template.patch)
    got = runner.compare(features, as_cut(search))
    assert close(got.logits, maps.logits) and (got.box_map is None) == (maps.box_map is None)
    assert got.box_map is None or close(got.box_map, maps.box_map)
    if swift:
        rows = [0, 0] if batch == 1 else [2, 0, 2, 1]  # any number of boxes of any row
        boxes = torch.rand(len(rows), 4) * 60 + 60
        with torch.no_grad():
            seen = net.patches([level[rows] for level in maps.levels], boxes)
            better = net.refine(template.patch[rows], seen, boxes)
        assert (better[:, :4] - boxes).abs().max() > 1
        looked = runner.patches(got.levels, rows, boxes.numpy())
        assert close(looked, seen)
        assert np.allclose(runner.refine(patches[rows], looked, boxes.numpy()), better, rtol=1e-3, atol=1e-2)


def close(got, expected):
    """Whether an engine's array is what PyTorch says, to rounding."""
    expected = expected.numpy()
    return np.allclose(got, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max(initial=0))


@pytest.mark.parametrize("config", [SIAMFC, NANO], ids=["siamfc", "swift-nano"])
def test_a_network_without_a_refiner_says_so(config):
    runner = make_runner(build_network(config), "cpu", "torch")
    with pytest.raises(ValueError, match="this network has no refiner"):
        runner.refine(np.zeros((1, 0)), np.zeros((1, 0)), np.zeros((1, 4)))


def test_unknown_engines_are_named(net):
    with pytest.raises(ValueError, match="no engine 'tensorrt'; there is auto"):
        make_runner(net, "cpu", "tensorrt")


def test_without_onnxruntime_auto_takes_torch_and_asking_for_it_is_an_error(monkeypatch):
    net = build_network(SWIFT).eval()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert make_runner(net, "cpu").engine == "torch"
    with pytest.raises(ValueError, match=r"pip install \"siamtrack\[fast\]\""):
        make_runner(net, "cpu", "onnxruntime")


@pytest.mark.parametrize("engine", ["torch", "onnxruntime"])
def test_a_network_that_is_run_stays_as_it_is(engine):
    net = build_network(NANO).double().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    runner = make_runner(net, "cpu", engine)
    assert runner.embed(np.zeros((1, 127, 127, 3), np.uint8), np.full((1, 2), 0.5, np.float32))[0][0].shape[0] == 1
    after = net.state_dict()
    assert all(value.dtype == after[name].dtype and torch.equal(value, after[name]) for name, value in before.items())
    assert all(module.training for module in net.modules()) and all(p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("config", [SIAMFC, SWIFT, NANO], ids=["siamfc", "swift", "swift-nano"])
def test_the_parts_of_a_network_are_where_it_is(config):
    """On "meta", which any machine has, and which like a GPU does not mix with the CPU."""
    for part in parts_of(build_network(config).eval().to("meta")).values():
        assert {one.device.type for one in part.inputs} == {"meta"}


@pytest.mark.parametrize("engine", ["torch", "onnxruntime"])
def test_several_threads_may_make_runners_at_once(engine):
    net = build_network(NANO).eval()
    with ThreadPoolExecutor(4) as pool:
        runners = list(pool.map(lambda _: make_runner(net, "cpu", engine), range(4)))
    exemplar, extent, search = inputs(net, 1)
    first, *others = ((r.embed(as_cut(exemplar), extent.numpy())[0], r) for r in runners)
    expected = first[1].compare(first[0], as_cut(search)).logits
    assert all(np.allclose(r.compare(known, as_cut(search)).logits, expected, atol=1e-5) for known, r in others)


def test_one_of_a_batch_is_the_same_alone(net):
    exemplar, extent, search = inputs(net, 3)
    with torch.inference_mode():
        template = net.embed(exemplar, extent)
        together = net(template, search).logits[1]
        alone = net(Template(*(t[1:2] for t in template)), search[1:2]).logits[0]
    assert torch.allclose(together, alone, atol=1e-4 * float(alone.abs().max()))


def test_to_input_gives_rgb_planes():
    crop = np.zeros((2, 3, 3), np.uint8)
    crop[1, 2] = 10, 20, 30  # blue, green, red
    x = to_input(stack_rgb([crop]))
    assert x.shape == (1, 3, 2, 3) and x.dtype == torch.float32
    assert x[0, :, 1, 2].tolist() == [30, 20, 10]


# --- checkpoints


def test_save_and_load_round_trip(net, tmp_path):
    save_network(net, tmp_path / "a.safetensors", half=False)
    again = load_network(tmp_path / "a.safetensors")
    assert again.config == net.config and not again.training
    for key, value in net.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            assert torch.equal(value, again.state_dict()[key]), key
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.safetensors"]


def test_half_precision_files_are_small(net, tmp_path):
    save_network(net, tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").stat().st_size < 6e6


def test_siamfc_pytorch_checkpoints_load(tmp_path):
    torch.manual_seed(3)
    net = build_network(SIAMFC).eval()
    state = {k: v for k, v in net.state_dict().items() if k.startswith("backbone.")}
    assert "backbone.conv1.0.weight" in state and "backbone.conv5.0.bias" in state
    torch.save(state, tmp_path / "siamfc_alexnet_e50.pth")
    again = load_network(tmp_path / "siamfc_alexnet_e50.pth")
    exemplar, extent, search = inputs(net, 1)
    with torch.no_grad():
        a, b = (n(n.embed(exemplar, extent), search).logits for n in (net, again))
    assert torch.equal(a, b)


def test_broken_weight_files_are_named(net, tmp_path):
    good, bad = tmp_path / "good.safetensors", tmp_path / "bad.safetensors"
    save_network(net, good)
    bad.write_bytes(good.read_bytes()[:2000])
    with pytest.raises(CheckpointError, match=r"bad\.safetensors: truncated or foreign"):
        load_network(bad)
    save_file({"a": torch.zeros(1)}, bad)
    with pytest.raises(CheckpointError, match="without a siamtrack config"):
        load_network(bad)
    state = load_file(good)
    state.pop(next(iter(state)))
    from safetensors import safe_open

    with safe_open(good, framework="pt") as file:
        save_file(state, bad, metadata=file.metadata())
    with pytest.raises(CheckpointError, match="1 entries differ"):
        load_network(bad)
    (tmp_path / "bad.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match=r"bad.pth: truncated or foreign"):
        load_network(tmp_path / "bad.pth")
    torch.save({"something": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="not a known layout"):
        load_network(tmp_path / "other.pth")
    with pytest.raises(FileNotFoundError, match="no weight file"):
        load_network(tmp_path / "missing.safetensors")


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"backbone.conv1.0.weight": Bomb()}, tmp_path / "bomb.pth")
    with pytest.raises(CheckpointError):
        load_network(tmp_path / "bomb.pth")
    assert not (tmp_path / "ran").exists()


def test_the_average_of_networks(tmp_path):
    torch.manual_seed(0)
    a, b = build_network(SWIFT).eval(), build_network(replace(SWIFT, crops=BoxCrops(1.5, 4.0))).eval()
    mean = average([a, b])
    assert mean.config == b.config
    for key, value in mean.state_dict().items():
        if value.is_floating_point():
            assert torch.allclose(value, (a.state_dict()[key] + b.state_dict()[key]) / 2)
    with pytest.raises(CheckpointError, match="of one kind"):
        average([a, build_network(SIAMFC)])
