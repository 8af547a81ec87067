"""Compiles a tiny animator with a guide and prints, as JSON, how its frames differ from torch's."""

import json

import torch
import torch._dynamo.utils

from mien.engines import choose_engine
from mien.engines.example import example
from tests.engines.speaking import FRAMES, guides
from tests.portrait.tiny import awake, tiny_animator


def main() -> None:
    """A whole chunk and a part of a second one, then some frames alone."""
    torch.set_num_threads(1)
    animator = awake(tiny_animator(temporal_kernel=1, guide=True)).eval()
    with torch.inference_mode():
        source, motion, guide = example(animator, FRAMES)
        assert guide is not None
        render = choose_engine(animator, forced="compile").render
        frames = render(source, motion, guide)
        some = slice(3, 6)
        drawn = render(source, motion, guides(guide, some), some)
        expected = animator.render_prepared(source, motion, guide)
    found = {
        "compiled": torch._dynamo.utils.counters["stats"]["unique_graphs"],
        "frames": frames.shape,
        "error": (frames - expected).abs().max().item(),
        "drawn": drawn.shape,
        "drawn_error": (drawn - frames[:, some]).abs().max().item(),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
