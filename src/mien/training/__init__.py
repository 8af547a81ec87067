"""Losses and the Lightning modules of the two stages."""
