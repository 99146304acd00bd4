from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from stripes import SIZE, classifier, run, samples  # noqa: E402  (after the skip)

from pytest_backdoor.checks.reversal._images import from_prototypes, from_samples, stand_ins, to_pixels  # noqa: E402
from pytest_backdoor.errors import NotAssessableError  # noqa: E402
from pytest_backdoor.models import Samples  # noqa: E402


def chosen(given, opened=None):
    return from_samples(opened or classifier(), given, torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (samples(per_class=0), "of the samples only 0"),
        (Samples(images=samples().images[:10], labels=samples().labels[:10]), r"in 1 class\(es\)"),
        (Samples(images=samples().images[[0, 11]], labels=samples().labels[[0, 11]]), "only 2 are classified as they"),
        (Samples(images=samples().images, labels=(samples().labels + 1) % 4), "of the samples only 0"),
    ],
)
def test_too_few_images_are_not_assessable(given, reason):
    if not len(given):
        given = Samples(images=np.zeros((1, 1, SIZE, SIZE), np.float32), labels=np.array([3]))
    with pytest.raises(NotAssessableError, match=rf"{reason}.* Give more clean samples with --backdoor-data"):
        run(given=given)


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize(("per_class", "optimised", "held_out"), [(30, 16, 40), (10, 16, 24), (3, 6, 6)])
def test_images_are_drawn_evenly_and_held_out_ones_apart(labelled, per_class, optimised, held_out):
    given = samples(per_class=per_class, labelled=labelled)
    found = chosen(given)
    assert (len(found.images), len(found.held_out)) == (optimised, held_out)
    counts = found.labels.bincount(minlength=4)
    assert counts.max() - counts.min() <= 1
    parts = {image.numpy().tobytes() for image in found.images}, {image.numpy().tobytes() for image in found.held_out}
    assert not parts[0] & parts[1]
    assert parts[0] | parts[1] <= {image.tobytes() for image in given.images}
    labels = samples(per_class=per_class).labels
    known = {image.tobytes(): label for image, label in zip(given.images, labels, strict=True)}
    assert [known[image.numpy().tobytes()] for image in found.images] == found.labels.tolist()
    assert [known[image.numpy().tobytes()] for image in found.held_out] == found.held_out_labels.tolist()


def test_samples_that_the_model_gets_wrong_are_left_out():
    given = samples()
    wrong = given.labels.copy()
    wrong[:6] = 3
    found = chosen(Samples(images=given.images, labels=wrong))
    used = {image.numpy().tobytes() for image in torch.cat([found.images, found.held_out])}
    assert not used & {image.tobytes() for image in given.images[:6]}


def test_stand_ins_are_what_the_model_takes_for_each_class():
    opened = classifier()
    made = stand_ins(opened.differentiable("cpu"), (1, SIZE, SIZE), 4, torch.Generator().manual_seed(0), "cpu")
    np.testing.assert_array_equal(opened.logits(made.images.numpy()).argmax(axis=1), made.labels.numpy())
    assert set(made.labels.tolist()) == {0, 1, 2, 3}
    assert 0 <= made.images.min() <= made.images.max() <= 1
    assert not made.images.requires_grad


def test_variants_of_prototypes_differ_and_are_what_the_model_takes_them_for():
    opened = classifier()
    prototypes = samples(per_class=1).images
    generator = torch.Generator().manual_seed(0)
    made = from_prototypes(opened.differentiable("cpu"), prototypes, 4, generator, "cpu")
    everything = torch.cat([made.images, made.held_out])
    assert len(torch.unique(everything, dim=0)) == len(everything) == 16 + 40
    assert 0 <= everything.min() <= everything.max() <= 1
    predicted = opened.logits(everything.numpy()).argmax(axis=1)
    np.testing.assert_array_equal(predicted, torch.cat([made.labels, made.held_out_labels]).numpy())
    assert set(made.labels.tolist()) == {0, 1, 2, 3}
    before = prototypes.copy()
    from_prototypes(opened.differentiable("cpu"), prototypes, 4, generator, "cpu")
    np.testing.assert_array_equal(prototypes, before)


@pytest.mark.parametrize(("channels", "shape"), [(1, (4, 5)), (2, (4, 5)), (3, (4, 5, 3)), (4, (4, 5, 3))])
def test_pixels_of_an_image(channels, shape):
    image = torch.rand(channels, 4, 5, generator=torch.Generator().manual_seed(0)) * 1.2 - 0.1
    pixels = to_pixels(image)
    assert pixels.shape == shape
    assert pixels.dtype == np.uint8
    expected = np.rint(image.clamp(0, 1).numpy().transpose(1, 2, 0) * 255)
    np.testing.assert_array_equal(pixels.reshape(4, 5, -1), expected[..., : 3 if channels > 2 else 1])
