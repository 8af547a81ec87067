"""Datasets of Loki: windows of a clip, a reference frame of the same clip, and their face maps.

Identity comes from the same clip alone: no cross-identity data. A training sample is a pure
function of (seed, sample number), as in stage 1.
Axes: t frames, n frames of the window and the reference, h w space, s side of the maps, k values.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Float16
from torch import Generator, Tensor
from torch.utils.data import Dataset

from mien.data.backdrop import Backdrop, matte_of
from mien.data.clips import ClipCache, to_picture
from mien.data.colors import Recoloring
from mien.data.datasets import People, draw, sample_generator
from mien.data.faces import FaceCache, face_model
from mien.data.manifest import ClipRecord
from mien.data.warps import WarpConfig, bent_grid
from mien.face_model.coefficients import FaceCoefficients
from mien.face_model.maps import Positions
from mien.loki.faces import coefficient_vectors, face_maps, mirrored_vectors
from mien.ops.warp import identity_grid
from mien.types import FaceWindow


@dataclass(frozen=True)
class WindowAugmentConfig(WarpConfig):
    """Strength of the augmentation of a window, its reference and their maps, all alike; all zero
    turns it off. Deviations are standard deviations.
    """

    bend: float = 0.04
    stretch: float = 0.06
    turn: float = 3.0
    color: float = 0.15  # deviation of the colour matrix's entries
    gamma: float = 0.2  # deviation of the log of the gamma
    backdrop: float = 0.85  # chance that a blue screen is replaced by another background


class ClipFaces:
    """The faces of clips as maps and values. Drawing takes longer than decoding, so drawn maps are
    kept, in the 16 bits that `face_maps` rounds to, the least recently used evicted first.

    Args:
        faces: the fitted coefficients.
        size: side of the maps.
        positions: of the maps.
        capacity: bytes of maps that are kept.
    """

    def __init__(
        self, faces: FaceCache, size: int, positions: Positions, capacity: int = 0
    ) -> None:
        self.faces, self.size, self.capacity = faces, size, capacity
        self.positions: Positions = positions
        self._maps: OrderedDict[tuple[str, int], Float16[Tensor, "7 h w"]] = OrderedDict()

    def of(self, record: ClipRecord) -> FaceCoefficients:
        """The coefficients of a clip that shows a face."""
        found = self.faces.read(record)
        if found is None:
            raise ValueError(f"{record.path} shows no face")
        return found

    def maps(self, record: ClipRecord, rows: Sequence[int]) -> Float[Tensor, "n 7 h w"]:
        """The maps of some rows of a clip's coefficients."""
        for row in rows:
            # One at a time: products of matrices differ in their last bits by the number of rows,
            # and a map must not depend on which others are in the cache.
            if (record.path, row) not in self._maps:
                known = self.of(record).at(np.array([row]))
                drawn = face_maps(face_model(), known, self.size, self.positions)
                self._maps[record.path, row] = drawn[0].half()
        shown = torch.stack([self._maps[record.path, row] for row in rows]).float()
        for row in rows:
            self._maps.move_to_end((record.path, row))
        while self._maps and len(self._maps) * 2 * shown[0].numel() > self.capacity:
            self._maps.popitem(last=False)
        return shown


