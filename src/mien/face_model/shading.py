"""Shaded pictures of the face model, whose coefficients are known: what fits are tested on.

The model carries no texture, and nets that find faces need one: brows, lips, lashes, nostrils and
irises are painted where MediaPipe's landmarker sets them on the neutral person, a cap of hair
stands out of the head, and normals are smooth. Colours are RGB in [0, 1].
Axes: t frames, n vertices, k triangles, h w space, s s the texture.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Float32, Int
from scipy.ndimage import gaussian_filter, map_coordinates

from mien.errors import UserError
from mien.face.geometry import Array, Picture
from mien.face_model.coefficients import FaceCoefficients
from mien.face_model.outline import smooth_step
from mien.face_model.parametric import EYES, FaceModel
from mien.mesh.topology import INNER, LIDS, OUTER
from mien.ops.rasterize import rasterize, rasterize_perspective

_COLORS = {
    **dict.fromkeys(("face", "head_neck"), (0.84, 0.63, 0.53)),
    **dict.fromkeys(("mouth_socket", "eye_sockets"), (0.25, 0.09, 0.08)),
    "gums_tongue": (0.62, 0.30, 0.30),
    "teeth": (0.90, 0.88, 0.82),
    **dict.fromkeys(EYES, (0.93, 0.92, 0.91)),
}
_BACKGROUND = (0.46, 0.50, 0.55)
_LIPS, _BROWS, _HAIR, _NOSTRILS = (
    (0.68, 0.33, 0.33),
    (0.23, 0.15, 0.10),
    (0.15, 0.10, 0.08),
    (0.3, 0.13, 0.1),
)
_IRIS, _PUPIL = (0.28, 0.18, 0.11), (0.03, 0.03, 0.03)
_IRIS_RADIUS, _PUPIL_RADIUS, _SOFT = 0.58, 0.22, 0.05  # centimetres; of an edge
# FaceMesh's points of the brows, upper edge and lower one, from the outer end inwards.
_BROW_EDGES = (
    ((70, 63, 105, 66, 107), (46, 53, 52, 65, 55)),
    ((300, 293, 334, 296, 336), (276, 283, 282, 295, 285)),
)
_NOSTRIL_POINTS = ((98, 97), (327, 326))  # each nostril lies between the two
_LASH, _HAIR_HEIGHT, _EARS = 0.14, 0.9, 7.9  # centimetres; ears begin so far from the middle
_TEXTURE, _REACH = 1024, 17.0  # pixels; centimetres from the texture's middle to its border
# Towards the lights (x right, y down, z away), with their strengths, and light from everywhere.
_LIGHTS = (((-0.35, -0.55, -0.76), 0.62), ((0.7, -0.1, -0.7), 0.22))
_AMBIENT = 0.32
_FINER = 2  # pixels drawn to one of the picture, along each side


@dataclass(frozen=True)
class PaintedFace:
    """A face model with colours: `texture` lies over the neutral face from the front, `hair` is
    how much each vertex belongs to the hair, `iris_shifts` move the irises on the eyeballs.
    """

    model: FaceModel
    texture: Float32[Array, "s s 3"]
    hair: Float[Array, " n"]
    iris_shifts: Float[Array, "2 2"]

    @classmethod
    def of(cls, model: FaceModel) -> "PaintedFace":
        """Paint a model, the same for everybody.

        Raises:
            UserError: the model's file does not say where FaceMesh's points are.
        """
        if model.points is None:
            raise UserError("this face model has no FaceMesh points, so no face can be painted")
        places = model.points.read(model.neutral) + model.points.landmarker_shifts
        return cls(model, _texture(places), _hair(model), model.points.iris_shifts[:, :2])

    def pictures(self, coefficients: FaceCoefficients) -> Iterator[Picture]:
        """The frames of a clip, in the size of its camera.

        Raises:
            UserError: the coefficients are of another face model.
        """
        camera = coefficients.camera
        height, width = camera.height * _FINER, camera.width * _FINER
        finer = replace(camera, width=width, height=height)
        for row in range(len(coefficients)):
            space = self.model.in_camera(coefficients.at(slice(row, row + 1)))[0]
            normals = _normals(space, self.model.triangles)
            space = space + (_HAIR_HEIGHT * coefficients.scale * self.hair)[:, None] * normals
            values = np.concatenate(
                [_light(normals)[:, None], self.hair[:, None], self.model.neutral], axis=1
            )
            seen = rasterize_perspective(
                finer.project(space)[None],
                self.model.triangles,
                values[None],
                height,
                width,
                "front",
            )
            shown = self._colors(seen.triangles[0], seen.values[0].transpose(1, 2, 0))
            small = shown.reshape(camera.height, _FINER, camera.width, _FINER, 3).mean(axis=(1, 3))
            yield (small.clip(0, 1) * 255).round().astype(np.uint8)

    def _colors(
        self, triangles: Int[Array, "h w"], values: Float32[Array, "h w 5"]
    ) -> Float[Array, "h w 3"]:
        """Colours of pixels from light, hair and the place on the neutral person."""
        colors = np.broadcast_to(np.array(_BACKGROUND), (*triangles.shape, 3)).copy()
        rows = triangles >= 0
        light, hair, place = np.split(values[rows].astype(np.float64), (1, 2), axis=1)
        model = self.model
        region = model.region[model.triangles[triangles[rows]][:, 0]]
        plain = np.array([_COLORS[name] for name in model.region_names])[region]
        skin = region == model.region_names.index("face")
        plain[skin] = _read(self.texture, place[skin, :2])
        plain = _mixed(plain, _HAIR, hair)
        for name, center, shift in zip(EYES, model.eye_centers, self.iris_shifts, strict=True):
            eye = region == model.region_names.index(name)
            plain[eye] = _iris(plain[eye], place[eye] - center, shift)
        colors[rows] = plain * light
        return colors


def _normals(space: Float[Array, "n 3"], triangles: Int[Array, "k 3"]) -> Float[Array, "n 3"]:
    """Unit normals at vertices, towards the outside: the mean of their triangles' by area."""
    a, b, c = (space[triangles[:, i]] for i in range(3))
    flat = np.cross(b - a, c - a)
    total = np.stack(
        [
            sum(np.bincount(triangles[:, i], flat[:, x], minlength=len(space)) for i in range(3))
            for x in range(3)
        ],
        axis=1,
    )
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-9)


