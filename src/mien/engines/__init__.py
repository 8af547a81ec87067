"""Engines: what renders frames of an animator. torch always works; others are chosen by name, or
where they are installed and faster.
"""

from mien.engines.choice import RENDERING, Engine, choose_engine, converted, refusal, slower

__all__ = ["RENDERING", "Engine", "choose_engine", "converted", "refusal", "slower"]
