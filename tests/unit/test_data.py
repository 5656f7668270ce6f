"""Real images by name, of a folder, a zip file and a Hugging Face data set."""

import io
import os
import stat
import struct
import zipfile
import zlib
from pathlib import Path

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


def test_images_of_a_name_that_have_another_shape_than_the_models_are_refused():
    """An extractor that resizes would compare them with any."""
    with pytest.raises(ValueError, match=r"the images of 'digits' are \(1, 8, 8\), the model's \(1, 28, 28\)"):
        data.load("digits", (1, 28, 28))


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


def png(path, colour, pixels, *, bits=16):
    """A PNG of ``pixels`` (H, W, ...) with this type of colour, which Pillow cannot write with 16 bits a channel."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(b"\0" + row.tobytes() for row in pixels.astype(">u2" if bits == 16 else np.uint8))
    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], bits, colour, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def read(folder, shape=SHAPE):
    return data.load({"folder": str(folder)}, shape)[0][0:9]


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)], ids=["grey", "rgb", "la", "rgba"])
@pytest.mark.parametrize("shape", [[1, 6, 8], SHAPE], ids=["grey model", "colour model"])
def test_sixteen_bits_a_channel_are_refused_whatever_the_colours(tmp_path, colour, channels, shape):
    """Pillow keeps the upper eight bits and says RGB: dark images would be black."""
    pixels = np.full((6, 8, channels), 200)
    png(tmp_path / "8.png", colour, np.where(np.arange(channels) == {2: 1, 4: 3}.get(channels), 255, pixels), bits=8)
    assert (read(tmp_path, shape) == 200).all()
    png(tmp_path / "deep.png", colour, np.where(np.arange(channels) == {2: 1, 4: 3}.get(channels), 65535, pixels))
    with pytest.raises(ValueError, match=r"deep\.png has more than 8 bits a channel"):
        read(tmp_path, shape)


def test_a_tiff_of_sixteen_bits_in_colour_is_refused(tmp_path):
    """Written by hand, since Pillow writes none: one strip of 6 rows of 8 pixels."""
    pixels = np.full((6, 8, 3), 200, "<u2").tobytes()
    tags = [(256, 3, 1, 8), (257, 3, 1, 6), (258, 3, 3, 8), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 200)]
    tags += [(277, 3, 1, 3), (278, 3, 1, 6), (279, 4, 1, len(pixels)), (284, 3, 1, 1)]
    head = b"II*\0" + struct.pack("<I", 14) + struct.pack("<3H", 16, 16, 16)
    table = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + b"\0" * 4
    (tmp_path / "deep.tif").write_bytes((head + table).ljust(200, b"\0") + pixels)
    with pytest.raises(ValueError, match=r"deep\.tif has more than 8 bits a channel"):
        read(tmp_path)


@pytest.mark.parametrize("suffix", ["png", "webp", "tiff"])
def test_an_image_of_several_frames_is_refused(images, tmp_path, suffix):
    first, second = (Image.fromarray(image.transpose(1, 2, 0)) for image in images[:2])
    first.save(tmp_path / f"0.{suffix}", save_all=True, append_images=[second])
    with pytest.raises(ValueError, match=rf"0\.{suffix} has 2 frames"):
        read(tmp_path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff"])
@pytest.mark.parametrize("shape", [SHAPE, [3, 8, 6]], ids=["as stored", "as seen"])
def test_an_image_that_is_turned_when_it_is_shown_is_refused(images, tmp_path, suffix, shape):
    exif = Image.Exif()
    for orientation in (1, 6):
        exif[274] = orientation
        Image.fromarray(images[0].transpose(1, 2, 0)).save(tmp_path / f"{orientation}.{suffix}", exif=exif)
    with pytest.raises(ValueError, match=rf"6\.{suffix} is to be turned or mirrored.*EXIF orientation 6"):
        data.load({"folder": str(tmp_path)}, shape)[0][1:2]
    if shape == SHAPE:
        assert data.load({"folder": str(tmp_path)}, shape)[0][0:1].shape == (1, *SHAPE)


def test_a_palette_is_read_as_its_colours(images, tmp_path):
    few = Image.fromarray(images[0].transpose(1, 2, 0)).quantize(16)
    few.save(tmp_path / "0.png")
    np.testing.assert_array_equal(read(tmp_path)[0], np.asarray(few.convert("RGB")).transpose(2, 0, 1))


def test_colours_that_need_a_profile_are_refused(images, tmp_path):
    Image.fromarray(images[0].transpose(1, 2, 0)).convert("CMYK").save(tmp_path / "0.tiff")
    with pytest.raises(ValueError, match=r"0\.tiff has colours of another kind \(Pillow's mode CMYK\)"):
        read(tmp_path)


def test_what_no_image_should_hold_starts_no_decoder(tmp_path):
    (tmp_path / "0.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 6\n")
    with pytest.raises(OSError, match=r"0\.png cannot be read as an image: cannot identify"):
        read(tmp_path)


def names(folder):
    return [Path(name).relative_to(folder).as_posix() for name in data.load({"folder": str(folder)}, SHAPE)[0].names]


def test_links_count_each_image_once_and_by_its_own_name(folder, tmp_path):
    before = names(folder)
    (folder / "aaa").symlink_to(".")
    (folder / "b" / "up").symlink_to("..")
    (folder / "also").symlink_to(folder / "b")
    (folder / "a-link.png").symlink_to("a2.png")
    assert names(folder) == before
    other = tmp_path / "other"
    other.mkdir()
    (folder / "a0.png").rename(other / "x.png")
    (folder / "one").symlink_to(other)
    (folder / "two").symlink_to(other)
    assert len(names(folder)) == len(before)
    (other / "back").symlink_to(folder)
    assert len(names(folder)) == len(before)


def test_files_behind_links_as_git_annex_makes_them_are_read_and_those_not_there_are_named(folder):
    stored = folder / ".git" / "annex"
    stored.mkdir(parents=True)
    (folder / "a0.png").rename(stored / "key")
    (folder / "a0.png").symlink_to(".git/annex/key")
    (folder / "a9.png").symlink_to(".git/annex/key")  # equal images have one key
    assert [name for name in names(folder) if name in ("a0.png", "a9.png")] == ["a0.png", "a9.png"]
    for name in ("a8.png", "folder-of-images"):
        (folder / name).symlink_to(".git/annex/none")
        with pytest.raises(ValueError, match=rf"{name} is a link to \.git/annex/none, no file"):
            data.check({"folder": str(folder)})
        (folder / name).unlink()
    (folder / "self.png").symlink_to("self.png")
    with pytest.raises(ValueError, match=r"self\.png"):
        data.check({"folder": str(folder)})


def test_a_pipe_among_images_is_refused_and_not_waited_for(folder):
    os.mkfifo(folder / "pipe.png")
    with pytest.raises(ValueError, match=r"pipe\.png is no regular file"):
        data.check({"folder": str(folder)})


def test_names_that_are_not_utf8(images, folder):
    before = data.listing({"folder": str(folder)})
    (folder / "a1.png").rename(os.fsdecode(os.fsencode(folder) + b"/a1\xe9.png"))
    assert data.listing({"folder": str(folder)}) != before
    np.testing.assert_array_equal(read(folder), images)
    Path(os.fsdecode(os.fsencode(folder) + b"/a1\xe9.png")).write_bytes(b"damaged")
    with pytest.raises(OSError, match=r"a1\\udce9\.png cannot be read") as caught:
        read(folder)
    str(caught.value).encode()


def test_names_in_a_zip_with_a_leading_point(images, folder, tmp_path):
    with zipfile.ZipFile(tmp_path / "tar-like.zip", "w") as packed:
        for path in folder.rglob("*.png"):
            packed.writestr(f"./{path.relative_to(folder)}", path.read_bytes())
    source = {"zip": str(tmp_path / "tar-like.zip")}
    np.testing.assert_array_equal(data.load(source, SHAPE)[0][0:9], images)


def zipped(path, change):
    """A zip of one image, whose entry is changed before it is written."""
    with zipfile.ZipFile(path, "w") as packed:
        entry = zipfile.ZipInfo("a.png")
        change(entry)
        packed.writestr(entry, b"image")


def encrypt(path):
    text = path.read_bytes()
    for head, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = text.index(head) + flags
        text = text[:at] + b"\x01" + text[at + 1 :]
    path.write_bytes(text)


def test_what_is_odd_in_a_zip_is_refused_by_name(tmp_path):
    path = tmp_path / "odd.zip"
    zipped(path, lambda entry: None)
    encrypt(path)
    with pytest.raises(ValueError, match=r"odd\.zip/a\.png is encrypted"):
        data.check({"zip": str(path)})
    zipped(path, lambda entry: setattr(entry, "external_attr", (stat.S_IFLNK | 0o777) << 16))
    with pytest.raises(ValueError, match=r"odd\.zip/a\.png is a link"):
        data.check({"zip": str(path)})
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("a.png", b"image")
        packed.writestr("./a.png", b"image")
    with pytest.raises(ValueError, match=r"odd\.zip/a\.png is there twice"):
        data.check({"zip": str(path)})
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("readme.txt", b"")
    with pytest.raises(ValueError, match="no images"):
        data.check({"zip": str(path)})


def test_a_folder_that_cannot_be_listed_is_refused(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(data.os, "scandir", refuse)
    with pytest.raises(ValueError, match="pictures: Permission denied"):
        data.check({"folder": str(folder)})


@pytest.mark.parametrize("suffix", ["gif", "GIF", "avif", "jfif", "ppm"])
def test_an_image_of_a_kind_that_is_not_read_is_not_left_out_in_silence(folder, archive, suffix):
    with zipfile.ZipFile(archive, "a") as packed:
        packed.writestr(f"in/b.{suffix}", b"GIF89a")
    (folder / f"._b.{suffix}").write_bytes(b"hidden")
    data.check({"folder": str(folder)})
    (folder / "b" / f"b.{suffix}").write_bytes(b"GIF89a")
    for source in ({"folder": str(folder)}, {"zip": str(archive)}):
        with pytest.raises(ValueError, match=rf"b\.{suffix} is an image of a kind that is not read"):
            data.check(source)


def encoded(kind):
    file = io.BytesIO()
    Image.fromarray(np.arange(144, dtype=np.uint8).reshape(6, 8, 3)).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("name", ["c", "c.image", "c.png.bak", "c.", "sub/c"])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF", "AVIF", "JPEG2000", "PPM"])
def test_an_image_that_its_name_does_not_show_is_not_left_out_in_silence(folder, archive, kind, name):
    with zipfile.ZipFile(archive, "a") as packed:
        packed.writestr(name, encoded(kind))
    (folder / "sub").mkdir()
    (folder / name).write_bytes(encoded(kind))
    for source, place in (({"folder": str(folder)}, folder), ({"zip": str(archive)}, archive)):
        for read in (data.check, lambda source: data.load(source, SHAPE)):
            with pytest.raises(ValueError, match="is an image by its contents, but not by its name") as caught:
                read(source)
            assert str(caught.value).startswith(f"{place}/{name} is")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels", b"0 1 2"),
        ("labels.npy", b"\x93NUMPY\x01\0"),
        ("empty", b""),
        ("BMWs", b"BMW, a list of cars\n" * 9),
        ("IInotes", b"II. On images"),
        ("P2", b"P2 is the second part"),
        (".b", encoded("PNG")),
    ],
)
def test_what_is_no_image_beside_images_is_left(images, folder, archive, name, content):
    with zipfile.ZipFile(archive, "a") as packed:
        packed.writestr(name, content)
    (folder / name).write_bytes(content)
    for source in ({"folder": str(folder)}, {"zip": str(archive)}):
        data.check(source)
        np.testing.assert_array_equal(data.load(source, SHAPE)[0][0:9], images)
