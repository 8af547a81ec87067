#!/usr/bin/env python
"""Measure checkpoints on real clips, or a video: `mien evaluate` from a checkout.

python tools/evaluate.py speech --root CLIPS --manifest FILE [--offsets FILE] [-o DIR]
python tools/evaluate.py cross --root CLIPS --manifest FILE --portraits PICTURE ... [-o DIR]
python tools/evaluate.py reenact --root CLIPS --manifest FILE [--stride N] [-o DIR]
python tools/evaluate.py follow --root CLIPS --manifest FILE [--system NAME ...] [-o DIR]
python tools/evaluate.py sync VIDEO [AUDIO] [-o DIR]
"""

import sys

from mien.evaluation.command import main

if __name__ == "__main__":
    sys.exit(main())
