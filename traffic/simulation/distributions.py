"""Chance and rhythms of a simulation: draws on log scales, addresses of strangers, clockworks,
poisson, retries.

Whatever is drawn comes mostly from the range that is usual in plants and now and then from far
beyond it, because a model trained on it must hold on networks nobody has seen.
"""

import numpy as np

_ROUND_S = np.array(
    [0.1, 0.2, 0.25, 0.5, 1, 2, 3, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600]
)
_RESERVED = (
    10,
    100,
    127,
    169,
    172,
    192,
    198,
    203,
)  # first octets with special-use blocks, RFC 6890
_FIRST_OCTETS = np.array([octet for octet in range(2, 223) if octet not in _RESERVED])


def public_address(rng: np.random.Generator, n: int) -> np.ndarray:
    """Draw n addresses of the internet, shape (n,), objects."""
    first, rest = rng.choice(_FIRST_OCTETS, n), rng.integers(1, 255, size=(n, 3))
    return np.array([f"{a}.{b}.{c}.{d}" for a, (b, c, d) in zip(first, rest, strict=True)], object)


def lognormal(
    rng: np.random.Generator, median: float, spread: float, n: int | None = None
) -> np.ndarray:
    """Draw around a median; ``spread`` is the standard deviation of the natural logarithm."""
    return median * rng.lognormal(0.0, spread, n)


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw once, evenly on a logarithmic scale."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def usual(rng: np.random.Generator, low: float, high: float, beyond: float = 3.0) -> float:
    """Draw once on a log scale: 85 % from the usual range, the rest from one ``beyond`` times wider
    on each side."""
    if rng.random() < 0.85:
        return log_uniform(rng, low, high)
    return log_uniform(rng, low / beyond, high * beyond)


def setting_s(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a configured time: mostly a round number of seconds within the usual range."""
    round_ones = _ROUND_S[(low <= _ROUND_S) & (high >= _ROUND_S)]
    if len(round_ones) and rng.random() < 0.8:
        return float(rng.choice(round_ones))
    return usual(rng, low, high)


def periodic(
    rng: np.random.Generator, start_s: float, end_s: float, period_s: float, jitter: float = 0.02
) -> np.ndarray:
    """Times of a periodic task from a random phase on; ``jitter`` is their standard deviation as a
    share of the period."""
    n = int(np.ceil((end_s - start_s) / period_s)) + 1
    times = start_s + (np.arange(n) + rng.random() - 0.5) * period_s
    times = times + rng.normal(0, jitter * period_s, n)
    return np.sort(times[(times >= start_s) & (times < end_s)])


def poisson(
    rng: np.random.Generator, start_s: float, end_s: float, mean_gap_s: float
) -> np.ndarray:
    """Times of independent events: a Poisson process."""
    n = rng.poisson(max(end_s - start_s, 0) / mean_gap_s)
    return np.sort(rng.uniform(start_s, end_s, n))


def backoff(rng: np.random.Generator, start_s: float, end_s: float) -> np.ndarray:
    """Times at which a client tries again: at fixed, linearly or exponentially growing gaps, or
    exponential ones that start over."""
    first = log_uniform(rng, 1, 60)
    cap = log_uniform(rng, 30, 1800)
    steps = np.arange(4000)
    policy = rng.choice(["fixed", "linear", "exponential", "restart"])
    gaps = {
        "fixed": np.full(len(steps), first),
        "linear": np.minimum(first * (1 + steps), cap),
        "exponential": np.minimum(first * 2.0 ** np.minimum(steps, 30), cap),
        "restart": first * 2.0 ** (steps % int(rng.integers(3, 8))),
    }[str(policy)]
    gaps = np.maximum(gaps, 0.5) * rng.uniform(1 - 0.3 * rng.random(), 1.1, len(steps))
    times = start_s + np.cumsum(gaps)
    return times[times < end_s]


def retry_times(
    rng: np.random.Generator,
    start_s: float,
    end_s: float,
    low_s: float,
    high_s: float,
    jitter: float = 0.1,
) -> np.ndarray:
    """Times at which a client tries again: at a steady pace between two bounds, or backing off."""
    if rng.random() < 0.6:
        return periodic(rng, start_s, end_s, log_uniform(rng, low_s, high_s), jitter)
    return backoff(rng, start_s, end_s)
