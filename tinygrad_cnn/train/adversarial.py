"""Losses of generative adversarial nets, on logits; a discriminator's gain is written as a loss.

D(x) = σ(logit). Each function is a mean over the batch.
"""

from __future__ import annotations

from collections.abc import Callable

from ..autograd import grad
from ..nn import functional as F
from ..ops import create
from ..random import rand
from ..tensor import Tensor

GENERATOR_LOSSES = ("non-saturating", "saturating")


def discriminator_loss(real: Tensor, fake: Tensor, real_target: float = 1.0) -> Tensor:
    """−J_D = −log D(x) − log(1 − D(G(z))), from the logits of real and generated images.

    ``real_target`` t < 1 smooths the label of real images: −t log D(x) − (1 − t) log(1 − D(x)).
    Generated ones keep 0, else D would reward the generator where it already is (one-sided
    smoothing). Sources: Goodfellow and others, "Generative adversarial nets", 2014; Salimans and
    others, "Improved techniques for training GANs", 2016, section 3.5.
    """
    target = create.full_like(real, real_target)
    return F.binary_cross_entropy_with_logits(real, target) + F.softplus(fake).mean()


def generator_loss(fake: Tensor, kind: str = "non-saturating") -> Tensor:
    """What the generator descends, from the discriminator's logits of its images.

    ``"saturating"``: J_G = log(1 − D(G(z))), the game's own value, whose slope −D vanishes where D
    is sure. ``"non-saturating"``: −log D(G(z)), with the same fixed point and slope −(1 − D), large
    just there. Raises ValueError for another kind.
    """
    if kind == "saturating":
        return -F.softplus(fake).mean()
    if kind == "non-saturating":
        return F.softplus(-fake).mean()
    raise ValueError(
        f"generator_loss: expected one of {', '.join(GENERATOR_LOSSES)}, received {kind!r}"
    )


def feature_matching_loss(real: Tensor, fake: Tensor) -> Tensor:
    """‖mean_i f(x_i) − mean_i f(G(z_i))‖², from features (N, F) of a hidden layer of D.

    The generator is asked for the statistics of the data instead of for D's error. The means of
    the real features are constants here. Source: Salimans and others, 2016, section 3.1.
    """
    return (real.detach().mean(0) - fake.mean(0)).square().sum()


def critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """mean f(G(z)) − mean f(x): minus the estimate of the Wasserstein-1 distance.

    Source: Arjovsky, Chintala, Bottou, "Wasserstein generative adversarial networks", 2017.
    """
    return fake.mean() - real.mean()


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, mix: Tensor | None = None
) -> Tensor:
    """mean_i (‖∂f/∂x̂_i‖₂ − 1)² at x̂_i = ε_i x_i + (1 − ε_i) G(z_i), ε_i uniform in [0, 1).

    Its gradient with respect to the critic's weights differentiates the inner gradient once more.
    ``mix`` gives the ε (N, 1, …, 1) instead of drawing them. The critic must treat samples one by
    one: no batch norm. Source: Gulrajani, Ahmed, Arjovsky, Dumoulin, Courville, "Improved training
    of Wasserstein GANs", 2017.
    """
    if mix is None:
        ones = (1,) * (real.ndim - 1)
        mix = rand(len(real), *ones, dtype=real.dtype, backend=real.backend)
    between = (mix * real.detach() + (1 - mix) * fake.detach()).requires_grad_()
    (slope,) = grad(critic(between).sum(), between, create_graph=True)
    # the tiny constant: √ has no derivative at 0, where a critic of dead units is flat
    length = (slope.flatten(1).square().sum(1) + 1e-12).sqrt()
    return (length - 1).square().mean()  # type: ignore[no-any-return]
