"""The layouts of footage that can be read, for training and for the benchmark, and how to tell one from another.

boxes        a video or images beside a boxes.csv, or photos (`plain`)
folder       <name>/img/*.jpg + <name>/groundtruth_rect.txt; also DTB70 and one single sequence
otb          the same; sequences that OTB names with its start and end frames and two targets
otb2013, otb50, otb100   the sequences that these name, all of them
got10k       list.txt, <name>/*.jpg, groundtruth.txt, cover.label, meta_info.ini; also from the folder above val or test
lasot        <class>/<name>/img/*.jpg, groundtruth.txt, full_occlusion.txt, out_of_view.txt
uav123, uav20l           data_seq/UAV123/<folder>/*.jpg, anno/UAV123/*.txt (or anno/UAV20L)
nfs30, nfs240            <name>/30/<name>/*.jpg, <name>/30/<name>.txt
trackingnet  frames/<name>/*.jpg, anno/<name>.txt (TEST, one TRAIN_k, or the folder above TEST)
vot          list.txt, <name>/color/*.jpg or <name>/*.jpg, groundtruth.txt of boxes, polygons or masks
davis        JPEGImages/480p/<name>/*.jpg, Annotations/480p/<name>/*.png: the boxes of the masks, a sequence an object
youtubevos   JPEGImages/<name>/*.jpg, Annotations/<name>/*.png
mot          <name>/img1/*.jpg, <name>/gt/gt.txt
coco, voc, yolo          photos
cvat         CVAT for video 1.1: annotations.xml beside a video or images
tc128        <name>/img/*.jpg, <name>/<name>_gt.txt
uavdt        anno/<name>_gt.txt, the images of <name> in a folder of that name
visdrone     sequences/<name>/*.jpg, annotations/<name>.txt
tnl2k        <name>/imgs/*, <name>/groundtruth.txt
vasttrack    <class>/<name>/imgs/*, <class>/<name>/Groundtruth.txt
avist        sequences/<name>/*.jpg, anno/<name>.txt, full_occlusion/ and out_of_view/
oxuva        annotations/dev.csv, images/dev/<video>/*.jpeg
clips        a list of targets in videos (a text file: clip, id, first), or a folder of folders with a video and
             boxes.csv (frame,id,x,y,w,h, all from 0); frames without a row are tracked through and not judged
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from tracker.errors import DataError, InputError
from tracker.footage import cvat, lists, masks, mot, photos, plain, single
from tracker.footage.clip import Clip, Tally, clips_of
from tracker.footage.files import VIDEO_SUFFIXES, folders, matches
from tracker.footage.sequence import Entry, Sequence


class Layout(NamedTuple):
    """How a layout is told and read.

    signs: a tree is taken for it that holds one of these; "+" joins what must be there together.
    sequences: root, whether pixels count from 1 -> sequences of one target, for the benchmark; None: there are none.
    clips: root, tally -> clips to train on; None: the sequences.
    one_based: its text files count the first pixel as 1, as MATLAB does; the others were drawn or are used from 0.
    """

    signs: tuple[str, ...] = ()
    sequences: Callable[[Path, bool], Iterator[Entry]] | None = None
    clips: Callable[[Path, Tally], Iterator[Clip]] | None = None
    one_based: bool = False


LAYOUTS: dict[str, Layout] = {
    "boxes": Layout(("boxes.csv", "*/boxes.csv", "*/*/boxes.csv"), clips=plain.read_plain),
    "folder": Layout((), single.folder, one_based=True),
    "otb": Layout(("groundtruth_rect*.txt", "*/groundtruth_rect*.txt"), single.otb_or_folder, one_based=True),
    "otb2013": Layout((), partial(single.otb, single.OTB2013.split()), one_based=True),
    "otb50": Layout((), partial(single.otb, single.OTB50.split()), one_based=True),
    "otb100": Layout((), partial(single.otb, single.OTB100.split()), one_based=True),
    "got10k": Layout(("list.txt + */meta_info.ini",), single.got10k, one_based=True),
    "lasot": Layout(
        ("*/full_occlusion.txt", "*/*/full_occlusion.txt"), single.lasot, single.lasot_to_train, one_based=True
    ),
    "trackingnet": Layout(("anno/*.txt + frames/",), single.trackingnet),
    "uav123": Layout(("anno/UAV123/*.txt + data_seq/",), partial(single.uav, "UAV123"), one_based=True),
    "uav20l": Layout(("anno/UAV20L/*.txt + data_seq/",), partial(single.uav, "UAV20L"), one_based=True),
    "nfs30": Layout((), partial(single.nfs, 30)),
    "nfs240": Layout((), partial(single.nfs, 240)),
    "vot": Layout(
        ("*/groundtruth.txt + */sequence", "*/groundtruth.txt + */color/", "*/groundtruth.txt of polygons or masks"),
        single.vot,
    ),
    "davis": Layout(("JPEGImages/480p/ + Annotations/480p/*/*.png",), masks.davis_sequences, masks.davis),
    "youtubevos": Layout(("JPEGImages/ + Annotations/*/*.png",), clips=masks.youtubevos),
    "mot": Layout(("gt/gt.txt", "*/gt/gt.txt"), clips=mot.read_mot),
    "coco": Layout(("*.json of images and annotations", "*/*.json of images and annotations"), clips=photos.read_coco),
    "voc": Layout(("*.xml", "Annotations/*.xml", "annotations/*.xml"), clips=photos.read_voc),
    "cvat": Layout(("annotations.xml of CVAT tracks", "*/annotations.xml of CVAT tracks"), clips=cvat.read_cvat),
    "tc128": Layout((), single.tc128, one_based=True),
    "uavdt": Layout((), single.uavdt, one_based=True),
    "visdrone": Layout((), single.visdrone),
    "tnl2k": Layout((), partial(single.imgs, "groundtruth.txt"), one_based=True),
    "vasttrack": Layout((), partial(single.imgs, "Groundtruth.txt"), one_based=True),
    "avist": Layout((), single.avist),
    "oxuva": Layout((), single.oxuva),
    "clips": Layout((), lists.clips, lists.clips_to_train),
    "yolo": Layout(("images/ + labels/", "*/images/ + */labels/", "classes.txt"), clips=photos.read_yolo),
}
OF_SEQUENCES = [name for name, layout in LAYOUTS.items() if layout.sequences]


# --- which layout


def detect(path: Path) -> str:
    """Return the layout of a tree or file by its signs. DataError: none fits, or several."""
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if path.is_file():
        if path.suffix.lower() in VIDEO_SUFFIXES or path.name == "boxes.csv":
            if not (path.parent / "boxes.csv").is_file():
                raise DataError(f"{path}: no boxes.csv beside it (columns {plain.CLIP_COLUMNS}, frames count from 0)")
            return "boxes"
        if path.suffix.lower() == ".json" and photos.is_coco(path):
            return "coco"
        raise DataError(f"{path}: neither a video with a boxes.csv beside it nor a COCO json")
    fits = _fitting(path)
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise DataError(f"{path}: fits {' and '.join(fits)}; say which with --format")
    told = {name: layout.signs for name, layout in LAYOUTS.items() if layout.signs}
    looked = "".join(f"\n  {name:12s}{'  or  '.join(signs)}" for name, signs in told.items())
    inner = ((p, _fitting(p)) for p in islice(folders(path), 20))
    near = [f"{p.name} ({', '.join(fit)})" for p, fit in inner if fit]
    hint = f"\nfolders in it that fit: {', '.join(near)}" if near else ""
    raise DataError(f"{path}: in no known layout; looked for{looked}{hint}")


def _fitting(root: Path) -> list[str]:
    fits = [name for name, layout in LAYOUTS.items() if any(_shows(root, sign) for sign in layout.signs)]
    if "uav123" in fits and "uav20l" in fits:  # one archive; UAV20L is the same footage, uncut
        fits.remove("uav20l")
    if "cvat" in fits and "voc" in fits:  # both are told by an xml
        fits.remove("voc")
    return fits


def _shows(root: Path, sign: str) -> bool:
    if sign.endswith("of polygons or masks"):
        return any(map(single.is_region, islice(matches(root, sign.split()[0]), 1)))
    if sign.endswith("of CVAT tracks"):
        return any(map(cvat.is_cvat, matches(root, sign.split()[0])))
    if sign.endswith("of images and annotations"):
        return any(map(photos.is_coco, matches(root, sign.split()[0])))
    return all(next(matches(root, part), None) for part in sign.split(" + "))


# --- reading


def read(path: Path, layout: str | None, tally: Tally) -> Iterator[Clip]:
    """Yield the clips of a data set one by one; what cannot be used is dropped into `tally`.

    path: folder of the data set, or a video or COCO json. layout: None finds it out.
    ValueError: unknown layout. DataError: no such path, no known layout, or nothing of that layout in it.
    """
    layout = layout or detect(path)
    row = _known(layout, list(LAYOUTS))
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if not path.is_dir() and layout not in ("boxes", "coco"):
        raise DataError(f"{path}: not a folder; layout {layout} is one")
    if row.clips:
        return row.clips(path, tally)
    assert row.sequences
    return clips_of(row.sequences(path, row.one_based), layout, tally)


def entries(path: Path, layout: str, one_based: bool | None, root: Path | None = None) -> Iterator[Entry]:
    """Yield the name of each sequence and what reads it; arguments as `load`.

    root: where the clips of a list lie (layout clips), None: beside the list.
    ValueError: unknown layout, or one without sequences. DataError: there is no data set of this layout.
    """
    row = _known(layout, OF_SEQUENCES)
    if not path.is_dir() and not (layout == "clips" and path.is_file()):
        raise DataError(f"{path}: no such folder" + (" or list" if layout == "clips" else ""))
    if layout == "clips":
        return lists.clips(path, starts_at_one(layout, one_based), root)
    assert row.sequences
    return row.sequences(path, starts_at_one(layout, one_based))


def select(found: Iterable[Entry], names: list[str] | None = None) -> tuple[list[Sequence], list[str]]:
    """Read the sequences that are asked for, and return them with a line for each that is missing or bad.

    found: as `entries` gives them; what is not asked for is not read. names: the sequences, or None for all.
    """
    sequences, problems, seen = [], [], set()
    for name, build in found:
        seen.add(name)
        if names is not None and name not in names:
            continue
        try:
            sequences.append(build())
        except DataError as error:
            problems.append(f"{name}: {str(error).removeprefix(f'{name}: ')}")
    return sequences, [f"{name}: no such sequence" for name in names or [] if name not in seen] + problems


def _known(layout: str, names: list[str]) -> Layout:
    if layout not in names:
        raise InputError(f"layout must be one of {', '.join(names)}, got {layout!r}")
    return LAYOUTS[layout]


def starts_at_one(layout: str, one_based: bool | None) -> bool:
    """Whether the text boxes count the first pixel as 1: what was said, else what the layout's authors used."""
    return LAYOUTS[layout].one_based if one_based is None else one_based


def load(path: str | Path, layout: str = "folder", one_based: bool | None = None) -> list[Sequence]:
    """Read every sequence of a data set.

    path: the folder that the layout (see the module) describes.
    one_based: whether the text boxes count the first pixel as 1; None takes what the layout's authors used.
    DataError: the first sequence that is missing or inconsistent; `check` lists them all.
    """
    return [build() for _, build in entries(Path(path), layout, one_based)]


def load_folder(path: str | Path, one_based: bool = True) -> list[Sequence]:
    """Read a folder of sequences, each `img/` + `groundtruth_rect.txt`, or one such sequence; see `load`."""
    return load(path, "folder", one_based)
