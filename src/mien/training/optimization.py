"""Optimisation of both stages: learning rate schedule, gradient clipping, parameter groups."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from mien.errors import UserError
from mien.presets import Stage, read_preset


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam and its learning rate: linear warm-up over `warmup_steps`, cosine decay to a share.

    The defaults are those of stage1.yaml; STAGE2 holds those of stage2.yaml. `decay_steps` counts
    from the start of the run; with 0 the rate is constant after the warm-up.
    """

    learning_rate: float = 8e-4
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    warmup_steps: int = 200
    decay_steps: int = 0
    final_share: float = 0.05  # share of the learning rate that is left at the end
    clip_grad: float = 1.0  # maximum norm of gradients (clip_grad_norm_)
    accumulate: int = 1  # gradient accumulation: batches per step

    def __post_init__(self) -> None:
        if self.accumulate < 1:
            raise ValueError(f"accumulate must be at least 1, not {self.accumulate}")

    @classmethod
    def preset(cls, name: str, stage: Stage) -> "OptimizerConfig":
        """The optimiser of one stage of a preset (`mien.presets`)."""
        return read_preset(cls, name, stage, "model.init_args.optimizer")


STAGE2 = OptimizerConfig(learning_rate=2e-4, weight_decay=0.01, warmup_steps=500)


def rate_at(step: int, config: OptimizerConfig) -> float:
    """The learning rate of a step: a function of the step alone, so there is no state to save."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    if not config.decay_steps:
        return config.learning_rate * warm
    done = min(1.0, step / config.decay_steps)
    cosine = config.final_share + (1 - config.final_share) * (1 + math.cos(math.pi * done)) / 2
    return config.learning_rate * warm * cosine


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Use this learning rate from now on."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float) -> Float[Tensor, ""]:
    """Clip gradients to a norm and return the norm they had.

    If the norm is not finite, all gradients are set to None: the optimiser's step then changes
    nothing, not even its own state, while the step still counts.
    """
    parameters = list(parameters)
    norm = torch.nn.utils.clip_grad_norm_(parameters, limit)
    if not torch.isfinite(norm):
        for parameter in parameters:
            parameter.grad = None
    return norm


def refuse_float16(precision: str) -> None:
    """Float16 needs gradient scaling, with unscaling before clipping, which is not implemented;
    bf16-true would keep weights, their EMA and Mamba's A in bfloat16.

    Raises:
        UserError: the precision is 16-mixed, 16-true or bf16-true.
    """
    if precision.startswith("16"):
        raise UserError(
            f"trainer.precision {precision} needs gradient scaling, which is not implemented: "
            "use bf16-mixed or 32"
        )
    if precision == "bf16-true":
        raise UserError(
            "trainer.precision bf16-true keeps the weights themselves in bfloat16: use bf16-mixed"
        )


def decay_groups(net: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Groups for AdamW: only matrices decay, and none that is marked `_no_weight_decay`."""
    decayed, free = [], []
    for parameter in net.parameters():
        keep = parameter.ndim < 2 or getattr(parameter, "_no_weight_decay", False)
        (free if keep else decayed).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
