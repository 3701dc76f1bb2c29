"""The Siamese family: what each architecture promises, its checkpoint, the gallery, `compare`."""

import argparse
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from tracker.config import SWIFT, ConfigError, Logistic, from_dict, to_dict
from tracker.crop import patch
from tracker.footage.files import SourceError, read_image
from tracker.footage.video import SourceWarning
from tracker.network import CheckpointError, SiameseNet, save_network
from tracker.similarity import (
    DISTANCES,
    DistanceReader,
    Gallery,
    SimilarityConfig,
    SimilarityNet,
    add_arguments,
    centre_mean,
    centre_surround,
    compare_command,
    distance,
    image_files,
    load_similarity,
    to_pixels,
)
from tracker.tracker import weight_names

CONV = SimilarityConfig("siamese", "conv", (4, 8), False, (), 32, 1, True, 16, False, "network")
KOCH = SimilarityConfig("siamese", "koch", (64, 128, 128, 256), False, (), 105, 1, False, 4096, False, "logistic")
KINDS = {
    "siamese": CONV,
    "siamese logistic": replace(CONV, reader="logistic"),
    **{f"siamese {d}": replace(CONV, reader=d) for d in DISTANCES},
    "siamese distance to odds": replace(CONV, reader="euclidean", normalise=True, link="sigmoid"),
    "siamese exp of distance": replace(CONV, reader="manhattan", normalise=True, link="exp"),
    "pseudo-siamese": replace(CONV, pairing="pseudo-siamese"),
    "two-channel": replace(CONV, pairing="two-channel"),
    "two-channel colour": replace(CONV, pairing="two-channel", channels=3),
    "siamese two-stream": replace(CONV, two_stream=True),
    "two-channel two-stream": replace(CONV, pairing="two-channel", two_stream=True),
    "spp": replace(CONV, pyramid=(4, 2, 1)),
    "two-channel two-stream spp": replace(CONV, pairing="two-channel", two_stream=True, pyramid=(2, 1)),
    "koch": replace(KOCH, widths=(2, 3, 4, 5), size=65, embedding=8),
    "triplet": replace(CONV, reader="euclidean", normalise=True),
    "mobilenet": SimilarityConfig("siamese", "mobilenet", (), False, (), 33, 3, False, 8, False, "network"),
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


def images(config, n, size=None, seed=1):
    size = size or config.size
    return torch.rand(n, config.channels, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", KINDS)
def test_scores_are_one_a_pair_and_symmetric_where_promised(name):
    config = KINDS[name]
    net = make(config)
    a, b = images(config, 5, seed=1), images(config, 5, seed=2)
    with torch.no_grad():
        there, back = net(a, b), net(b, a)
        one = torch.cat([net(a[i : i + 1], b[i : i + 1]) for i in range(5)])
    assert there.shape == (5,)
    assert there.std() > 1e-3
    torch.testing.assert_close(there, one, rtol=1e-3, atol=1e-3)  # a pair's score does not depend on the others
    if config.pairing == "siamese":
        torch.testing.assert_close(there, back)
    else:
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
    assert make(at_least)(images(at_least, 1), images(at_least, 1, seed=2)).shape == (1,)
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
    a, b = images(config, 2), images(config, 2, seed=3)
    assert torch.equal(net(a, b), again(a, b))
    assert list(tmp_path.iterdir()) == [tmp_path / "net.safetensors"]


def test_foreign_weights_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no weight file"):
        load_similarity(tmp_path / "missing.safetensors")
    file = tmp_path / "net.safetensors"
    save_network(SiameseNet(SWIFT), file)
    with pytest.raises(CheckpointError, match="network: unknown key"):
        load_similarity(file)
    net = make(CONV)
    net.config = replace(CONV, widths=(4, 9))
    save_network(net, file)
    with pytest.raises(CheckpointError, match="not the weights of a siamese conv network"):
        load_similarity(file)
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="truncated"):
        load_similarity(file)


@pytest.mark.parametrize("name", KINDS)
def test_gallery_gives_the_scores_of_the_pairs(name):
    config = KINDS[name]
    net = make(config)
    query, references = images(config, 1), images(config, 6, seed=5)
    gallery = Gallery(net, list(references.split(1)), list("abcdef"))
    with torch.no_grad():
        wanted = net(query.expand(6, -1, -1, -1), references)
    np.testing.assert_allclose(gallery.scores(query), wanted.numpy(), rtol=1e-4, atol=1e-5)


def test_one_query_costs_one_pass_however_many_references():
    net = make(CONV)
    gallery = Gallery(net, list(images(CONV, 50).split(1)), list(map(str, range(50))))
    passes = []
    net.branches[0].register_forward_hook(lambda module, args, out: passes.append(len(args[0])))
    assert gallery.scores(images(CONV, 1, seed=9)).shape == (50,)
    assert passes == [1]
    with pytest.raises(ValueError, match="a gallery needs images"):
        Gallery(net, [], [])


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


def test_compare_without_weights_takes_the_shipped_verifier(photo, tmp_path, capsys):
    boxes = {"a": (60, 50, 90, 80), "b": (65, 46, 92, 82), "c": (200, 130, 90, 80)}  # b slips a little, c shows another
    net = load_similarity()
    assert (net.config.reader, net.config.pairing) == ("network", "siamese")
    for name, box in boxes.items():
        cv2.imwrite(str(tmp_path / f"{name}.png"), patch(photo, box, net.config.size, net.config.context_amount))
    decisions = []
    for other in "bc":
        assert compare(tmp_path / "a.png", tmp_path / f"{other}.png") == 0
        head, line = capsys.readouterr().out.splitlines()
        assert head == f"threshold {net.similarity(net.config.threshold):.4f}"
        decisions.append(line.split()[1])
    assert decisions == ["same", "different"]
    assert "verifier" not in weight_names()


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


def test_compare_takes_any_size_with_a_pyramid_or_when_asked_to_scale(shots, capsys):
    pair = shots / "a.png", shots / "wide.png", "--weights"
    with pytest.raises(ValueError, match=r"different sizes \(48x48, 96x48\).*--resize.*spatial pyramid pooling"):
        compare(*pair, shots / "net.safetensors")
    assert compare(*pair, shots / "spp.safetensors") == 0
    assert compare(*pair, shots / "net.safetensors", "--resize") == 0
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_compare_says_what_is_wrong(shots):
    a, weights = shots / "a.png", shots / "net.safetensors"
    with pytest.raises(ValueError, match="give two images"):
        compare(a, "--weights", weights)
    with pytest.raises(ValueError, match="no threshold"):
        compare(a, a, "--weights", shots / "open.safetensors")
    (shots / "empty").mkdir()
    with pytest.raises(ValueError, match="empty"):
        compare(a, "--gallery", shots / "empty", "--weights", weights)
    with pytest.raises(NotADirectoryError, match="not a folder"):
        compare(a, "--gallery", a, "--weights", weights)
    (shots / "gallery" / "notes.txt").write_text("hello")
    with pytest.raises(ValueError, match=r"notes\.txt is not an image; allowed: \.jpg"):
        compare(a, "--gallery", shots / "gallery", "--weights", weights)
    (shots / "fake.png").write_text("hello")
    with pytest.raises(SourceError, match=r"fake\.png"):
        compare(a, shots / "fake.png", "--weights", weights)
    with pytest.raises(SourceError, match=r"gone\.png"):
        compare(a, shots / "gone.png", "--weights", weights)


def test_hidden_files_are_passed_over(shots):
    (shots / "gallery" / ".DS_Store").write_bytes(b"x")
    assert [p.name for p in image_files(shots / "gallery")] == ["same.png", "other.png"]


def test_inputs_are_not_mutated():
    net = make(CONV)
    a, b = images(CONV, 2), images(CONV, 2, seed=2)
    before = a.clone(), b.clone()
    net(a, b)
    assert torch.equal(a, before[0])
    assert torch.equal(b, before[1])
