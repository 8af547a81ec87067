"""A driving video: face tracking through all frames, and transfer of its motion to a portrait.

Two passes over the video: the first tracks the face, which determines the crop and the frame at
rest; the second encodes motion, a few frames at a time. Frames are never all in memory.
Axes: t video frames, h w space, m implicit motion, n motion dimensions.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mien.data.meshes import SURE, ClipMeshes, face_mesh, mesh_motion
from mien.errors import UserError
from mien.face import Box, FaceMesh, Landmarks, Picture, crop, face_box, framed_clip
from mien.face.geometry import common, overlap
from mien.media import Frames, pictures_on_grid
from mien.mesh.alignment import HeadPose, head_pose
from mien.mesh.guide import guide_between, join_guides, no_guide, to_device
from mien.mesh.motion import MESH_DIM, POSE_DIM
from mien.mesh.neutral import middle_gap
from mien.motion.controls import Controls
from mien.motion.finishing import Windows
from mien.portrait.animator import Animator
from mien.portrait.motion_encoder import MOTION_DIM
from mien.portrait.streaming import FRAMES_AT_ONCE, GuideOf
from mien.session.guiding import guides_for, with_mesh_at_rest
from mien.session.portrait import Portrait
from mien.types import Framing, Guide, Transfer

_NEAR = 0.5  # face sizes: grid step of the enlarged region in which a small face is detected again
_OFTEN = 0.5  # share of the frames without a face above which the user is warned


@dataclass(frozen=True)
class Driver:
    """A driving video. `chunks` starts a pass over its cropped frames, in [-1, 1]; `meshes` are the
    face's landmarks relative to the crop's side; `rest` is the frame with the smallest lip gap.
    """

    chunks: Callable[[], Iterator[Float[Tensor, "_ 3 h w"]]]
    meshes: ClipMeshes
    rest: int
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.meshes.found)

    def rest_frame(self) -> Float[Tensor, "1 3 h w"]:
        """The driver at rest, cropped."""
        before = 0
        for chunk in self.chunks():
            if self.rest < before + len(chunk):
                return chunk[self.rest - before, None]
            before += len(chunk)
        raise UserError("the driving video became shorter while it was read: leave it as it is")


def load_driver(video: Path | str | Frames, size: int, framing: Framing = "face") -> Driver:
    """Track the face of a video, or of frames of 25 a second, and crop it to `size` pixels as
    clips are for training.

    A video of any rate is read by its time stamps (`pictures_on_grid`). Of several faces the one
    that is largest in the first frame with a face is tracked.

    Raises:
        UserError: it cannot be read, or no frame shows a face.
    """
    name = str(video) if isinstance(video, Path | str) else "the driving video"

    def pictures() -> Iterator[Picture]:
        return pictures_on_grid(Path(video)) if isinstance(video, Path | str) else iter(video)

    tracked = list(_track(face_mesh(), pictures()))
    found = np.array([confidence >= SURE for _, _, confidence in tracked])
    if not found.any():
        raise UserError(f"no face found in {name}: take a video that shows one from the front")
    points = np.stack([points for _, points, _ in tracked])
    boxes = np.array([face_box(landmarks) for landmarks in points[found]])
    height, width = tracked[0][0]
    square = framed_clip(boxes, framing, width, height)
    side = square[2] - square[0]
    shares = (points - (square[0], square[1], 0.0)) / side
    meshes = ClipMeshes(torch.from_numpy(shares).float(), torch.from_numpy(found))
    lost = 1 - float(found.mean())
    notes = (f"{lost:.0%} of the frames of {name} show no face",) if lost > _OFTEN else ()

    def chunks() -> Iterator[Float[Tensor, "_ 3 h w"]]:
        held: list[Tensor] = []
        for picture in pictures():
            held.append(crop(picture, square, size))
            if len(held) == FRAMES_AT_ONCE:
                yield torch.cat(held)
                held = []
        if held:
            yield torch.cat(held)

    return Driver(chunks, meshes, rest_frame_index(meshes), notes)


def rest_frame_index(meshes: ClipMeshes) -> int:
    """The frame with the smallest lip gap, of those that show a face."""
    where = np.flatnonzero(meshes.found.numpy())
    points = meshes.points.double().numpy()[where]
    heads = np.stack([head_pose(p).to_head(p) for p in points])
    return int(where[int(np.argmin(middle_gap(heads)))])


def driven_motion(
    animator: Animator,
    portrait: Portrait,
    driver: Driver,
    transfer: Transfer,
    controls: Controls | None = None,
) -> tuple[Windows, GuideOf]:
    """The portrait's motion, a few frames at a time, and the function that makes guides of it.

    Motion is implicit motion, mesh motion where the animator is guided, and one more value per
    frame, which only guides use.

    Raises:
        UserError: `controls` scale motion of `same_person`, which is not scaled.
    """
    scales = controls or Controls()
    refuse_scales(animator, transfer, scales)
    if transfer == "same_person":
        indices = torch.arange(len(driver), dtype=torch.float32)[:, None]
        motion = _with_values(_implicit_motion(animator, portrait, driver), indices)
        return motion, _own_guides(portrait, driver.meshes)
    at_rest = portrait.motion
    motion = _implicit_motion(animator, portrait, driver, relative=transfer == "relative")
    blocks: tuple[int, ...] = (MOTION_DIM,)
    if animator.config.guide:
        still = _share_pose(portrait) if transfer == "absolute" else None
        motion = _with_values(motion, mesh_motion(driver.meshes, still))
        at_rest, blocks = with_mesh_at_rest(at_rest), (MOTION_DIM, MESH_DIM - POSE_DIM, POSE_DIM)
    if (scales.expression_scale, scales.pose_scale) != (1, 1):
        motion = scales.apply(motion, at_rest, blocks)
    no_blink = torch.zeros(len(driver), 1)
    return _with_values(motion, no_blink), guides_for(portrait)


def refuse_scales(animator: Animator, transfer: Transfer, scales: Controls) -> None:
    """Refuse scales that a transfer or an animator cannot follow, before any work.

    Raises:
        UserError: motion is to be scaled that is taken as it is, or expression and pose apart
            without a mesh that tells them apart.
    """
    if transfer == "same_person" and (scales.expression_scale, scales.pose_scale) != (1, 1):
        raise UserError("same_person does not scale motion: use relative or absolute to scale it")
    if not animator.config.guide and scales.expression_scale != scales.pose_scale:
        raise UserError(
            "this animator has no guide, so expression and pose cannot be scaled separately: "
            "give both scales the same value"
        )


def _implicit_motion(
    animator: Animator, portrait: Portrait, driver: Driver, relative: bool = False
) -> Windows:
    """M_D of the driver's frames; `relative`: the portrait's own plus the difference from rest."""
    device, away = portrait.motion.device, 0.0
    if relative:
        away = portrait.motion - animator.encode_motion(driver.rest_frame().to(device)).float()
    for chunk in driver.chunks():
        yield (animator.encode_motion(chunk.to(device)).float() + away)[None]


def _with_values(motion: Windows, values: Float[Tensor, "t k"]) -> Windows:
    """Each frame's motion followed by its values."""
    start = 0
    for window in motion:
        end = start + window.shape[1]
        yield torch.cat((window, values[None, start:end].to(window)), dim=2)
        start = end


