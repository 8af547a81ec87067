"""Loki's net: what its zero-initialised parts, injection, frames and sizes must mean."""

from dataclasses import replace
from typing import Literal

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from mien.errors import UserError
from mien.loki.config import LokiConfig
from mien.loki.injection import InjectedSelfAttention
from mien.loki.net import Loki
from mien.loki.weights import resize_patch
from tests.loki.tiny import TINY, autoencoder, awake

B, T = 2, 3


@pytest.fixture(scope="module")
def net() -> Loki:
    return awake(Loki(TINY))


def inputs(config: LokiConfig = TINY, seed: int = 0):
    """Sample, timesteps, maps, values, and a reference picture."""
    torch.manual_seed(seed)
    size, side = config.image_size, config.feature_size
    maps = torch.rand(B, T, 7, size, size)
    maps[:, :, 6] = 1.0
    return (
        torch.randn(B, T, config.sample_channels, side, side),
        torch.randint(0, 1000, (B, T)),
        maps,
        torch.randn(B, T, config.coefficient_dims),
        torch.rand(B, 3, size, size) * 2 - 1,
    )


@torch.no_grad()
def test_without_a_reference_the_net_is_the_plain_unet(net: Loki):
    sample, timestep, *_ = inputs()
    frame = sample[:, :1], timestep[:, :1]
    # The UNet of diffusers with its own attention, and its text attention taken out as well.
    plain = UNet2DConditionModel.from_config(net.backbone.unet.config)
    for block in plain.modules():
        if type(block).__name__ == "BasicTransformerBlock":
            block.attn2 = block.norm2 = None
    state = net.backbone.unet.state_dict()
    plain.load_state_dict({k.replace("conv_in.conv.", "conv_in."): v for k, v in state.items()})
    wanted = plain(frame[0][:, 0], frame[1][:, 0], None, return_dict=False)[0]
    torch.testing.assert_close(net(*frame)[:, 0], wanted, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_masked_reference_is_no_reference_and_zeros_are_one(net: Loki):
    sample, timestep, maps, values, picture = inputs()
    reference = net.encode_reference(picture, maps[:, 0], values[:, 0])
    without = net(sample, timestep)
    masked = net(sample, timestep, None, reference, torch.tensor([False, True]))
    torch.testing.assert_close(masked[0], without[0], rtol=1e-4, atol=1e-5)
    assert (masked[1] - without[1]).abs().max() > 1e-3
    zeros = tuple((torch.zeros_like(keys), torch.zeros_like(values)) for keys, values in reference)
    assert (net(sample, timestep, None, zeros) - without).abs().max() > 1e-3


@torch.no_grad()
def test_a_reference_of_the_first_samples_is_not_seen_by_the_others(net: Loki):
    sample, timestep, maps, values, picture = inputs()
    first = net.encode_reference(picture[:1], maps[:1, 0], values[:1, 0])
    both = net(sample, timestep, None, first)
    torch.testing.assert_close(both[0], net(sample[:1], timestep[:1], None, first)[0])
    torch.testing.assert_close(both[1], net(sample[1:], timestep[1:])[0])


@torch.no_grad()
def test_the_condition_changes_nothing_before_the_first_step():
    fresh = Loki(TINY).eval()
    sample, timestep, maps, values, _ = inputs()
    condition = fresh.encode_condition(maps, values)
    assert condition.abs().max() == 0
    assert torch.equal(fresh(sample, timestep, condition), fresh(sample, timestep))


@pytest.mark.parametrize("shared", [True, False])
def test_gradients_reach_the_reference_path_where_it_learns(shared: bool):
    config = TINY if shared else replace(TINY, reference="frozen", reference_map=False)
    net = awake(Loki(config)).train()
    sample, timestep, maps, values, picture = inputs()
    picture.requires_grad_(shared)
    reference = net.encode_reference(picture, maps[:, 0], values[:, 0])
    net(sample, timestep, net.encode_condition(maps, values), reference).square().mean().backward()
    trained = [p for p in net.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in trained)
    if shared:
        assert picture.grad is not None and picture.grad.abs().max() > 0
    else:
        assert net.reference_backbone is not None
        assert all(p.grad is None for p in net.reference_backbone.parameters())


def test_attention_sees_all_frames_where_the_multiplier_is_two_and_one_frame_in_the_outermost(
    net: Loki,
):
    attentions = {
        name.split(".")[0] + name.split(".")[1]: module
        for name, module in net.backbone.unet.attn_processors.items()
    }
    across = {name: one.across_frames for name, one in attentions.items()}
    assert across == {"down_blocks0": False, "mid_blockattentions": True, "up_blocks1": False}


@torch.no_grad()
def test_self_attentions_are_numbered_in_the_order_of_the_pass(net: Loki, monkeypatch):
    called: list[int] = []
    attend = InjectedSelfAttention.__call__

    def numbered(self, *given, **more):
        called.append(self.index)
        return attend(self, *given, **more)

    monkeypatch.setattr(InjectedSelfAttention, "__call__", numbered)
    sample, timestep, *_ = inputs()
    net(sample, timestep)
    assert called == list(range(len(net.backbone.unet.attn_processors)))


@torch.no_grad()
def test_a_frame_reaches_the_others_only_by_attention_across_frames(net: Loki):
    sample, timestep, *_ = inputs()
    changed = sample.clone()
    changed[:, 2] += 1
    both = net(sample, timestep), net(changed, timestep)
    assert (both[0][:, 0] - both[1][:, 0]).abs().max() > 1e-5

    alone = Loki(TINY).eval()
    alone.load_state_dict(net.state_dict())
    for processor in alone.backbone.unet.attn_processors.values():
        assert isinstance(processor, InjectedSelfAttention)
        processor.across_frames = False
    torch.testing.assert_close(alone(sample, timestep)[:, 0], alone(changed, timestep)[:, 0])


@torch.no_grad()
def test_every_frame_has_its_own_noise_level(net: Loki):
    sample, timestep, *_ = inputs()
    other = timestep.clone()
    other[:, 1] = (other[:, 1] + 500) % 1000
    moved = (net(sample, timestep) - net(sample, other)).abs().amax(dim=(0, 2, 3, 4))
    assert moved[1] > moved[[0, 2]].max() > 0


@torch.no_grad()
def test_a_batch_of_two_equals_two_of_one(net: Loki):
    sample, timestep, maps, values, picture = inputs()

    def run(rows: slice) -> torch.Tensor:
        reference = net.encode_reference(picture[rows], maps[rows, 0], values[rows, 0])
        condition = net.encode_condition(maps[rows], values[rows])
        return net(sample[rows], timestep[rows], condition, reference)

    both = run(slice(None))
    each = torch.cat((run(slice(0, 1)), run(slice(1, 2))))
    torch.testing.assert_close(both, each, rtol=1e-4, atol=1e-5)


def test_a_cached_reference_costs_a_frame_little():
    """Of the preset `small`: keys and values come once, so a frame pays for attention alone."""
    config = LokiConfig()
    with torch.device("meta"):
        net = Loki(config)
        sample = torch.zeros(1, 4, config.sample_channels, 16, 16)
        timestep = torch.zeros(1, 4, dtype=torch.long)
        picture, maps = torch.zeros(1, 3, 64, 64), torch.zeros(1, 7, 64, 64)
        reference = net.encode_reference(picture, maps, torch.zeros(1, config.coefficient_dims))

    def cost(*more) -> float:
        with FlopCounterMode(display=False) as counter:
            net(sample, timestep, None, *more)
        return counter.get_total_flops() / 4e9

    plain, referred = cost(), cost(reference)
    assert plain < 1.0, "GFLOP of a frame and step"
    assert referred < 1.07 * plain


def test_coefficients_instead_of_a_map():
    net = awake(Loki(replace(TINY, condition="coefficients")))
    sample, timestep, maps, values, _ = inputs()
    condition = net.encode_condition(maps, values)
    assert condition.shape == (B, T, 32, 1, 1)
    assert torch.equal(condition, net.encode_condition(torch.zeros_like(maps), values))
    assert (net(sample, timestep, condition) - net(sample, timestep)).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("change", "channels"),
    [({}, 45), ({"positions": None}, 3), ({"offsets": False}, 42), ({"octaves": 4}, 27)],
)
def test_ablations_leave_channels_of_the_map_out(change: dict, channels: int):
    config = replace(TINY, **change)
    assert config.map_channels == channels
    net = awake(Loki(config))
    _, _, maps, values, _ = inputs()
    other = maps.clone()
    other[:, :, :3] = 0.5
    moved = (net.encode_condition(maps, values) - net.encode_condition(other, values)).abs().max()
    assert (moved == 0) == (config.positions is None)


