"""Augmentation of frame pairs: random warps, colours, backgrounds and synthetic motion.

A dozen faces cannot teach a general identity space, so every pair is warped and recoloured, source
and driving alike. Heads hardly move in much footage, so the head of one of the two is often moved
in addition, its background fixed; where both are the same frame, the lips are moved as well, since
real lip motion is too small to be learnt early. The motion encoder's views are recoloured once
more, each on its own, so that the motion cannot encode identity. Blue screens are replaced.
Axes: b batch, c channels, h w space, n k frames.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor

from mien.data.backdrop import Backdrop, matte_of
from mien.data.colors import Recoloring, tone_curve
from mien.data.flow import measure_flow
from mien.data.guides import Grids, Meshes, guide_of_pair
from mien.data.warps import WarpConfig, bent_grid, turned
from mien.ops.warp import identity_grid
from mien.presets import read_preset
from mien.types import FramePair


@dataclass(frozen=True)
class AugmentConfig(WarpConfig):
    """Strength of the augmentation; all zero turns it off. Deviations are standard deviations."""

    color: float = 0.12  # deviation of the colour matrix's entries
    gamma: float = 0.2  # deviation of the log of the gamma
    tone: float = 0.0  # chance that a random curve, rising or falling, changes the brightness
    backdrop: float = 0.85  # chance that a blue screen is replaced by another background
    motion_view: float = 0.03  # colour and gamma of the motion encoder's views, each on its own
    same_frame: float = 0.3  # chance that driving is the source frame itself, head and lips moved
    head_move: float = 0.25  # chance that one frame's head is moved in the other pairs
    head_shift: float = 0.08  # deviation of that move
    head_turn: float = 5.0  # deviation of its rotation, degrees
    head_stretch: float = 0.05  # deviation of the log of its scale
    head_bulge: float = 0.05  # deviation of the extra move of the face's middle (turning, nodding)
    lips_alone: float = 0.5  # chance that the lips of such a pair move and the head does not
    mouth_open: float = 0.4  # deviation of the lips' opening, in half heights of the mouth box
    mouth_widen: float = 0.12  # deviation of the log of the mouth's width
    flow: float = 1.0  # confidence in the optical flow of the other pairs; 0: none is computed

    @classmethod
    def preset(cls, name: str) -> "AugmentConfig":
        """The augmentation of a preset (`mien.presets`)."""
        return read_preset(cls, name, "stage1", "data.init_args.augmentation")


def augment_pair(
    source: Float[Tensor, "3 h w"],
    driving: Float[Tensor, "3 h w"],
    mouth: Float[Tensor, "1 h w"],
    config: AugmentConfig,
    generator: Generator,
    meshes: Meshes | None = None,
    double: Float[Tensor, "n 3 h w"] | None = None,
    neighbours: Float[Tensor, "k 3 h w"] | None = None,
) -> FramePair:
    """Warp and recolour a pair alike; pictures in [-1, 1], `mouth` a weight in [0, 1] on `driving`.
    The pair's displacement is the synthetic motion, or the optical flow; with `meshes` (of both
    frames, in shares of the side) the pair has a guide. `neighbours` are the frames around driving,
    half before and half after it, which the motion encoder sees with it. With `double`, the same
    window of another person who makes the same motion, it sees that instead.
    """
    bent = bent_grid(source.shape[1], source.shape[2], config, generator)
    mattes = None
    if torch.rand(1, generator=generator) < config.backdrop:
        mattes = _mattes(source, driving)
    if mattes is not None:
        source, driving = (torch.cat(p) for p in zip((source, driving), mattes, strict=True))
    same = bool(torch.rand(1, generator=generator) < config.same_frame)
    if same:
        moved = _moved_on_purpose(source, mouth, bent, config, generator)
        meshes = meshes and (meshes[0], meshes[0])
        double = None  # nobody else makes this synthetic motion
    else:
        moved = _two_frames(source, driving, mouth, bent, config, generator)
    mouth = moved.driving[-1:]
    wall = None
    if mattes is not None:
        wall = Backdrop.draw(source.shape[-1], config.color, config.gamma, generator)
        moved = _before_another_wall(moved, wall, config)
    curve = tone_curve(generator) if torch.rand(1, generator=generator) < config.tone else None
    recolor = Recoloring.draw(config.color, config.gamma, generator)

    def colored(frame: Float[Tensor, "_ h w"]) -> Float[Tensor, "3 h w"]:
        return recolor(frame[:3] if curve is None else curve(frame[:3]))

    frames = [colored(frame)[None] for frame in (moved.source, moved.driving)]
    half = 0 if neighbours is None else len(neighbours) // 2
    if double is not None:
        around = [_read(frame, moved.grids[1]) for frame in double]
    elif neighbours is None or same:  # synthetic motion has no neighbouring frames
        around = [frames[1][0]] * (2 * half + 1)
    else:
        others = [colored(_behind_which(f, moved.grids[1], wall)) for f in neighbours]
        around = [*others[:half], frames[1][0], *others[half:]]
    views = [
        torch.stack([view(frame) for frame in seen])
        for seen in ([frames[0][0]], around)
        for view in [Recoloring.draw(config.motion_view, config.motion_view, generator)]
    ]
    return FramePair(
        source=frames[0],
        driving=frames[1],
        motion_view_source=views[0],
        motion_view_driving=views[1][None],
        mouth=mouth[None].clamp(0, 1),
        displacement=moved.displacement[None],
        displacement_confidence=moved.confidence[None],
        pixel_weight=torch.ones_like(mouth)[None],
        # Synthetically opened lips show a plain colour.
        guide=meshes and guide_of_pair(meshes, moved.grids, frames[0][0], inside=not same),
    )


@dataclass(frozen=True)
class _Moved:
    """A pair of frames, the displacement from `driving` to `source`, and the grids of both.

    Channels: RGB, the matte where there is one, and in `driving` the mouth at the end.
    """

    source: Float[Tensor, "_ h w"]
    driving: Float[Tensor, "_ h w"]
    displacement: Float[Tensor, "h w 2"]
    confidence: Float[Tensor, "h w 1"]
    grids: Grids


def _moved_on_purpose(
    source: Float[Tensor, "_ h w"],
    mouth: Float[Tensor, "1 h w"],
    bent: Float[Tensor, "h w 2"],
    config: AugmentConfig,
    generator: Generator,
) -> _Moved:
    """The source and a copy of it with head and lips moved, and that displacement."""
    still = identity_grid(source.shape[1], source.shape[2], like=source)
    lips, inside = _mouth_move(still, _read(mouth, bent), config, generator)
    lips_alone = bool(torch.rand(1, generator=generator) < config.lips_alone) and mouth.any()
    head = _head_move(still, config, generator)
    move = lips if lips_alone else _compose(lips, head)
    grid = _compose(bent, move)
    driving = _read(torch.cat((source, mouth)), grid)
    tone = torch.rand(1, generator=generator) * 0.5 - 0.95  # dark: a colour that the net can guess
    driving[:3] = torch.lerp(driving[:3], tone.expand_as(driving[:3]), _read(inside, move))
    confidence = torch.ones_like(still[..., :1])
    return _Moved(_read(source, bent), driving, move - still, confidence, (bent, grid))


def _two_frames(
    source: Float[Tensor, "_ h w"],
    driving: Float[Tensor, "_ h w"],
    mouth: Float[Tensor, "1 h w"],
    bent: Float[Tensor, "h w 2"],
    config: AugmentConfig,
    generator: Generator,
) -> _Moved:
    """Two frames, the head of one perhaps moved, and their optical flow."""
    still = identity_grid(source.shape[1], source.shape[2], like=source)
    grids = [bent, bent]
    if torch.rand(1, generator=generator) < config.head_move:
        moved = int(torch.randint(2, (1,), generator=generator))
        grids[moved] = _compose(bent, _head_move(still, config, generator))
    pair = _read(source, grids[0]), _read(torch.cat((driving, mouth)), grids[1])
    if not config.flow:
        nothing = torch.zeros_like(still)
        return _Moved(pair[0], pair[1], nothing, nothing[..., :1], (grids[0], grids[1]))
    displacement, confidence = measure_flow(pair[0][:3], pair[1][:3])
    return _Moved(*pair, displacement, config.flow * confidence, (grids[0], grids[1]))


def _mattes(
    source: Float[Tensor, "3 h w"], driving: Float[Tensor, "3 h w"]
) -> tuple[Float[Tensor, "1 h w"], Float[Tensor, "1 h w"]] | None:
    """The mattes of both frames, if both have a blue screen."""
    of_source, of_driving = matte_of(source), matte_of(driving)
    return None if of_source is None or of_driving is None else (of_source, of_driving)


def _behind_which(
    frame: Float[Tensor, "3 h w"], grid: Float[Tensor, "h w 2"], wall: Backdrop | None
) -> Float[Tensor, "3 h w"]:
    """A neighbour of the driving frame, warped like it, with the same background."""
    matte = None if wall is None else matte_of(frame)
    if wall is None or matte is None:
        return _read(frame, grid)
    return wall.behind(_read(torch.cat((frame, matte)), grid))


def _before_another_wall(moved: _Moved, wall: Backdrop, config: AugmentConfig) -> _Moved:
    """The same people, recoloured separately, in front of a static background."""
    frames = [wall.behind(frame) for frame in (moved.source, moved.driving)]
    # Background visible in driving is at the same place in source, unless the person hides it.
    person, hidden = (frame[3, ..., None] > 0.5 for frame in (moved.driving, moved.source))
    displacement = torch.where(person, moved.displacement, 0.0)
    confidence = torch.where(person, moved.confidence, torch.where(hidden, 0.0, config.flow))
    return replace(
        moved, source=frames[0], driving=frames[1], displacement=displacement, confidence=confidence
    )


def _head_move(
    still: Float[Tensor, "h w 2"], config: AugmentConfig, generator: Generator
) -> Float[Tensor, "h w 2"]:
    """The sampling grid of a moved head: a rigid motion and a bulge of the face's middle, fading
    out with the distance.
    """
    shift = config.head_shift * torch.randn(2, generator=generator)
    angle = torch.deg2rad(config.head_turn * torch.randn(1, generator=generator))
    stretch = torch.exp(config.head_stretch * torch.randn(1, generator=generator))
    bulge = config.head_bulge * torch.randn(2, generator=generator)

    # Clips are cropped so that the head fills the middle; its ellipse fades out towards the border.
    radius = (still / torch.tensor([0.75, 0.9])).square().sum(dim=-1, keepdim=True)
    head = torch.exp(-(radius**2))
    rigid = stretch * turned(still, angle) + shift - still
    return still + head * rigid + torch.exp(-4 * radius) * bulge


def _mouth_move(
    still: Float[Tensor, "h w 2"],
    mouth: Float[Tensor, "1 h w"],
    config: AugmentConfig,
    generator: Generator,
) -> tuple[Float[Tensor, "h w 2"], Float[Tensor, "1 h w"]]:
    """The sampling grid of opened (or shut) and widened lips, the jaw following the lower lip; and
    how much of each pixel, before the motion, is the inside of the mouth that opening reveals.

    Without a mouth in the map nothing moves.
    """
    opening = config.mouth_open * torch.randn(1, generator=generator).clamp(-2, 2)
    widening = config.mouth_widen * torch.randn(1, generator=generator)
    total = mouth.sum()
    if total < 1:
        return still, torch.zeros_like(mouth)
    share = (mouth[0] / total)[..., None]
    middle = (share * still).sum(dim=(0, 1))
    # Of an evenly filled box the half side is the deviation times the root of three.
    half = (3 * (share * (still - middle).square()).sum(dim=(0, 1))).sqrt()
    x, y = ((still - middle) / half).split(1, dim=-1)
    # The box contains the mouth wide open, so shut lips meet above its middle.
    y = y + 0.15 + 0.15 * torch.randn(1, generator=generator)

    # Steep between the lips, yet nowhere so steep that the picture folds over.
    slope = opening.abs().clamp_min(0.3) / 0.9
    reach = torch.where(y > 0, torch.exp(-((y / 2.5) ** 2)), 0.3 * torch.exp(-((y / 1.2) ** 2)))
    down = -opening * torch.tanh(y / slope) * reach * torch.exp(-((x / 1.3) ** 2))
    aside = x * (torch.exp(-widening) - 1) * torch.exp(-((x / 1.3) ** 2) - (y / 1.3) ** 2)
    inside = torch.exp(-((y / 0.12) ** 2) - (x / 0.6) ** 4) * (opening / 0.3).clamp(0, 1)
    return still + torch.cat((aside, down), dim=-1) * half, inside[None, ..., 0]


def _compose(
    outer: Float[Tensor, "h w 2"], inner: Float[Tensor, "h w 2"]
) -> Float[Tensor, "h w 2"]:
    """One grid for two warps: `outer` sampled at `inner`."""
    return _read(outer.permute(2, 0, 1), inner, padding_mode="border").permute(1, 2, 0)


def _read(
    picture: Float[Tensor, "c h w"], grid: Float[Tensor, "h w 2"], padding_mode: str = "reflection"
) -> Float[Tensor, "c h w"]:
    return F.grid_sample(picture[None], grid[None], padding_mode=padding_mode, align_corners=False)[
        0
    ]
