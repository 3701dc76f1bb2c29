"""The Siamese family: what each architecture promises, its checkpoint, the gallery, `compare`."""

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save

from tracker.checkpoints import load_network, save_network
from tracker.config import SWIFT, Logistic, from_dict, to_dict
from tracker.crop import patch
from tracker.errors import CheckpointError, ConfigError, SourceError
from tracker.footage.files import read_image
from tracker.footage.video import SourceWarning
from tracker.loading import weight_names
from tracker.network import build_network
from tracker.similarity import (
    DISTANCES,
    FARS,
    SEQUENCES,
    SHIPPED,
    WORDS,
    SecondBranch,
    Similarity,
    SimilarityConfig,
    SimilarityNet,
    image_files,
    load_similarity,
    to_input,
    to_pixels,
)
from tracker.similarity.command import add_arguments, compare_command
from tracker.similarity.letters import letters
from tracker.similarity.likeness import KEY
from tracker.similarity.network import SHARPNESS, DistanceReader, centre_mean, centre_surround, distance
from tracker.similarity.strokes import strokes, thin

CONV = SimilarityConfig("siamese", "conv", (4, 8), False, (), 32, 1, True, 16, False, "network")
KOCH = SimilarityConfig("siamese", "koch", (64, 128, 128, 256), False, (), 105, 1, False, 4096, False, "logistic")
KINDS = {
    "siamese": CONV,
    "siamese logistic": replace(CONV, reader="logistic"),
    **{f"siamese {d}": replace(CONV, reader=d) for d in DISTANCES},
    "siamese distance to odds": replace(CONV, reader="euclidean", normalise=True, link="sigmoid"),
    "siamese exp of distance": replace(CONV, reader="manhattan", normalise=True, link="exp"),
    "pseudo-siamese": replace(CONV, pairing="pseudo-siamese"),
    "image against strokes": replace(CONV, pairing="pseudo-siamese", second=SecondBranch("lstm", (6, 5), 20)),
    "image against word": replace(CONV, pairing="pseudo-siamese", second=SecondBranch("word-gru", (6, 5), 7)),
    "image against vector": replace(CONV, pairing="pseudo-siamese", second=SecondBranch("mlp", (9,), 12)),
    "two-channel": replace(CONV, pairing="two-channel"),
    "two-channel colour": replace(CONV, pairing="two-channel", channels=3),
    "siamese two-stream": replace(CONV, two_stream=True),
    "two-channel two-stream": replace(CONV, pairing="two-channel", two_stream=True),
    "spp": replace(CONV, pyramid=(4, 2, 1)),
    "two-channel two-stream spp": replace(CONV, pairing="two-channel", two_stream=True, pyramid=(2, 1)),
    "koch": replace(KOCH, widths=(2, 3, 4, 5), size=65, embedding=8),
    "triplet": replace(CONV, reader="euclidean", normalise=True),
    "mobilenet": SimilarityConfig("siamese", "mobilenet", (), False, (), 33, 3, False, 8, False, "network"),
    "strokes": replace(CONV, trunk="gru", widths=(7,), size=24, channels=3, standardise=False, reader="euclidean"),
    "mlp": SimilarityConfig("siamese", "mlp", (20, 10), False, (), 28, 1, False, 8, False, "euclidean", 0.1),
}


def make(config, seed=0):
    """A network whose scores differ from pair to pair, as those of a trained one do."""
    torch.manual_seed(seed)
    net = SimilarityNet(config)
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d) and config.trunk == "mobilenet":  # fifty layers
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
        elif isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            module.weight.data *= 3
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.3, 0.3)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    return net.eval()