def test_sd21_has_the_sizes_of_stable_diffusion():
    with torch.device("meta"):
        net = Loki(LokiConfig.preset("sd21"))

    def millions(part: torch.nn.Module | None) -> float:
        assert part is not None
        return sum(p.numel() for p in part.parameters()) / 1e6

    unet, reference = millions(net.backbone), millions(net.reference_backbone)
    # Stable Diffusion 2.1's UNet has 865.9 M, of which 50.4 M attend to text.
    assert unet == reference == pytest.approx(815.5, abs=0.1)
    total = unet + reference + millions(net.condition)
    assert total == pytest.approx(1637, abs=1)
    assert 1 - total / 3070 == pytest.approx(0.47, abs=0.01)  # the paper: 43 % below X-Portrait
    assert not any(p.requires_grad for p in net.reference_backbone.parameters())
    across = [p.across_frames for p in net.backbone.unet.attn_processors.values()]
    assert (sum(across), len(across)) == (11, 16)


def test_starts_from_a_unet_of_stable_diffusions_kind(tmp_path):
    torch.manual_seed(0)
    config = dict(Loki(TINY).backbone.unet.config) | {"cross_attention_dim": 16}
    saved = UNet2DConditionModel.from_config(config)
    saved.save_pretrained(tmp_path / "model" / "unet")
    frozen = replace(TINY, reference="frozen", reference_map=False)
    net = Loki(replace(frozen, pretrained=str(tmp_path / "model")))
    net.load_pretrained()
    for part in (net.backbone, net.reference_backbone):
        assert part is not None
        assert torch.equal(part.unet.conv_in.conv.weight, saved.conv_in.weight)
        assert torch.equal(part.unet.conv_out.weight, saved.conv_out.weight)

    other = Loki(replace(frozen, channels=(32, 96), pretrained=str(tmp_path / "model" / "unet")))
    with pytest.raises(UserError, match="is not the UNet of this config"):
        other.load_pretrained()
    with pytest.raises(UserError, match="cannot read the unet of"):
        Loki(replace(TINY, pretrained=str(tmp_path))).load_pretrained()


