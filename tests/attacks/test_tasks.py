"""Where the images of a zoo come from: image folders and data sets in their own layouts, all made up."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from reference_attacks.data import DataNotFoundError, load_cifar10, load_folder, load_gtsrb  # noqa: E402
from reference_attacks.tasks import FOLDER_TASK, TASKS, find_task, load_task  # noqa: E402


def write_image(path, *, size=(20, 16), mode="RGB", level=None, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    shape = (height, width) if mode == "L" else (height, width, len(mode))
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    if level is not None:
        pixels[:] = level
    Image.fromarray(pixels).save(path)
    return pixels


def write_folder(folder, *, parts=("train", "test"), classes=("bird", "cat"), count=2, **image):
    for part in parts:
        for label, name in enumerate(classes):
            for number in range(count):
                write_image(folder / part / name / f"{number}.png", **{"level": 10 * label + number} | image)


@pytest.mark.parametrize(("mode", "shape"), [("RGB", (3, 16, 20)), ("L", (1, 16, 20)), ("RGBA", (3, 16, 20))])
def test_a_folder_gives_its_images_in_the_order_of_the_classes(tmp_path, mode, shape):
    write_folder(tmp_path, classes=("cat", "bird"), mode=mode)
    found = load_folder(tmp_path / "train")
    assert found.images.dtype == torch.uint8
    assert found.images.shape == (4, *shape)
    assert found.labels.tolist() == [0, 0, 1, 1]
    assert found.images[:, 0, 0, 0].tolist() == [10, 11, 0, 1]  # bird comes before cat


def test_the_pixels_of_a_folder_are_kept(tmp_path):
    pixels = write_image(tmp_path / "cat" / "0.png")
    assert np.array_equal(load_folder(tmp_path).images[0].permute(1, 2, 0).numpy(), pixels)


def test_the_first_image_decides_whether_a_folder_is_grey(tmp_path):
    write_image(tmp_path / "bird" / "0.png", mode="L", level=40)
    write_image(tmp_path / "cat" / "0.png", mode="RGB", level=90)
    found = load_folder(tmp_path)
    assert found.images[:, :, 0, 0].tolist() == [[40], [90]]


def test_images_of_several_sizes_are_refused(tmp_path):
    write_image(tmp_path / "bird" / "0.png")
    write_image(tmp_path / "cat" / "0.png", size=(20, 17))
    with pytest.raises(ValueError, match=r"image of class 1 has shape \(17, 20, 3\), the first one \(16, 20, 3\)"):
        load_folder(tmp_path)


def test_a_folder_without_images_is_named(tmp_path):
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataNotFoundError, match=re.escape(f"An image folder was not found in {tmp_path}")):
        load_folder(tmp_path)


def test_a_task_may_be_a_folder(tmp_path):
    write_folder(tmp_path)
    write_image(tmp_path / "test" / "cat" / "more.png", level=99)
    assert find_task(str(tmp_path)) is FOLDER_TASK
    train, test = load_task(str(tmp_path), None)
    assert (len(train), len(test)) == (4, 5)


def test_a_class_that_train_or_test_lacks_is_named(tmp_path):
    write_folder(tmp_path, classes=("bird", "cat", "dog"))
    write_folder(tmp_path, parts=("train",), classes=("cow",))
    with pytest.raises(ValueError, match=r"other classes in train/ than in test/ \(cow\); give each class a folder"):
        load_task(str(tmp_path), None)


@pytest.mark.parametrize("image", [{"size": (16, 16)}, {"mode": "L"}])
def test_test_images_of_another_shape_are_refused(tmp_path, image):
    write_folder(tmp_path, parts=("train",))
    write_folder(tmp_path, parts=("test",), **image)
    with pytest.raises(ValueError, match=r"training images of shape \(3, 16, 20\) and test images of shape .*make all"):
        load_task(str(tmp_path), None)


@pytest.mark.parametrize("present", [(), ("train",), ("test",)])
def test_what_is_neither_a_task_nor_a_folder_is_refused(tmp_path, present):
    for part in present:
        (tmp_path / part).mkdir()
    with pytest.raises(ValueError, match=r"is neither one of the tasks mnist, cifar10, gtsrb nor a folder with train/"):
        find_task(str(tmp_path))


@pytest.mark.parametrize("name", TASKS)
def test_the_tasks_are_found_by_name(name):
    assert find_task(name).name == name


def test_cifar10_is_read_from_pictures(tmp_path):
    names = [f"class{number}" for number in range(10)]
    write_folder(tmp_path / "cifar10", classes=names, size=(32, 32))
    for train in (True, False):
        found = load_cifar10(tmp_path, train=train)
        assert found.images.shape == (20, 3, 32, 32)
        assert found.labels.tolist() == sorted([*range(10)] * 2)
        assert found.images[:, 0, 0, 0].tolist() == [10 * label + number for label in range(10) for number in (0, 1)]


def test_gtsrb_is_read_from_torchvisions_layout_and_resized(tmp_path):
    base = tmp_path / "gtsrb"
    for label, size in ((0, (40, 36)), (1, (32, 32))):
        write_image(base / "GTSRB" / "Training" / f"{label:05d}" / "0.ppm", size=size, level=50 + label)
    for number, label in enumerate([1, 0]):
        write_image(base / "GTSRB" / "Final_Test" / "Images" / f"{number}.ppm", size=(28, 50), level=70 + label)
    (base / "GT-final_test.csv").write_text("Filename;Width;ClassId\n0.ppm;28;1\n1.ppm;28;0\n")
    train, test = load_gtsrb(tmp_path, train=True), load_gtsrb(tmp_path, train=False)
    for found, labels, levels in ((train, [0, 1], [50, 51]), (test, [1, 0], [71, 70])):
        assert found.images.shape == (2, 3, 32, 32)
        assert found.labels.tolist() == labels
        assert found.images[:, 2, 9, 9].tolist() == levels
