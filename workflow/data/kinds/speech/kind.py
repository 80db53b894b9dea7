"""Spoken words, as plans and pages know them."""

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from trigbench.workflow.data.features.dimensions import CLASSIFIER
from trigbench.workflow.data.kinds.speech.dimensions import BANDS, FRAMES, SECONDS
from trigbench.workflow.errors import Mistake
from trigbench.workflow.machine.files import Arrays
from trigbench.workflow.study.kinds import DataKind, Images, Known, Sounds
from trigbench.workflow.study.models import DataSettings

if TYPE_CHECKING:
    from numpy import ndarray

METRICS = {
    "map": (),
    "samples": (
        "fd_train", "fd_held_out", "precision", "recall", "nearest_train", "nearest_held_out", "recognised",
        "voice_recognised",
    ),
}  # fmt: skip

Word = Annotated[str, Field(pattern=r"^[^\W\d_]+$")]
"""Letters alone, of which the synthesiser reads nothing else."""
Voice = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+(\+[A-Za-z0-9]+)?$")]
"""A language, and a variant of its speaker after a plus."""
Pitch = Annotated[int, Field(ge=0, le=99)]
Speed = Annotated[int, Field(ge=80, le=450)]


class SpeechData(DataSettings):
    """Words that espeak-ng speaks, as log-mel spectrograms; a class is a word in a voice.

    Of every word in every voice there are as many takes, each at a pitch and a speed of its own: pairs that are drawn
    evenly between the given ones, none of them twice. Some takes of each are held out.
    """

    kind: Literal["speech"]
    words: Annotated[tuple[Word, ...], Field(min_length=2)]
    voices: Annotated[tuple[Voice, ...], Field(min_length=1)]
    """As `espeak-ng --voices` and `--voices=variant` list them: en-gb, or en-us+f2."""
    pitch: tuple[Pitch, Pitch] = (30, 70)
    """The lowest and the highest, as espeak-ng counts them; 50 is its own."""
    speed: tuple[Speed, Speed] = (180, 260)
    """The slowest and the fastest, in words a minute."""
    takes: Annotated[int, Field(ge=2)] = 40
    """Of each word in each voice."""
    held_out: PositiveInt = 8
    """Of these, those that are never trained on."""
    content: str | None = None
    """SHA-256 of all clips, as the prepared data say it under `content`; others, as of another version of the
    synthesiser, are an error. Empty for any."""
    seed: int = 0

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for key in ("words", "voices"):
            if len(set(named := getattr(self, key))) < len(named):
                raise Mistake(f"{key}: one is there twice", "name each once")
        for key in ("pitch", "speed"):
            low, high = getattr(self, key)
            if low > high:
                raise Mistake(f"{key}: from {low} to {high}", "give the lower number first")
        ways = (self.pitch[1] - self.pitch[0] + 1) * (self.speed[1] - self.speed[0] + 1)
        if self.takes > ways:
            raise Mistake(f"takes: {self.takes}, and pitch and speed have {ways} pairs", "take fewer, or wider ranges")
        if self.held_out >= self.takes:
            raise Mistake(f"held_out: {self.held_out} of {self.takes} takes leave none to train on", "hold out fewer")
        return self

    @property
    def labels(self) -> tuple[str, ...]:
        """Of the classes, in their order: the words in turn, for each voice."""
        return tuple(f"{word}, {voice}" for voice in self.voices for word in self.words)


def _known(data: SpeechData) -> Known:
    sentence = (
        f"{len(data.words)} words spoken by espeak-ng in {len(data.voices)} voices, at pitches and speeds that differ: "
        f"log-mel spectrograms of {BANDS} bands and {FRAMES} frames, {SECONDS:.2g} s."
    )
    return Known(sentence, (1, BANDS, FRAMES), len(data.labels), METRICS, CLASSIFIER)


def _images(arrays: Arrays, count: int) -> Images:
    """Above each column of samples a training clip of its class, which come in turn; low frequencies below."""
    mean, std, floor = (float(arrays[name]) for name in ("mean", "std", "floor"))

    def decoded(samples: "ndarray") -> "ndarray":
        return samples[:, 0, ::-1]

    real = decoded(arrays["train"][:count] / arrays["sigma_d"])
    return Images(real, decoded, black=(floor - mean) / std, white=float(real.max()))


def _sounds(arrays: Arrays) -> Sounds:
    """The first word in the first voice, the second in the second, and so on."""
    from trigbench.workflow.data.kinds.speech.hearing import heard, heard_as_spoken  # noqa: PLC0415 - takes torch

    words, voices = ([str(name) for name in arrays[key]] for key in ("words", "voices"))
    few = range(min(len(words), len(voices)))
    rows = [number * len(words) + number for number in few]
    spoken = heard_as_spoken(arrays, rows)
    through = heard(arrays, arrays["held_out"][rows] / arrays["sigma_d"])
    return Sounds(
        tuple(rows),
        tuple(f"{words[number]}, {voices[number]}" for number in few),
        (("as espeak-ng says it", spoken), ("the same by the vocoder", through)),
        partial(heard, arrays),
    )


SPEECH = DataKind(
    SpeechData,
    _known,
    "trigbench.workflow.data.kinds.speech.making",
    draws="trigbench.workflow.data.kinds.speech.draws",
    drawn=frozenset({"train", "train_labels"}),
    images=_images,
    sounds=_sounds,
    licences={"speech": "none needed: words spoken by espeak-ng, whose licence is not of what it says"},
)