LATENT = replace(
    TINY, image_size=64, space="latent", autoencoder="vae", encoder_channels=(8, 8, 8, 16)
)


@pytest.mark.parametrize(("shift", "channels"), [(None, 4), (0.4, 16)])
def test_latents_of_any_autoencoder(tmp_path, shift: float | None, channels: int):
    saved = autoencoder(latent_channels=channels, shift_factor=shift)
    saved.save_pretrained(tmp_path / "vae")
    config = replace(LATENT, autoencoder=str(tmp_path), latent_channels=channels)
    net = Loki(config)
    pictures = torch.rand(B, T, 3, 64, 64) * 2 - 1
    samples = net.encode(pictures)
    assert samples.shape == (B, T, channels, 8, 8)
    mode = saved.encode(pictures[0]).latent_dist.mode()
    first = (mode - (shift or 0)) * saved.config["scaling_factor"]
    torch.testing.assert_close(samples[0], first)
    torch.testing.assert_close(net.decode(samples)[0], saved.decode(mode).sample.clamp(-1, 1))
    assert not any("vae" in name or "autoencoder" in name for name in net.state_dict())


@pytest.mark.parametrize(
    ("stages", "channels", "message"),
    [(3, 4, "of 4 channels, 4 pixels to one"), (4, 16, "of 16 channels, 8 pixels to one")],
)
def test_an_autoencoder_of_other_sizes_is_refused(tmp_path, stages, channels, message: str):
    autoencoder(stages, latent_channels=channels).save_pretrained(tmp_path / "vae")
    net = Loki(replace(LATENT, autoencoder=str(tmp_path)))
    with pytest.raises(UserError, match=f"{message}; this net takes 4 channels, 8 pixels to one"):
        net.encode(torch.zeros(1, 1, 3, 64, 64))


