"""Synthetic training clips: still portraits animated with known motion."""
