"""Spoken words: spectrograms against what is known of them, what the synthesiser is asked and refuses, how samples are
judged and heard. A made-up synthesiser speaks, but in the last test."""

import base64
import hashlib
import io
import math
import os
import shutil
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from trigbench.workflow.data.kinds.speech import making, recogniser, synthesis
from trigbench.workflow.data.kinds.speech.dimensions import BANDS, FRAMES, HOP, LENGTH, RATE, SECONDS
from trigbench.workflow.data.kinds.speech.draws import open_dataset
from trigbench.workflow.data.kinds.speech.hearing import spectra_of, vocoder
from trigbench.workflow.data.kinds.speech.kind import SPEECH, SpeechData
from trigbench.workflow.data.kinds.speech.sound import (
    FFT,
    FINER,
    FLOOR,
    filters,
    log_mel,
    magnitudes,
    mel,
    phase_of,
    sounded,
    wav,
    with_phases,
)
from trigbench.workflow.data.kinds.speech.synthesis import INSTALL, PROGRAM, Take, check_voices, spoken_by_all, version
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.errors import BenchError
from trigbench.workflow.report.pages import common
from trigbench.workflow.report.sounds import sounds
from trigbench.workflow.run.conformance.data_sets import check_data
from trigbench.workflow.run.measurements import speaking
from trigbench.workflow.run.samples import sample
from trigbench.workflow.run.training import train
from trigbench.workflow.study.kinds import kind_module, known_of
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.samplers import EvaluationSettings
from trigbench.workflow.study.study import Run, Study

WORDS, VOICES = {"low": 300, "high": 1400}, {"plain": 0.0, "rough+f1": 0.8}
"""Of the made-up synthesiser: a word is a tone, above which there is another one by its voice."""
AT = 22050


def said(*options: str) -> bytes:
    """What the made-up synthesiser answers, as the true one does."""
    if options[0] == "--version":
        return b"eSpeak NG text-to-speech: 1.51  Data at: /nowhere"
    if options[0] == "--voices=variant":
        return b"Pty Language       Age/Gender VoiceName  File\n 5  variant  --/F  female1  !v/f1\n"
    asked = dict(zip(options[:6:2], options[1:6:2], strict=True))
    if asked["-v"].split("+")[0] not in ("plain", "rough"):
        return b""
    times = np.arange(int(AT * 60 / int(asked["-s"]))) / AT
    hertz = WORDS.get(options[-1], 700) * (1 + (int(asked["-p"]) - 50) / 400)
    above = VOICES.get(asked["-v"], 0.0) * np.sin(5 * np.pi * hertz * times)
    tone = 0.25 * (np.sin(2 * np.pi * hertz * times) + above)
    with io.BytesIO() as file, wave.open(file, "wb") as out:
        out.setparams((1, 2, AT, len(times), "NONE", ""))
        out.writeframes(np.rint(tone * 2**15).astype("<i2").tobytes())
        out.close()
        return file.getvalue()


@pytest.fixture
def speaker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesis, "_run", said)


GIVEN: dict[str, Any] = {
    "kind": "speech", "words": [*WORDS], "voices": [*VOICES], "takes": 40, "held_out": 18, "speed": [150, 260],
}  # fmt: skip


@pytest.fixture(scope="module")
def prepared() -> tuple[SpeechData, dict, dict]:
    """(settings, arrays, facts)."""
    data = SpeechData.model_validate(GIVEN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthesis, "_run", said)
        return data, *making.prepare(data, EvaluationSettings(samples=100), 0.5)


# --- sound ----------------------------------------------------------------------------------------


def chirp(low: float, high: float) -> torch.Tensor:
    """A tone that rises evenly, (1, LENGTH)."""
    times = torch.arange(LENGTH, dtype=torch.float64) / RATE
    return (0.4 * torch.sin(2 * math.pi * (low + (high - low) / 2 * times / SECONDS) * times))[None]


