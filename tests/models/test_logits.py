from __future__ import annotations

import numpy as np
import pytest

from pytest_backdoor.errors import ModelError
from pytest_backdoor.models._classifier import as_logits, class_scores, is_softmax, one_line, probe_images

LOGITS = np.random.default_rng(0).normal(size=(6, 5)) * 3


def softmax(values):
    exponentials = np.exp(values - values.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def centred(values):
    return values - values.mean(axis=1, keepdims=True)


FORMS = {"logits": LOGITS, "shifted logits": LOGITS + 70, "log-softmax": np.log(softmax(LOGITS))}


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("form", [*FORMS, "softmax"])
def test_all_forms_of_output_give_the_same_logits(form, dtype):
    values = (softmax(LOGITS) if form == "softmax" else FORMS[form]).astype(dtype)
    found = as_logits(values, softmax=is_softmax(values), path="m")
    assert found.dtype == np.float32
    # Half precision has 11 bits; a probability near 1 and one near 0 are both kept to their own relative precision.
    np.testing.assert_allclose(found, centred(LOGITS), atol=0.1 if dtype == "float16" else 2e-4)
    np.testing.assert_allclose(found.mean(axis=1), 0, atol=1e-5)


@pytest.mark.parametrize(("dtype", "smallest"), [("float16", 2.0**-24), ("float32", 2.0**-126)])
def test_a_probability_that_underflowed_stays_the_smallest_and_no_smaller_than_its_type_allows(dtype, smallest):
    found = as_logits(np.array([[0, smallest, 1]], dtype), softmax=True, path="m")[0]
    np.testing.assert_allclose(found[2] - found[0], -np.log(smallest), rtol=1e-4)
    assert found[0] <= found[1] < found[2]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[0.2, 0.8]], True),
        ([[0.0, 1.0], [1.0, 0.0]], True),
        ([[0.2, 0.8], [0.2, 0.9]], False),
        ([[1.2, -0.2], [0.5, 0.5]], False),
        ([[3.0, 5.0], [1.0, 0.2]], False),
        ([[-1.6, -0.2]], False),
        ([[np.nan, 1.0]], False),
    ],
)
def test_probabilities_are_told_from_other_numbers(values, expected):
    assert is_softmax(np.array(values, np.float32)) is expected


def test_half_precision_probabilities_of_many_classes_are_recognised():
    values = softmax(np.random.default_rng(0).normal(size=(8, 1000))).astype(np.float16)
    assert is_softmax(values)


def test_positive_logits_are_not_taken_for_probabilities_by_chance():
    # One image's logits may sum to 1; the model was judged before, by several different images.
    row = np.array([[0.25, 0.75]], np.float32)
    np.testing.assert_allclose(as_logits(row, softmax=False, path="m"), [[-0.25, 0.25]])


@pytest.mark.parametrize("row", [[0.5, 0.9], [1.5, -0.5], [-3.0, -0.1]])
def test_a_model_that_gives_probabilities_only_now_and_then_is_refused(row):
    with pytest.raises(ModelError, match=r"^m gives probabilities for some images and other numbers for others"):
        as_logits(np.array([[0.5, 0.5], row], np.float32), softmax=True, path="m")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("probabilities", [False, True])
def test_what_is_no_finite_number_is_an_error(value, probabilities):
    with pytest.raises(ModelError, match=r"^m gives outputs that are not finite numbers .* check its weights"):
        as_logits(np.array([[0.5, value]]), softmax=probabilities, path="m")


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((3, 4), (3, 4)),
        ((3, 4, 1, 1), (3, 4)),
        ((3, 2), (3, 2)),
        ((3, 1), None),
        ((3, 1, 1, 1), None),
        ((3,), None),
        ((), None),
        ((2, 4), None),
        ((3, 4, 1), None),
        ((3, 4, 2, 1), None),
        ((1, 12), None),
    ],
)
def test_the_shape_of_class_scores(shape, expected):
    scores = class_scores(np.zeros(shape), 3)
    assert (None if scores is None else scores.shape) == expected


def test_what_is_no_array_holds_no_class_scores():
    assert class_scores({"logits": np.zeros((3, 4))}, 3) is None


def test_probe_images_differ_and_are_the_same_every_time():
    images = probe_images((3, 8, 6))
    assert images.shape == (4, 3, 8, 6)
    assert images.dtype == np.float32
    assert images.min() == 0
    assert images.max() <= 1
    assert len({image.tobytes() for image in images}) == 4
    np.testing.assert_array_equal(images, probe_images((3, 8, 6)))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("a\n\tb  c"), "a b c."),
        (ValueError("really?"), "really?"),
        (MemoryError(), "MemoryError."),
        (ValueError("x" * 20), "xxxxxxxxxxxx …"),
    ],
)
def test_texts_of_other_libraries_become_one_sentence(error, expected):
    assert one_line(error, limit=12) == expected
