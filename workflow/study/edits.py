"""What data are edited from, and what is measured of edits (the measurement `editing`)."""

from dataclasses import replace

from trigbench.workflow.study.quantity import Quantity

EDITS = {
    "inpaint": "inpainting a half",
    "enlarge": "enlarging four times",
    "strokes": "strokes as a guide",
    "colourise": "colouring grey",
}
"""What data are edited from, in words."""
EDITING = "editing"
"""The measurement."""
EACH = 4
"""Edits of an image, each of its own noise."""
EXACT = "exact"
"""In place of an arm, a map and a velocity that are known; records.REAL is of exact draws, or images as they are."""
BY_VELOCITY = {"repaint": ("RePaint", "", "s"), "pigdm": ("PiGDM", "", "D"), "sdedit": ("SDEdit", "", "v")}
"""Words, line and marker of what goes by a velocity in many steps, by the names that stand for samplers."""
_OF_EDITS = {
    "wasserstein": Quantity(
        "distance of edits to the posterior",
        "lower",
        "2-Wasserstein, sliced over 128 directions of what is not seen, to exact draws given the same; root mean "
        "square over what was seen",
    ),
    "fd": Quantity(
        "Fréchet distance of edits to the training part", "lower", "of held-out images, by what judges samples"
    ),
    "missed": Quantity(
        "what edits miss of what was seen",
        "lower",
        "root mean square, in pixels or coordinates of unit variance; rounding where what was seen is put back",
        signed=True,
    ),
    "diversity": Quantity(
        "spread of edits of the same",
        "neither",
        "standard deviation over noises, root mean square over coordinates and over what was seen",
    ),
    "agreement": Quantity(
        "edits that are read as the image's class",
        "higher",
        "share, by the classifier in whose features distances are",
        signed=True,
        least=0.0,
        floor=0.0,
        ceiling=1.0,
    ),
}
_OF_COLOURS = {
    "variation": Quantity(
        "total variation of edits' colours from their law",
        "lower",
        "between the shares of the palette's colours that edits are nearest to and their probabilities given the grey, "
        "mean over classes; of exact draws what the scatter of so many is",
    ),
    "off_palette": Quantity(
        "distance of edits to the nearest colour",
        "lower",
        "of what grey does not say, over that of the grey image to any colour, root mean square; 0 where all ink is of "
        "one colour of the palette, 1 of grey",
        signed=True,
    ),
}
"""Of images whose colours have a known law given their grey."""
EDITED: dict[str, Quantity] = {
    f"{edit}_{name}": replace(quantity, label=f"{quantity.label}, {words}")
    for edit, words in EDITS.items()
    for name, quantity in (_OF_EDITS | (_OF_COLOURS if edit == "colourise" else {})).items()
}


def edits_asked(metric: str) -> tuple[str, ...]:
    """What an experiment of that metric edits from: wherever there is such a measure.

    >>> edits_asked("inpaint_wasserstein"), edits_asked("colourise_variation")
    (('inpaint', 'enlarge', 'strokes', 'colourise'), ('colourise',))
    """
    measure = metric.partition("_")[2]
    return tuple(edit for edit in EDITS if f"{edit}_{measure}" in EDITED) or tuple(EDITS)
