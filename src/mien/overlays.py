"""Where config files are found, and how they are merged.

`--config stage1.yaml --config tiny.yaml` merges the second file over the first. An overlay for both
stages has the keys that they share at the top and, below `stage1:` and `stage2:`, those of one of
them (`loki:` those of Loki); the other sections are dropped. `model.class_path` determines the
stage. A file with `over: base.yaml` is merged over that file, wherever it is used.
"""

import sysconfig
from pathlib import Path
from typing import cast

from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from mien.errors import UserError


def shared_folder(name: str) -> Path:
    """A folder that comes with the package: in the checkout, or as installed."""
    checkout = Path(__file__).parents[2] / name
    installed = Path(sysconfig.get_path("data"), "share", "mien", name)
    return checkout if checkout.is_dir() else installed


FOLDER = shared_folder("configs")

SECTIONS = {
    "mien.training.stage1.ReconstructionStage": "stage1",
    "mien.training.stage2.DiffusionStage": "stage2",
    "mien.training.loki.LokiStage": "loki",
}


def find_config(name: str, packaged: bool = False) -> Path:
    """The file of that name; a bare name that is not in the working directory may be in configs/.
    `packaged` looks in configs/ alone.

    Raises:
        UserError: it is in neither place.
    """
    given = Path(name)
    if given.is_file() and not packaged:
        return given
    if given.parent == Path() and (FOLDER / given).is_file():
        return FOLDER / given
    raise UserError(f"no config {name} in the working directory, and none of that name in {FOLDER}")


def read_config(path: Path) -> DictConfig:
    """One file, without merging.

    Raises:
        UserError: it is not a YAML mapping.
    """
    try:
        config = OmegaConf.load(path)
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(config, DictConfig):
        raise UserError(f"{path} is not a config: it has no keys")
    return config


def read_stack(name: str, packaged: bool = False) -> list[tuple[str, DictConfig]]:
    """A file, preceded by the files that its `over` key names."""
    config = read_config(find_config(name, packaged))
    under = config.pop("over", None)
    return [*(read_stack(under, packaged) if under else []), (name, config)]


def _refuse_other_stages(name: str, configs: list[DictConfig], stage: str) -> None:
    """Refuse an overlay that has sections, but none of the stage that is trained."""
    given = {section for section in SECTIONS.values() for c in configs if section in c}
    if not given or stage in given:
        return
    path = Path(name)
    other = f"loki_{path.name}" if stage == "loki" else path.name.removeprefix("loki_")
    exists = other != path.name and (FOLDER / other).is_file()
    raise UserError(
        f"{name} has no section for {stage}, which is trained: "
        + (f"take {other}" if exists else "leave it out")
    )


def join_configs(names: list[str], packaged: bool = False) -> str:
    """All files of a command line as one YAML text, later files over earlier ones; `packaged`: of
    configs/ alone, whatever lies in the working directory.

    Raises:
        UserError: a file is missing or broken, or an overlay has no base config or none of the
            sections of what is trained.
    """
    stacks = [(name, read_stack(name, packaged)) for name in names]
    stack = [layer for _, layers in stacks for layer in layers]
    joined = cast(DictConfig, OmegaConf.merge(*(config for _, config in stack)))
    stage = SECTIONS.get(str(OmegaConf.select(joined, "model.class_path")))

    if stage is not None:
        for name, configs in stacks:
            _refuse_other_stages(name, [config for _, config in configs], stage)
    layers: list[DictConfig] = []
    for name, config in stack:
        sections = {section: config.pop(section, None) for section in SECTIONS.values()}
        if stage is None and any(sections.values()):
            raise UserError(
                f"{name} is an overlay: put --config stage1.yaml, stage2.yaml or loki.yaml "
                "before it"
            )
        layers.append(config)
        if stage is not None and sections[stage] is not None:
            layers.append(sections[stage])
    return OmegaConf.to_yaml(OmegaConf.merge(*layers))
