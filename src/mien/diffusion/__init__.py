"""Diffusion as functions over `denoise(x, level)`; independent of audio, faces and nets."""
