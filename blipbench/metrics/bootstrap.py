"""Bootstrap intervals of ratios by resampling the independent unit (Efron & Tibshirani 1993, percentile method).

A benchmark's samples are clustered: for example, five captions share one image. So images are drawn with replacement,
each with all its captions, and a metric is a ratio of sums over images.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

RESAMPLES = 1000


def draw_weights(units: int, seed: int, resamples: int = RESAMPLES) -> npt.NDArray[np.int32]:
    """The number of times that each unit is drawn in each resample: [resamples, units]. Rows sum to `units`."""
    rng = np.random.default_rng(seed)
    weights = np.empty((resamples, units), np.int32)
    for row in weights:
        row[:] = np.bincount(rng.integers(0, units, units), minlength=units)
    return weights


def resampled_ratio(weights: npt.NDArray[np.int32], numerator: Floats, denominator: Floats) -> Floats:
    """sum(numerator) / sum(denominator) in each resample: [resamples]. Both arguments are per unit: [units]."""
    sums = resampled_sums(weights, np.stack([numerator, denominator], axis=1))
    total = sums[:, 1]
    return np.divide(sums[:, 0], total, out=np.zeros(len(weights)), where=total > 0)


def resampled_sums(weights: npt.NDArray[np.int32], values: Floats) -> Floats:
    """Sums of values [units, n] over each resample: [resamples, n].

    Computed in blocks, because numpy converts the integer weights to floats in order to multiply them.
    """
    return np.concatenate([block @ values for block in np.array_split(weights, 20)])


def interval(draws: Floats) -> tuple[float, float]:
    """The central 95% interval of the resampled values."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)
