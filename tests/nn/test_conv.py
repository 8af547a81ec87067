"""Convolutions that are folded with what comes before them equal the plain ones."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mien.nn.conv import (
    Hourglass,
    _conv_transposed,
    conv_of_frames,
    conv_of_source,
    conv_upsampled,
)


def gradients_agree(found, wanted, inputs):
    weights = torch.randn_like(found)
    torch.testing.assert_close(found, wanted)
    made = [torch.autograd.grad((y * weights).sum(), inputs) for y in (found, wanted)]
    for one, other in zip(*made, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("fine_channels", [0, 3])
def test_a_folded_upsampling_is_that_of_the_upsampled_map(fine_channels, bias):
    conv = nn.Conv2d(4 + fine_channels, 5, 3, padding=1, bias=bias).double()
    coarse = torch.randn(2, 4, 6, 5, dtype=torch.double, requires_grad=True)
    fine = torch.randn(2, fine_channels, 12, 10, dtype=torch.double, requires_grad=True)
    found = conv_upsampled(coarse, fine if fine_channels else None, conv)
    wanted = conv(torch.cat((F.interpolate(coarse, scale_factor=2), fine), dim=1))
    inputs = [coarse, *conv.parameters(), *([fine] if fine_channels else [])]
    gradients_agree(found, wanted, inputs)


@pytest.mark.parametrize("fine_channels", [0, 3])
def test_in_bfloat16_it_is_a_transposed_convolution(fine_channels, monkeypatch):
    conv = nn.Conv2d(4 + fine_channels, 5, 3, padding=1)
    coarse, fine = torch.randn(2, 4, 6, 5), torch.randn(2, fine_channels, 12, 10)
    given = coarse, fine if fine_channels else None, conv
    wanted = conv(torch.cat((F.interpolate(coarse, scale_factor=2), fine), dim=1))
    torch.testing.assert_close(_conv_transposed(*given), wanted)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        found = conv_upsampled(*given)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), wanted, rtol=0, atol=0.05)


def test_a_source_s_map_is_concatenated_to_each_of_its_frames():
    conv = nn.Conv2d(7, 5, 3, padding=1).double()
    frames = torch.randn(6, 4, 5, 5, dtype=torch.double, requires_grad=True)
    source = torch.randn(2, 3, 5, 5, dtype=torch.double, requires_grad=True)
    wanted = conv(torch.cat((frames, source.repeat_interleave(3, dim=0)), dim=1))
    found = conv_of_frames(frames, conv, conv_of_source(source, conv, first=4))
    gradients_agree(found, wanted, [frames, source, *conv.parameters()])


@torch.no_grad()
def test_a_u_net_of_an_odd_size_upsamples_to_it():
    net = Hourglass(3, (8, 8), volume=False)
    even, odd = (net(torch.randn(1, 2, n, n), net.prepare(torch.randn(1, 1, n, n))) for n in (8, 9))
    assert even.shape == (1, 8, 8, 8) and odd.shape == (1, 8, 9, 9)
