"""The presets by name, for Python: `AnimatorConfig.preset("base")` and the like.

A preset's values are defined once, in configs/: those that differ from the defaults of the
dataclasses, which are those of stage1.yaml and stage2.yaml. Neither lightning nor the command line
is needed.
"""

from typing import Literal, TypeVar, cast

from omegaconf import DictConfig, OmegaConf

from mien.config import restore
from mien.errors import UserError
from mien.overlays import join_configs

PRESETS = ("tiny", "small", "base", "base512", "paper")
LOKI_PRESETS = ("small", "small128", "tiny", "latent", "sd21")  # the first is loki.yaml itself
Stage = Literal["stage1", "stage2", "loki"]
Config = TypeVar("Config")


def read_preset(cls: type[Config], name: str, stage: Stage, place: str) -> Config:
    """One frozen config of a preset; `place` is its key in that stage's file, such as
    model.init_args.animator.

    Raises:
        UserError: there is no preset of that name.
    """
    names = LOKI_PRESETS if stage == "loki" else PRESETS
    if name not in names:
        raise UserError(f"no preset {name}: the presets are {', '.join(names)}")
    overlay = f"{name}.yaml"
    if stage == "loki":
        overlay = "loki.yaml" if name == names[0] else f"loki_{name}.yaml"
    joined = OmegaConf.create(join_configs([f"{stage}.yaml", overlay], packaged=True))
    section = cast(DictConfig, OmegaConf.select(cast(DictConfig, joined), place))
    return restore(cls, OmegaConf.to_container(section))  # pyright: ignore[reportArgumentType]