def test_bands_are_a_partition_of_what_lies_between_their_centres_and_even_in_mel() -> None:
    bank = filters()
    peaks = bank.argmax(1) * RATE / FFT
    between = slice(int(bank[0].argmax()) + 1, int(bank[-1].argmax()))
    assert bank.shape == (BANDS, FFT // 2 + 1) and bank.min() == 0
    assert torch.allclose(bank.sum(0)[between], torch.ones(1, dtype=torch.float64))
    gaps = np.diff([mel(float(peak)) for peak in peaks])
    assert gaps == pytest.approx(mel(RATE / 2) / (BANDS + 1), rel=0.35), "to the nearest bin"
    assert mel(700 * (10 - 1)) == pytest.approx(2595)


def test_a_tone_is_where_its_pitch_is_and_a_rising_one_rises() -> None:
    tone = chirp(1000, 1000)
    spectrum = magnitudes(tone)[0]
    assert spectrum.shape[1] == FRAMES
    assert (spectrum[:, 3:-3].argmax(0) * RATE / FFT - 1000).abs().max() < RATE / FFT
    assert spectrum[:, 8].max() == pytest.approx(0.4 * 200 / 2, rel=0.01), "amplitude times half the window's sum"
    rising = log_mel(chirp(300, 3000))[0]
    assert bool((rising[:, 2:-2].argmax(0).diff() >= 0).all())
    assert log_mel(torch.zeros(1, LENGTH)).unique().tolist() == [pytest.approx(math.log(FLOOR))]
    assert (log_mel(2 * tone) - log_mel(tone))[0, :, 8].max() == pytest.approx(math.log(2), abs=1e-6)


def vowel() -> torch.Tensor:
    """Harmonics of 120 Hz, loudest about 700 and 1200 Hz, (1, LENGTH)."""
    times = torch.arange(LENGTH, dtype=torch.float64) / RATE
    heights = {k: sum(math.exp(-((120 * k - peak) ** 2) / 1e5) for peak in (700, 1200)) for k in range(1, 30)}
    return 0.1 * sum(height * torch.sin(2 * math.pi * 120 * k * times) for k, height in heights.items())[None]  # pyright: ignore


def test_phases_are_found_by_which_a_chirp_is_nearly_what_it_was() -> None:
    wanted = magnitudes(chirp(300, 3000).float(), HOP // FINER)
    missed = []
    for iterations in (0, 8, 32):
        found = magnitudes(with_phases(wanted, phase_of(generator("test")), iterations), HOP // FINER)
        missed.append(float((found - wanted).norm() / wanted.norm()))
    assert missed[0] > 2 * missed[1] > 2 * missed[2] and missed[2] < 0.15, missed


def test_the_vocoder_gives_sound_of_the_spectrogram_and_silence_for_silence() -> None:
    wanted, phase = log_mel(vowel()), phase_of(generator("test"))
    found = sounded(wanted, phase)
    assert found.shape == (1, LENGTH)
    away, flat = (float((other - wanted).square().mean().sqrt()) for other in (log_mel(found), wanted.mean()))
    assert away < 0.35 * flat, (away, flat)
    assert sounded(torch.full((2, BANDS, FRAMES), math.log(FLOOR)), phase).abs().max() == 0
    assert torch.allclose(found, sounded(wanted.expand(2, -1, -1), phase)[1:], atol=1e-5)


def test_a_wav_file_holds_the_sound_in_8_bits() -> None:
    content = wav(chirp(500, 500)[0].numpy(), 0.4)
    with wave.open(io.BytesIO(content)) as file:
        assert (file.getframerate(), file.getsampwidth(), file.getnframes()) == (RATE, 1, LENGTH)
        levels = np.frombuffer(file.readframes(LENGTH), np.uint8)
    assert len(content) < 12_000
    assert (levels.astype(float) - 128) / 127 * 0.4 == pytest.approx(chirp(500, 500)[0].numpy(), abs=0.4 / 254 + 1e-9)


# --- the synthesiser ------------------------------------------------------------------------------


def test_a_clip_begins_where_it_is_heard_and_does_not_depend_on_others(speaker) -> None:
    takes = [Take(word, "plain", pitch, 200) for word in WORDS for pitch in (40, 60)]
    together = spoken_by_all(takes)
    assert together.shape == (4, LENGTH)
    assert np.array_equal(together[2:3], spoken_by_all(takes[2:3]))
    assert np.abs(together[:, : HOP // 2]).max() > synthesis.QUIET
    assert np.abs(together[:, int(0.31 * RATE) :]).max() == 0, "0.3 s are spoken"
    peak = magnitudes(torch.from_numpy(together[:1]))[0, :, 6].argmax() * RATE / FFT
    assert peak == pytest.approx(300 * (1 - 10 / 400), abs=RATE / FFT)


def test_what_cannot_be_said_is_refused_with_a_remedy(speaker, monkeypatch: pytest.MonkeyPatch) -> None:
    for voices, wanted in (
        (["plain+f9"], "has no variant 'f9'.*the names after !v/"),
        (["nobody"], "has no voice 'nobody'.*the column Language"),
    ):
        with pytest.raises(BenchError, match=wanted.replace(".*", "(.|\n)*")):
            check_voices(voices)
    check_voices(VOICES)
    with pytest.raises(BenchError, match=r"lasts 0\.75 s, and a clip has 0\.52(.|\n)*speak faster"):
        spoken_by_all([Take("low", "plain", 50, 80)])
    assert version() == "1.51"
    monkeypatch.setattr(synthesis, "_run", lambda *_: b"eSpeak text-to-speech: 1.48.15")
    with pytest.raises(BenchError, match=r"expected espeak-ng of version 1\.49 or newer(.|\n)*apt-get install"):
        version()


def test_where_the_synthesiser_is_missing_the_line_to_type_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BenchError, match=r"is not here(.|\n)*apt-get install espeak-ng"):
        version()


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({"words": ["one", "one"]}, "words: one is there twice"),
        ({"words": ["one", "-q"]}, "String should match pattern"),
        ({"voices": ["en us"]}, "String should match pattern"),
        ({"speed": [260, 180]}, "speed: from 260 to 180"),
        ({"held_out": 40}, "held_out: 40 of 40 takes leave none"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changed: dict, wanted: str) -> None:
    with pytest.raises(ValidationError, match=wanted):
        SpeechData.model_validate(GIVEN | changed)


# --- the data -------------------------------------------------------------------------------------


def test_clips_are_in_unit_variance_classes_in_turn_and_other_clips_are_refused(prepared, speaker) -> None:
    data, arrays, facts = prepared
    dataset, known = open_dataset(arrays, 0.5), known_of(data)
    assert (dataset.shape, dataset.classes) == (known.shape, known.classes) == ((1, BANDS, FRAMES), 4)
    assert dataset.shares == (22,) * 4
    train = making.part(dataset, "train")
    assert (train.mean(), train.std()) == (pytest.approx(0, abs=1e-4), pytest.approx(1, abs=1e-3))
    assert [take.word for take in making.takes_of(data)[:4]] == ["low", "high"] * 2
    assert data.labels == ("low, plain", "high, plain", "low, rough+f1", "high, rough+f1")
    assert arrays["train_labels"][:5].tolist() == [0, 1, 2, 3, 0]
    takes = making.takes_of(data)
    again = log_mel(torch.from_numpy(spoken_by_all(takes[72:76])))
    assert train[:4, 0].numpy() == pytest.approx((again.numpy() - arrays["mean"]) / arrays["std"], abs=2e-3)  # 16 bits
    assert {take.pitch for take in takes} <= {*range(30, 71)} and len({take.speed for take in takes}) > 50
    assert len(set(takes)) == len(takes), "no take of one part is in the other"
    with pytest.raises(ValidationError, match="pitch and speed have 1 pairs"):
        SpeechData.model_validate(GIVEN | {"pitch": [50, 50], "speed": [200, 200]})
    with pytest.raises(BenchError, match=r"4 clips are held out(.|\n)*more 'takes'"):
        making.prepare(SpeechData.model_validate(GIVEN | {"held_out": 1}), EvaluationSettings(samples=100), 0.5)
    assert facts["synthesiser"] == "espeak-ng 1.51"
    assert facts["words_recognised_held_out"] > 0.95
    with pytest.raises(BenchError, match="other clips than the study names"):
        making.prepare(SpeechData.model_validate(GIVEN | {"content": "0" * 64}), EvaluationSettings(samples=100), 0.5)


def test_data_conform(prepared, speaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recogniser, "EPOCHS", 1)
    found = check_data(kind_module(prepared[0]), prepared[0])
    assert {one.check for one in found if one.state == "failed"} == set(), found
    assert {one.check for one in found if one.state == "does not apply"} == {"velocity"}


def test_judges_read_the_word_and_the_voice_that_were_asked_for(prepared) -> None:
    dataset = open_dataset(prepared[1], 0.5)
    held = making.part(dataset, "held_out")
    found = making.judge_samples(dataset, held)
    assert set(found) == set(making.METRICS["samples"])
    assert min(found["recognised"], found["voice_recognised"]) > 0.9
    other_word = held[torch.arange(len(held)) ^ 1]
    swapped = making.judge_samples(dataset, other_word, ["recognised", "voice_recognised", "fd_train"])
    assert (swapped["recognised"], swapped["voice_recognised"]) == (
        pytest.approx(1 - found["recognised"]),
        found["voice_recognised"],
    )
    assert swapped["fd_train"] == pytest.approx(found["fd_train"], rel=1e-5), "the same clips, in another order"
    noisy = making.judge_samples(dataset, held + torch.randn(held.shape, generator=generator("noise")), ["fd_train"])
    assert noisy["fd_train"] > 2 * found["fd_train"]
    assert {value.metric for value in making.floors(dataset)} == set(found) - {"fd_held_out", "nearest_held_out"}


def test_pictures_and_sounds_are_of_the_classes_that_samples_have(prepared) -> None:
    arrays = prepared[1]
    assert SPEECH.images is not None and SPEECH.sounds is not None
    seen = SPEECH.images(arrays, 6)
    top = arrays["train"][0, 0, -1] / arrays["sigma_d"]
    assert np.array_equal(seen.real[0, 0], top) and seen.real.shape == (6, BANDS, FRAMES)
    assert seen.black == pytest.approx(seen.real.min(), abs=1e-5), "silence"
    heard = SPEECH.sounds(arrays)
    assert (heard.rows, heard.names) == ((0, 3), ("low, plain", "high, rough+f1"))
    assert [label for label, _ in heard.real] == ["as espeak-ng says it", "the same by the vocoder"]
    held = torch.from_numpy(arrays["held_out"][[0, 3]]) / 0.5
    for number, content in enumerate(heard.heard(held.numpy())):
        with wave.open(io.BytesIO(content)) as file:
            levels = np.frombuffer(file.readframes(LENGTH), np.uint8).astype(np.float32) - 128
        loudest = magnitudes(torch.from_numpy(levels)[None])[0].sum(1).argmax() * RATE / FFT
        assert loudest == pytest.approx([*WORDS.values()][number], rel=0.15)
    again = spectra_of(arrays, vocoder(arrays, held))
    assert (again - held).square().mean().sqrt() < 0.5


# --- in a study -----------------------------------------------------------------------------------


@pytest.fixture
def study(tiny: dict, write_study: Callable[[dict], Path], tmp_path: Path, prepared, monkeypatch) -> Study:
    """A teacher and a map of the prepared clips."""
    from trigbench.workflow.machine.files import write_arrays, write_json  # noqa: PLC0415

    monkeypatch.chdir(tmp_path)
    tiny["data"] = {"words": GIVEN}
    tiny["defaults"] |= {"data": "words", "iterations": 3, "batch": 16}
    tiny["samplers"] = {"ddim-3": {"solver": "ddim", "evaluations": [3]}}
    tiny["arms"] = {"teacher": {"objective": "diffusion", "samplers": ["ddim-3"]}, "sct": {"objective": "sct"}}
    experiment = next(iter(tiny["experiments"].values()))
    asked = {"figure": "recognition", "metric": "recognised", "measurement": "speaking", "arms": ["teacher", "sct"]}
    tiny["experiments"] = {"words": experiment | asked}
    tiny["evaluation"] = {"samples": 80}
    found = load(write_study(tiny))
    write_arrays(found.data_file("words"), prepared[1])
    write_json(found.data_file("words").with_suffix(".json"), {})
    return found


@pytest.mark.slow
def test_speaking_is_measured_in_every_way_and_samples_are_heard(study: Study, monkeypatch) -> None:
    monkeypatch.setattr(speaking, "HEARD", 4)
    monkeypatch.setattr(speaking, "TIMED", 1)
    runs = [Run(arm=arm, seed=study.seeds[0]) for arm in study.arms]
    for run in runs:
        train(study, run)
        sample(study, run)
    values = {(r.arm, r.value.steps, r.value.metric): r.value.value for r in speaking.measure(study, "words").runs}
    ways, of_each = (("teacher", 3), ("sct", 1), ("sct", 2)), ("heard", "network_seconds")
    assert values.keys() == {
        ("data", None, "heard"), ("data", None, "vocoder_seconds"),
        *((*way, metric) for way in ways for metric in of_each),
    }  # fmt: skip
    assert values["data", None, "heard"] == 1
    assert all(0 <= v <= 1 if key[2] == "heard" else 0 < v < 1e3 for key, v in values.items() if v is not None)
    assert None not in values.values()
    found = sounds(study, runs)
    assert found is not None and found.names == ["low, plain", "high, rough+f1"]
    assert [label for label, _ in found.rows][2:] == ["teacher, 3 evaluations", "sct, 1 step", "sct, 2 steps"]
    macro = '{% import "macros.html.j2" as show %}{{ show.sounds(heard) }}'
    page = common._environment().from_string(macro).render(heard=found)
    assert page.count("<audio controls") == 10 and 'aria-label="low, plain: sct, 1 step"' in page
    for _, addresses in found.rows:
        for address in addresses:
            content = base64.b64decode(address.removeprefix("data:audio/wav;base64,"))
            with wave.open(io.BytesIO(content)) as file:
                assert len(content) < 12_000 and file.getnframes() == LENGTH


def test_data_that_make_no_sound_are_refused_and_have_no_players(tiny: dict, with_data) -> None:
    tiny["experiments"] = {"training": tiny["experiments"]["training"] | {"measurement": "speaking", "metric": "heard"}}
    study = with_data(tiny)
    with pytest.raises(BenchError, match="expected one data set of spoken words"):
        speaking.measure(study, "training")
    assert sounds(study, [Run(arm=next(iter(study.arms)), seed=0)]) is None


# --- the true synthesiser -------------------------------------------------------------------------


def test_the_synthesiser_says_the_same_again_and_is_held_to_the_voices_that_it_has() -> None:
    if shutil.which(PROGRAM) is None:
        reason = f"{PROGRAM} is not here: {INSTALL}"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    version()
    check_voices(["en-us+f2", "en-gb"])
    for missing in ("en-us+nobody", "xx-yy"):
        with pytest.raises(BenchError, match="has no"):
            check_voices([missing])
    takes = [Take(word, voice, 45, 200) for word in ("one", "seven") for voice in ("en-us+f2", "en-gb")]
    first, again = spoken_by_all(takes), spoken_by_all(takes[::-1])[::-1]
    assert np.array_equal(first, again)
    assert len({hashlib.sha256(clip.tobytes()).hexdigest() for clip in first}) == 4
