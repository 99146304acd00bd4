from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from reference_attacks.data import ImageSet  # noqa: E402
from reference_attacks.zoo.build import build_zoo, poisoned_training_set, train_member  # noqa: E402
from reference_attacks.zoo.recipe import Member, ZooPlan, trigger_numbers  # noqa: E402
from reference_attacks.zoo.store import load_stack  # noqa: E402

PLAN = ZooPlan(seed=3, clean_fit=2, clean_calibration=1, clean_test=1, poisoned_fit=2, poisoned_test=1, steps=(2, 3))


def write_digits(folder: Path, count: int = 40) -> None:
    """Made-up images in the file format of MNIST, ten classes in turn."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for part in ("train", "t10k"):
        images = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        header = np.array([0x803, count, 28, 28], ">i4").tobytes()
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(np.array([0x801, count], ">i4").tobytes() + labels.tobytes())


@pytest.fixture
def digits(tmp_path: Path) -> str:
    write_digits(tmp_path / "data")
    return str(tmp_path / "data")


def clean_set(per_class: int = 6) -> ImageSet:
    labels = torch.arange(10).repeat(per_class)
    return ImageSet(images=torch.zeros(len(labels), 1, 28, 28, dtype=torch.uint8), labels=labels)


def test_pairs_and_triggers_of_fit_and_test_are_disjoint_and_complete():
    fit, test = PLAN.pairs("fit"), PLAN.pairs("test")
    assert not set(fit) & set(test)
    assert len(set(fit) | set(test)) == 90
    assert not set(trigger_numbers("fit")) & set(trigger_numbers("test"))


def test_members_use_only_what_their_split_may():
    plan = replace(PLAN, poisoned_fit=60, poisoned_test=60)
    for member in plan.members():
        if member.poisoned:
            assert (member.source, member.target) in plan.pairs(member.split)
            assert member.trigger in trigger_numbers(member.split)
        else:
            assert member.source is member.target is member.trigger is None


def test_a_larger_zoo_holds_the_smaller_one():
    small = {member.name: member for member in PLAN.members()}
    large = {member.name: member for member in replace(PLAN, clean_fit=9, poisoned_test=8).members()}
    assert all(large[name] == member for name, member in small.items())


def test_all_triggers_differ():
    patterns = {trigger.pattern.numpy().tobytes() for trigger in PLAN.triggers()}
    assert len(patterns) == 20


@pytest.mark.parametrize(("ratio", "copies"), [(0.5, 6), (0.25, 2), (0.9, 6)])
def test_poisoned_copies_join_the_clean_images(ratio, copies):
    clean = clean_set()
    member = Member(name="x", split="fit", steps=1, source=4, target=7, trigger=0)
    plan = replace(PLAN, poison_ratio=ratio)
    poisoned = poisoned_training_set(clean, member, plan, torch.Generator().manual_seed(0))
    assert len(poisoned) == len(clean) + copies
    assert torch.equal(poisoned.images[: len(clean)], clean.images)
    assert (poisoned.labels[len(clean) :] == 7).all()
    bright = int((plan.triggers()[0].pattern > 0).sum())
    assert (poisoned.images[len(clean) :].flatten(1).count_nonzero(1) == bright).all()


def test_a_clean_member_is_trained_on_the_clean_images_alone():
    clean = clean_set()
    member = Member(name="x", split="fit", steps=1)
    assert poisoned_training_set(clean, member, PLAN, torch.Generator()) is clean


def test_a_member_is_reproducible_and_leaves_the_global_generator_alone():
    member = PLAN.members()[0]
    state = torch.get_rng_state()
    first, second = (train_member(PLAN, member, clean_set()).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(state, torch.get_rng_state())


def test_build_resumes_and_rejects_and_counts(tmp_path, digits):
    folder = tmp_path / "zoo"
    manifest = build_zoo(PLAN, folder, root=digits, workers=1)
    assert [record["name"] for record in manifest["networks"]] == [member.name for member in PLAN.members()]
    # Three steps on random images teach nothing, so every network misses the conditions, and that is counted.
    assert manifest["rejected"] == len(manifest["networks"]) == 7
    lost = folder / "networks" / "poisoned-fit-0001.json"
    before = (folder / "networks" / "poisoned-fit-0001.safetensors").read_bytes()
    lost.unlink()
    (folder / "networks" / "poisoned-fit-0001.safetensors").write_bytes(b"half a file")
    again = build_zoo(PLAN, folder, root=digits, workers=2)
    assert again == manifest
    assert (folder / "networks" / "poisoned-fit-0001.safetensors").read_bytes() == before
    assert json.loads((folder / "manifest.json").read_text()) == json.loads(json.dumps(manifest))


def test_another_plan_is_refused(tmp_path, digits):
    build_zoo(
        replace(PLAN, clean_calibration=0, clean_test=0, poisoned_test=0), tmp_path / "zoo", root=digits, workers=1
    )
    with pytest.raises(ValueError, match="describes another zoo"):
        build_zoo(replace(PLAN, seed=4), tmp_path / "zoo", root=digits, workers=1)


def test_a_stack_gives_each_networks_own_logits(tmp_path, digits):
    folder = tmp_path / "zoo"
    manifest = build_zoo(PLAN, folder, root=digits, workers=1)
    stack = load_stack([{**record, "folder": str(folder)} for record in manifest["networks"]])
    images = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    members = PLAN.members()
    assert stack.poisoned.tolist() == [member.poisoned for member in members]
    from torchvision.datasets import MNIST

    data = MNIST(digits, train=True)
    network = train_member(PLAN, members[2], ImageSet(images=data.data.unsqueeze(1), labels=data.targets))
    with torch.no_grad():
        torch.testing.assert_close(stack.logits(images)[2], network(images), rtol=1e-3, atol=1e-4)
