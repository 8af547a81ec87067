"""Clips on disk -> batches."""