def images(config, n, size=None, seed=1, second=False):
    config = config.side(second)
    size = size or config.size
    if config.trunk in SEQUENCES:
        return torch.rand(n, *config.shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.rand(n, config.channels, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", KINDS)
def test_scores_are_one_a_pair_and_symmetric_where_promised(name):
    config = KINDS[name]
    net = make(config)
    a, b = images(config, 5, seed=1), images(config, 5, seed=2, second=True)
    with torch.no_grad():
        there, back = net(a, b), None if config.second else net(b, a)
        one = torch.cat([net(a[i : i + 1], b[i : i + 1]) for i in range(5)])
    assert there.shape == (5,)
    assert there.std() > 1e-3
    torch.testing.assert_close(there, one, rtol=1e-3, atol=1e-3)  # a pair's score does not depend on the others
    if config.pairing == "siamese":
        torch.testing.assert_close(there, back)
    elif back is not None:
        assert (there - back).abs().max() > 1e-3
    if config.bare_distance:
        assert (there < 0).all()
        torch.testing.assert_close(net(a, a), torch.zeros(5), atol=1e-6, rtol=0)


def test_siamese_shares_weights_and_pseudo_siamese_does_not():
    single, double, together = (make(replace(CONV, pairing=p)) for p in ("siamese", "pseudo-siamese", "two-channel"))
    assert [len(net.branches) for net in (single, double, together)] == [1, 2, 1]
    x = images(CONV, 1)
    assert torch.equal(single.embed(x), single.embed(x, second=True))
    assert not torch.allclose(double.embed(x), double.embed(x, second=True))
    assert together.branches[0].streams[0][0].in_channels == 2
    assert {m.kernel_size for m in together.modules() if isinstance(m, torch.nn.Conv2d)} == {(3, 3)}


def test_distances_are_their_formulas():
    a, b = torch.rand(6, 7, dtype=torch.float64), torch.rand(6, 7, dtype=torch.float64)
    x, y = a.numpy(), b.numpy()
    cosine = 1 - (x * y).sum(1) / np.sqrt((x * x).sum(1) * (y * y).sum(1))
    for kind, wanted in zip(DISTANCES, (np.sqrt(((x - y) ** 2).sum(1)), abs(x - y).sum(1), cosine), strict=True):
        np.testing.assert_allclose(distance(a, b, kind).numpy(), wanted, rtol=1e-12)


def test_a_distance_becomes_a_probability_by_its_formula():
    d = torch.tensor([0.0, 1e-3, 0.5, 2.0, 40.0], dtype=torch.float64, requires_grad=True)
    for link, w, b in (("sigmoid", 2.5, 1.5), ("exp", 0.7, None)):
        reader = DistanceReader(link).double()
        reader.log_w.data.fill_(np.log(w))
        if b is not None:
            reader.b.data.fill_(b)
        p = reader(d).sigmoid()
        x = d.detach().numpy()
        wanted = 1 / (1 + np.exp(w * x - b)) if b is not None else np.exp(-w * x)
        np.testing.assert_allclose(p.detach().numpy(), wanted, atol=2e-6)
        p.log().sum().backward()
        assert all(v.grad.isfinite().all() for v in (d, *reader.parameters()))
    with pytest.raises(ConfigError, match="not of reader network"):
        replace(CONV, link="exp")


def test_koch_network_has_the_parameters_and_shapes_of_the_paper():
    net = SimilarityNet(KOCH)
    assert sum(p.numel() for p in net.parameters()) == 38_951_745
    layers = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [(m.out_channels, *m.kernel_size) for m in layers] == [
        (64, 10, 10), (128, 7, 7), (128, 4, 4), (256, 4, 4)
    ]  # fmt: skip
    assert net.branches[0].neck.in_features == 9216
    features = net.eval().embed(images(KOCH, 1))
    assert features.shape == (1, 4096)
    assert (features > 0).all()
    assert (features < 1).all()


def test_the_middle_counts_most_in_the_mean_of_a_mobilenet_map():
    x = torch.rand(2, 3, 5, 7, dtype=torch.float64)
    y, z = ((np.arange(n) + 0.5) / n - 0.5 for n in (5, 7))
    weights = np.exp(-(y[:, None] ** 2 + z**2) / (2 / 9))  # a third of the side is one deviation
    wanted = (x.numpy() * weights).sum((2, 3)) / weights.sum()
    np.testing.assert_allclose(centre_mean(x).numpy(), wanted, rtol=1e-6)
    torch.testing.assert_close(centre_mean(x.flip(2, 3)), centre_mean(x))
    torch.testing.assert_close(centre_mean(torch.ones(1, 4, 7, 7)), torch.ones(1, 4))


def test_two_streams_are_the_middle_and_the_whole_at_half_resolution():
    x = torch.arange(64.0).reshape(1, 1, 8, 8)
    centre, surround = centre_surround(x)
    assert torch.equal(centre, x[..., 2:6, 2:6])
    torch.testing.assert_close(surround, x.reshape(1, 1, 4, 2, 4, 2).mean((3, 5)))
    streams = make(KINDS["siamese two-stream"]).branches[0].streams
    assert len(streams) == 2
    assert not torch.equal(streams[0][0].weight, streams[1][0].weight)


def test_pyramid_holds_the_maxima_of_the_parts_of_any_size():
    net = make(KINDS["spp"])
    pool = net.branches[0].streams[0][-1]
    x = torch.rand(2, 3, 8, 8)
    parts = [x.reshape(2, 3, n, 8 // n, n, 8 // n).amax((3, 5)).flatten(1) for n in (4, 2, 1)]
    torch.testing.assert_close(pool(x), torch.cat(parts, 1))
    small, wide = torch.rand(1, 1, 20, 23), torch.rand(1, 1, 31, 70)
    assert net.embed(small).shape == net.embed(wide).shape == (1, 16)
    both = make(KINDS["two-channel two-stream spp"])
    assert both(small, wide).shape == (1,)
    assert net(small, wide).shape == (1,)


def test_wrong_images_are_refused_by_name():
    net = make(CONV)
    with pytest.raises(ValueError, match=r"takes images of 32x32 only, got 40x36; .*spatial pyramid pooling"):
        net(images(CONV, 1), torch.rand(1, 1, 36, 40))
    with pytest.raises(ValueError, match=r"\(N, 1, H, W\)"):
        net.embed(torch.rand(1, 3, 32, 32))
    with pytest.raises(ValueError, match="at least 4x4, got 9x3"):
        make(KINDS["spp"]).embed(torch.rand(1, 1, 3, 9))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pairing": "two-channel", "reader": "euclidean"}, "two-channel has no embeddings"),
        ({"trunk": "mlp", "two_stream": True}, "need trunk conv"),
        ({"trunk": "mobilenet"}, "widths \\[\\], channels 3"),
        ({"trunk": "koch"}, "4 convolutions, got 2"),
        ({"widths": ()}, "at least one"),
        ({"dropout": 0.5}, "unless trunk is mlp"),
        ({"size": 3}, "at least 4 px, got 3"),
    ],
)
def test_configs_that_make_no_network_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        replace(CONV, **change)


@pytest.mark.parametrize("name", KINDS)
def test_smallest_size_goes_in_and_smaller_does_not(name):
    config = KINDS[name]
    least = config.smallest
    at_least = replace(config, size=least)
    assert make(at_least)(images(at_least, 1), images(at_least, 1, seed=2, second=True)).shape == (1,)
    if least > 1:
        with pytest.raises(ConfigError, match="at least"):
            replace(config, size=least - 1)


@pytest.mark.parametrize("name", KINDS)
def test_checkpoint_holds_config_and_weights(name, tmp_path):
    config = replace(KINDS[name], threshold=-0.25, calibration=Logistic((2.0,), 0.5))
    assert from_dict(SimilarityConfig, json.loads(json.dumps(to_dict(config)))) == config
    net = make(config)
    save_network(net, tmp_path / "net.safetensors", half=False)
    again = load_similarity(tmp_path / "net.safetensors")
    assert again.config == config
    assert not again.training
    a, b = images(config, 2), images(config, 2, seed=3, second=True)
    assert torch.equal(net(a, b), again(a, b))
    assert list(tmp_path.iterdir()) == [tmp_path / "net.safetensors"]


def test_foreign_weights_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no weight file"):
        load_similarity(tmp_path / "missing.safetensors")
    with pytest.raises(IsADirectoryError, match=r"is a folder; give a file of weights in it, as best\.safetensors"):
        load_similarity(tmp_path)
    file = tmp_path / "net.safetensors"
    save_network(build_network(SWIFT), file)
    with pytest.raises(CheckpointError, match=r"another kind of network; Tracker .* of trackers, Similarity"):
        load_similarity(file)
    net = make(CONV)
    save_network(net, file)
    with pytest.raises(CheckpointError, match="another kind of network"):
        load_network(file)
    net.config = replace(CONV, widths=(4, 9))
    save_network(net, file)
    with pytest.raises(CheckpointError, match="not the weights of a siamese conv network"):
        load_similarity(file)
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="truncated"):
        load_similarity(file)


@pytest.mark.parametrize("name", KINDS)
def test_a_matrix_of_scores_holds_the_scores_of_the_pairs(name):
    config = KINDS[name]
    net = make(config)
    queries, references = images(config, 3), images(config, 6, seed=5, second=True)
    with torch.no_grad():
        a, b = net.embed(queries), net.embed(references, second=True)
        wanted = torch.stack([net.join(one.expand(6, *one.shape), b) for one in a])
        torch.testing.assert_close(net.scores(a, b), wanted, rtol=1e-3, atol=1e-3)


def test_similarity_for_people_rises_with_the_score():
    scores = [-1.5, -0.5, 0.0]
    for reader, top in (("network", 0.5), ("logistic", 0.5), ("euclidean", 1.0), ("manhattan", 1.0), ("cosine", 1.0)):
        net = make(replace(CONV, reader=reader))
        values = [net.similarity(s) for s in scores]
        assert values == sorted(values)
        assert values[-1] == pytest.approx(top)
        net.config = replace(net.config, calibration=Logistic((2.0,), -0.5))
        assert net.similarity(scores) == pytest.approx(1 / (1 + np.exp(0.5 - 2 * np.array(scores))))


def test_pixels_are_grey_or_colour_as_the_network_wants(photo):
    grey, colour = CONV, replace(CONV, channels=3)
    x = to_pixels(photo, grey)
    assert x.shape == (1, 1, 240, 320)
    np.testing.assert_allclose(x[0, 0].numpy() * 255, cv2.cvtColor(photo, cv2.COLOR_BGR2GRAY), atol=1e-3)
    assert to_pixels(photo[..., 0], colour, 32).shape == (1, 3, 32, 32)
    np.testing.assert_allclose(to_pixels(photo, colour)[0].permute(1, 2, 0).numpy() * 255, photo, atol=1e-3)


def test_standardised_features_do_not_depend_on_light():
    x = images(CONV, 3)
    for standardise, most in ((True, 0.03), (False, 1e9)):
        net = make(replace(CONV, standardise=standardise))
        change = (net.embed(x) - net.embed(0.5 * x + 0.2)).norm() / net.embed(x).norm()
        assert change < most
    assert change > 0.1


def test_patch_shows_the_box_with_its_context(photo):
    flat = np.full((100, 120, 3), 50, np.uint8)
    flat[40:60, 50:70] = 200
    exact = patch(flat, (50, 40, 20, 20), 20, 0.0)
    assert (exact == 200).all()
    wide = patch(flat, (50, 40, 20, 20), 40, 0.5)
    assert (wide[10:30, 10:30] == 200).all()
    assert (wide == 200).sum() == 3 * 20 * 20
    with pytest.raises(ValueError, match="wholly outside"):
        patch(flat, (200, 40, 20, 20), 20, 0.0)


# --- strokes and branches of two kinds -------------------------------------------------------------------------------


def drawing(*lines, side=105):
    image = np.full((side, side), 255, np.uint8)
    for line in lines:
        cv2.polylines(image, [np.array(line, np.int32)], False, 0, 5)
    return image


def test_a_skeleton_is_one_pixel_wide_and_whole():
    ink = drawing([(20, 20), (80, 80), (80, 20)], [(10, 90), (95, 90)]) == 0
    bones = thin(ink)
    assert (bones & ~ink).sum() == 0 and bones.sum() < 0.3 * ink.sum()
    assert not (bones[1:, 1:] & bones[:-1, 1:] & bones[1:, :-1] & bones[:-1, :-1]).any()  # no square of four
    counts = [cv2.connectedComponents(mask.astype(np.uint8))[0] for mask in (ink, bones)]
    assert counts == [3, 3]  # two strokes and the paper


def test_a_skeleton_keeps_both_diagonals():
    stairs = np.zeros((40, 40), bool)
    for i in range(2, 38):  # as wide as a skeleton whose pixels share sides
        stairs[i, i] = stairs[i, min(i + 1, 37)] = True
    for ink in (stairs | stairs[:, ::-1], drawing([(4, 4), (43, 43)], [(43, 4), (4, 43)], side=48) == 0):
        bones = thin(ink)
        for mask, one in ((ink, bones), (ink[:, ::-1], bones[:, ::-1])):  # every point of a diagonal lies near a bone
            near = cv2.dilate(one.astype(np.uint8), np.ones((3, 3), np.uint8))
            assert all(near[i, i] for i in range(5, 36) if mask[i, i])
        np.testing.assert_array_equal(thin(bones), bones)


def test_strokes_are_walked_from_end_to_end():
    cross = strokes(drawing([(10, 50), (95, 50)], [(52, 10), (52, 95)]), 60)
    assert cross.shape == (60, 3) and cross.dtype == np.float32
    assert np.abs(cross[:, :2]).max() == pytest.approx(1, abs=0.05)
    starts = np.flatnonzero(cross[:, 2])
    assert starts[0] == 0 and 2 <= len(starts) <= 3
    down = cross[: starts[1]]
    assert np.abs(down[:, 0]).max() < 0.15 and (np.diff(down[:, 1]) >= 0).all()  # straight through the crossing
    tee = strokes(drawing([(10, 20), (95, 20)], [(52, 20), (52, 95)]), 60)
    (second,) = np.flatnonzero(tee[1:, 2]) + 1
    assert np.ptp(tee[:second], axis=0)[1] < 0.15 < 1.9 < np.ptp(tee[:second], axis=0)[0]  # on to the end, not down
    assert np.ptp(tee[second:], axis=0)[0] < 0.15
    one = strokes(drawing([(20, 90), (20, 20), (90, 20)]), 30)  # an angle: begins at its upper end, turns, goes down
    assert one[:, 2].sum() == 1 and one[0, 0] > 0.9 and one[0, 1] < -0.9 and one[-1, 1] > 0.9
    np.testing.assert_array_equal(strokes(255 - drawing([(20, 90), (20, 20), (90, 20)]), 30), one)  # light on dark
    assert not strokes(np.full((40, 40, 3), 9, np.uint8), 12).any()


def test_the_second_branch_may_be_of_another_kind():
    net = make(KINDS["image against strokes"])
    first, second = net.branches
    assert any(isinstance(m, torch.nn.Conv2d) for m in first.modules())
    assert any(isinstance(m, torch.nn.LSTM) for m in second.modules())
    assert not any(isinstance(m, torch.nn.Conv2d) for m in second.modules())
    x = images(net.config, 2, second=True)
    assert not torch.allclose(net.embed(x, second=True), net.embed(x.flip(1), second=True))  # order matters
    with pytest.raises(ValueError, match=r"strokes must be \(N, T, 3\)"):
        net.embed(images(net.config, 2), second=True)
    with pytest.raises(ConfigError, match="not of siamese"):
        replace(CONV, second=SecondBranch("gru", (4,), 9))
    with pytest.raises(ConfigError, match="channels 3, standardise false"):
        replace(CONV, trunk="lstm")


# --- compare ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def shots(tmp_path):
    """Three photos in files, two of them of the same thing, and weights with a threshold."""
    rng = np.random.default_rng(0)
    one, other = (cv2.resize(rng.integers(0, 255, (6, 6, 3), np.uint8), (48, 48)) for _ in range(2))
    (tmp_path / "gallery" / "deep").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "a.png"), one)
    cv2.imwrite(str(tmp_path / "b.png"), np.clip(one * 0.9 + 5, 0, 255).astype(np.uint8))
    cv2.imwrite(str(tmp_path / "gallery" / "other.png"), other)
    cv2.imwrite(str(tmp_path / "gallery" / "deep" / "same.png"), one)
    cv2.imwrite(str(tmp_path / "wide.png"), np.tile(one, (1, 2, 1)))
    for name, change in (("net", {}), ("spp", {"pyramid": (2, 1)}), ("open", {"threshold": None})):
        net = make(replace(CONV, **({"reader": "euclidean", "normalise": True, "threshold": -0.05} | change)))
        save_network(net, tmp_path / f"{name}.safetensors")
    return tmp_path


