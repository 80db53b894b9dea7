"""What espeak-ng says: one process a clip, so that no clip depends on another, or on their order."""

import io
import re
import subprocess
import wave
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy.signal import resample_poly

from trigbench.workflow.data.kinds.speech.dimensions import LENGTH, RATE, SECONDS
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.cores import cores_here

PROGRAM = "espeak-ng"
INSTALL = "install it: apt-get install espeak-ng (Debian, Ubuntu), brew install espeak-ng (macOS)"
OLDEST = (1, 49)
"""The first version that has all of the options used here."""
QUIET = 0.01
"""A clip is cut to where it is first and last louder than this, of 1 at most."""


@dataclass(frozen=True)
class Take:
    """One clip."""

    word: str
    voice: str
    pitch: int
    speed: int


def version() -> str:
    """Of the synthesiser that is here. Raises BenchError where none is, or one that is too old."""
    said = _run("--version").decode(errors="replace")
    found = re.search(r"(\d+)\.(\d+)\S*", said)
    if found is None or tuple(map(int, found.groups())) < OLDEST:
        problem = f"expected {PROGRAM} of version {'.'.join(map(str, OLDEST))} or newer, found: {said.strip()}"
        raise BenchError(problem, file=PROGRAM, remedy=INSTALL)
    return found.group()


def check_voices(voices: Iterable[str]) -> None:
    """Raise BenchError for a voice that is not there; espeak-ng itself leaves out an unknown variant in silence."""
    variants = set(re.findall(r"!v/(\S+)", _run("--voices=variant").decode(errors="replace")))
    for voice in voices:
        language, _, variant = voice.partition("+")
        if variant and variant not in variants:
            remedy = f"choose of `{PROGRAM} --voices=variant`, the names after !v/"
            raise BenchError(f"{PROGRAM} has no variant {variant!r}", key="voices", remedy=remedy)
        if not _said(Take("a", language, 50, 175)):
            remedy = f"choose of `{PROGRAM} --voices`, the column Language"
            raise BenchError(f"{PROGRAM} has no voice {language!r}", key="voices", remedy=remedy)


def spoken_by_all(takes: Sequence[Take]) -> np.ndarray:
    """The clips (takes, LENGTH), float64 in [-1, 1]. Raises BenchError for one that is silent or too long."""
    with ThreadPoolExecutor(cores_here()) as pool:
        return np.stack(list(pool.map(_clip, takes)))


def _clip(take: Take) -> np.ndarray:
    """One, from where it is first heard to where it is last, with silence after it."""
    content = _said(take)
    if not content:
        raise BenchError(f"{PROGRAM} says nothing for {take}", key="voices", remedy="name another voice")
    with wave.Wave_read(io.BytesIO(content)) as file:
        rate, samples = file.getframerate(), file.readframes(file.getnframes())
    sound = np.frombuffer(samples, "<i2").astype(np.float64) / 2**15
    heard = np.flatnonzero(np.abs(sound) > QUIET)
    if not len(heard):
        raise BenchError(f"{PROGRAM} says nothing for {take}", key="voices", remedy="name another voice")
    sound = resample_poly(sound[heard[0] : heard[-1] + 1], RATE, rate)
    if len(sound) > LENGTH:
        problem = f"{take} lasts {len(sound) / RATE:.2f} s, and a clip has {SECONDS:.2f}"
        raise BenchError(problem, key="speed", remedy="speak faster, or name shorter words")
    return np.pad(sound, (0, LENGTH - len(sound)))


def _said(take: Take) -> bytes:
    """A WAV file, empty for a voice that is not there."""
    options = ["-v", take.voice, "-p", str(take.pitch), "-s", str(take.speed), "-z", "--stdout", take.word]
    return _run(*options)


def _run(*options: str) -> bytes:
    """What it writes; it says by no return code but one below 0, of a signal, that a part may be missing."""
    try:
        found = subprocess.run([PROGRAM, *options], capture_output=True, check=False)
    except OSError as error:
        raise BenchError(f"{PROGRAM}, which speaks the words, is not here", file=PROGRAM, remedy=INSTALL) from error
    if found.returncode < 0:
        said = found.stderr.decode(errors="replace").strip()
        problem = f"{PROGRAM} was ended by signal {-found.returncode}{f': {said}' if said else ''}"
        raise BenchError(problem, file=PROGRAM, remedy="start the same again")
    return found.stdout
