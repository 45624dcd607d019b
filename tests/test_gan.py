"""Generative adversarial training: losses, gradient penalty, layers, measures of samples."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

import tinygrad_cnn as tg
from tinygrad_cnn import models, nn
from tinygrad_cnn.train.adversarial import (
    critic_loss,
    discriminator_loss,
    feature_matching_loss,
    generator_loss,
    gradient_penalty,
)
from tinygrad_cnn.train.frechet import frechet_distance
from tinygrad_cnn.train.judge import digit_shares, discriminator_accuracy, entropy, evaluate

RNG = np.random.default_rng(7)


def logit(p: float) -> float:
    return math.log(p / (1 - p))


# -- losses ------------------------------------------------------------------------------------
def test_the_losses_at_999_and_1_in_1000(backend: str) -> None:
    """The notes' example: D(x) = 0.999, D(G(z)) = 0.001."""
    real, fake = (
        tg.tensor([[logit(p)]], dtype=tg.float64, backend=backend) for p in (0.999, 0.001)
    )
    assert -discriminator_loss(real, fake).item() == pytest.approx(2 * math.log(0.999), rel=1e-9)
    assert -discriminator_loss(real, fake).item() == pytest.approx(-0.0020010, abs=1e-7)
    assert generator_loss(fake, "saturating").item() == pytest.approx(math.log(0.999), rel=1e-9)
    assert generator_loss(fake).item() == pytest.approx(-math.log(0.001), rel=1e-9)
    smoothed = discriminator_loss(real, fake, real_target=0.9).item()
    expected = -0.9 * math.log(0.999) - 0.1 * math.log(0.001) - math.log(0.999)
    assert smoothed == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("kind", "slope"), [("saturating", -0.001), ("non-saturating", -0.999)])
def test_where_d_is_sure_only_one_loss_has_a_slope(kind: str, slope: float) -> None:
    fake = tg.tensor([logit(0.001)], dtype=tg.float64, requires_grad=True)
    generator_loss(fake, kind).backward()
    assert fake.grad is not None
    assert fake.grad.item() == pytest.approx(slope, rel=1e-9)


def test_an_unknown_loss_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"expected one of non-saturating, saturating, received"):
        generator_loss(tg.zeros(1), "hinge")


def test_feature_matching_is_the_distance_of_the_means(backend: str) -> None:
    real = tg.tensor(RNG.normal(size=(5, 3)), backend=backend, requires_grad=True)
    fake = tg.tensor(RNG.normal(size=(4, 3)), backend=backend, requires_grad=True)
    loss = feature_matching_loss(real, fake)
    difference = fake.detach().numpy().mean(0) - real.detach().numpy().mean(0)
    assert loss.item() == pytest.approx((difference**2).sum())
    loss.backward()
    assert real.grad is None and fake.grad is not None
    np.testing.assert_allclose(fake.grad.numpy(), np.tile(2 * difference / 4, (4, 1)))


def test_critic_loss() -> None:
    assert critic_loss(tg.tensor([3.0, 5.0]), tg.tensor([1.0, 2.0])).item() == -2.5


# -- gradient penalty --------------------------------------------------------------------------
def small_critic() -> nn.Sequential:
    tg.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 3, 4, stride=2, padding=1), nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(3, 2, 2, stride=2), nn.GroupNorm(1, 2), nn.Tanh(), nn.Flatten(),
        nn.Linear(2 * 36, 1),
    )  # fmt: skip


def penalty_inputs() -> tuple[np.ndarray[Any, Any], ...]:
    rng = np.random.default_rng(5)
    return rng.normal(size=(4, 1, 6, 6)), rng.normal(size=(4, 1, 6, 6)), rng.random((4, 1, 1, 1))


def test_the_penaltys_gradient_is_its_difference_quotient(backend: str) -> None:
    """Through convolution, transposed convolution and group norm, in float64."""
    critic = small_critic().to("float64").to(backend)
    real, fake, mix = (tg.tensor(a, backend=backend) for a in penalty_inputs())
    gradient_penalty(critic, real, fake, mix).backward()
    rng = np.random.default_rng(6)
    checked = 0
    for parameter in critic.parameters():
        if parameter.grad is None:  # the last bias moves the critic up and down, not its slope
            continue
        direction = rng.normal(size=parameter.shape)
        start, values = parameter.detach().numpy().copy(), []
        for step in (1e-6, -1e-6):
            with tg.no_grad():
                parameter.copy_(tg.tensor(start + step * direction, backend=backend))
            values.append(gradient_penalty(critic, real, fake, mix).item())
        with tg.no_grad():
            parameter.copy_(tg.tensor(start, backend=backend))
        expected = (values[0] - values[1]) / 2e-6
        assert (parameter.grad.numpy() * direction).sum() == pytest.approx(expected, rel=1e-6)
        checked += 1
    assert checked >= 6


