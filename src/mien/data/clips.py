"""A cache of decoded clips in memory.

Axes: t video frames, h w space.
"""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from mien.data.manifest import ClipRecord
from mien.data.store import Store
from mien.media import read_frames_at, read_video


def to_picture(frames: UInt8[Tensor, "t h w 3"]) -> Float[Tensor, "t 3 h w"]:
    """Stored bytes to RGB in [-1, 1]."""
    return rearrange(frames, "t h w c -> t c h w").float() / 127.5 - 1


class ClipCache:
    """Decoded clips at one size as bytes, the least recently used evicted first.

    Args:
        root: where the clips are.
        image_size: side of the frames in pixels.
        capacity: bytes of frames that are kept (the latest clip is always kept).
    """

    def __init__(self, root: Path | Store, image_size: int, capacity: int) -> None:
        self.store, self.image_size, self.capacity = Store(root), image_size, capacity
        self._clips: OrderedDict[str, UInt8[Tensor, "t h w 3"]] = OrderedDict()
        self._bytes = 0
        self._asked: OrderedDict[str, int] = OrderedDict()  # recently requested, not cached; bytes
        self._bytes_asked = 0

    def frames(self, record: ClipRecord) -> UInt8[Tensor, "t h w 3"]:
        """All frames of the clip, scaled to image_size."""
        if record.path not in self._clips:
            clip = self._clips[record.path] = self._read(record)
            self._bytes += clip.nbytes
            while self._bytes > self.capacity and len(self._clips) > 1:
                self._bytes -= self._clips.popitem(last=False)[1].nbytes
        self._clips.move_to_end(record.path)
        return self._clips[record.path]

    def frames_at(self, record: ClipRecord, numbers: Sequence[int]) -> UInt8[Tensor, "_ h w 3"]:
        """Some frames of the clip. The whole clip is decoded and cached only if it was requested so
        recently that it would still be in the cache; otherwise only these frames are decoded, in a
        fifth of the time: a set larger than the cache is read at the speed of seeking.
        """
        if record.path in self._clips or self._asked_lately(record):
            return self.frames(record)[list(numbers)]
        with self.store.file(record.path) as path:
            return torch.from_numpy(read_frames_at(path, numbers, self.image_size))

    def _asked_lately(self, record: ClipRecord) -> bool:
        """Was this clip requested so recently that the cache would still hold it? If not, note the
        request.
        """
        if record.path in self._asked:
            self._bytes_asked -= self._asked.pop(record.path)
            return True
        size = record.frames * self.image_size**2 * 3
        if size <= self.capacity:
            self._asked[record.path] = size
            self._bytes_asked += size
            while self._bytes_asked > self.capacity:
                self._bytes_asked -= self._asked.popitem(last=False)[1]
        return False

    def _read(self, record: ClipRecord) -> UInt8[Tensor, "t h w 3"]:
        with self.store.file(record.path) as path:
            return torch.from_numpy(read_video(path, self.image_size))
