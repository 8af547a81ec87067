"""Diffusion as functions over `denoise(x, level)`; nothing here knows of sound, faces or nets."""
