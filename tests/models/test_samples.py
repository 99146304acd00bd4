from __future__ import annotations

import zipfile

import numpy as np
import pytest
from PIL import Image

from pytest_backdoor.errors import SettingsError
from pytest_backdoor.models import load_samples

SHAPE = (3, 6, 5)
PIXELS = np.random.default_rng(0).integers(0, 256, (12, 6, 5, 3), dtype=np.uint8)
LABELS = np.arange(12) % 4
FIRST = PIXELS.transpose(0, 3, 1, 2)


def load(source, root, *, shape=SHAPE, classes=4, names=None, limit=100, seed=0):
    return load_samples(
        str(source), root=root, input_shape=shape, classes=classes, class_names=names, limit=limit, seed=seed
    )


@pytest.mark.parametrize(
    ("x", "shape", "expected"),
    [
        (PIXELS, SHAPE, FIRST / 255),
        (FIRST, SHAPE, FIRST / 255),
        (PIXELS[..., 0], (1, 6, 5), FIRST[:, :1] / 255),
        (PIXELS[..., :1], (1, 6, 5), FIRST[:, :1] / 255),
        ((PIXELS / 255).astype(np.float64), SHAPE, FIRST / 255),
        ((PIXELS / 255).astype(np.float16), SHAPE, FIRST / 255),
        (PIXELS > 99, SHAPE, FIRST > 99),
    ],
)
@pytest.mark.parametrize("labels", [None, LABELS, LABELS.astype(np.float32), LABELS.astype(np.uint8)])
def test_arrays_become_images_in_one_form(tmp_path, x, shape, expected, labels):
    np.savez(tmp_path / "data.npz", x=x, **({} if labels is None else {"y": labels}))
    samples = load("data.npz", tmp_path, shape=shape)
    assert samples.images.dtype == np.float32
    assert samples.images.flags["C_CONTIGUOUS"]
    np.testing.assert_allclose(samples.images, expected, atol=1e-3 if x.dtype == np.float16 else 1e-6)
    if labels is None:
        assert samples.labels is None
    else:
        assert samples.labels.dtype == np.int64
        np.testing.assert_array_equal(samples.labels, LABELS)


def test_the_seed_alone_decides_what_is_drawn(tmp_path):
    np.savez(tmp_path / "data.npz", x=PIXELS, y=np.arange(12))
    drawn = [load("data.npz", tmp_path, classes=12, limit=5, seed=seed) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0].images, drawn[1].images)
    np.testing.assert_array_equal(drawn[0].labels, drawn[1].labels)
    assert set(drawn[0].labels) != set(drawn[2].labels)
    for samples in drawn:
        assert len(samples) == 5
        np.testing.assert_allclose(samples.images, FIRST[samples.labels] / 255, atol=1e-6)


def write(content):
    return lambda path: path.write_bytes(content)


def arrays(**values):
    return lambda path: np.savez(path, **values)


def bare_array(path):
    with path.open("wb") as stream:
        np.save(stream, PIXELS)


def cut_short(path):
    np.savez_compressed(path, x=PIXELS)
    path.write_bytes(path.read_bytes()[:-50])


def flipped(path):
    np.savez_compressed(path, x=PIXELS)
    content = bytearray(path.read_bytes())
    content[200] ^= 255
    path.write_bytes(content)


def other_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (arrays(y=LABELS), "holds no array x; save np.savez"),
        (arrays(x=PIXELS[:, :4]), r"images of shape \[4, 5, 3\], but the model takes 6x5 pixels with 3 channel"),
        (arrays(x=PIXELS[..., 0]), "resize them"),
        (arrays(x=PIXELS[0, 0]), "resize them"),
        (arrays(x=np.uint8(3)), "type uint8 that is no images; give uint8 images"),
        (
            arrays(x=PIXELS.astype(np.float32)),
            r"float32 images from 0 to 255; give uint8 images, or floats in \[0, 1\]",
        ),
        (arrays(x=PIXELS.astype(np.int64)), "int64 images from 0 to 255"),
        (arrays(x=PIXELS / -255), "images from -1 to"),
        (arrays(x=np.full(PIXELS.shape, np.nan)), "images from nan to nan"),
        (arrays(x=np.zeros(PIXELS.shape, complex)), "type complex128 that is no images"),
        (arrays(x=np.array(["a"] * 12)), "type <U1 that is no images"),
        (arrays(x=np.array([{}] * 12, object)), "Object arrays cannot be loaded"),
        (arrays(x=PIXELS, y=np.array([{}] * 12, object)), "Object arrays cannot be loaded"),
        (arrays(x=PIXELS, y=LABELS[:5]), r"12 images but labels of shape \[5\]"),
        (arrays(x=PIXELS, y=np.eye(12)), r"labels of shape \[12, 12\]; give one class number for each"),
        (arrays(x=PIXELS, y=LABELS + 0.5), "labels that are not whole numbers"),
        (arrays(x=PIXELS, y=np.full(12, np.nan)), "labels that are not whole numbers"),
        (arrays(x=PIXELS, y=np.array(["cat"] * 12)), "labels that are not whole numbers"),
        (arrays(x=PIXELS, y=LABELS + 1), "labels from 1 to 4, but the model has 4 classes"),
        (arrays(x=PIXELS, y=LABELS - 1), "labels from -1 to 2"),
        (write(b""), "cannot be read"),
        (write(b"hello"), "cannot be read"),
        (bare_array, "cannot be read"),
        (cut_short, "cannot be read"),
        (flipped, "cannot be read"),
        (other_zip, "holds no array x"),
    ],
)
def test_arrays_that_are_no_samples_of_this_model(tmp_path, make, reason):
    make(tmp_path / "data.npz")
    with pytest.raises(SettingsError, match=reason) as caught:
        load("data.npz", tmp_path)
    assert "data.npz" in str(caught.value)


