"""Two networks play against each other until one of them writes digits: a GAN by algorithm 4-2.

python demos/gan_mnist.py                                # dense nets, bundled digits, offline
python demos/gan_mnist.py --loss saturating              # or feature-matching; --k 2 --minibatch 32
python demos/gan_mnist.py --network dcgan --norm virtual
python demos/gan_mnist.py --config demos/configs/dcgan.toml --data FOLDER       # all of MNIST

The discriminator D ascends J_D = log D(x) + log(1 − D(G(z))) k times, then the generator G descends
its loss once. The networks start once, before the loop, which stops after --epochs. Every epoch a
LeNet-5 judges 10,000 samples: the Fréchet distance of its features to those of the test set, also
in units of the distance between training and test set (1 is perfect), and which digits it reads.
"d accuracy" is the share of test images and samples that D sorts rightly (0.5 is a guess): it says
how well G deceives D, not how well it would deceive a person.
"""

from __future__ import annotations

from dataclasses import dataclass

import tinygrad_cnn as tg
from tinygrad_cnn import models, nn, optim
from tinygrad_cnn.data import Compose, DataLoader, ExpandDims, Normalize, ToFloat, load_dataset
from tinygrad_cnn.train import Run, one_of, prepare, script, setting
from tinygrad_cnn.train.adversarial import (
    discriminator_loss,
    feature_matching_loss,
    generator_loss,
)
from tinygrad_cnn.train.judge import (
    JudgedConfig,
    discriminator_accuracy,
    evaluate,
    first_images,
    report,
    train_judge,
)
from tinygrad_cnn.viz import interpolation_sheet, sample_sheet

NORMS = {"batch": nn.BatchNorm2d, "virtual": nn.VirtualBatchNorm, "none": nn.Identity}


@dataclass(frozen=True)
class GanConfig(JudgedConfig):
    """Settings of the game; m of the algorithm is ``batch_size``, the rate ρ is ``lr``."""

    network: str = setting("mlp", "mlp (the original dense nets) or dcgan (convolutions)")
    loss: str = setting("non-saturating", "of G: non-saturating, saturating or feature-matching")
    k: int = setting(1, "steps of D for one of G", at_least=1)
    real_target: float = setting(
        1.0, "D's target for real images; 0.9 is one-sided smoothing", above=0, at_most=1
    )
    minibatch: int = setting(0, "values of minibatch discrimination in D; 0 is without", at_least=0)
    norm: str = setting("batch", "in dcgan's generator: batch, virtual or none")
    width: int = setting(32, "maps beside the image in dcgan", at_least=1)
    epochs: int = setting(30, "passes over the training images: the stop condition")
    out: str = setting("runs/gan", "folder for metrics, checkpoint and pictures")

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("network", self.network, ("mlp", "dcgan"))
        one_of("loss", self.loss, ("non-saturating", "saturating", "feature-matching"))
        one_of("norm", self.norm, NORMS)


def networks(config: GanConfig) -> tuple[nn.Module, nn.Module]:
    """G: z (N, latent) → images (N, 1, 28, 28) in (−1, 1); D: images → logits (N, 1)."""
    if config.network == "mlp":
        discriminator = models.mlp_discriminator(minibatch=config.minibatch)
        return models.mlp_generator(config.latent), discriminator
    norm = NORMS[config.norm]
    generator: nn.Module = models.dcgan_generator(28, 1, config.latent, config.width, norm)
    if config.norm == "virtual":
        generator = nn.VirtualBatch(generator, tg.randn(config.batch_size, config.latent))
    return generator, models.dcgan_discriminator(28, 1, config.width, minibatch=config.minibatch)


def loaders(config: GanConfig) -> tuple[DataLoader, DataLoader]:
    """Images (N, 1, 28, 28) in [−1, 1]; a training batch holds the k batches of an iteration."""
    images = Compose(ToFloat(), Normalize(0.5, 0.5), ExpandDims(1))
    train, test = (
        load_dataset(config.dataset, part, config.data or None) for part in (True, False)
    )
    return (
        DataLoader(
            train, config.k * config.batch_size, shuffle=True, seed=config.seed, drop_last=True,
            transform=images,
        ),
        DataLoader(test, 500, transform=images),
    )  # fmt: skip


def main(config: GanConfig) -> str:
    prepare(config)  # backend, threads, seed
    train, test = loaders(config)
    judge = train_judge(train, test, config.samples)
    held_out = first_images(test, len(test.dataset))
    z_judged = tg.randn(config.samples, config.latent, generator=tg.Generator(config.seed))

    G, D = networks(config)
    betas = (config.momentum, 0.999)
    g_optimizer, d_optimizer = (
        optim.Adam(net.parameters(), config.lr, betas, weight_decay=config.weight_decay)
        for net in (G, D)
    )
    m = config.batch_size

    parts = {"g": G, "d": D, "g_optimizer": g_optimizer, "d_optimizer": d_optimizer}
    with Run(config, loader=train, **parts) as run:
        run.progress.say(f"the judge reads {judge.accuracy:.2%} of the test images")
        for _ in run.epochs():
            G.train(), D.train()
            for images, _ in run.batches():
                for x in images.split(m):  # k times: D ascends
                    with tg.no_grad():
                        fake = G(tg.randn(m, config.latent))
                    d_loss = discriminator_loss(D(x), D(fake), config.real_target)
                    d_optimizer.zero_grad()
                    d_loss.backward()
                    d_optimizer.step()

                D.requires_grad_(False)  # once: G descends
                fake = G(tg.randn(m, config.latent))
                if config.loss == "feature-matching":
                    g_loss = feature_matching_loss(D.features(x), D.features(fake))
                else:
                    g_loss = generator_loss(D(fake), config.loss)
                g_optimizer.zero_grad()
                g_loss.backward()
                g_optimizer.step()
                D.requires_grad_(True)
                run.record(images=len(images), d_loss=d_loss, g_loss=g_loss)

            samples = evaluate(G, z_judged)
            d_accuracy = discriminator_accuracy(evaluate(D, held_out), evaluate(D, samples))
            run.end_epoch(**judge(samples), d_accuracy=d_accuracy)
            sample_sheet(samples[:100], run.folder / "samples.png", 10)

    interpolation_sheet(G, config.latent, run.folder / "interpolation.png")
    return report(run.last)


if __name__ == "__main__":
    script(main, __doc__, GanConfig)
