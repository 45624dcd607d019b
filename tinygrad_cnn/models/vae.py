"""A small variational autoencoder (Kingma, Welling: Auto-encoding variational Bayes, 2014)."""

from __future__ import annotations

from .. import nn
from ..nn import functional as F
from ..random import randn
from ..tensor import Tensor


class VAE(nn.Module):
    """Encoder x → (μ, log σ²), sample z = μ + σ·ε, decoder z → logits of the pixels.

    x (N, C, S, S) with values in [0, 1], S divisible by 4; z (N, latent). ``forward`` returns
    (logits, μ, log σ²); in evaluation mode z = μ.
    """

    def __init__(
        self, latent: int = 16, channels: int = 1, image_size: int = 28, width: int = 32
    ) -> None:
        super().__init__()
        if image_size % 4:
            raise ValueError(f"VAE: expected an image_size divisible by 4, received {image_size}")
        small = image_size // 4
        cells = 2 * width * small * small
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.mean = nn.Linear(cells, latent)
        self.log_variance = nn.Linear(cells, latent)
        self.decoder = nn.Sequential(
            nn.Linear(latent, cells),
            nn.ReLU(),
            nn.Unflatten(1, (2 * width, small, small)),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        code = self.encoder(x)
        mean, log_variance = self.mean(code), self.log_variance(code)
        z = mean
        if self.training:
            noise = randn(*mean.shape, dtype=mean.dtype, backend=mean.backend)
            z = mean + (0.5 * log_variance).exp() * noise
        return self.decoder(z), mean, log_variance

    @staticmethod
    def reconstruction(logits: Tensor, x: Tensor) -> Tensor:
        """−log p(x | z) a sample: the cross-entropy of the pixels, in nats."""
        return F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / x.shape[0]

    @staticmethod
    def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
        """KL(N(μ, σ²) ‖ N(0, 1)) = −½ Σ (1 + log σ² − μ² − σ²) a sample, in nats."""
        terms = 1 + log_variance - mean.square() - log_variance.exp()
        return -0.5 * terms.sum() / mean.shape[0]

    @staticmethod
    def loss(logits: Tensor, x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
        """−ELBO a sample: reconstruction + divergence."""
        return VAE.reconstruction(logits, x) + VAE.divergence(mean, log_variance)


def vae(latent: int = 16, channels: int = 1, image_size: int = 28, width: int = 32) -> VAE:
    """A variational autoencoder with two convolutions each way."""
    return VAE(latent, channels, image_size, width)
