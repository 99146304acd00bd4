"""Muon: orthogonal steps for kernels, of one network or of a stack of them."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from reference_attacks.zoo.muon import Muon, orthogonalised  # noqa: E402


def random_values(*shape: int, seed: int = 0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(16, 27), (64, 16), (32, 32)])
def test_singular_values_come_near_one_and_singular_vectors_stay(shape):
    matrix = random_values(*shape)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    found = left.mT @ orthogonalised(matrix) @ right.mT
    values = found.diagonal()
    assert values.min() > 0.2
    assert values.max() < 1.4
    assert (found - values.diag()).abs().max() < 0.1


def test_the_size_of_a_gradient_does_not_matter():
    matrix = random_values(8, 12)
    torch.testing.assert_close(orthogonalised(matrix), orthogonalised(1000 * matrix), rtol=0.05, atol=0.02)


def test_a_matrix_of_zeros_stays_zero():
    assert not orthogonalised(torch.zeros(4, 6)).any()


def steps(kernels, gradients, *, weight_decay=0.1):
    parameter = torch.nn.Parameter(kernels.clone())
    optimizer = Muon([parameter], lr=0.1, weight_decay=weight_decay)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach()


def test_a_stack_moves_as_each_of_its_kernels_alone():
    kernels, gradients = random_values(3, 8, 4, 3, 3), [random_values(3, 8, 4, 3, 3, seed=seed) for seed in (1, 2)]
    together = steps(kernels, gradients)
    for number in range(3):
        alone = steps(kernels[number], [gradient[number] for gradient in gradients])
        # bfloat16 inside: products of a batch may be summed in another order.
        torch.testing.assert_close(together[number], alone, rtol=0, atol=2e-3)
        assert (alone - kernels[number]).norm() > 0.1


def test_a_channels_last_kernel_moves_as_any_other():
    kernel, gradient = random_values(8, 4, 3, 3), random_values(8, 4, 3, 3, seed=1)
    permuted = [tensor.to(memory_format=torch.channels_last) for tensor in (kernel, gradient)]
    torch.testing.assert_close(steps(permuted[0], permuted[1:]), steps(kernel, [gradient]), rtol=0, atol=1e-6)


def test_a_step_lowers_the_loss_that_the_gradient_is_of():
    kernel, wanted = random_values(6, 5, 1, 1), random_values(6, 5, 1, 1, seed=1)
    moved = steps(kernel, [kernel - wanted], weight_decay=0)
    assert (moved - wanted).norm() < (kernel - wanted).norm()


def test_weight_decay_shrinks_kernels_without_a_gradient():
    kernel = random_values(6, 5, 3, 3)
    torch.testing.assert_close(steps(kernel, [torch.zeros_like(kernel)]), kernel * (1 - 0.1 * 0.1))