def test_pixels_survive_the_fold():
    net = Loki(TINY)
    pictures = torch.rand(B, T, 3, 32, 32) * 2 - 1
    torch.testing.assert_close(net.decode(net.encode(pictures)), pictures)


@pytest.mark.parametrize("reference", ["shared", "frozen"])
def test_weights_of_smaller_patches_draw_the_same(reference: Literal["shared", "frozen"]):
    """A net of patches twice as large on pictures twice as large, from resized weights."""
    before = replace(TINY, reference=reference, reference_map=reference == "shared")
    small = awake(Loki(before))
    config = replace(before, image_size=64, patch=8)
    large = Loki(config).eval()
    large.load_state_dict(resize_patch(small.state_dict(), before, config))
    assert config.map_size == TINY.map_size == 32
    pictures = torch.rand(B, T, 3, 32, 32) * 2 - 1
    doubled = pictures.repeat_interleave(2, dim=3).repeat_interleave(2, dim=4)
    timestep = torch.full((B, T), 300)
    drawn = small.space.decode(small(small.encode(pictures), timestep)[0])
    same = large.space.decode(large(large.encode(doubled), timestep)[0])
    again = drawn.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(same, again, atol=1e-5, rtol=0)
    for one, other in ((config, before), (before, replace(before, image_size=48, patch=6))):
        with pytest.raises(UserError, match="give a multiple"):
            resize_patch(small.state_dict(), one, other)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"encoder_channels": (8, 16, 16, 16)}, "must be 1 to 3"),
        ({"encoder_channels": ()}, "must be 1 to 3"),
        ({"image_size": 36}, "feature size 9 is not a multiple"),
        ({"head_dim": 48}, "channels 32 is not a multiple of head_dim 48"),
        ({"positions": None, "offsets": False}, "neither positions nor offsets"),
        ({"form": "noise"}, "set zero_terminal false"),
        ({"reference": "frozen"}, "has not learned maps"),
        ({"autoencoder": "vae"}, "latent needs one"),
        *(
            ({name: 0}, f"{name} 0 must be at least 1")
            for name in ("window", "patch", "layers", "head_dim", "octaves")
        ),
    ],
)
def test_configs_that_do_not_fit_are_refused(wrong: dict, message: str):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **wrong)


def test_the_schedule_ends_in_noise_and_shifts():
    plain, shifted = LokiConfig().schedule(), LokiConfig(shift=0.25).schedule()
    assert plain.alphas[-1] == shifted.alphas[-1] == 0
    ratio = [s.alphas[:-1].square() / (1 - s.alphas[:-1].square()) for s in (shifted, plain)]
    torch.testing.assert_close(ratio[0], ratio[1] / 4)
    assert LokiConfig(zero_terminal=False).schedule().alphas[-1] > 0.05
