"""Digits as strokes of a pen, on a sheet from 0 to 1."""

import math


def of_picture(picture):
    """A stroke for each run of ink in each row of a 28×28 picture: what a hand would fill it with."""
    strokes = []
    size = len(picture)
    for y, row in enumerate(picture):
        start = None
        for x, ink in enumerate([*row, 0]):
            if ink > 0.5 and start is None:
                start = x
            elif ink <= 0.5 and start is not None:
                strokes.append([[(start + 0.5) / size, (y + 0.5) / size], [(x - 0.5) / size, (y + 0.5) / size]])
                start = None
    return strokes


def arc(x, y, width, height, start, end, steps=24):
    """Points of an ellipse around (x, y), from angle to angle in degrees; 0 is right, 90 is down."""
    angles = [math.radians(start + (end - start) * i / steps) for i in range(steps + 1)]
    return [[x + width * math.cos(a), y + height * math.sin(a)] for a in angles]


# As people write them.
WRITTEN = {
    "0": [arc(0.5, 0.5, 0.19, 0.29, -90, 270)],
    "1": [[[0.4, 0.32], [0.52, 0.2], [0.5, 0.8]]],
    "2": [[*arc(0.5, 0.36, 0.17, 0.16, -170, 40), [0.33, 0.78], [0.7, 0.77]]],
    "3": [[*arc(0.47, 0.33, 0.17, 0.15, -150, 90), *arc(0.46, 0.655, 0.21, 0.175, -90, 150)]],
    "4": [[[0.38, 0.2], [0.33, 0.52], [0.66, 0.52]], [[0.62, 0.25], [0.58, 0.82]]],
    "5": [[[0.66, 0.22], [0.4, 0.22], [0.37, 0.47], *arc(0.48, 0.62, 0.18, 0.17, -120, 140)]],
    "6": [[[0.6, 0.18], [0.42, 0.4], *arc(0.5, 0.65, 0.15, 0.15, -160, 200)]],
    "7": [[[0.32, 0.24], [0.68, 0.23], [0.45, 0.82]]],
}
