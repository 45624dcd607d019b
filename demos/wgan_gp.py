"""Wasserstein GAN with gradient penalty: a loss that holds the gradient of the critic itself.

python demos/wgan_gp.py                              # the bundled 10,000 digits, offline
python demos/wgan_gp.py --config demos/configs/wgan_gp.toml --data FOLDER       # all of MNIST

The critic f ascends mean f(x) − mean f(G(z)), an estimate of the Wasserstein-1 distance between
images and samples, less λ (‖∂f/∂x̂‖ − 1)² on the way between them. The second term is made of a
gradient, so descending it takes the derivative of a derivative: grad(..., create_graph=True) in
tinygrad_cnn/train/adversarial.py. After k steps of the critic the generator descends −mean f(G(z)).
A LeNet-5 judges 10,000 samples after every epoch, as in gan_mnist.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import tinygrad_cnn as tg
from tinygrad_cnn import models, optim
from tinygrad_cnn.data import Compose, DataLoader, ExpandDims, Normalize, ToFloat, load_dataset
from tinygrad_cnn.train import Run, prepare, script, setting
from tinygrad_cnn.train.adversarial import critic_loss, gradient_penalty
from tinygrad_cnn.train.judge import JudgedConfig, evaluate, report, train_judge
from tinygrad_cnn.viz import interpolation_sheet, sample_sheet


@dataclass(frozen=True)
class WganConfig(JudgedConfig):
    """Settings of the game; ``batch_size`` is that of one step of the critic."""

    k: int = setting(3, "steps of the critic for one of the generator", at_least=1)
    penalty: float = setting(10.0, "λ, the weight of the gradient penalty", at_least=0)
    width: int = setting(32, "maps beside the image in both networks", at_least=1)
    epochs: int = setting(15, "passes over the training images")
    out: str = setting("runs/wgan_gp", "folder for metrics, checkpoint and pictures")


def main(config: WganConfig) -> str:
    prepare(config)  # backend, threads, seed
    pixels = Compose(ToFloat(), Normalize(0.5, 0.5), ExpandDims(1))  # (N, 1, 28, 28) in [−1, 1]
    digits = [load_dataset(config.dataset, part, config.data or None) for part in (True, False)]
    m, k = config.batch_size, config.k
    train = DataLoader(
        digits[0], k * m, shuffle=True, seed=config.seed, drop_last=True, transform=pixels
    )
    judge = train_judge(train, DataLoader(digits[1], 500, transform=pixels), config.samples)
    z_judged = tg.randn(config.samples, config.latent, generator=tg.Generator(config.seed))

    G = models.dcgan_generator(28, 1, config.latent, config.width)
    # no batch norm: each sample is held to a slope of its own
    critic = models.dcgan_discriminator(28, 1, config.width, batch_norm=False)
    betas = (config.momentum, 0.9)
    g_optimizer, c_optimizer = (
        optim.Adam(net.parameters(), config.lr, betas, weight_decay=config.weight_decay)
        for net in (G, critic)
    )

    parts = {"g": G, "critic": critic, "g_optimizer": g_optimizer, "c_optimizer": c_optimizer}
    with Run(config, loader=train, **parts) as run:
        run.progress.say(f"the judge reads {judge.accuracy:.2%} of the test images")
        for _ in run.epochs():
            G.train()
            for images, _ in run.batches():
                for x in images.split(m):
                    with tg.no_grad():
                        fake = G(tg.randn(m, config.latent))
                    distance = -critic_loss(critic(x), critic(fake))
                    penalty = gradient_penalty(critic, x, fake)
                    c_optimizer.zero_grad()
                    (config.penalty * penalty - distance).backward()
                    c_optimizer.step()

                critic.requires_grad_(False)
                g_loss = -critic(G(tg.randn(m, config.latent))).mean()
                g_optimizer.zero_grad()
                g_loss.backward()
                g_optimizer.step()
                critic.requires_grad_(True)
                run.record(images=len(images), distance=distance, penalty=penalty)

            samples = evaluate(G, z_judged)
            run.end_epoch(**judge(samples))
            sample_sheet(samples[:100], run.folder / "samples.png", 10)

    interpolation_sheet(G, config.latent, run.folder / "interpolation.png")
    return report(run.last)


if __name__ == "__main__":
    script(main, __doc__, WganConfig)
