"""The lighting of a portrait, estimated from its skin, and the colours of teeth and gums in it.

Axes: n samples or vertices, s sides (the picture's left and right of the mouth), h w space.
Colours are RGB in [0, 1], as pictures hold them.
"""

import numpy as np
from jaxtyping import Float, UInt8

from mien.face.geometry import Array
from mien.face_model.mouth_model import FLESH, TOOTH, MouthModel
from mien.mesh.topology import Points

# Points of skin beside and below the mouth, on the picture's left and right.
_SKIN = ((50, 205, 187, 207, 36, 202, 211, 200), (280, 425, 411, 427, 266, 422, 431, 200))
_PATCH = 2  # pixels to each side of a point
_GREY = np.array([0.299, 0.587, 0.114])
_USUAL_SKIN = np.array([0.76, 0.58, 0.49])  # in the light in which teeth have the colours below
_DARKEST, _BRIGHTEST = 0.15, 1.1  # bounds of the light, in those of that light
_LAMP = np.array([0.0, -0.45, -0.9])  # direction to the light: in front of and above the face
_TINTED = 0.6  # how much of the light's colour, as skin shows it, reaches the mouth

CAVITY_COLOR = np.array([0.12, 0.05, 0.045])
_TOOTH, _FLESH = np.array([0.88, 0.80, 0.71]), np.array([0.42, 0.20, 0.19])
_LOWER_TEETH = 0.8  # as bright as the upper ones, which shade them
_TEETH_FADE, _FLESH_FADE = 0.36, 0.5  # eye distances behind the lips over which it gets dark


def light_of(picture: UInt8[Array, "h w 3"], points: Points) -> Float[Array, "s 3"]:
    """The light of each side as gains of red, green and blue.

    Paintings and grey pictures are less saturated than photos of skin: the lack of saturation is
    `1 - saturation_of`, and is not attributed to the light.
    """
    rich = saturation_of(picture, points)
    usual = _USUAL_SKIN / (_USUAL_SKIN @ _GREY)
    gains = []
    for side in _SKIN:
        skin = _skin(picture, points, side)
        level = skin @ _GREY
        bright = np.clip(level / (_USUAL_SKIN @ _GREY), _DARKEST, _BRIGHTEST)
        tint = (skin / max(level, 1e-3)) / (1 + (usual - 1) * rich)
        tint[1] = np.sqrt(max(tint[0] * tint[2], 0))  # lamps are warm or cool, never green
        gains.append(bright * np.clip(tint, 0.5, 1.6) ** _TINTED)
    return np.stack(gains)


def saturation_of(picture: UInt8[Array, "h w 3"], points: Points) -> float:
    """How colourful the skin is: 0 in a grey picture, 1 in a usual one."""
    skin = np.mean([_skin(picture, points, side) for side in _SKIN], axis=0)
    spread = np.ptp(skin) / max(float(skin.max()), 1e-3)
    return float(np.clip(spread / (np.ptp(_USUAL_SKIN) / _USUAL_SKIN.max()), 0, 1))


def vertex_colors(model: MouthModel, rich: float) -> Float[Array, "n 3"]:
    """Vertex colours for a light in front of and above the face, darker deeper in the mouth.

    `rich` is the saturation, 1 that of a photo.
    """
    tooth = model.part == TOOTH
    own = np.where(tooth[:, None], _TOOTH, np.where((model.part == FLESH)[:, None], _FLESH, 0.0))
    own[tooth & (model.jaw > 0)] *= _LOWER_TEETH
    own[~tooth & (model.part != FLESH)] = CAVITY_COLOR * 1.6
    deep = np.maximum(0.0, model.vertices[:, 2] - model.vertices[:, 2].min())
    fade = np.exp(-((deep / np.where(tooth, _TEETH_FADE, _FLESH_FADE)) ** 1.3))
    facing = np.clip(model.normals @ _LAMP, 0, 1)
    lit = fade * np.where(tooth, 0.6 + 0.4 * facing, 0.45 + 0.55 * facing)
    return muted(CAVITY_COLOR + (own - CAVITY_COLOR) * lit[:, None], rich)


def muted(colors: Float[Array, "*n 3"], rich: float) -> Float[Array, "*n 3"]:
    """Colours with a share of their saturation."""
    grey = (colors @ _GREY)[..., None]
    return grey + (colors - grey) * rich


def _skin(
    picture: UInt8[Array, "h w 3"], points: Points, side: tuple[int, ...]
) -> Float[Array, " 3"]:
    """The median colour of small patches."""
    h, w = picture.shape[:2]
    patches = []
    for x, y in points[list(side), :2]:
        column = int(np.clip(x, _PATCH, w - 1 - _PATCH))
        row = int(np.clip(y, _PATCH, h - 1 - _PATCH))
        here = picture[row - _PATCH : row + _PATCH + 1, column - _PATCH : column + _PATCH + 1]
        patches.append(here.reshape(-1, 3).mean(axis=0))
    return np.median(patches, axis=0) / 255
