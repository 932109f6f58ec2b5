"""Folders of pictures: what is found, what it looks like as grey, and what is left out."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnist_vae.data.picture_folder import PictureError, find_pictures, read_pictures

HALF = np.repeat(np.array([[0, 255]], np.uint8), 4, axis=0).repeat(2, axis=1)  # 4 x 4


def save(path: Path, picture: Image.Image | None = None, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (picture or Image.fromarray(HALF)).save(path, **options)
    return path


def read(folder: Path, **options):
    return read_pictures(folder, **{"image_size": None, "max_bad": 0.0} | options)


def test_a_folder_for_each_class_names_the_classes(tmp_path):
    for name in ("10/a.png", "2/b.PNG", "é/c.png", "2/deeper/d.png"):
        save(tmp_path / name)
    pictures = read(tmp_path)
    assert [file.name for file in pictures.files] == [
        "10/a.png",
        "2/b.PNG",
        "2/deeper/d.png",
        "é/c.png",
    ]
    assert [file.label for file in pictures.files] == ["10", "2", "2", "é"]
    assert pictures.class_names == ("2", "10", "é")
    assert pictures.label.tolist() == [1, 0, 0, 2]
    assert {file.split for file in pictures.files} == {None}


def test_folders_of_splits_are_no_classes(tmp_path):
    for name in ("train/x/a.png", "test/x/a.png", "Validation/y/a.png"):
        save(tmp_path / name)
    assert [(file.split, file.label) for file in read(tmp_path).files] == [
        ("validation", "y"),
        ("test", "x"),
        ("train", "x"),
    ]


def test_a_flat_folder_has_labels_where_a_table_names_them(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        save(tmp_path / name)
    assert {file.label for file in read(tmp_path).files} == {None}
    (tmp_path / "labels.csv").write_text("file,label,split\nb.png,cat,test\na.png,dog,train\n")
    found = {file.name: (file.label, file.split) for file in read(tmp_path).files}
    assert found == {"a.png": ("dog", "train"), "b.png": ("cat", "test"), "c.png": (None, None)}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("name,class\na.png,1\n", "expected the columns file, label"),
        ("file,label\nz.png,1\n", "names 1 files that are not there"),
        ("file,label,split\na.png,1,dev\n", "cannot be read in line 2"),
    ],
)
def test_a_table_of_labels_that_is_wrong_is_refused(tmp_path, table, message):
    save(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text(table)
    with pytest.raises(PictureError, match=message):
        read(tmp_path)


def test_the_order_is_that_of_the_names_however_accents_are_written(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    names = ["b/2.png", "a/1.png", "é/3.png"]
    for name in names:
        save(one / unicodedata.normalize("NFC", name))
    for name in reversed(names):
        save(two / unicodedata.normalize("NFD", name))
    assert [file.name for file in read(one).files] == [file.name for file in read(two).files]
    assert read(one).sha256 == read(two).sha256


FORMS = {
    "1 bit.png": (Image.fromarray(HALF).convert("1"), {}),
    "8 bit.bmp": (Image.fromarray(HALF), {}),
    "16 bit.png": (Image.fromarray(HALF.astype(np.uint16) * 257), {}),
    "16 bit.tiff": (Image.fromarray(HALF.astype(np.uint16) * 257), {}),
    "colours.png": (Image.fromarray(HALF).convert("RGB"), {}),
    "palette.png": (Image.fromarray(HALF).convert("P"), {}),
    "cmyk.tif": (Image.fromarray(HALF).convert("RGB").convert("CMYK"), {}),
    "lossy.jpeg": (Image.fromarray(HALF), {"quality": 100}),
    "turned.jpg": (Image.fromarray(np.rot90(HALF)), {"exif": {0x0112: 6}, "quality": 100}),
    "alpha.png": (Image.merge("LA", [Image.fromarray(HALF * 0), Image.fromarray(255 - HALF)]), {}),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_becomes_the_same_grey(tmp_path, name):
    picture, options = FORMS[name]
    if "exif" in options:
        exif = Image.Exif()
        exif.update(options["exif"])
        options = {**options, "exif": exif}
    save(tmp_path / name, picture, **options)
    np.testing.assert_allclose(read(tmp_path).pixels[0].astype(int), HALF, atol=3)


def test_pictures_are_scaled_to_the_size_that_is_asked_for(tmp_path):
    save(tmp_path / "small.png")
    save(tmp_path / "large.png", Image.fromarray(HALF.repeat(20, axis=0).repeat(20, axis=1)))
    pixels = read(tmp_path, image_size=(8, 6)).pixels
    assert pixels.shape == (2, 8, 6)
    assert (pixels[:, :, 0] == 0).all()
    assert (pixels[:, :, -1] == 255).all()
    with pytest.raises(PictureError, match=r"have 2 sizes: .* 4 x 4 \(1\), such as"):
        read(tmp_path)


def test_a_white_background_is_noticed_and_inverted(tmp_path):
    page = np.full((8, 8), 255, np.uint8)
    page[3:5, 3:5] = 10
    save(tmp_path / "a.png", Image.fromarray(page))
    assert read(tmp_path).seem_inverted
    inverted = read(tmp_path, invert=True)
    assert not inverted.seem_inverted
    np.testing.assert_array_equal(inverted.pixels[0], 255 - page)


def spoil(folder: Path) -> None:
    """Put a bad file of every kind in a folder of good ones."""
    for number in range(20):
        save(folder / "good" / f"{number}.png")
    (folder / "good" / "text.png").write_text("no picture")
    (folder / "good" / "notes.txt").write_text("no picture")
    cut = save(folder / "good" / "cut.png", Image.effect_noise((40, 40), 90))
    cut.write_bytes(cut.read_bytes()[:400])
    save(folder / "good" / "bomb.png", Image.new("1", (10_000, 6_000)))
    frames = [Image.new("L", (4, 4), value) for value in (0, 200)]
    save(folder / "good" / "film.png", frames[0], format="GIF", save_all=True, append_images=frames)
    save(folder / "good" / "pages.tif", frames[0], save_all=True, append_images=frames[1:])
    save(folder / "good" / "float.tif", Image.new("F", (4, 4)))
    save(folder / "stray.png")


def test_bad_files_are_left_out_with_their_reasons(tmp_path):
    spoil(tmp_path)
    pictures = read(tmp_path, max_bad=0.5)
    assert len(pictures.pixels) == 20
    reasons = {bad.name: bad.reason for bad in pictures.bad}
    assert reasons.keys() == {
        *(f"good/{name}" for name in ("text.png", "notes.txt", "cut.png", "bomb.png", "film.png")),
        *("good/pages.tif", "good/float.tif", "stray.png"),
    }
    assert "received another" in reasons["good/text.png"]
    assert "received another" in reasons["good/film.png"]
    assert "cannot be decoded" in reasons["good/cut.png"]
    assert "received 10000 x 6000" in reasons["good/bomb.png"]
    assert "received 2 in one file" in reasons["good/pages.tif"]
    assert "folder of a class" in reasons["stray.png"]


def test_more_bad_files_than_the_share_allows_are_refused(tmp_path):
    spoil(tmp_path)
    with pytest.raises(
        PictureError, match=r"has 8 bad files of 28: expected at most 28\.0% .*max_bad"
    ):
        read(tmp_path, max_bad=0.28)


def test_what_systems_leave_is_no_picture(tmp_path):
    save(tmp_path / "a" / "1.png")
    for name in (".DS_Store", "a/Thumbs.db", "a/._1.png", ".cache/2.png", "__MACOSX/1.png"):
        save(tmp_path / name, format="PNG")
    found, bad = find_pictures(tmp_path)
    assert [file.name for file in found] == ["a/1.png"]
    assert bad == []


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda path: None])
def test_a_folder_without_pictures_is_refused(tmp_path, make):
    make(tmp_path / "here")
    with pytest.raises(PictureError, match=r"correct `source\.pictures`"):
        find_pictures(tmp_path / "here")
