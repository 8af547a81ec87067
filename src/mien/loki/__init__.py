"""Loki (arXiv 2605.24176): a parametric face draws the map, a diffusion model paints the person."""
