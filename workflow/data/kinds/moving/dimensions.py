"""Numbers of the videos that plans share with what computes, and the shapes. Imports nothing; is hashed."""

FRAMES = 8
SIDE = 12
"""Pixels of the square box."""
SPRITE = 5
"""Pixels of a shape's side."""
TRAVEL = SIDE - SPRITE
"""Pixels that a shape can move along each side of the box."""
SHAPES: dict[str, tuple[str, ...]] = {
    "square": ("#####", "#####", "#####", "#####", "#####"),
    "frame": ("#####", "#...#", "#...#", "#...#", "#####"),
    "plus": ("..#..", "..#..", "#####", "..#..", "..#.."),
    "cross": ("#...#", ".#.#.", "..#..", ".#.#.", "#...#"),
}
"""Each is its own mirror image both ways, so that its centre of mass is its middle."""
