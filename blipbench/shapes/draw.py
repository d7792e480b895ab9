"""Draws a scene of the shapes world: takes a `Scene` and returns an antialiased RGB image.

Each shape is drawn at three times its size on its own canvas, scaled down (Lanczos) and pasted on the background, so
the cost depends on the area of the shapes, not of the image. Colour names match what a viewer would call the colours.
Textures keep the named colour on most of a shape's area and add a lighter or darker tint of it.
"""

import functools
import math

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from blipbench.shapes.scene import Background, Figure, Place, Scene

RGB: dict[str, tuple[int, int, int]] = {
    "red": (222, 36, 36),
    "orange": (248, 138, 20),
    "yellow": (250, 226, 48),
    "green": (36, 158, 62),
    "blue": (40, 84, 222),
    "purple": (136, 52, 176),
    "white": (250, 250, 250),
    "black": (22, 22, 22),
}
OVERSAMPLE = 3
STROKE = 0.26  # line width of an outlined shape, in radii
RIM = 0.1  # width of the untextured rim of a striped shape, in radii


def draw_scene(scene: Scene) -> Image.Image:
    """The picture of a scene, `scene.width` x `scene.height`, RGB. The same scene gives the same pixels."""
    image = draw_background(scene.background, scene.width, scene.height)
    for figure in scene.figures:
        for place in figure.places:
            paint, alpha, corner = cut_out(figure, place)
            image.paste(paint, corner, alpha)
    return image


def draw_background(background: Background, width: int, height: int) -> Image.Image:
    """The backdrop without figures, RGB."""
    return Image.fromarray(_background(background, width, height))


def outline(shape: str, place: Place) -> npt.NDArray[np.float64]:
    """The polygon of a shape at a place: [corners, 2], x and y in pixels. The farthest corner is at the radius."""
    angle = math.radians(place.angle)
    rotation = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    polygon: npt.NDArray[np.float64] = _unit_polygon(shape) @ rotation * place.radius + (place.x, place.y)
    return polygon


@functools.cache
def _unit_polygon(shape: str) -> npt.NDArray[np.float64]:
    """[corners, 2], y down, bounding box centred on the origin, farthest corner at distance 1; read-only."""
    turn = np.linspace(0, 2 * math.pi, 48, endpoint=False)
    if shape == "circle":
        points = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    elif shape == "square":
        points = np.array([(-1.0, -1.0), (1, -1), (1, 1), (-1, 1)])
    elif shape == "diamond":
        points = np.array([(0.0, -1.0), (0.7, 0), (0, 1), (-0.7, 0)])
    elif shape == "triangle":
        points = np.array([(0.0, -1.0), (math.sqrt(0.75), 0.5), (-math.sqrt(0.75), 0.5)])
    elif shape == "star":
        corners = np.arange(10) * math.pi / 5
        reach = np.where(np.arange(10) % 2 == 0, 1.0, 0.45)
        points = np.stack([np.sin(corners) * reach, -np.cos(corners) * reach], axis=1)
    elif shape == "cross":
        arm = 0.36
        half = np.array([(-arm, -1), (arm, -1), (arm, -arm), (1, -arm), (1, arm), (arm, arm)])
        points = np.concatenate([half, -half])
    elif shape == "heart":
        x = 16 * np.sin(turn) ** 3
        y = -(13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn))
        points = np.stack([x, y], axis=1)
    elif shape == "moon":
        points = _crescent(bite_radius=0.82, bite_offset=0.78)
    else:
        raise ValueError(f"no such shape: {shape}")
    points = points - (points.min(axis=0) + points.max(axis=0)) / 2
    unit: npt.NDArray[np.float64] = points / np.hypot(points[:, 0], points[:, 1]).max()
    unit.setflags(write=False)  # the cached array is shared by all figures of this shape
    return unit


def _crescent(bite_radius: float, bite_offset: float) -> npt.NDArray[np.float64]:
    """The unit disc minus a disc to its right: [corners, 2]."""
    tip_x = (1 - bite_radius**2 + bite_offset**2) / (2 * bite_offset)
    tip_y = math.sqrt(1 - tip_x**2)
    outer = np.linspace(math.atan2(tip_y, tip_x), 2 * math.pi - math.atan2(tip_y, tip_x), 32)
    start = math.atan2(tip_y, tip_x - bite_offset)
    inner = np.linspace(2 * math.pi - start, start, 24)
    rim = np.stack([np.cos(outer), np.sin(outer)], axis=1)
    bite = np.stack([bite_offset + bite_radius * np.cos(inner), bite_radius * np.sin(inner)], axis=1)
    return np.concatenate([rim, bite])


