"""A variational autoencoder of digits: encode, add noise, decode; then decode noise alone.

python demos/vae_mnist.py                            # the bundled 10,000 digits, offline
python demos/vae_mnist.py --config demos/configs/vae.toml --data FOLDER         # all of MNIST

The loss is −ELBO in nats an image: the cross-entropy of the pixels, grey values read as
probabilities, and the divergence of the codes from N(0, 1). samples.png shows decoded noise,
reconstructions.png test images above what is left of them after sixteen numbers, interpolation.png
the way between two codes. A LeNet-5 judges 10,000 samples, as in gan_mnist.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import tinygrad_cnn as tg
from tinygrad_cnn import models, nn, optim
from tinygrad_cnn.data import Compose, DataLoader, ExpandDims, ToFloat, load_dataset
from tinygrad_cnn.models.vae import VAE
from tinygrad_cnn.train import Run, prepare, script, setting
from tinygrad_cnn.train.judge import JudgedConfig, evaluate, first_images, report, train_judge
from tinygrad_cnn.viz import interpolation_sheet, sample_sheet


@dataclass(frozen=True)
class VaeConfig(JudgedConfig):
    """Settings of the autoencoder."""

    latent: int = setting(16, "numbers of a code", at_least=1)
    width: int = setting(32, "maps after the first convolution", at_least=1)
    epochs: int = setting(12, "passes over the training images")
    lr: float = setting(1e-3, "rate of Adam, the same throughout")
    momentum: float = setting(0.9, "β₁ of Adam", below=1)
    out: str = setting("runs/vae", "folder for metrics, checkpoint and pictures")


def negative_elbo(model: VAE, images: DataLoader) -> float:
    """The mean over all images, with one drawn code for each."""
    model.train()  # draws codes; there is nothing else that differs
    total = 0.0
    with tg.inference_mode():
        for x, _ in images:
            logits, mean, log_variance = model(x)
            total += len(x) * model.loss(logits, x, mean, log_variance).item()
    return total / len(images.dataset)


def main(config: VaeConfig) -> str:
    prepare(config)  # backend, threads, seed
    pixels = Compose(ToFloat(), ExpandDims(1))  # (N, 1, 28, 28) in [0, 1]
    digits = [load_dataset(config.dataset, part, config.data or None) for part in (True, False)]
    train = DataLoader(
        digits[0], config.batch_size, shuffle=True, seed=config.seed, transform=pixels
    )
    test = DataLoader(digits[1], 500, transform=pixels)
    judge = train_judge(train, test, config.samples)
    z_judged = tg.randn(config.samples, config.latent, generator=tg.Generator(config.seed))

    model = models.vae(config.latent, width=config.width)
    painter = nn.Sequential(model.decoder, nn.Sigmoid())
    betas = (config.momentum, 0.999)
    optimizer = optim.Adam(model.parameters(), config.lr, betas, weight_decay=config.weight_decay)

    with Run(config, loader=train, model=model, optimizer=optimizer) as run:
        run.progress.say(f"the judge reads {judge.accuracy:.2%} of the test images")
        for _ in run.epochs():
            model.train()
            for x, _ in run.batches():
                logits, mean, log_variance = model(x)
                pixel_loss = model.reconstruction(logits, x)
                divergence = model.divergence(mean, log_variance)
                optimizer.zero_grad()
                (pixel_loss + divergence).backward()
                optimizer.step()
                run.record(images=len(x), pixels=pixel_loss, divergence=divergence)

            samples = evaluate(painter, z_judged)
            run.end_epoch(**judge(samples), test_loss=negative_elbo(model, test))
            sample_sheet(samples[:100], run.folder / "samples.png", 10, (0.0, 1.0))

    originals = first_images(test, 50)
    rebuilt = evaluate(nn.Sequential(model.encoder, model.mean, painter), originals)
    rows = zip(originals.split(10), rebuilt.split(10), strict=True)
    pairs = tg.cat([image for pair in rows for image in pair])
    sample_sheet(pairs, run.folder / "reconstructions.png", 10, (0.0, 1.0))
    path = run.folder / "interpolation.png"
    interpolation_sheet(painter, config.latent, path, limits=(0.0, 1.0))
    return f"−ELBO of the test images {run.last['test_loss']:.2f} nats; " + report(run.last)


if __name__ == "__main__":
    script(main, __doc__, VaeConfig)
