"""The inside of a portrait's mouth, drawn between the lips of a moved face mesh.

Upper teeth and gums are rigid with the skull, lower teeth, gums and tongue with the jaw. The model
is registered once, to the portrait's neutral face. The picture is a function of the frame's points
alone and continuous in them.
Axes: h w space, n points, p pixels. Points are pixels, x before y.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from mien.face.geometry import Array
from mien.face_model.light import CAVITY_COLOR, light_of, muted, saturation_of, vertex_colors
from mien.face_model.mouth_model import mouth_model, turned
from mien.face_model.outline import Outline, smooth_step
from mien.mesh.alignment import HeadPose, eye_distance, head_pose
from mien.mesh.neutral import mouth_width
from mien.mesh.retarget import PortraitMesh
from mien.mesh.topology import Points
from mien.ops.rasterize import rasterize

_FINE = 2  # times the picture's size at which the model is drawn
_SOFT = 0.7  # pixels over which the mask fades in
_SHUT = (0.5, 2.2)  # pixels of gap: below the first nothing is drawn, above the second all
_WIDTHS = (0.85, 1.15)  # bounds of this face's mouth width over the model's, as teeth follow it
# A portrait whose own lips are this far apart (eye distances) keeps its own mouth while the wanted
# gap is near its own (as a ratio: from, fully from, fully to, to).
_OWN_GAP, _OWN_RANGE = (0.04, 0.07), (0.2, 0.35, 1.6, 1.75)
_LOWER_LIP, _CHIN = (87, 14, 317), (18, 200)
_LIP_SHARE = 0.75  # of the lip in what opens the jaw; the chin below it has the rest
# Eye distances by which teeth are drawn lower than the model has them: who speaks shows the edges
# of the upper teeth and hardly the lower ones, not a row that fills the mouth.
_UPPER_DOWN, _LOWER_DOWN = 0.0, 0.02
# Shadows: how dark, and over which share of the mouth's width.
_UPPER_SHADOW, _LOWER_SHADOW = (0.5, 0.06), (0.4, 0.04)
_CORNER_SHADOW, _CORNER_FROM = 0.8, 0.45


@dataclass(frozen=True)
class MouthInterior:
    """The mouth model registered to one portrait.

    `scale` and `shift` place the model on the portrait's neutral face in head coordinates,
    `colors` are those of its vertices, `light` the light on the picture's left and right.
    """

    scale: float
    shift: Float[Array, " 3"]
    colors: Float[Array, "n 3"]
    cavity: Float[Array, " 3"]
    light: Float[Array, "2 3"]
    neutral: Points
    own_gap: float

    @classmethod
    def of(cls, portrait: PortraitMesh, picture: UInt8[Array, "h w 3"]) -> "MouthInterior":
        """Register the model to a portrait and read the light of its picture."""
        model, rich = mouth_model(), saturation_of(picture, portrait.points)
        scale = float(np.clip(mouth_width(portrait.neutral) / model.width, *_WIDTHS))
        seam = portrait.neutral[[13, 14]].mean(axis=0)
        return cls(
            scale,
            seam - scale * model.lips,
            vertex_colors(model, rich),
            muted(CAVITY_COLOR, rich),
            light_of(picture, portrait.points),
            portrait.neutral,
            Outline.of(portrait.points, portrait.pose).gap / eye_distance(portrait.points),
        )

    def draw(self, points: Points, size: int) -> Float[Array, "4 h w"]:
        """RGB in [-1, 1] and alpha in [0, 1] of a frame; alpha is 0 outside the inner lips."""
        drawn = np.zeros((4, size, size), np.float32)
        self.draw_into(points, drawn)
        return drawn

    def draw_into(self, points: Points, picture: Float[Array, "4 h w"]) -> None:
        """The same on a picture of zeros."""
        pose, size = head_pose(points), picture.shape[1]
        outline = Outline.of(points, pose)
        strength = self._strength(outline.gap, eye_distance(points))
        left, top = np.maximum(0, np.floor(outline.ring.min(axis=0))).astype(int).tolist()
        right, bottom = np.minimum(size, np.ceil(outline.ring.max(axis=0))).astype(int).tolist()
        if strength == 0 or left >= right or top >= bottom:
            return
        columns, rows = np.meshgrid(np.arange(left, right) + 0.5, np.arange(top, bottom) + 0.5)
        pixels = np.stack([columns.ravel(), rows.ravel()], axis=1)
        upper, lower, inside = outline.distances(pixels)
        alpha = strength * np.where(inside, np.clip(np.minimum(upper, lower) / _SOFT, 0, 1), 0)
        color = self._rendered(points, pose, (left, top), (right - left, bottom - top))
        color = self._shaded(color.reshape(-1, 3), outline, pixels, upper, lower)
        shape = (bottom - top, right - left)
        picture[:3, top:bottom, left:right] = (np.clip(color, 0, 1).T * 2 - 1).reshape(3, *shape)
        picture[3, top:bottom, left:right] = alpha.reshape(shape)

    def _strength(self, gap: float, unit: float) -> float:
        """0 for closed lips and where the portrait's own mouth serves better, else up to 1."""
        own = smooth_step(self.own_gap, *_OWN_GAP)
        ratio = gap / unit / max(self.own_gap, 1e-6)
        a, b, c, d = _OWN_RANGE
        near = smooth_step(ratio, a, b) * (1 - smooth_step(ratio, c, d))
        return float(smooth_step(gap, *_SHUT) * (1 - own * near))

    def jaw_angle(self, points: Points, pose: HeadPose) -> float:
        """How far the jaw is open (radians), from lower lip and chin, seen from the skull."""
        low = (pose.to_head(points[list(_LOWER_LIP + _CHIN)]) - self._low())[:, 1]
        n = len(_LOWER_LIP)
        drop = _LIP_SHARE * low[:n].mean() + (1 - _LIP_SHARE) * low[n:].mean()
        model = mouth_model()
        arm = self.scale * (model.hinge[1] - model.edge[1])
        return float(np.arcsin(np.clip(drop / arm, 0, 0.5)))

    def _low(self) -> Float[Array, "n 3"]:
        return self.neutral[list(_LOWER_LIP + _CHIN)]

    def _rendered(
        self, points: Points, pose: HeadPose, corner: tuple[int, int], box: tuple[int, int]
    ) -> Float[Array, "h w 3"]:
        """The model in a part of the picture, before shadows and light."""
        model = mouth_model()
        opened = turned(model.vertices, model.jaw, model.hinge, self.jaw_angle(points, pose))
        opened[:, 1] += _UPPER_DOWN + (_LOWER_DOWN - _UPPER_DOWN) * model.jaw
        placed = pose.to_picture(self.scale * opened + self.shift)
        placed[:, :2] -= corner
        side = _FINE * max(box)
        values = np.concatenate([self.colors, np.ones((len(placed), 1))], axis=1)
        fine = rasterize(placed * _FINE, model.triangles, values, side).values
        small = fine.reshape(side // _FINE, _FINE, side // _FINE, _FINE, 4).mean(axis=(1, 3))
        small = small[: box[1], : box[0]]
        return small[..., :3] + (1 - small[..., 3:]) * self.cavity

    def _shaded(
        self,
        color: Float[Array, "p 3"],
        outline: Outline,
        pixels: Float[Array, "p 2"],
        upper: Float[Array, " p"],
        lower: Float[Array, " p"],
    ) -> Float[Array, "p 3"]:
        """Colours under the lips' shadows and in the corners' dark, in the portrait's light."""
        shade = np.ones(len(pixels))
        for distance, (dark, reach) in ((upper, _UPPER_SHADOW), (lower, _LOWER_SHADOW)):
            shade *= 1 - dark * np.exp(-distance / (reach * outline.width))
        along = outline.along(pixels)
        shade *= 1 - _CORNER_SHADOW * smooth_step(np.abs(along), _CORNER_FROM, 1.0)
        right = np.clip((along + 1) / 2, 0, 1)[:, None]
        light = self.light[0] + right * (self.light[1] - self.light[0])
        return (self.cavity + (color - self.cavity) * shade[:, None]) * light
