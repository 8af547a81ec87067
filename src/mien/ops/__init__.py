"""Tensors in, tensors out: scans, convolutions and warps without state or config."""
