"""Fréchet distance between two sets of features, each taken as a normal distribution."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def frechet_distance(a: Any, b: Any) -> float:
    """d² = ‖μ_a − μ_b‖² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½), from features (N, F) and (M, F).

    The squared Wasserstein-2 distance of the normal distributions with these means and covariances:
    0 for equal ones, and biased upwards by about 1/N + 1/M for samples of equal ones, so compare
    only distances of equal N and M. Raises ValueError unless both are matrices with equally many
    columns and at least 2 rows. Source: Heusel and others, "GANs trained by a two time-scale update
    rule converge to a local Nash equilibrium", 2017 (there with features of Inception).
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(
            "frechet_distance: expected features (N, F) and (M, F) of at least 2 samples each, "
            f"received {a.shape} and {b.shape}"
        )
    covariance_a, covariance_b = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    # Σ_a Σ_b has the eigenvalues of the symmetric S Σ_b S with S = Σ_a^½, which are safe to compute
    root = _square_root(covariance_a)
    eigenvalues = np.linalg.eigvalsh(root @ covariance_b @ root)
    cross = np.sqrt(eigenvalues.clip(0)).sum()
    shift = np.square(a.mean(0) - b.mean(0)).sum()
    spread = np.trace(covariance_a) + np.trace(covariance_b) - 2 * cross
    return float(shift + max(spread, 0.0))


def _square_root(matrix: Array) -> Array:
    """The symmetric square root of a positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    root: Array = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    return root