class FaceWindows(Dataset[FaceWindow]):
    """Unlimited windows: sample `index` is a person, one of their clips, `length` frames of it at a
    random stride, and a random frame of it as the reference.
    """

    def __init__(
        self,
        records: Sequence[ClipRecord],
        clips: ClipCache,
        faces: ClipFaces,
        length: int,
        stride: int,
        augmentation: WindowAugmentConfig,
        balance: float,
        seed: int,
    ) -> None:
        self.people, self.clips, self.faces = People(records, balance), clips, faces
        self.length, self.stride = length, stride
        self.augmentation, self.seed = augmentation, seed

    def __getitem__(self, index: int) -> FaceWindow:
        generator = sample_generator(self.seed, index)
        record = self.people.draw_clip(generator)
        count = len(self.faces.of(record))
        most = min(self.stride, (count - 1) // max(1, self.length - 1))
        step = 1 + draw(most, generator)
        first = draw(count - step * (self.length - 1), generator)
        rows = [first + step * i for i in range(self.length)]
        rows.append(draw(count, generator))
        shown = _shown(record, rows, self.clips, self.faces)
        projected = self.faces.positions == "projected"
        return augment_window(*shown, projected, self.augmentation, generator)


class FixedWindows(Dataset[FaceWindow]):
    """Validation windows without augmentation: evenly spaced in a clip whose first frame with a
    face is the reference.
    """

    def __init__(
        self,
        records: Sequence[ClipRecord],
        clips: ClipCache,
        faces: ClipFaces,
        length: int,
        windows_per_clip: int,
    ) -> None:
        self.records, self.clips, self.faces = records, clips, faces
        self.length, self.windows_per_clip = length, windows_per_clip

    def __len__(self) -> int:
        return len(self.records) * self.windows_per_clip

    def __getitem__(self, index: int) -> FaceWindow:
        record = self.records[index // self.windows_per_clip]
        part = (index % self.windows_per_clip + 1) / self.windows_per_clip
        first = round(part * (len(self.faces.of(record)) - self.length))
        rows = [*range(first, first + self.length), 0]
        return as_window(*_shown(record, rows, self.clips, self.faces))


def collate_windows(windows: Sequence[FaceWindow]) -> FaceWindow:
    """Join windows along the batch axis."""
    names = [f.name for f in fields(FaceWindow)]
    return FaceWindow(**{name: torch.cat([getattr(w, name) for w in windows]) for name in names})


def as_window(
    pictures: Float[Tensor, "n 3 h w"], maps: Float[Tensor, "n 7 s s"], values: Float[Tensor, "n k"]
) -> FaceWindow:
    """A batch of one; the last frame is the reference."""
    return FaceWindow(
        pictures[None, :-1],
        pictures[-1:],
        maps[None, :-1],
        maps[-1:],
        values[None, :-1],
        values[-1:],
    )


def augment_window(
    pictures: Float[Tensor, "n 3 h w"],
    maps: Float[Tensor, "n 7 s s"],
    values: Float[Tensor, "n k"],
    projected: bool,
    config: WindowAugmentConfig,
    generator: Generator,
) -> FaceWindow:
    """Warp and recolour all frames alike, with their maps; blue screens are replaced.

    A warped map of `projected` positions says of every pixel where it is now: x and y are the
    pixel's own; other positions go with the picture. Values of the net without a map know nothing
    of the warp but the mirror image.
    """
    size = pictures.shape[-1]
    grid = bent_grid(size, size, config, generator)
    recolor = Recoloring.draw(config.color, config.gamma, generator)
    mattes = [matte_of(picture) for picture in pictures]
    wall = None
    if all(matte is not None for matte in mattes) and _chance(config.backdrop, generator):
        wall = Backdrop.draw(size, config.color, config.gamma, generator)
        pictures = torch.cat((pictures, torch.stack([m for m in mattes if m is not None])), dim=1)
    grids = grid.expand(len(pictures), -1, -1, -1)
    warped = F.grid_sample(pictures, grids, padding_mode="reflection", align_corners=False)
    shown = torch.stack([recolor(p) if wall is None else wall.behind(p) for p in warped])

    mirrored = bool(grid[0, 0, 0] > grid[0, -1, 0])
    if mirrored:
        values = mirrored_vectors(values, face_model().expression_names)
    return as_window(shown, _warped_maps(maps, grid, projected, mirrored), values)


def _warped_maps(
    maps: Float[Tensor, "n 7 s s"],
    grid: Float[Tensor, "h w 2"],
    projected: bool,
    mirrored: bool,
) -> Float[Tensor, "n 7 s s"]:
    """The maps, which may be smaller than the pictures that `grid` is of."""
    of_maps = F.interpolate(rearrange(grid, "h w p -> 1 p h w"), maps.shape[2:], mode="bilinear")
    grids = rearrange(of_maps, "1 p h w -> 1 h w p").expand(len(maps), -1, -1, -1)
    read = F.grid_sample(maps, grids, align_corners=False)
    covered = (read[:, 6:] > 0.5).float()
    read = read / read[:, 6:].clamp(min=0.5) * covered  # off the mesh maps are zero
    if mirrored:
        read = read * torch.tensor([-1.0, 1, 1, -1, 1, 1, 1])[:, None, None]
    if projected:
        read[:, :2] = identity_grid(*maps.shape[2:], like=maps).permute(2, 0, 1) * covered
    return torch.cat((read[:, :6], covered), dim=1)


def _chance(share: float, generator: Generator) -> bool:
    return bool(torch.rand((), generator=generator) < share)


def _shown(
    record: ClipRecord, rows: Sequence[int], clips: ClipCache, faces: ClipFaces
) -> tuple[Float[Tensor, "n 3 h w"], Float[Tensor, "n 7 s s"], Float[Tensor, "n k"]]:
    """Pictures, maps and values of some rows of a clip's coefficients."""
    known = faces.of(record).at(np.array(rows))
    pictures = to_picture(clips.frames_at(record, known.frames.tolist()))
    return pictures, faces.maps(record, rows), coefficient_vectors(known)
