"""Real images by name, of a folder, a zip file and a Hugging Face data set."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from dode.images import data

SHAPE = [3, 6, 8]


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (5, *SHAPE), dtype=np.uint8)


@pytest.fixture
def folder(images, tmp_path):
    """The images as PNGs, in the order of their names and not of their making, one in a folder of its own."""
    place = tmp_path / "pictures"
    (place / "b").mkdir(parents=True)
    for index in (4, 2, 0, 3, 1):
        Image.fromarray(images[index].transpose(1, 2, 0)).save(place / f"{'b/' if index == 4 else 'a'}{index}.png")
    (place / "readme.txt").write_text("no image")
    return place


@pytest.fixture
def archive(folder, tmp_path):
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as packed:
        for path in sorted(folder.rglob("*.*"), reverse=True):
            packed.write(path, path.relative_to(folder))
    return tmp_path / "pictures.zip"


def test_a_folder_and_its_zip_are_the_images_in_the_order_of_their_names(images, folder, archive):
    for source in ({"folder": str(folder)}, {"zip": str(archive)}):
        found, labels = data.load(source, SHAPE)
        assert labels is None
        assert len(found) == 5
        np.testing.assert_array_equal(found[0:5], images)
        np.testing.assert_array_equal(found[3:10], images[3:])


def test_grey_images_are_read_as_grey(images, tmp_path):
    for index, image in enumerate(images):
        Image.fromarray(image[0]).save(tmp_path / f"{index}.png")
    found, _ = data.load({"folder": str(tmp_path)}, [1, 6, 8])
    np.testing.assert_array_equal(found[0:5], images[:, :1])


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp"])
def test_grey_images_stored_in_colour_are_the_same_grey(images, tmp_path, suffix):
    stored = Image.fromarray(np.repeat(images[0, 0][..., None], 3, axis=2))
    stored.save(tmp_path / f"0.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    found, _ = data.load({"folder": str(tmp_path)}, [1, 6, 8])
    np.testing.assert_array_equal(found[0:1], images[:1, :1])


@pytest.mark.parametrize("mode", ["RGB", "P", "RGBA", "CMYK", "LAB"])
def test_a_colour_image_for_a_grey_model_is_refused_and_not_converted(images, tmp_path, mode):
    coloured = Image.fromarray(images[0].transpose(1, 2, 0))
    if mode == "LAB":
        coloured = Image.fromarray(images[0].transpose(1, 2, 0), "LAB")
    path = tmp_path / ("0.tiff" if mode in ("CMYK", "LAB") else "0.png")
    (coloured if mode == "LAB" else coloured.convert(mode)).save(path)
    with pytest.raises(ValueError, match=rf"0\.\w+ is in colour \(Pillow's mode {mode}\).*grey; allowed: a grey file"):
        data.load({"folder": str(tmp_path)}, [1, 6, 8])[0][0:1]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_a_transparent_image_is_refused_and_an_opaque_one_with_an_alpha_channel_is_not(images, tmp_path, mode):
    picture, path = Image.fromarray(images[0].transpose(1, 2, 0)), tmp_path / "0.png"
    opaque = picture if mode == "P" else picture.convert(mode)
    opaque.save(path)
    assert data.load({"folder": str(tmp_path)}, [3, 6, 8])[0][0:1].shape == (1, 3, 6, 8)
    if mode == "P":
        picture.quantize().save(path, transparency=0)
    else:
        opaque.putalpha(128)
        opaque.save(path)
    with pytest.raises(ValueError, match=r"0\.png is transparent in places"):
        data.load({"folder": str(tmp_path)}, [3, 6, 8])[0][0:1]


def test_a_grey_image_for_a_colour_model_is_repeated(images, tmp_path):
    Image.fromarray(images[0, 0]).save(tmp_path / "0.png")
    found, _ = data.load({"folder": str(tmp_path)}, SHAPE)
    np.testing.assert_array_equal(found[0:1], np.repeat(images[:1, :1], 3, axis=1))


def test_images_are_opened_as_they_are_asked_for(folder):
    found, _ = data.load({"folder": str(folder)}, SHAPE)
    (folder / "a3.png").write_bytes(b"damaged")
    assert found[0:2].shape == (2, *SHAPE)
    with pytest.raises(OSError, match="cannot identify"):
        found[3:4]


def test_an_image_of_another_size_is_named(folder):
    Image.new("RGB", (8, 7)).save(folder / "a2.png")
    found, _ = data.load({"folder": str(folder)}, SHAPE)
    with pytest.raises(ValueError, match=r"a2\.png has 8x7 pixels, the model's images 8x6"):
        found[0:5]


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no images.*\.png"):
        data.load({"folder": str(tmp_path)}, SHAPE)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("digitz", "unknown data 'digitz' .did you mean 'digits'"),
        ({}, "one of the keys folder, zip, hub, not none"),
        ({"folder": "a", "zip": "b"}, "one of the keys folder, zip, hub, not folder and zip"),
        ({"folder": "/there/is/none"}, "no folder '/there/is/none'"),
        ({"zip": "/there/is/none.zip"}, "no zip '/there/is/none.zip'"),
        ({"folder": ".", "split": "test"}, "'split' is only for hub"),
    ],
)
def test_what_is_no_source_is_refused(source, said):
    with pytest.raises(ValueError, match=said):
        data.check(source)


def test_the_name_in_paths_is_of_one_part_and_of_this_source_alone():
    sources = [{"folder": "../../etc"}, {"folder": "../../etc/"}, {"zip": "../../etc"}, {"hub": "a/b", "split": "test"}]
    names = [data.identity(source, SHAPE) for source in [*sources, {"hub": "a/b"}]]
    assert len(set(names)) == len(names)
    assert not any(set(name) & set("/. ") for name in names)
    assert data.identity({"hub": "a/b"}, [1, 6, 8]) != names[-1]
    assert data.identity("digits", SHAPE) == "digits"


def test_a_data_set_of_the_hub_is_read_by_its_library(images, folder):
    """A local data set in the hub's own layout; the library reads it as it reads the hub's."""
    pytest.importorskip("datasets", reason="needs the package datasets")
    found, _ = data.load({"hub": str(folder)}, SHAPE)
    assert len(found) == 5
    assert sorted(image.tobytes() for image in found[0:5]) == sorted(image.tobytes() for image in images)
    with pytest.raises(ValueError, match="no column 'picture'; it has image"):
        data.load({"hub": str(folder), "column": "picture"}, SHAPE)


def test_without_the_package_of_the_hub_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(ValueError, match="pip install 'datasets>=3'"):
        data.load({"hub": "a/b"}, SHAPE)


def test_a_folder_within_is_sorted_as_in_a_zip(images, tmp_path):
    """ "a-b.png" stands before "a/b.png" in a list of names, and behind it in a list of paths."""
    (tmp_path / "in" / "a").mkdir(parents=True)
    names = ["a-b.png", "a/b.png", "ab.png"]
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for index, name in enumerate(names):
            Image.fromarray(images[index].transpose(1, 2, 0)).save(tmp_path / "in" / name)
            archive.write(tmp_path / "in" / name, name)
    for source in ({"folder": str(tmp_path / "in")}, {"zip": str(tmp_path / "in.zip")}):
        np.testing.assert_array_equal(data.load(source, SHAPE)[0][0:9], images[:3])


def test_what_a_system_leaves_beside_images_is_no_image(images, folder, archive):
    (folder / "._a0.png").write_bytes(b"resource fork")
    (folder / "c.png").mkdir()
    with zipfile.ZipFile(archive, "a") as packed:
        packed.writestr("__MACOSX/._a0.png", b"resource fork")
        packed.writestr("c.png/", b"")
    for source in ({"folder": str(folder)}, {"zip": str(archive)}):
        np.testing.assert_array_equal(data.load(source, SHAPE)[0][0:9], images)


def test_an_image_with_more_than_eight_bits_is_refused_and_not_cut_off(tmp_path):
    Image.fromarray(np.full((6, 8), 4000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match=r"deep\.png has more than 8 bits"):
        data.load({"folder": str(tmp_path)}, [1, 6, 8])[0][0:1]


@pytest.mark.parametrize("cut", [20, 100])
def test_a_damaged_image_is_named_also_within_a_zip(images, tmp_path, cut):
    buffer = io.BytesIO()
    Image.fromarray(images[0].transpose(1, 2, 0)).save(buffer, "png")
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as packed:
        packed.writestr("in/bad.png", buffer.getvalue()[:cut])
    with pytest.raises(OSError, match=r"some\.zip/in/bad\.png cannot be read as an image"):
        data.load({"zip": str(tmp_path / "some.zip")}, SHAPE)[0][0:1]


def test_what_is_no_zip_file_is_refused(tmp_path):
    (tmp_path / "page.zip").write_text("<html>")
    with pytest.raises(ValueError, match=r"page\.zip is not a zip file"):
        data.load({"zip": str(tmp_path / "page.zip")}, SHAPE)


def test_image_files_have_one_or_three_channels(folder):
    with pytest.raises(ValueError, match=r"1 or 3 channels, but the model's images have 6"):
        data.load({"folder": str(folder)}, [6, 6, 8])


def test_a_change_within_a_folder_is_noticed(images, folder, archive):
    source = {"folder": str(folder)}
    found = [data.listing(source)]
    Image.fromarray(images[0].transpose(1, 2, 0)).save(folder / "a3.png")  # of the same name
    found.append(data.listing(source))
    Image.fromarray(images[0].transpose(1, 2, 0)).save(folder / "b" / "another.png")
    found.append(data.listing(source))
    (folder / "readme.txt").write_text("something else")
    assert len(set(found)) == 3
    assert data.listing(source) == found[-1]
    assert data.listing({"zip": str(archive)}) is data.listing("digits") is None  # these are inputs, or code


def test_folders_behind_symbolic_links_are_read(images, folder, tmp_path):
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "class").symlink_to(folder)
    np.testing.assert_array_equal(data.load({"folder": str(tmp_path / "linked")}, SHAPE)[0][0:9], images)