def cut_out(figure: Figure, place: Place) -> tuple[Image.Image, Image.Image, tuple[int, int]]:
    """One shape: its paint (RGB), its coverage (L), and the corner (left, top) at which to paste them."""
    left, top = math.floor(place.x - place.radius) - 1, math.floor(place.y - place.radius) - 1
    side = math.ceil(2 * place.radius) + 3
    big = (side * OVERSAMPLE, side * OVERSAMPLE)
    points = (outline(figure.shape, place) - (left, top)) * OVERSAMPLE
    corners = [(x, y) for x, y in points.tolist()]
    alpha = Image.new("L", big)
    if figure.texture == "outlined":
        # A line of twice the width, clipped at the outline: the stroke is inside the shape, and corners stay sharp.
        inside = Image.new("L", big)
        ImageDraw.Draw(inside).polygon(corners, fill=255)
        width = round(2 * STROKE * place.radius * OVERSAMPLE)
        stroke = Image.new("L", big)
        ImageDraw.Draw(stroke).line([*corners, *corners[:2]], fill=255, width=width, joint="curve")
        alpha.paste(stroke, mask=inside)
    else:
        ImageDraw.Draw(alpha).polygon(corners, fill=255)
    size, lanczos = (side, side), Image.Resampling.LANCZOS
    colour = np.array(RGB[figure.colour]) * figure.shade
    if figure.texture == "striped":
        striped = Image.new("RGB", big, _rgb(colour))
        striped.paste(_rgb(_tint(colour)), mask=_stripes(figure, place, big[0]))
        # A rim in the plain colour keeps the shape visible if the tint is similar to the background.
        rim = round(2 * RIM * place.radius * OVERSAMPLE)
        ImageDraw.Draw(striped).line([*corners, *corners[:2]], fill=_rgb(colour), width=rim, joint="curve")
        paint = striped.resize(size, lanczos)
    else:
        paint = Image.new("RGB", size, _rgb(colour))
    return paint, alpha.resize(size, lanczos), (left, top)


def _stripes(figure: Figure, place: Place, side: int) -> Image.Image:
    """The mask of the tint: bands perpendicular to the direction of the grain, on a canvas of side x side."""
    angle = math.radians(figure.grain)
    step = max(0.55 * place.radius, 6.0) * OVERSAMPLE
    offset = np.arange(side) + 0.5 - side / 2
    along = (math.cos(angle) * offset[None, :] + math.sin(angle) * offset[:, None]) / step  # [side, side]
    mask = np.abs(along - np.round(along)) < 0.22
    return Image.fromarray(mask.astype(np.uint8) * 255)


def _tint(colour: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A lighter tint of a dark colour, or a darker tint of a light colour."""
    luminance = float(colour @ (0.299, 0.587, 0.114))
    tint: npt.NDArray[np.float64] = colour + (255 - colour) * 0.62 if luminance < 130 else colour * 0.5
    return tint


def _rgb(colour: npt.NDArray[np.float64]) -> tuple[int, int, int]:
    red, green, blue = (round(float(value)) for value in colour)
    return red, green, blue


def _background(background: Background, width: int, height: int) -> npt.NDArray[np.uint8]:
    """[height, width, 3], within about 20 grey levels of the background's colour, so that all figures are visible."""
    if background.kind == "plain":
        return np.full((height, width, 3), _rgb(np.array(background.colour)), dtype=np.uint8)
    angle = math.radians(background.angle)
    x = np.arange(width)[None, :] - width / 2
    y = np.arange(height)[:, None] - height / 2
    u = math.cos(angle) * x + math.sin(angle) * y  # [height, width]
    v = math.cos(angle) * y - math.sin(angle) * x
    pace = math.pi / background.period
    level: npt.NDArray[np.float64]
    if background.kind == "shaded":
        level = u * (22 / np.abs(u).max())
    elif background.kind == "striped":
        level = 12 * np.clip(np.sin(u * pace) / pace, -1, 1)  # the sine's zero crossings, one pixel wide on each side
    else:
        level = 12 * np.clip(np.sin(u * pace) / pace, -1, 1) * np.clip(np.sin(v * pace) / pace, -1, 1)
    pixels = np.array(background.colour) + level[:, :, None]  # [height, width, 3]
    np.rint(pixels, out=pixels)
    return np.clip(pixels, 0, 255, out=pixels).astype(np.uint8)