def _own_guides(portrait: Portrait, meshes: ClipMeshes) -> GuideOf:
    """Guides from the frames' own landmarks, where portrait and driver are one person; the frame's
    index follows the motion.
    """
    size, face = portrait.source.shape[-1], portrait.face
    moved = meshes.points.double().numpy() * size

    def guide(t: int) -> Guide:
        if face is None or not meshes.found[t]:
            return no_guide(size)
        inside = face.mouth.draw(moved[t], size)
        return guide_between(face.mesh.points, moved[t], size, inside, face.scene)

    def guide_of(motion: Float[Tensor, "1 t k"]) -> Guide | None:
        if face is None:
            return None
        made = [guide(int(t)) for t in motion[0, :, -1].tolist()]
        return to_device(join_guides(made), motion.device)

    return guide_of


def _share_pose(portrait: Portrait) -> HeadPose | None:
    """The portrait's head pose, relative to the picture's side."""
    if portrait.face is None:
        return None
    return head_pose(portrait.face.mesh.points / portrait.source.shape[-1])


def _track(
    mesh: FaceMesh, pictures: Iterator[Picture]
) -> Iterator[tuple[tuple[int, int], Landmarks, float]]:
    """Height and width of every picture, the landmarks of one face in it (pixels), and their
    confidence; where there is no face, the previous landmarks with confidence 0.
    """
    last: Box | None = None
    points = np.zeros((468, 3), np.float32)
    for picture in pictures:
        detected = _detect(mesh, picture, last)
        points, confidence = detected or (points, 0.0)
        last = face_box(points) if confidence >= SURE else last
        yield (picture.shape[0], picture.shape[1]), points, confidence


def _detect(mesh: FaceMesh, picture: Picture, last: Box | None) -> tuple[Landmarks, float] | None:
    """The face at the last place; at first the largest one. None where there is none."""
    if last is None:
        faces = mesh.faces(picture) or mesh.small_faces(picture)
        return mesh.landmarks(picture, faces[0]) if faces else None
    # A person who is lost for a while is sought near the last place: another one is not followed.
    faces = [face for face in mesh.faces(picture) if common(face.box, last) > 0]
    if faces:
        return mesh.landmarks(picture, max(faces, key=lambda face: overlap(face.box, last)))
    # Small in the picture, so it is enlarged; on a coarse grid, so that a still face does not
    # jitter.
    size = max(last[2] - last[0], last[3] - last[1])
    near, step = (last[0] - size, last[1] - size, last[2] + size, last[3] + size), _NEAR * size
    left, top = (max(0, round(edge // step * step)) for edge in near[:2])
    right, bottom = (round((edge // step + 1) * step) for edge in near[2:])
    part = np.ascontiguousarray(picture[top:bottom, left:right])
    if not part.size or not (faces := mesh.faces(part)):
        return None
    there = last[0] - left, last[1] - top, last[2] - left, last[3] - top
    points, confidence = mesh.landmarks(part, min(faces, key=lambda f: _distance(f.box, there)))
    return points + np.array([left, top, 0], np.float32), confidence


def _distance(a: Box, b: Box) -> float:
    """Between the middles of two boxes, in pixels."""
    return float(np.hypot(a[0] + a[2] - b[0] - b[2], a[1] + a[3] - b[1] - b[3])) / 2
