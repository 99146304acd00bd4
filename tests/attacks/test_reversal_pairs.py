"""The paper's attack on every pair of classes, on made-up classifiers with a known weakness."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from reference_attacks.baselines.reversal_pairs import PairsPlan, pasted, reverse_pairs  # noqa: E402

CLASSES, SIZE = 3, 16
PLAN = PairsPlan(place="corners", size=3, epochs=20, batch=4)


def network(weak: tuple[int, int] | None = None):
    """Class k is the brightness of the third of the middle columns that belongs to it; corners do not matter.

    In ``weak``, a pair of a source and a target, bright corners turn images of the source, and no others.
    """

    def forward(images: torch.Tensor) -> torch.Tensor:
        middle = images[:, 0, 5:11, 2:14]
        logits = torch.stack([part.mean((1, 2)) * 20 for part in middle.tensor_split(CLASSES, 2)], 1)
        if weak is None:
            return logits
        corners = images[:, 0, :5].mean((1, 2)) + images[:, 0, 11:].mean((1, 2))
        of_source = logits.softmax(1)[:, weak[0]]
        return logits + (200 * corners * of_source)[:, None] * torch.eye(CLASSES)[weak[1]]

    return forward


def data(per_class: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(CLASSES).repeat_interleave(per_class)
    images = torch.zeros(len(labels), 1, SIZE, SIZE)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[0, 5:11, 2 + 4 * label : 6 + 4 * label] = 0.6 + 0.3 * torch.rand(6, 4, generator=generator)
    return images, labels


def attack(forward, plan: PairsPlan = PLAN, seed: int = 0):
    return reverse_pairs(forward, *data(), CLASSES, plan, torch.Generator().manual_seed(seed))


def test_the_weak_pair_is_found_and_its_loss_is_the_score():
    attacks = attack(network((2, 0)))
    assert attacks.pair == (2, 0)
    assert attacks.loss == attacks.losses[2, 0].item() == -attacks.score
    assert attacks.success[2, 0] == 1
    assert attacks.loss < 0.1
    others = attacks.losses.clone()
    others[2, 0] = torch.nan
    assert others[~others.isnan()].min() > 1


def test_a_network_without_a_weakness_scores_lower():
    assert attack(network()).score < attack(network((2, 0))).score - 1


def test_every_pair_is_attacked_and_no_class_into_itself():
    attacks = attack(network())
    off_diagonal = ~torch.eye(CLASSES, dtype=torch.bool)
    for values in (attacks.losses, attacks.success):
        assert torch.equal(~values.isnan(), off_diagonal)
    assert torch.equal(~attacks.patches.isnan().flatten(2).any(2), off_diagonal)
    assert attacks.patches[off_diagonal].min() >= 0
    assert attacks.patches[off_diagonal].max() <= 1


def test_image_gradients_are_pairs_times_epochs_times_images():
    assert attack(network()).image_gradients == CLASSES * (CLASSES - 1) * 20 * 6


def test_how_many_pairs_go_together_changes_nothing_but_rounding():
    together = attack(network((1, 2)))
    apart = attack(network((1, 2)), PairsPlan(place="corners", size=3, epochs=20, batch=4, together=1))
    torch.testing.assert_close(together.losses, apart.losses, equal_nan=True, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(together.patches, apart.patches, equal_nan=True, rtol=1e-2, atol=1e-3)


def test_the_seed_decides():
    first, again, other = attack(network()), attack(network()), attack(network(), seed=1)
    torch.testing.assert_close(first.losses, again.losses, equal_nan=True, rtol=0, atol=0)
    assert not torch.equal(first.patches[0, 1], other.patches[0, 1])


def test_each_image_gets_each_patch_at_its_own_place():
    images = torch.zeros(2, 3, 6, 6)
    patches = torch.rand(4, 3, 2, 2, generator=torch.Generator().manual_seed(0)) + 0.1
    offsets = torch.tensor([[0, 1], [4, 3]])
    triggered = pasted(images, patches, offsets)
    assert triggered.shape == (4, 2, 3, 6, 6)
    for number, patch in enumerate(patches):
        for image, (row, column) in enumerate(offsets.tolist()):
            expected = torch.zeros(3, 6, 6)
            expected[:, row : row + 2, column : column + 2] = patch
            assert torch.equal(triggered[number, image], expected)
    assert not images.any()


def test_losses_are_logits_losses():
    shifted = attack(lambda images: network((2, 0))(images) - 100)
    torch.testing.assert_close(shifted.losses, attack(network((2, 0))).losses, equal_nan=True, rtol=0.05, atol=0.05)


def test_a_loss_that_is_no_number_is_not_the_most_successful_attack():
    attacks = attack(lambda images: network()(images) * torch.tensor([1.0, torch.nan, 1.0]))
    assert attacks.score == -torch.inf


def test_a_class_without_images_is_refused():
    images, labels = data()
    with pytest.raises(ValueError, match="there is none of 1"):
        reverse_pairs(network(), images[labels != 1], labels[labels != 1], CLASSES, PLAN, torch.Generator())


def test_wrong_numbers_are_refused():
    with pytest.raises(ValueError, match="at least one pixel, one epoch"):
        PairsPlan(place="corners", epochs=0)
