"""Clips as they are heard: sound of spectrograms, and WAV files of both."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from trigbench.workflow.data.kinds.speech.sound import log_mel, phase_of, sounded, wav
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.machine.files import Arrays

WHOLE = 2**15
"""What a sample of one is in prepared clips, which have 16 bits."""


def vocoder(arrays: Arrays, samples: Tensor) -> Tensor:
    """Samples (n, 1, bands, frames) in unit variance -> sound (n, samples); all begin with the same phases."""
    spectra = samples[:, 0] * float(arrays["std"]) + float(arrays["mean"])
    return sounded(spectra, phase_of(generator("phases")))


def spectra_of(arrays: Arrays, sound: Tensor) -> Tensor:
    """Sound (n, samples) -> what samples are, (n, 1, bands, frames) in unit variance, float32."""
    return ((log_mel(sound) - float(arrays["mean"])) / float(arrays["std"])).float()[:, None]


def heard(arrays: Arrays, samples: np.ndarray) -> list[bytes]:
    """WAV files of samples, by the vocoder."""
    return [wav(sound, _peak(arrays)) for sound in vocoder(arrays, torch.from_numpy(np.asarray(samples))).numpy()]


def heard_as_spoken(arrays: Arrays, rows: Sequence[int]) -> list[bytes]:
    """WAV files of held-out clips as they were synthesised."""
    return [wav(sound / WHOLE, _peak(arrays)) for sound in arrays["held_out_spoken"][list(rows)]]


def _peak(arrays: Arrays) -> float:
    return float(np.abs(arrays["held_out_spoken"].astype(float)).max()) / WHOLE