def compare(*words):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return compare_command(parser.parse_args([str(w) for w in words]))


def test_weights_load_without_a_compiler():
    """Operations on the meta device may import torch._dynamo: a second for nothing."""
    code = "import sys; from tracker.similarity import SHIPPED, load_similarity as load; [load(n) for n in SHIPPED]"
    done = subprocess.run([sys.executable, "-c", f"{code}; print('torch._dynamo' in sys.modules)"], capture_output=True)
    assert (done.returncode, done.stdout.strip()) == (0, b"False"), done.stderr


def test_compare_prints_similarity_threshold_and_decision(shots, capsys):
    net = load_similarity(shots / "net.safetensors")
    a, b, other = (
        to_pixels(read_image(p), CONV, 32) for p in (shots / "a.png", shots / "b.png", shots / "gallery/other.png")
    )
    assert compare(shots / "a.png", shots / "b.png", "--weights", shots / "net.safetensors") == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head == f"threshold {1 / 1.05:.4f}"
    value, decision, left, right = line.split()
    assert float(value) == pytest.approx(1 / (1 - net(a, b).item()), abs=1e-4)
    assert (decision, left, right) == ("same", str(shots / "a.png"), str(shots / "b.png"))
    compare(shots / "a.png", shots / "gallery/other.png", "--weights", shots / "net.safetensors", "--threshold", 0.999)
    line = capsys.readouterr().out.splitlines()[1]
    assert line.split()[1] == "different"
    assert float(line.split()[0]) == pytest.approx(1 / (1 - net(a, other).item()), abs=1e-4)


