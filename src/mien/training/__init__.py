"""Losses and the Lightning shells around the two nets."""
