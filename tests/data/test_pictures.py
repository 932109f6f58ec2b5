"""Folders of pictures: what is found, what it looks like as grey, and what is left out or said."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnist_vae.data.archive import FILE_KEYS, ImageArchiveDataset
from mnist_vae.data.images import UNLABELLED
from mnist_vae.data.picture_archive import PictureArchiveDataset
from mnist_vae.data.picture_folder import PictureError, find_pictures, read_pictures

HALF = np.repeat(np.array([[0, 255]], np.uint8), 4, axis=0).repeat(2, axis=1)  # 4 x 4


def save(path: Path, picture: Image.Image | None = None, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (picture or Image.fromarray(HALF)).save(path, **options)
    return path


def read(folder: Path, **options):
    return read_pictures(folder, **{"image_size": None, "max_bad": 0.0} | options)


@pytest.mark.parametrize(
    ("names", "splits", "classes"),
    [
        ("10/a.png 2/b.PNG 2/deeper/d.png é/c.png", ["train"] * 4, ["10", "2", "2", "é"]),
        ("Validation/y/a.png test/x/a.png", ["validation", "test"], ["y", "x"]),
    ],
    ids=["classes", "splits with classes"],
)
def test_folders_are_classes_or_splits_but_for_those_of_systems(tmp_path, names, splits, classes):
    names = names.split()
    inner = Path(names[0]).parent
    of_systems = (".DS_Store", inner / "Thumbs.db", inner / "._1.png", ".a/2.png", "__MACOSX/1.png")
    for name in (*names, *of_systems):
        save(tmp_path / name, format="PNG")
    images = read(tmp_path).images
    assert images.file.tolist() == names
    assert images.split.tolist() == splits
    assert [images.class_names[label] for label in images.label] == classes


def test_a_flat_folder_has_labels_where_a_table_names_them(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        save(tmp_path / name)
    assert read(tmp_path).images.label is None
    (tmp_path / "labels.csv").write_text("\ufefffile,label,split\nb.png,cat,test\na.png,NA,train\n")
    images = read(tmp_path).images
    assert images.class_names == ("NA", "cat")
    assert images.label.tolist() == [0, 1, UNLABELLED]
    assert images.split.tolist() == ["train", "test", "train"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (b"name,class\na.png,1\n", "expected UTF-8, columns file, label .* received .*'file'"),
        (b"file,label\nz.png,1\n", "names 1 files that are not there"),
        (b"file,label,split\na.png,1,dev\n", "split, which is train, validation .* 'dev'"),
        (b"file,label\na.png,\xff\n", "expected UTF-8.* received UnicodeDecodeError"),
    ],
)
def test_a_table_of_labels_that_is_wrong_is_refused(tmp_path, table, message):
    save(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_bytes(table)
    with pytest.raises(PictureError, match=message):
        read(tmp_path)


def test_the_order_is_that_of_the_names_however_accents_are_written(tmp_path):
    names = ["b/2.png", "a/1.png", "é/3.png"]
    for form, given in (("NFC", names), ("NFD", names[::-1])):
        for name in given:
            save(tmp_path / form / unicodedata.normalize(form, name))
    one, two = (read(tmp_path / form) for form in ("NFC", "NFD"))
    assert one.images.file.tolist() == two.images.file.tolist()
    assert one.sha256 == two.sha256


GREY = Image.fromarray(HALF)
DEEP = Image.fromarray(HALF.astype(np.uint16) * 257)
ALPHA = Image.merge("LA", [Image.fromarray(HALF * 0), Image.fromarray(255 - HALF)])
TURNED = Image.Exif()
TURNED[0x0112] = 6


@pytest.mark.parametrize(
    ("name", "picture", "options"),
    [
        ("1 bit.png", GREY.convert("1"), {}),
        ("8 bit.bmp", GREY, {}),
        ("16 bit.png", DEEP, {}),
        ("16 bit.tiff", DEEP, {}),
        ("colours.png", GREY.convert("RGB"), {}),
        ("palette.png", GREY.convert("P"), {}),
        ("cmyk.tif", GREY.convert("RGB").convert("CMYK"), {}),
        ("lossy.jpeg", GREY, {"quality": 100}),
        ("turned.jpg", Image.fromarray(np.rot90(HALF)), {"exif": TURNED, "quality": 100}),
        ("alpha.png", ALPHA, {}),
    ],
)
def test_every_form_becomes_the_same_grey(tmp_path, name, picture, options):
    save(tmp_path / name, picture, **options)
    grey = read(tmp_path).images.pictures[0]
    np.testing.assert_allclose(grey.astype(int), HALF, atol=3)
    np.testing.assert_array_equal(read(tmp_path, invert=True).images.pictures[0], 255 - grey)


def test_pictures_are_scaled_to_the_size_that_is_asked_for(tmp_path):
    save(tmp_path / "small.png")
    save(tmp_path / "large.png", Image.fromarray(HALF.repeat(20, axis=0).repeat(20, axis=1)))
    pictures = read(tmp_path, image_size=(8, 6)).images.pictures
    assert pictures.shape == (2, 8, 6)
    assert (pictures[:, :, 0] == 0).all()
    assert (pictures[:, :, -1] == 255).all()
    with pytest.raises(PictureError, match=r"have 2 sizes: .* received .*4 x 4 \(1\).*; give a"):
        read(tmp_path)


def test_bad_files_are_left_out_with_their_reasons_where_they_are_few(tmp_path):
    good = tmp_path / "good"
    for number in range(20):
        save(good / f"{number}.png")
    save(tmp_path / "stray.png")
    for name in ("text.png", "notes.txt"):
        (good / name).write_text("no picture")
    cut = save(good / "cut.png", Image.effect_noise((40, 40), 90))
    cut.write_bytes(cut.read_bytes()[:400])
    save(good / "bomb.png", Image.new("1", (10_000, 9_000)))
    save(good / "film.png", GREY, format="GIF")
    save(good / "pages.tif", GREY, save_all=True, append_images=[Image.new("L", (4, 4))])
    save(good / "float.tif", Image.new("F", (4, 4)))
    pictures = read(tmp_path, max_bad=0.5)
    assert len(pictures.images) == 20
    reasons = {
        "good/bomb.png": "90000000 pixels",
        "good/cut.png": "cannot be decoded",
        "good/film.png": "received another",
        "good/float.tif": "float32",
        "good/notes.txt": "expected a file .png",
        "good/pages.tif": "received 2 in one file",
        "good/text.png": "received another",
        "stray.png": "folder of a class",
    }
    assert list(pictures.bad) == list(reasons)
    for name, reason in reasons.items():
        assert reason in pictures.bad[name]
    message = r"has 8 bad files of 28: expected at most 28\.0% .*max_bad"
    with pytest.raises(PictureError, match=message):
        read(tmp_path, max_bad=0.28)


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda path: None])
def test_a_folder_without_pictures_is_refused(tmp_path, make):
    make(tmp_path / "here")
    with pytest.raises(PictureError, match=r"correct `source\.pictures`"):
        find_pictures(tmp_path / "here")


# As an archive of images


@pytest.fixture
def flowers(tmp_path):
    """Light squares on black: two classes, each with a test picture."""
    for number, name in enumerate(("train/é", "train/rose", "test/é", "test/rose")):
        grey = np.zeros((8, 6), np.uint8)
        grey[2:6, 2:4] = 100 + number
        save(tmp_path / "flowers" / name / f"{number}.png", Image.fromarray(grey))
    return tmp_path / "flowers"


def archive(folder, **options):
    return PictureArchiveDataset(path=str(folder), **{"image_size": None} | options)


@pytest.mark.parametrize(
    ("given", "shape"), [([5, 9], (5, 9)), ("5x9", (5, 9)), ("5 x 9", (5, 9)), (7, (7, 7))]
)
def test_a_size_is_two_numbers_or_one_as_a_list_or_as_it_can_be_typed(flowers, given, shape):
    assert archive(flowers, image_size=given).load().images.shape == shape


def test_an_archive_says_what_it_has_what_is_left_out_and_that_it_seems_white(flowers, caplog):
    manifest = archive(flowers).load().manifest
    assert manifest["statement"] == "Data: flowers, 4 pictures of 8 x 6 pixels, 2 classes."
    assert manifest["files"]["pictures"]["items"] == 4
    assert caplog.messages == []
    (flowers / "train/rose/notes.png").write_text("hello")
    manifest = archive(flowers, max_bad=0.2, invert=True).load().manifest
    assert list(manifest["left_out"]) == ["train/rose/notes.png"]
    assert manifest["inverted"]
    white, left_out = caplog.messages
    assert left_out.startswith(f"1 of 5 files in {flowers} are left out: train/rose/notes.png (exp")
    assert "seems white: expected light on dark" in white
    assert white.endswith("set `source.invert=false`.")


def test_another_picture_name_class_size_or_split_is_another_checksum(flowers):
    def checksum(**options):
        return archive(flowers, **options).load().manifest["files"]["pictures"]["sha256"]

    found = [checksum(), checksum(), checksum(invert=True), checksum(image_size=[6, 8])]
    for old, new in (("train/rose", "train/é"), ("train/é", "test/é")):
        (flowers / old / "1.png").rename(flowers / new / "1.png")
        found.append(checksum())
    assert found[0] == found[1]
    assert len(set(found)) == 5


def test_a_folder_that_is_named_takes_the_place_of_the_other_sources(flowers, tmp_path):
    def source(path):
        given = {"path": path, "image_size": None, "invert": False, "max_bad": 0.0}
        files = {key: {"name": "x"} for key in FILE_KEYS}
        return ImageArchiveDataset(
            path=str(tmp_path), order=["sample"], mirrors=[], files=files, pictures=given
        )

    named = source(str(flowers))
    assert named.load().manifest["source"] == "pictures"
    assert named.exists()
    named.check()
    assert len(named.preview()) > 100
    assert source(None).load().manifest["source"] == "sample"
    missing = source(str(tmp_path / "typo"))
    assert not missing.exists()
    with pytest.raises(PictureError, match=r"typo is not a folder: .* correct `so"):
        missing.check()
