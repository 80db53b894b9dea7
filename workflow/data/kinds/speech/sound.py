"""Sound, and small log-mel spectrograms of it: there, and back by Griffin and Lim's iterations. Pure."""

import io
import math
import wave

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from trigbench.workflow.data.kinds.speech.dimensions import BANDS, FRAMES, HOP, LENGTH, RATE

FFT, WINDOW = 512, 400
"""Samples of a transform, and of the Hann window in its middle: 50 ms."""
FLOOR = 0.05
"""Magnitudes below it, some 40 dB under a vowel's, are taken for it: they are silence."""
FINER = 2
"""So many frames of the vocoder's to one of the spectrogram's."""
ITERATIONS, MOMENTUM = 32, 0.99
"""Of Griffin and Lim's algorithm."""


def mel(hertz: float) -> float:
    """O'Shaughnessy's scale of pitch.

    >>> round(mel(1000.0), 1)
    1000.0
    """
    return 2595 * math.log10(1 + hertz / 700)


def filters(bands: int = BANDS) -> Float[Tensor, "bands bins"]:
    """Triangles, evenly spaced on the scale of mel, each from its neighbours' centres to a peak of one: between the
    first centre and the last they sum to one."""
    edges = torch.linspace(0, mel(RATE / 2), bands + 2, dtype=torch.float64)
    bins = torch.tensor([mel(k * RATE / FFT) for k in range(FFT // 2 + 1)], dtype=torch.float64)
    place = bins[None] / (edges[1] - edges[0])
    return (1 - (place - torch.arange(1, bands + 1)[:, None]).abs()).clamp(min=0)


def magnitudes(sound: Float[Tensor, "clips samples"], hop: int = HOP) -> Float[Tensor, "clips bins frames"]:
    """Of the short-time Fourier transform, frames centred on every hop-th sample."""
    return _transform(sound, hop).abs()


def log_mel(sound: Float[Tensor, "clips length"]) -> Float[Tensor, "clips bands frames"]:
    """Natural logarithms of what the filters' weighted means of magnitudes are, `log(FLOOR)` for silence."""
    bank = filters()
    means = (bank / bank.sum(1, keepdim=True)) @ magnitudes(sound.double())
    return means.clamp(min=FLOOR).log()


def sounded(
    log_mels: Float[Tensor, "clips bands frames"], phase: Float[Tensor, "bins fine"]
) -> Float[Tensor, "clips length"]:
    """Sound that has about these spectrograms: magnitudes between bands and between frames are interpolated, and phases
    found for them. What is said to be silent is so."""
    means = log_mels.float().exp()
    means = torch.where(means > 1.01 * FLOOR, means, 0.0)
    fine = interpolate(means, size=phase.shape[1], mode="linear", align_corners=True)
    bank = filters().float()
    return with_phases((bank / bank.sum(0).clamp(min=1e-9)).T @ fine, phase)


def with_phases(
    wanted: Float[Tensor, "clips bins fine"], phase: Float[Tensor, "bins fine"], iterations: int = ITERATIONS
) -> Float[Tensor, "clips length"]:
    """Sound of these magnitudes, FINER times as many frames as a spectrogram has, by Griffin and Lim's algorithm from
    the given phases (the fast form of Perraudin et al. 2013, with the momentum of librosa)."""
    hop = HOP // FINER
    angles, before = torch.polar(torch.ones_like(phase), phase).expand(len(wanted), -1, -1), 0.0
    for _ in range(iterations):
        found = _transform(_inverse(wanted * angles, hop), hop)
        ahead = found - MOMENTUM / (1 + MOMENTUM) * before
        angles, before = ahead / ahead.abs().clamp(min=1e-12), found
    return _inverse(wanted * angles, hop)


def phase_of(g: torch.Generator) -> Float[Tensor, "bins fine"]:
    """Phases for a clip to start from."""
    shape = (FFT // 2 + 1, FINER * (FRAMES - 1) + 1)
    return 2 * math.pi * torch.rand(shape, generator=g)


def wav(sound: np.ndarray, peak: float) -> bytes:
    """A WAV file of 8 bits a sample, in which `peak` is the loudest that can be said."""
    levels = np.clip(np.rint(128 + 127 * sound / peak), 0, 255).astype(np.uint8)
    with io.BytesIO() as file:
        with wave.open(file, "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(1)
            out.setframerate(RATE)
            out.writeframes(levels.tobytes())
        return file.getvalue()


def _transform(sound: Tensor, hop: int) -> Tensor:
    window = torch.hann_window(WINDOW, dtype=sound.dtype)
    return torch.stft(sound, FFT, hop, WINDOW, window, pad_mode="constant", return_complex=True)


def _inverse(spectrum: Tensor, hop: int) -> Tensor:
    window = torch.hann_window(WINDOW, dtype=spectrum.real.dtype)
    return torch.istft(spectrum, FFT, hop, WINDOW, window, length=LENGTH)
