"""Numbers of coloured digits that plans share with what computes. Imports nothing; is hashed."""

DIGIT_CLASSES = 10
GREY_LEVELS = 16
LAW = (
    (1, 0, 0, 0),
    (0, 1, 0, 0),
    (0, 0, 1, 0),
    (0, 0, 0, 1),
    (0.5, 0.5, 0, 0),
    (0, 0.5, 0, 0.5),
    (0, 0, 0.5, 0.5),
    (0.25, 0.25, 0.25, 0.25),
    (0.7, 0.1, 0.1, 0.1),
    (0.25, 0.25, 0.25, 0.25),
)
"""With what probability a digit, 0 to 9, is in each colour: four have one, three have two, the others all."""
