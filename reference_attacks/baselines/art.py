"""ART's Neural Cleanse (PyPI: adversarial-robustness-toolbox, with tensorflow) on one of our networks.

It takes Keras models only. Here it is built for a small Keras model of the right shape, and what it differentiates is
then a function that TensorFlow's tape can follow into torch; its own code does all the rest. Images go back and forth
between the two, which costs it a little time.

What it does differently from Neural Cleanse as published is left as it is: a mask of three dimensions under an ℓ2
price, a cost that is set back whenever five steps succeed and so never rises, no early stop as a consequence, masks
that start from the previous class's. Two things are put right, without which it does nothing of use: it is told that
outputs are logits, which its own ``NeuralCleanse`` transformer leaves out; and the learning rate is set again after its
``reset``, which in Keras 3 sets the optimizer's learning rate to 0 among its other variables, so that no mask moves.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from .tools import Answer, Case, Tool, installed, missing, source_digest, this_folder

PACKAGES = ("adversarial-robustness-toolbox", "tensorflow", "tensorflow-cpu", "keras")
Array = np.ndarray[Any, Any]


def art_tool(steps: int) -> Tool:
    """The tool; ``steps`` of each class, each one pass over the samples. Its default is 1000."""
    versions = {name: installed(name) for name in PACKAGES}
    return Tool(
        name="art",
        run=lambda case: _run(case, steps),
        settings={"steps": steps, "versions": versions, "source": source_digest(this_folder(), "art")},
        flags="a norm below the median with an anomaly index above 2",
        missing=missing(
            "adversarial-robustness-toolbox",
            ("tensorflow", "art.estimators.poison_mitigation.neural_cleanse"),
            "pip install adversarial-robustness-toolbox tensorflow",
        ),
    )


def _run(case: Case, steps: int) -> Answer:
    import tensorflow as tf
    from art.estimators.poison_mitigation.neural_cleanse import KerasNeuralCleanse

    _use_one_thread(tf)
    classes = case.classifier.classes
    images = np.ascontiguousarray(case.samples.images.transpose(0, 2, 3, 1))
    with _seeded(case.seed), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        cleanse = KerasNeuralCleanse(_shell(tf, images.shape[1:], classes), use_logits=True, steps=steps)
        cleanse._model = _bridge(tf, case.forward)
        cleanse.reset = _keeping_the_learning_rate(cleanse)
        norms: list[float] = []
        cleanse.generate_backdoor = _recording(cleanse.generate_backdoor, norms)
        flagged = cleanse.outlier_detection(images, np.eye(classes, dtype=np.float32)[case.labels.numpy()])
    smallest, middle = min(norms), float(np.median(norms))
    deviation = 1.4826 * float(np.median(np.abs(np.array(norms) - middle)))
    return Answer(
        statistics={
            "anomaly index": (middle - smallest) / deviation if deviation > 0 else None,
            "smallest norm": -smallest,
        },
        flagged=bool(flagged),
        details={"norms": norms, "flagged": [int(label) for label, *_ in flagged]},
    )


def _shell(tf: Any, shape: tuple[int, ...], classes: int) -> Any:
    """A Keras model of the network's shape, which is never called."""
    layers = [tf.keras.Input(shape), tf.keras.layers.Flatten(), tf.keras.layers.Dense(classes)]
    model = tf.keras.Sequential(layers)
    model.compile(loss="categorical_crossentropy", optimizer="sgd")
    return model


def _bridge(tf: Any, forward: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., Any]:
    """A function of NHWC tensors of TensorFlow whose values and gradients are those of ``forward``."""

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def differentiated(images: Any) -> tuple[Any, Callable[[Any], Any]]:
        batch = torch.tensor(images.numpy().transpose(0, 3, 1, 2)).requires_grad_()
        logits = forward(batch)

        def gradient(upstream: Any) -> Any:
            (found,) = torch.autograd.grad(logits, [batch], torch.tensor(upstream.numpy()))
            return tf.constant(found.permute(0, 2, 3, 1).contiguous().numpy())

        return tf.constant(logits.detach().numpy()), gradient

    def model(images: Any, training: bool = False) -> Any:
        return differentiated(images)

    return model


def _keeping_the_learning_rate(cleanse: Any) -> Callable[[], None]:
    reset = cleanse.reset

    def kept() -> None:
        reset()
        cleanse.opt.learning_rate.assign(cleanse.learning_rate)

    return kept


def _recording(generate: Callable[..., tuple[Array, Array]], norms: list[float]) -> Callable[..., tuple[Array, Array]]:
    """``generate`` as it is, but each mask's ℓ1 norm is kept, averaged over colours."""

    def generated(*arguments: Array) -> tuple[Array, Array]:
        mask, pattern = generate(*arguments)
        norms.append(float(np.abs(mask).sum() / mask.shape[-1]))
        return mask, pattern

    return generated


def _use_one_thread(tf: Any) -> None:
    # Refused once TensorFlow runs, which it then does as it was told before.
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """It draws from numpy's global generator, which is put back as it was."""
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)