def test_compare_turns_photos_as_their_exif_data_say(shots, capsys):
    upright = cv2.resize(np.random.default_rng(1).integers(0, 255, (6, 6, 3), np.uint8), (32, 32))
    lying = np.rot90(upright)  # what a camera held on its side stores, with the note "turn me by 90 degrees"
    jpg = cv2.imencode(".jpg", lying, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    (shots / "turned.jpg").write_bytes(jpg[:2] + segment + jpg[2:])
    (shots / "lying.jpg").write_bytes(jpg)
    cv2.imwrite(str(shots / "upright.png"), upright)
    said = {}
    for name in ("turned.jpg", "lying.jpg"):
        compare(shots / "upright.png", shots / name, "--weights", shots / "net.safetensors")
        said[name] = float(capsys.readouterr().out.splitlines()[1].split()[0])
    assert said["turned.jpg"] > 0.98 and said["lying.jpg"] < 0.97


@pytest.mark.parametrize("kind", ["8 bits", "16 bits", "webp", "lossy webp", "grey and alpha", "palette", "opaque"])
def test_transparent_drawings_are_on_white(kind, tmp_path):
    """Whatever colour lies below: all that is transparent would be one black square."""
    ink = np.zeros((64, 80), np.uint8)
    cv2.circle(ink, (30, 30), 20, 255, 5, cv2.LINE_8 if kind == "palette" else cv2.LINE_AA)
    drawing = np.dstack([*np.zeros((3, 64, 80), np.uint8), np.full_like(ink, 255) if kind == "opaque" else ink])
    file, wanted = tmp_path / f"a.{'webp' if 'webp' in kind else 'png'}", np.dstack([255 - ink] * 3)
    if kind in ("grey and alpha", "palette"):
        pillow = pytest.importorskip("PIL.Image")
        picture = pillow.fromarray(drawing)
        (picture.convert("LA") if kind == "grey and alpha" else picture.quantize(200)).save(file)
    elif "webp" in kind:
        cv2.imwrite(str(file), drawing, [cv2.IMWRITE_WEBP_QUALITY, 90 if kind == "lossy webp" else 101])
    else:
        cv2.imwrite(str(file), drawing.astype(np.uint16) * 257 if kind == "16 bits" else drawing)
    if kind == "8 bits":
        assert not read_image(file, cv2.IMREAD_UNCHANGED).any()  # masks are numbers, not pictures
    np.testing.assert_allclose(read_image(file), np.zeros_like(wanted) if kind == "opaque" else wanted, atol=4)


def test_shipped_weights_say_what_they_are_good_for(photo, tmp_path, capsys):
    boxes = {"a": (60, 50, 90, 80), "b": (65, 46, 92, 82), "c": (200, 130, 90, 80)}  # b slips a little, c shows another
    net = load_similarity("verifier")
    assert (net.config.reader, net.config.pairing) == ("network", "siamese")
    for name, box in boxes.items():
        cv2.imwrite(str(tmp_path / f"{name}.png"), patch(photo, box, net.config.size, net.config.context_amount))
    for weights in SHIPPED:
        decisions = []
        for other in "bc":
            assert compare(tmp_path / "a.png", tmp_path / f"{other}.png", "--weights", weights) == 0
            about, head, line = capsys.readouterr().out.splitlines()
            assert about == f"{weights}: {load_similarity(weights).config.about}"
            assert head == f"threshold {Similarity.load(weights).threshold:.4f}"
            decisions.append(line.split()[1])
        assert weights != "verifier" or decisions == ["same", "different"]
    assert not set(SHIPPED) & set(weight_names())
    folder = Path(__file__).parents[1] / "tracker" / "weights" / "similarity"
    assert {f.stem for f in folder.iterdir()} == set(SHIPPED)
    assert sum(f.stat().st_size for f in folder.iterdir()) < 5e6


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("gallery", "gallery: not a file; wanted: an image"),
        ("none.png", "none.png: no such file; wanted: an image"),
        ("text.png", "text.png: not a readable image"),
    ],
)
def test_compare_takes_images_only(other, message, shots):
    (shots / "text.png").write_text("no picture")
    with pytest.raises(SourceError, match=message):
        compare(shots / "a.png", shots / other)
    for threshold in ("nan", "1.5"):
        with pytest.raises(ValueError, match="--threshold is a similarity, at most 1"):
            compare(shots / "a.png", shots / "b.png", "--threshold", threshold)


