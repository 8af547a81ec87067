#!/usr/bin/env python
"""python tools/infer.py audio.wav portrait.png [-o out.mp4]: the portrait says the audio."""

import sys

from mien.infer import main

if __name__ == "__main__":
    sys.exit(main())