@pytest.mark.torch
def test_the_penalty_and_its_gradient_are_pytorchs(backend: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    critic = small_critic().to("float64").to(backend)
    layers = torch.nn
    peer = layers.Sequential(
        layers.Conv2d(1, 3, 4, stride=2, padding=1), layers.LeakyReLU(0.2),
        layers.ConvTranspose2d(3, 2, 2, stride=2), layers.GroupNorm(1, 2), layers.Tanh(),
        layers.Flatten(), layers.Linear(2 * 36, 1),
    ).double()  # fmt: skip
    peer.load_state_dict({k: torch.tensor(v.numpy()) for k, v in critic.state_dict().items()})
    real, fake, mix = penalty_inputs()
    between = torch.tensor(mix * real + (1 - mix) * fake, requires_grad=True)
    (slope,) = torch.autograd.grad(peer(between).sum(), between, create_graph=True)
    expected = (slope.flatten(1).norm(dim=1) - 1).square().mean()
    expected.backward()

    mine = gradient_penalty(critic, *(tg.tensor(a, backend=backend) for a in (real, fake, mix)))
    mine.backward()
    assert mine.item() == pytest.approx(expected.item(), rel=1e-10)
    theirs = dict(peer.named_parameters())
    for name, parameter in critic.named_parameters():
        if parameter.grad is not None:
            np.testing.assert_allclose(
                parameter.grad.numpy(), theirs[name].grad.numpy(), rtol=1e-8, atol=1e-12
            )


def test_a_critic_of_slope_one_pays_nothing_and_a_flat_one_pays_one() -> None:
    real, fake = tg.randn(3, 2), tg.randn(3, 2)
    assert gradient_penalty(lambda x: x[:, :1], real, fake).item() == pytest.approx(0, abs=1e-10)
    weight = tg.zeros(2, 1, requires_grad=True)
    flat = gradient_penalty(lambda x: x @ weight, real, fake)
    assert flat.item() == pytest.approx(1, abs=1e-5)
    flat.backward()
    assert weight.grad is not None and np.isfinite(weight.grad.numpy()).all()


# -- virtual batch norm ------------------------------------------------------------------------
def literal_virtual_norm(x: Any, size: int, eps: float) -> Any:
    """Each sample beside the reference, every mean as a plain weighted mean of values."""
    reference = x[:size]
    expected = np.empty_like(x)
    for c in range(x.shape[1]):
        known = reference[:, c].ravel()
        expected[:size, c] = (reference[:, c] - known.mean()) / np.sqrt(known.var() + eps)
        for i in range(size, len(x)):
            own = x[i, c].ravel()
            # as many values as R samples of the reference and one more
            values = np.concatenate((known, own))
            mean, var = values.mean(), values.var()
            expected[i, c] = (x[i, c] - mean) / np.sqrt(var + eps)
    return expected


@pytest.mark.parametrize("shape", [(7, 3), (7, 3, 5), (7, 3, 4, 2)])
def test_virtual_batch_norm(shape: tuple[int, ...], backend: str) -> None:
    x = RNG.normal(2, 3, size=shape)
    layer = nn.VirtualBatchNorm(3, dtype="float64", backend=backend)
    layer.reference_size = 4
    y = layer(tg.tensor(x, backend=backend))
    expected = literal_virtual_norm(x, 4, layer.eps)
    np.testing.assert_allclose(y.detach().numpy(), expected, rtol=1e-10)


def test_virtual_batch_norm_keeps_samples_independent(backend: str) -> None:
    """What batch norm does not: a sample's image depends on the samples beside it there."""
    tg.manual_seed(0)
    z = tg.randn(6, 8, backend=backend)
    for norm, independent in ((nn.VirtualBatchNorm, True), (nn.BatchNorm2d, False)):
        net: nn.Module = models.dcgan_generator(28, 1, latent=8, width=4, norm=norm).to(backend)
        if independent:
            net = nn.VirtualBatch(net, tg.randn(5, 8, backend=backend))
        together, alone = net(z)[:2], net(z[:2])
        assert together.shape == (2, 1, 28, 28)
        assert np.allclose(together.detach().numpy(), alone.detach().numpy(), atol=1e-5) is (
            independent
        )


def test_virtual_batch_norm_is_differentiable_through_the_reference() -> None:
    layer = nn.VirtualBatchNorm(2, dtype="float64")
    layer.reference_size = 2
    x = tg.tensor(RNG.normal(size=(4, 2, 3)), requires_grad=True)
    assert tg.gradcheck(layer, (x,)) and tg.gradgradcheck(layer, (x,))


def test_the_reference_is_saved_with_the_weights() -> None:
    reference = tg.randn(3, 8)
    net = nn.VirtualBatch(models.dcgan_generator(28, 1, 8, 2, nn.VirtualBatchNorm), reference)
    other = nn.VirtualBatch(
        models.dcgan_generator(28, 1, 8, 2, nn.VirtualBatchNorm), tg.zeros(3, 8)
    )
    other.load_state_dict(net.state_dict())
    z = tg.randn(2, 8)
    assert tg.equal(net(z), other(z))


def test_virtual_batch_norm_says_what_is_missing() -> None:
    with pytest.raises(RuntimeError, match=r"wrap the whole model: nn\.VirtualBatch"):
        nn.VirtualBatchNorm(3)(tg.zeros(2, 3))
    layer = nn.VirtualBatchNorm(3)
    layer.reference_size = 1
    with pytest.raises(ValueError, match=r"expected an input \(N, 3, …\), received shape \(2, 4"):
        layer(tg.zeros(2, 4))


# -- minibatch discrimination ------------------------------------------------------------------
def test_minibatch_discrimination_is_the_formula(backend: str) -> None:
    layer = nn.MinibatchDiscrimination(4, 3, 2, dtype="float64", backend=backend)
    x = RNG.normal(size=(5, 4))
    weights = layer.weight.detach().numpy().reshape(4, 3, 2)
    expected = np.zeros((5, 3))
    for i, j, b in itertools.product(range(5), range(5), range(3)):
        if i != j:
            distance = sum(abs((x[i] - x[j]) @ weights[:, b, c]) for c in range(2))
            expected[i, b] += math.exp(-distance)
    y = layer(tg.tensor(x, backend=backend)).detach().numpy()
    np.testing.assert_array_equal(y[:, :4], x)
    np.testing.assert_allclose(y[:, 4:], expected, rtol=1e-10)


def test_minibatch_discrimination_sees_copies() -> None:
    tg.manual_seed(0)
    layer = nn.MinibatchDiscrimination(16, 4)
    copies = layer(tg.ones(8, 16) * tg.randn(1, 16))[:, 16:]
    np.testing.assert_allclose(copies.detach().numpy(), 7.0)
    assert float(layer(tg.randn(8, 16))[:, 16:].max().item()) < 1.0
    x = tg.randn(3, 16, dtype=tg.float64, requires_grad=True)
    assert tg.gradcheck(nn.MinibatchDiscrimination(16, 2, dtype="float64"), (x,))
    with pytest.raises(ValueError, match=r"expected an input \(N, 16\), received shape \(3, 5\)"):
        layer(tg.zeros(3, 5))


@pytest.mark.parametrize("build", [models.mlp_discriminator, models.dcgan_discriminator])
def test_discriminators_have_features_and_a_logit(build: Any) -> None:
    images = tg.randn(3, 1, 28, 28)
    options = {} if build is models.mlp_discriminator else {"image_size": 28, "channels": 1}
    for minibatch in (0, 6):
        net = build(minibatch=minibatch, **options).eval()
        features = net.features(images)
        assert features.ndim == 2 and tg.equal(net(images), net.logit(features))
        kinds = [type(m) for m in net.modules()]
        assert (nn.MinibatchDiscrimination in kinds) is (minibatch > 0)


# -- measures ----------------------------------------------------------------------------------
def test_frechet_distance_of_normal_distributions() -> None:
    """One dimension: (μ − ν)² + (σ − τ)²."""
    a, b = RNG.normal(1, 2, (200_000, 1)), RNG.normal(4, 0.5, (200_000, 1))
    expected = (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert expected == pytest.approx(9 + 2.25, rel=0.02)


def test_frechet_distance_is_that_of_scipys_matrix_root() -> None:
    linalg = pytest.importorskip("scipy.linalg")
    a = RNG.normal(size=(300, 6)) @ RNG.normal(size=(6, 6))
    b = RNG.normal(size=(200, 6)) @ RNG.normal(size=(6, 6)) + 1
    sa, sb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = linalg.sqrtm(sa @ sb).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(sa + sb - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_with_a_dead_feature() -> None:
    a = RNG.normal(size=(50, 3)) * [1, 0, 2]
    assert frechet_distance(a, a + [0, 3, 0]) == pytest.approx(9)
    with pytest.raises(ValueError, match=r"at least 2 samples each, received \(1, 3\)"):
        frechet_distance(a[:1], a)


def test_shares_entropy_and_accuracy() -> None:
    probabilities = np.eye(10)[[0, 0, 1, 9]]
    shares = digit_shares(probabilities)
    assert shares[[0, 1, 9]].tolist() == [0.5, 0.25, 0.25]
    assert entropy(shares) == pytest.approx(1.5)
    assert entropy(np.full(10, 0.1)) == pytest.approx(math.log2(10))
    assert entropy(np.eye(10)[0]) == 0
    assert discriminator_accuracy([1.0, -1.0], [-1.0, -2.0]) == 0.75


def test_judging_leaves_the_networks_mode_alone() -> None:
    x = tg.randn(7, 3)
    network = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))
    assert np.array_equal(evaluate(network, x).numpy(), network[0](x).detach().numpy())
    assert network.training and network[1].training
