"""Randomness as a function of (seed, step, purpose), so that nothing depends on order, restarts or batches."""

import hashlib

import torch


def seed_for(*parts: int | str) -> int:
    """A 63-bit seed from any names and numbers, the same on every machine and version."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*parts: int | str, device: str = "cpu") -> torch.Generator:
    """A generator that is a function of its parts, such as (seed, step, "noise")."""
    return torch.Generator(device).manual_seed(seed_for(*parts))