@pytest.mark.parametrize("name", ["missing.npz", "missing", "notes.txt"])
def test_what_is_neither_a_folder_nor_an_archive(tmp_path, name):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(SettingsError, match=rf"{name} are neither a folder of images nor an \.npz file; check data"):
        load(name, tmp_path)


@pytest.fixture
def tree(tmp_path):
    """Three folders of four images, and what is no image beside them."""
    for number, name in enumerate(("bird", "cat", "dog")):
        (tmp_path / "tree" / name).mkdir(parents=True)
        for i in range(4):
            Image.fromarray(PIXELS[4 * number + i]).save(tmp_path / "tree" / name / f"{i}.png")
        (tmp_path / "tree" / name / "notes.txt").write_text("not an image")
        (tmp_path / "tree" / name / "._0.png").write_bytes(b"left behind by a file manager")
    (tmp_path / "tree" / ".cache").mkdir()
    (tmp_path / "tree" / "readme.md").write_text("x")
    return tmp_path


@pytest.mark.parametrize(
    ("names", "numbers"),
    [(None, (0, 1, 2)), (("dog", "bird", "fish", "cat"), (1, 3, 0))],
)
def test_folders_are_classes_in_alphabetical_or_in_the_given_order(tree, names, numbers):
    samples = load("tree", tree, names=names)
    np.testing.assert_array_equal(samples.labels, np.repeat(numbers, 4))
    np.testing.assert_allclose(samples.images, FIRST / 255, atol=1e-6)


def test_a_folder_s_samples_are_drawn_by_the_seed(tree):
    drawn = [load("tree", tree, limit=5, seed=seed).images for seed in (3, 3, 4)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


@pytest.mark.parametrize("shape", [(3, 8, 4), (1, 6, 5), (4, 6, 5)])
def test_images_take_the_model_s_size_and_channels(tree, shape):
    samples = load("tree", tree, shape=shape)
    assert samples.images.shape == (12, *shape)
    assert samples.images.min() >= 0
    assert samples.images.max() <= 1
    if shape == (4, 6, 5):
        np.testing.assert_allclose(samples.images[:, :3], FIRST / 255, atol=1e-6)
        assert (samples.images[:, 3] == 1).all()


def test_resizing_keeps_the_picture_upright(tmp_path):
    (tmp_path / "tree" / "a").mkdir(parents=True)
    picture = np.zeros((12, 10, 3), np.uint8)
    picture[:6, :, 0] = 255
    picture[:, :5, 1] = 255
    Image.fromarray(picture).save(tmp_path / "tree" / "a" / "0.png")
    image = load("tree", tmp_path).images[0]
    np.testing.assert_allclose(image[0, :2].mean(), 1, atol=0.02)
    np.testing.assert_allclose(image[0, -2:].mean(), 0, atol=0.02)
    np.testing.assert_allclose(image[1, :, 0].mean(), 1, atol=0.02)
    np.testing.assert_allclose(image[2], 0, atol=0.02)


def broken(content):
    return lambda folder: (folder / "cat" / "9.png").write_bytes(content)


def cut(folder):
    file = folder / "cat" / "0.png"
    file.write_bytes(file.read_bytes()[:-30])


def fake_size(folder):
    file = folder / "cat" / "0.png"
    content = bytearray(file.read_bytes())
    content[16:24] = b"\x00\x0f\xff\xff" * 2
    file.write_bytes(content)


@pytest.mark.parametrize(
    "damage", [broken(b""), broken(b"hello"), broken(b"\x89PNG\r\n\x1a\n" + bytes(40)), cut, fake_size]
)
def test_a_broken_image_is_named(tree, damage):
    damage(tree / "tree")
    with pytest.raises(SettingsError, match=r"cat.\d\.png cannot be read .*Replace or remove it\."):
        load("tree", tree)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"names": ("bird", "dog")}, "folders that the classes setting does not name: cat"),
        ({"classes": 2}, "labels from 0 to 2, but the model has 2 classes"),
        ({"shape": (2, 6, 5)}, r"1, 3 or 4 channels, the model takes 2; give an \.npz file"),
    ],
)
def test_folders_that_do_not_fit_the_model(tree, options, reason):
    with pytest.raises(SettingsError, match=reason):
        load("tree", tree, **options)


@pytest.mark.parametrize(
    ("folders", "reason"), [([], "has no sub-folder for each class"), (["a", "b"], "holds no images")]
)
def test_folders_without_images(tmp_path, folders, reason):
    (tmp_path / "tree").mkdir()
    for name in folders:
        (tmp_path / "tree" / name).mkdir()
    with pytest.raises(SettingsError, match=reason):
        load("tree", tmp_path)