def test_compare_ranks_a_gallery(shots, capsys):
    compare(shots / "a.png", "--gallery", shots / "gallery", "--weights", shots / "net.safetensors")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [line[3].rsplit("/", 1)[1] for line in lines] == ["same.png", "other.png"]
    assert float(lines[0][0]) == pytest.approx(1)
    assert lines[0][1] == "same"
    compare(shots / "a.png", "--gallery", shots / "gallery", "--weights", shots / "net.safetensors", "--top", 1)
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_broken_file_does_not_end_a_ranking(shots, capsys):
    (shots / "gallery" / "broken.png").write_bytes((shots / "a.png").read_bytes()[:40])
    with pytest.warns(SourceWarning, match=r"broken\.png: not a readable image .*, left out"):
        compare(shots / "a.png", "--gallery", shots / "gallery", "--weights", shots / "net.safetensors")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [line[3].rsplit("/", 1)[1] for line in lines] == ["same.png", "other.png"]
    (shots / "all").mkdir()
    (shots / "all" / "broken.png").write_text("no picture")
    with (
        pytest.warns(SourceWarning),
        pytest.raises(ValueError, match="all: none of its images can be read"),
    ):
        compare(shots / "a.png", "--gallery", shots / "all", "--weights", shots / "net.safetensors")


