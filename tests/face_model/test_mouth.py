"""The inside of the mouth: what stays, what moves, where it is drawn and in which light."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mien.face_model.mouth import MouthInterior
from mien.face_model.mouth_model import MOUTH_MODEL, TOOTH, mouth_model, turned
from mien.face_model.outline import Outline
from mien.mesh.alignment import head_pose
from mien.mesh.motion import MeshMotion
from mien.mesh.retarget import PortraitMesh, retargeted_guides
from mien.mesh.topology import INNER, LIP_RINGS, Points, mean_face

SIZE = 192
LIGHT_SKIN = (200, 152, 128)


def face(gap: float = 0.0, upper: float = 0.35) -> Points:
    """The mean face in the picture, its lips apart by `gap` eye distances."""
    head = mean_face().copy()
    for ring, share in zip(LIP_RINGS, (0.5, 0.8, 1.0, 1.0), strict=True):
        for i in range(1, 10):
            wanted = gap * np.sin(np.pi * i / 10)
            now = head[INNER[20 - i], 1] - head[INNER[i], 1] if ring is INNER else 0.0
            head[ring[i], 1] -= upper * (share * wanted - now)
            head[ring[20 - i], 1] += (1 - upper) * (share * wanted - now)
    head[[18, 200, 152], 1] += (1 - upper) * gap
    return head * 60 + np.array([SIZE / 2, SIZE * 0.4, 0.0])


def mouth_of(
    skin: tuple[int, int, int] = LIGHT_SKIN, points: Points | None = None
) -> MouthInterior:
    picture = np.full((SIZE, SIZE, 3), skin, np.uint8)
    return MouthInterior.of(PortraitMesh.of(face() if points is None else points), picture)


def composed(drawn: np.ndarray) -> np.ndarray:
    return drawn[:3] * drawn[3]


def test_upper_teeth_stay_when_only_the_jaw_opens():
    mouth, model = mouth_of(), mouth_model()
    lipless = replace(mouth, neutral=PortraitMesh.of(face()).neutral)
    small, wide = face(0.15, upper=0), face(0.3, upper=0)
    angles = [lipless.jaw_angle(p, head_pose(p)) for p in (small, wide)]
    assert angles[1] > 1.5 * angles[0] > 0
    drawn = [mouth.draw(p, SIZE) for p in (small, wide)]
    # Rows of the upper incisors, which both mouths show, between the canines.
    pose = head_pose(small)
    upper = model.vertices[(model.part == TOOTH) & (model.jaw == 0)]
    front = pose.to_picture(mouth.scale * upper[np.abs(upper[:, 0]) < 0.1] + mouth.shift)
    lips = small[13]
    rows = slice(int(lips[1]) + 1, int(front[:, 1].max()))
    columns = slice(int(lips[0]) - 4, int(lips[0]) + 4)
    assert rows.stop > rows.start
    a, b = (d[:3, rows, columns] for d in drawn)
    assert np.abs(a - b).mean() < 0.06
    # Lower teeth have moved: vertices of the jaw, by the model's own turn.
    turn = [turned(model.vertices, model.jaw, model.hinge, angle) for angle in angles]
    assert np.array_equal(turn[0][model.jaw == 0], turn[1][model.jaw == 0])
    lower = model.jaw == 1
    assert (turn[1][lower] - turn[0][lower])[:, 1].max() > 0.1


@pytest.mark.parametrize("gap", [0.1, 0.3])
def test_nothing_is_drawn_outside_the_inner_lips(gap: float):
    points = face(gap)
    drawn = mouth_of().draw(points, SIZE)
    outline = Outline.of(points, head_pose(points))
    across, down = np.meshgrid(np.arange(SIZE) + 0.5, np.arange(SIZE) + 0.5)
    upper, lower, inside = outline.distances(np.stack([across.ravel(), down.ravel()], axis=1))
    assert (drawn[3].ravel()[~inside] == 0).all()
    deep = inside & (np.minimum(upper, lower) > 1)
    assert deep.any() and (drawn[3].ravel()[deep] == 1).all()


def test_the_outline_knows_inside_from_outside():
    points = face(0.3)
    outline = Outline.of(points, head_pose(points))
    middle = outline.middle
    _, _, inside = outline.distances(np.stack([middle, middle + (0, 30), middle - (60, 0)]))
    assert inside.tolist() == [True, False, False]


@pytest.mark.parametrize("gap", [0.0, -0.05, 0.005])
def test_closed_lips_draw_nothing(gap: float):
    assert not mouth_of().draw(face(gap), SIZE).any()


def test_a_small_step_changes_the_picture_by_little():
    mouth = mouth_of()
    for gap in np.arange(0.0, 0.35, 0.02):
        a, b = (composed(mouth.draw(face(g), SIZE)) for g in (gap, gap + 1e-4))
        assert np.abs(a - b).max() < 0.25
        assert np.abs(a - b).sum() < 0.02 * max(1000, np.abs(a).sum())
    same = mouth.draw(face(0.2), SIZE)
    assert np.array_equal(same, mouth.draw(face(0.2), SIZE))


def test_a_darker_portrait_has_darker_teeth():
    drawn = [mouth_of(skin).draw(face(0.25), SIZE) for skin in (LIGHT_SKIN, (90, 68, 57))]
    light, dark = ((d[:3] + 1)[:, d[3] > 0.9] for d in drawn)
    assert dark.max() < 0.6 * light.max()


def test_a_grey_portrait_has_no_colour_in_its_mouth():
    drawn = mouth_of((150, 150, 150)).draw(face(0.25), SIZE)
    inside = drawn[:3, drawn[3] > 0.9]
    assert np.ptp(inside, axis=0).max() < 0.02


def test_teeth_are_in_proportion_to_the_mouth():
    wide = mean_face().copy()
    lips = list(sum(LIP_RINGS, ()))
    wide[lips, 0] *= 1.1
    normal, wider = mouth_of(), mouth_of(points=wide * 60 + np.array([SIZE / 2, SIZE * 0.4, 0]))
    # A smile is relaxed in part when the face is made neutral; the rest is this face's own width.
    assert 1.01 * normal.scale < wider.scale < 1.1 * normal.scale


def test_a_mouth_opened_in_the_portrait_keeps_its_own_pixels_near_its_own_gap():
    mouth = mouth_of(points=face(0.15))
    assert mouth.own_gap > 0.1
    own, wide = (mouth.draw(face(gap), SIZE)[3].max() for gap in (0.15, 0.35))
    assert own == 0 and wide == 1


def test_a_head_out_of_the_picture_draws_nothing():
    far = face(0.3) + np.array([5 * SIZE, 0, 0])
    assert not mouth_of().draw(far, SIZE).any()
    at_the_edge = face(0.3) + np.array([SIZE / 2, 0, 0])
    assert mouth_of().draw(at_the_edge, SIZE)[3].any()


def test_guides_carry_the_interior():
    portrait = PortraitMesh.of(face())
    offsets = np.stack([np.zeros((468, 3)), (face(0.25) - face()) / 60])
    motion = MeshMotion(offsets, np.zeros((2, 3)), np.zeros((2, 2)), np.zeros(2))
    alphas = retargeted_guides(portrait, motion, SIZE, mouth_of()).interior[:, 3]
    assert not alphas[0].any() and alphas[1].max() == 1
    assert not retargeted_guides(portrait, motion, SIZE).interior.any()
    assert alphas.dtype == torch.float32


def test_the_asset_is_small_and_carries_its_licence():
    assert MOUTH_MODEL.stat().st_size <= 1.5e6
    licence = MOUTH_MODEL.with_name("mouth_model.LICENSE.txt").read_text(encoding="utf-8")
    assert "MIT License" in licence and "USC Institute for Creative Technologies" in licence
    notice = (Path(__file__).parents[2] / "NOTICE").read_text(encoding="utf-8")
    assert MOUTH_MODEL.name in notice
