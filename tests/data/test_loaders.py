"""Workers that read clips never hang: forked beside libraries that run threads, or spawned."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from mien.data.drawn import write_clips

CODE = """
    import mien
    import cv2, numpy as np
    from pathlib import Path
    from types import SimpleNamespace
    import torch
    from mien.data.augment import AugmentConfig
    from mien.data.clips import ClipCache
    from mien.data.datasets import FramePairs, collate_pairs
    from mien.data.records import read_records
    from mien.media import read_video

    def main():
        from mien.data.loading import endless  # here: workers that are spawned need no lightning

        root = Path({root!r})
        records = read_records(root, Path("train.jsonl"))
        # Threads in the parent: of OpenCV, of torch, and of FFmpeg's decoder.
        cv2.setNumThreads(4)
        for _ in range(3):
            cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.uint8), (0, 0), 9)
        torch.set_num_threads(4)
        torch.rand(500, 500) @ torch.rand(500, 500)
        read_video(root / records[0].path)
        pairs = FramePairs(records, ClipCache(root, 64, 10**8), AugmentConfig(), 0.0, 0)
        strategy = SimpleNamespace(root_device=torch.device("cpu"))
        trainer = SimpleNamespace(global_step=0, global_rank=0, world_size=1, strategy=strategy)
        for start in range({starts}):
            batches = endless(pairs, 1, {workers}, trainer, collate_pairs, 1, {method!r})
            next(iter(batches))
        print("read", {starts})

    if __name__ == "__main__":
        main()
"""


@pytest.mark.real_world("loaders")
@pytest.mark.parametrize("method, workers, starts", [("fork", 8, 50), ("spawn", 2, 1)])
def test_workers_never_hang(
    method: str, workers: int, starts: int, tmp_path: Path, pytestconfig: pytest.Config
):
    write_clips(tmp_path, "train", people=2, clips=1, frames=12, size=64, seed=0)
    if not pytestconfig.getoption("--table"):
        starts, workers = min(starts, 2), min(workers, 4)
    script = tmp_path / "script.py"
    given = {"root": str(tmp_path), "method": method, "workers": workers, "starts": starts}
    script.write_text(textwrap.dedent(CODE).format(**given))
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == f"read {starts}"