def _light(normals: Float[Array, "n 3"]) -> Float[Array, " n"]:
    total = np.full(len(normals), _AMBIENT)
    for direction, strength in _LIGHTS:
        towards = np.array(direction) / np.linalg.norm(direction)
        total += strength * np.maximum(normals @ towards, 0)
    return total


def _mixed(
    under: Float[Array, "p 3"], color: tuple[float, float, float], share: Float[Array, "p 1"]
) -> Float[Array, "p 3"]:
    return under + share * (np.array(color) - under)


def _iris(
    sclera: Float[Array, "p 3"], arms: Float[Array, "p 3"], shift: Float[Array, " 2"]
) -> Float[Array, "p 3"]:
    """Iris and pupil over the white, `arms` being places from the eyeball's middle."""
    away = np.hypot(*(arms[:, :2] - shift).T)[:, None]
    away[arms[:, 2] > 0] = np.inf
    colors = _mixed(sclera, _IRIS, 1 - smooth_step(away, _IRIS_RADIUS - _SOFT, _IRIS_RADIUS))
    return _mixed(colors, _PUPIL, 1 - smooth_step(away, _PUPIL_RADIUS - _SOFT, _PUPIL_RADIUS))


def _hair(model: FaceModel) -> Float[Array, " n"]:
    """1 on the top, the sides and the back of the head, 0 on face, ears and neck."""
    x, y, z = model.neutral.T.astype(np.float64)
    # The lowest hair: high over the forehead, down to the nape behind the ears.
    low = np.interp(z, [-11.0, -6.0, -3.5, 2.0, 6.0], [-10.0, -8.0, -4.5, -2.0, 6.0])
    inside = smooth_step(low - y, -0.4, 0.6) * smooth_step(-np.abs(x), -_EARS - 0.3, -_EARS)
    skin = np.isin(model.region, [model.region_names.index(n) for n in ("face", "head_neck")])
    return np.where(skin, inside, 0.0)


def _texture(places: Float[Array, "m 3"]) -> Float32[Array, "s s 3"]:
    """Skin from the front with brows, lips, lashes and nostrils at FaceMesh's places."""
    colors = np.broadcast_to(np.array(_COLORS["face"]), (_TEXTURE, _TEXTURE, 3)).copy()
    flat = _pixels(places[:, :2].astype(np.float64))
    half = len(OUTER) // 2
    painted = [
        (_LIPS, 0.9, 3.0, [flat[list(OUTER[: half + 1])], flat[list(INNER[: half + 1])]]),
        (_LIPS, 0.9, 3.0, [flat[[*OUTER[half:], OUTER[0]]], flat[[*INNER[half:], INNER[0]]]]),
    ]
    for upper, lower in _BROW_EDGES:
        painted.append((_BROWS, 0.9, 5.0, [flat[list(upper)], flat[list(lower)]]))
    thick = np.array([0.0, _LASH * _TEXTURE / 2 / _REACH])
    for upper, lower in LIDS:
        edge = flat[list(upper)]
        painted.append((_BROWS, 0.9, 1.5, [edge - thick, edge + thick]))
        edge = flat[list(lower)]
        painted.append((_BROWS, 0.4, 1.5, [edge - 0.3 * thick, edge + thick]))
    for outer, inner in _NOSTRIL_POINTS:
        ends = flat[[outer, inner]]
        painted.append((_NOSTRILS, 0.8, 3.0, [ends - 1.5 * thick, ends + 1.5 * thick]))
    for color, strength, blur, edges in painted:
        mask = strength * gaussian_filter(_strip(*edges), blur)
        colors += mask[:, :, None] * (np.array(color) - colors)
    return colors.astype(np.float32)


def _strip(one: Float[Array, "p 2"], other: Float[Array, "p 2"]) -> Float32[Array, "s s"]:
    """1 between two lines of as many points, 0 elsewhere."""
    count = len(one)
    first = np.arange(count - 1)
    triangles = [(first, first + 1, first + count), (first + 1, first + count, first + count + 1)]
    corners = np.concatenate([np.stack(t, axis=1) for t in triangles])
    points = np.concatenate([one, other])
    flat = np.concatenate([points, np.zeros((2 * count, 1))], axis=1)
    return rasterize(flat, corners, np.ones((2 * count, 1)), _TEXTURE).values[:, :, 0]


def _pixels(places: Float[Array, "p 2"]) -> Float[Array, "p 2"]:
    """Places of the neutral person from the front to pixels of the texture."""
    return (places / _REACH + 1) * _TEXTURE / 2


def _read(texture: Float32[Array, "s s 3"], places: Float[Array, "p 2"]) -> Float[Array, "p 3"]:
    rows = _pixels(places)[:, ::-1].T - 0.5
    return np.stack(
        [map_coordinates(texture[:, :, c], rows, order=1, mode="nearest") for c in range(3)], axis=1
    ).astype(np.float64)
