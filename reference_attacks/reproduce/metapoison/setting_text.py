"""With what setting the figures of MetaPoison were measured, in a sentence or two."""

from __future__ import annotations

from ...tasks import CIFAR10_CLASSES
from ..parts import Values
from ..tables import percent

PAPER_IMAGES = 50_000


def setting_text(results: Values) -> str:
    """Training set, crafting and victims, and what is otherwise in the paper."""
    setting = results["setting"]
    crafting, victims = setting["crafting"], setting["victims"]
    images, classes = setting["train_images"], [CIFAR10_CLASSES[label] for label in setting["classes"]]
    size = (
        f"CIFAR-10, {images:,} training images"
        if images >= PAPER_IMAGES
        else f"{images:,} training images of {len(classes)} classes of CIFAR-10 ({', '.join(classes)}; the paper: all "
        f"{PAPER_IMAGES:,} of ten)"
    )
    reference = "" if results["reference"] is None else f", clean accuracy {percent(results['reference'])}"
    packed = ", batches that pack poisons (the paper: at random)" if crafting["packed"] else ""
    optimiser = f"momentum {victims['momentum']:g}" if victims["momentum"] else "no momentum"
    return (
        f"{size}; {100 * setting['budget']:g} % of them poisons. Crafting: {crafting['surrogates']} surrogates "
        f"{crafting['network']} (the paper: 24 ResNet-20) of up to {crafting['epochs']} epochs{packed}, "
        f"{crafting['steps']} craft steps, {crafting['unroll']} unrolled steps, {crafting['objective']}, "
        f"ε = {round(255 * crafting['bound'])}/255. Victims: "
        f"{victims['network']}{reference}, {victims['epochs']} epochs, batches of {victims['batch']}, SGD at "
        f"{victims['learning_rate']:g}, {optimiser}, no augmentation; {setting['precision']}. Targets are test images "
        "that a clean network classifies correctly."
    )
