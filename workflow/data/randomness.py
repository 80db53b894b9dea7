"""Randomness as a function of (seed, step, purpose), so that nothing depends on order, restarts or batches."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_for(*parts: int | str) -> int:
    """A 63-bit seed from any names and numbers, the same on every machine and version."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def seed_globals(*parts: int | str) -> None:
    """Seed what code of one's own may draw from without being handed a generator: torch's of every device, NumPy's
    global one, and Python's. What makes a generator of its own, as `np.random.default_rng()`, has to seed it."""
    seed = seed_for(*parts)
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


@contextmanager
def seeded(*parts: int | str) -> Iterator[None]:
    """Inside, `seed_globals`; after it they go on as if nothing had been drawn (on the CPU)."""
    numbers, state = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=[]):
        seed_globals(*parts)
        try:
            yield
        finally:
            np.random.set_state(numbers)
            random.setstate(state)


def generator(*parts: int | str, device: str = "cpu") -> torch.Generator:
    """A generator that is a function of its parts, such as (seed, step, "noise")."""
    return torch.Generator(device).manual_seed(seed_for(*parts))