def test_compare_scales_images_to_the_size_of_the_network(shots, capsys):
    net = load_similarity(shots / "net.safetensors")
    a, wide = (to_pixels(read_image(shots / f"{n}.png"), CONV, 32) for n in ("a", "wide"))
    assert compare(shots / "a.png", shots / "wide.png", "--weights", shots / "net.safetensors") == 0
    value = float(capsys.readouterr().out.splitlines()[1].split()[0])
    assert value == pytest.approx(net.similarity(net(a, wide).item()), abs=1e-4)
    assert compare(shots / "a.png", shots / "wide.png", "--weights", shots / "spp.safetensors") == 0


def test_compare_says_what_is_wrong(shots):
    a, weights = shots / "a.png", shots / "net.safetensors"
    with pytest.raises(ValueError, match="give two images"):
        compare(a, "--weights", weights)
    with pytest.raises(ValueError, match="no threshold"):
        compare(a, a, "--weights", shots / "open.safetensors")
    (shots / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no image"):
        compare(a, "--gallery", shots / "empty", "--weights", weights)
    with pytest.raises(NotADirectoryError, match="not a folder"):
        compare(a, "--gallery", shots / "gone", "--weights", weights)
    with pytest.raises(CheckpointError, match=r"a\.png: truncated, or no gallery"):
        compare(a, "--gallery", a, "--weights", weights)
    with pytest.raises(ValueError, match="--save writes a gallery"):
        compare(a, a, "--save", shots / "g.gallery", "--weights", weights)
    with pytest.raises(ValueError, match=r"no threshold for a false accept rate of 0.01, only for \[\]"):
        compare(a, a, "--far", 0.01, "--weights", weights)
    (shots / "fake.png").write_text("hello")
    with pytest.raises(SourceError, match=r"fake\.png"):
        compare(a, shots / "fake.png", "--weights", weights)
    with pytest.raises(SourceError, match=r"gone\.png"):
        compare(a, shots / "gone.png", "--weights", weights)


def test_a_gallery_is_written_over_a_gallery_only(shots):
    weights, photo = shots / "net.safetensors", (shots / "a.png").read_bytes()
    for taken in ("a.png", "net.safetensors"):
        with pytest.raises(ValueError, match="is there already, and no gallery"):
            compare(shots / "b.png", "--gallery", shots / "gallery", "--save", shots / taken, "--weights", weights)
    assert (shots / "a.png").read_bytes() == photo
    assert load_similarity(weights)
    for _ in range(2):
        compare(shots / "a.png", "--gallery", shots / "gallery", "--save", shots / "g.gallery", "--weights", weights)


def test_what_is_no_image_or_name_is_refused(shots):
    pillow = pytest.importorskip("PIL.Image")
    similarity = Similarity.load(shots / "net.safetensors")
    with pytest.raises(ValueError, match="a NumPy array with channels B, G, R; got Image"):  # its channels are R, G, B
        similarity(pillow.new("RGB", (40, 40)), shots / "a.png")
    gallery = similarity.gallery()
    with pytest.raises(ValueError, match="a name is text; got int"):  # which could not be saved
        gallery.add(shots / "a.png", 5)
    with pytest.raises(ValueError, match="a name is for one image"):
        gallery.add(shots / "gallery", "mine")
    assert not len(gallery)
    with pytest.raises(ValueError, match="give a threshold or far"):
        Similarity.load("photos", threshold=0.5, far=0.01)
    with pytest.raises(ValueError, match=r"false accept rate of 0.5, only for \[0.1, 0.01"):
        Similarity.load("photos", far=0.5)


def test_hidden_files_are_passed_over_and_others_named(shots):
    (shots / "gallery" / ".DS_Store").write_bytes(b"x")
    (shots / "gallery" / "Thumbs.db").write_bytes(b"x")
    with pytest.warns(SourceWarning, match=r"Thumbs\.db is not an image \(\.jpg, .*\), left out"):
        assert [p.name for p in image_files(shots / "gallery")] == ["same.png", "other.png"]


# --- Similarity and Gallery ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_images_in_and_probabilities_out(name):
    net = make(KINDS[name])
    net.config = replace(net.config, threshold=0.1, calibration=Logistic((2.0,), -0.1))
    rng = np.random.default_rng(3)
    a, b = (rng.integers(0, 256, (50, 70, 3), np.uint8) for _ in range(2))
    read = net.config.side(True).trunk in WORDS
    b = "boat" if read else b
    with torch.no_grad():
        score = net(to_input(a, net.config), to_input(b, net.config.side(True))).item()
    for engine in ("auto", "torch"):
        similarity = Similarity(net, engine=engine)
        assert similarity(a, b) == pytest.approx(net.similarity(score), abs=1e-3)
        assert similarity.same(a, b) == (similarity(a, b) >= net.similarity(0.1))
    gallery = similarity.gallery()
    for k in range(40):  # more than a chunk
        other = chr(97 + k % 26) * (1 + k // 26) if read else rng.integers(0, 256, (40, 40), np.uint8)
        gallery.add(b if k == 33 else other, f"n{k}")
    best = gallery.nearest(a if read else b, 3)
    assert len(gallery) == 40 and [m.probability for m in best] == sorted((m.probability for m in best), reverse=True)
    if net.config.pairing == "siamese" and net.config.reader in DISTANCES:
        assert best[0].name == "n33"
        assert [m.name for m in gallery.nearest_of([a, b], 50)[1]][:3] == [m.name for m in best]


def test_words_are_read_letter_by_letter():
    seen = letters("Bad", 5)
    assert (
        seen.shape == (5, 26) and seen.argmax(1)[:3].tolist() == [1, 0, 3] and seen.sum(1).tolist() == [1, 1, 1, 0, 0]
    )
    for word in ("", "toolong", "b d", "bäd"):
        with pytest.raises(ValueError, match=f"1 to 5 letters from a to z, got '{word}'"):
            letters(word, 5)
    net = make(KINDS["image against word"])
    bad, dab = (net.embed(to_input(word, net.config.side(True)), second=True) for word in ("bad", "dab"))
    assert not torch.allclose(bad, dab)  # order matters
    with pytest.raises(ValueError, match="trunk word-gru reads words"):
        to_input(np.zeros((9, 9), np.uint8), net.config.side(True))
    with pytest.raises(ValueError, match="trunk conv reads images"):
        to_input("bad", net.config)
    with pytest.raises(ValueError, match=r"words must be \(N, T, 26\)"):
        net.embed(torch.zeros(1, 7, 3), second=True)


def test_onnx_runtime_runs_what_it_can():
    with pytest.raises(ValueError, match="cannot run two-channel"):
        Similarity(make(replace(CONV, pairing="two-channel", threshold=0.0)), engine="onnxruntime")
    net = make(replace(CONV, pairing="pseudo-siamese", threshold=0.0))
    fast, plain = Similarity(net, engine="onnxruntime"), Similarity(net, engine="torch")
    passes = []
    for branch in net.branches:
        branch.register_forward_hook(lambda module, args, out: passes.append(len(out)))
    shown = [np.random.default_rng(k).integers(0, 256, (32, 32), np.uint8) for k in range(70)]
    for second in (False, True):
        torch.testing.assert_close(fast.embed(shown, second), plain.embed(shown, second), rtol=1e-4, atol=1e-4)
    assert passes == [32, 32, 6] * 2  # by PyTorch only, in chunks


def test_a_gallery_is_kept_and_grows(shots):
    similarity = Similarity.load(shots / "net.safetensors")
    (shots / "gallery" / "broken.png").write_bytes((shots / "a.png").read_bytes()[:40])
    (shots / "gallery" / "Thumbs.db").write_bytes(b"x")
    with pytest.warns(SourceWarning) as told:
        gallery = similarity.gallery(shots / "gallery")
    assert sorted(str(w.message).split(": ")[0].split(" is ")[0].rsplit("/", 1)[1] for w in told) == [
        "Thumbs.db", "broken.png",
    ]  # fmt: skip
    assert len(gallery) == 2
    gallery.save(shots / "g.gallery")
    again = similarity.gallery(shots / "g.gallery")
    assert again.nearest(shots / "a.png", 9) == gallery.nearest(shots / "a.png", 9)
    again.add(shots / "a.png")
    assert again.nearest(shots / "a.png", 2)[0].probability == pytest.approx(1)
    assert {m.name.rsplit("/", 1)[1] for m in again.nearest(shots / "a.png", 2)} == {"same.png", "a.png"}
    with pytest.raises(CheckpointError, match="embedded by other weights"):
        Similarity.load(shots / "spp.safetensors").gallery(shots / "g.gallery")
    (shots / "g.gallery").write_bytes((shots / "g.gallery").read_bytes()[:-9])
    with pytest.raises(CheckpointError, match=r"g\.gallery: truncated"):
        similarity.gallery(shots / "g.gallery")
    with pytest.raises(ValueError, match="needs a name"):
        again.add(read_image(shots / "a.png"))
    with pytest.raises(ValueError, match="empty"):
        similarity.gallery().nearest(shots / "a.png")
    with pytest.raises(ValueError, match=r"\(H, W\) or \(H, W, 3\) uint8"):
        similarity(np.zeros((9, 9, 3)), shots / "a.png")


def test_a_gallery_that_others_made_is_sound_or_refused(shots, tmp_path):
    similarity, file = Similarity.load(shots / "net.safetensors"), tmp_path / "g.gallery"
    made = similarity.gallery()
    made.add(shots / "a.png")
    made.save(file)
    data, rng = file.read_bytes(), np.random.default_rng(0)
    changed = [data[: len(data) * share // 10] for share in range(10)]
    for _ in range(60):
        flipped = bytearray(data)
        flipped[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        changed.append(bytes(flipped))
    for content in changed:
        file.write_bytes(content)
        try:
            (match,) = similarity.gallery(file).nearest(shots / "a.png")
        except CheckpointError as error:
            assert str(file) in str(error)
        else:
            assert 0 <= match.probability <= 1
    file.write_bytes(data)
    with safe_open(file, framework="pt") as opened:
        about, features = json.loads(opened.metadata()[KEY]), opened.get_tensor("features")
    lies = [
        (about, features[:, :-1]), (about, features.double()), (about, features * torch.nan),
        (about | {"names": [5]}, features), (about | {"names": 5}, features), (about | {"names": []}, features[:0]),
        ([], features), ({"names": ["a"]}, features),
    ]  # fmt: skip
    for said, values in lies:
        file.write_bytes(save({"features": values.contiguous()}, metadata={KEY: json.dumps(said)}))
        with pytest.raises(CheckpointError):
            similarity.gallery(file)
    file.write_bytes(save({"features": features}, metadata={KEY: "[" * 100_000}))
    with pytest.raises(CheckpointError, match="no gallery of siamtrack"):
        similarity.gallery(file)


def test_references_of_a_class_are_judged_together(shots):
    similarity = Similarity.load(shots / "net.safetensors")
    rng, gallery = np.random.default_rng(5), similarity.gallery()
    looks = {name: cv2.resize(rng.integers(0, 256, (4, 4), np.uint8), (40, 40)) for name in ("cup", "dog", "tree")}
    for name, look in looks.items():
        for n in range(4):
            seen = np.clip(look * rng.uniform(0.5, 1) + rng.normal(0, 20, look.shape), 0, 255).astype(np.uint8)
            gallery.add(seen, name if name == "tree" else f"{name}/{n}.png")
    for name, look in looks.items():
        best = gallery.classify(look)
        assert best[0].name == name and len(best) == 3 and best[0].probability >= best[1].probability
    assert len(gallery.classify(looks["cup"], 2)) == 2
    with pytest.raises(ValueError, match="empty"):
        similarity.gallery().classify(looks["cup"])
    with pytest.raises(ValueError, match="no features to pool"):
        make(KINDS["two-channel"]).pooled(torch.zeros(1, 4), torch.zeros(2, 4))


def test_attention_is_a_softmax_of_cosines():
    net, rng = make(replace(CONV, normalise=False)), np.random.default_rng(0)
    q, r = rng.normal(0, 1, (3, 16)), rng.normal(0, 1, (5, 16))
    cosines = (q @ r.T) / np.linalg.norm(q, axis=1)[:, None] / np.linalg.norm(r, axis=1)
    weights = np.exp(SHARPNESS * cosines)
    wanted = (weights / weights.sum(1, keepdims=True)) @ r
    a, b = torch.from_numpy(q), torch.from_numpy(r)
    np.testing.assert_allclose(net.pooled(a, b).numpy(), wanted, rtol=1e-9)
    np.testing.assert_allclose(net.pooled(a, b, "mean").numpy(), np.tile(r.mean(0), (3, 1)), rtol=1e-9)


def test_names_stay_with_their_images_in_a_large_folder(shots, tmp_path):
    rng, names = np.random.default_rng(0), [f"{k:02d}.png" for k in range(70)]
    (tmp_path / "many").mkdir()
    for name in names:
        cv2.imwrite(str(tmp_path / "many" / name), cv2.resize(rng.integers(0, 256, (4, 4), np.uint8), (32, 32)))
    (tmp_path / "many" / "40.png").write_bytes(b"broken")
    similarity = Similarity.load(shots / "net.safetensors")
    with pytest.warns(SourceWarning, match=r"40\.png"):
        gallery = similarity.gallery(tmp_path / "many")
    assert len(gallery) == 69
    for name in ("00.png", "35.png", "41.png", "69.png"):
        best = gallery.nearest(tmp_path / "many" / name, 1)[0]
        assert (Path(best.name).name, best.probability) == (name, pytest.approx(1))


def test_a_threshold_for_a_false_accept_rate(shots):
    net = load_similarity(shots / "net.safetensors")
    net.config = replace(net.config, far_thresholds=(-0.3, -0.2))
    assert Similarity(net, far=FARS[1]).threshold == pytest.approx(1 / 1.2)
    assert Similarity(net).threshold == pytest.approx(1 / 1.05)
    assert Similarity(net, threshold=0.5).threshold == 0.5
    with pytest.raises(ValueError, match=r"only for \[0.1, 0.01\]"):
        Similarity(net, far=0.001)


def test_large_photos_are_decoded_to_working_size(tmp_path):
    rng = np.random.default_rng(0)
    photo = cv2.resize(rng.integers(0, 256, (12, 16, 3), np.uint8), (1600, 1200), interpolation=cv2.INTER_CUBIC)
    for suffix in ("jpg", "png"):
        cv2.imwrite(str(tmp_path / f"large.{suffix}"), photo)
    shapes = {n: read_image(tmp_path / "large.jpg", least=n).shape[0] for n in (1, 150, 151, 300, 301, 600, 601, 5000)}
    assert shapes == {1: 150, 150: 150, 151: 300, 300: 300, 301: 600, 600: 600, 601: 1200, 5000: 1200}
    assert read_image(tmp_path / "large.png", least=100).shape == (1200, 1600, 3)
    small = cv2.resize(photo, (400, 300), interpolation=cv2.INTER_AREA)
    assert np.abs(read_image(tmp_path / "large.jpg", least=300).astype(int) - small).mean() < 2


def test_weights_in_eight_bits_give_nearly_the_same_scores(tmp_path):
    net, x = make(KINDS["mobilenet"]), images(KINDS["mobilenet"], 4)
    save_network(net, tmp_path / "half.safetensors")
    save_network(net, tmp_path / "eight.safetensors", eight=True)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "eight")]
    assert sizes[1] < 0.62 * sizes[0]
    a, b = (load_similarity(tmp_path / f"{name}.safetensors").embed(x) for name in ("half", "eight"))
    assert torch.nn.functional.cosine_similarity(a, b).min() > 0.99 and not torch.equal(a, b)


def test_inputs_are_not_mutated():
    net = make(CONV)
    a, b = images(CONV, 2), images(CONV, 2, seed=2)
    before = a.clone(), b.clone()
    net(a, b)
    assert torch.equal(a, before[0])
    assert torch.equal(b, before[1])
