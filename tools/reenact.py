#!/usr/bin/env python
"""python tools/reenact.py driver.mp4 portrait.png [-o out.mp4]: a portrait moves as the driver."""

import sys

from mien.reenactment import main

if __name__ == "__main__":
    sys.exit(main())
