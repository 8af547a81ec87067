import math

import pytest
import torch

from mien.metrics import correlation, jerk, l1, lip_sync, psnr, seam_ratio, ssim, weighted_l1


def test_psnr_of_a_known_error():
    wanted = torch.zeros(2, 3, 8, 8)
    drawn = torch.stack((torch.full((3, 8, 8), 0.2), torch.full((3, 8, 8), 0.02)))
    # An error of 0.2 where 2 spans black to white is a tenth: 20 dB; a hundredth is 40 dB.
    torch.testing.assert_close(psnr(drawn, wanted), torch.tensor([20.0, 40.0]))


def test_psnr_is_taken_per_picture_not_over_pooled_errors():
    wanted = torch.zeros(2, 3, 8, 8)
    drawn = torch.stack((torch.full((3, 8, 8), 0.2), torch.full((3, 8, 8), 0.002)))
    pooled = -10 * math.log10(float((drawn - wanted).square().mean()) / 4)
    assert float(psnr(drawn, wanted).mean()) == pytest.approx(40.0, abs=1e-3)
    assert pooled < 25


def test_psnr_equals_an_independent_implementation():
    from skimage.metrics import peak_signal_noise_ratio

    drawn, wanted = torch.rand(1, 3, 16, 16) * 2 - 1, torch.rand(1, 3, 16, 16) * 2 - 1
    other = peak_signal_noise_ratio(
        wanted[0].double().numpy(), drawn[0].double().numpy(), data_range=2
    )
    assert float(psnr(drawn, wanted)) == pytest.approx(other, abs=1e-4)


def test_ssim_equals_an_independent_implementation():
    from skimage.metrics import structural_similarity

    wanted = torch.rand(1, 3, 40, 40) * 2 - 1
    drawn = (wanted + 0.3 * torch.randn(1, 3, 40, 40)).clamp(-1, 1)
    other = structural_similarity(
        wanted[0].double().numpy(),
        drawn[0].double().numpy(),
        data_range=2,
        channel_axis=0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    # The two crop the border differently by a pixel, hence the tolerance.
    assert float(ssim(drawn, wanted)) == pytest.approx(other, abs=0.01)
    assert float(ssim(wanted, wanted)) == pytest.approx(1.0, abs=1e-5)


def test_l1_spans_black_to_white():
    black, white = -torch.ones(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
    assert float(l1(black, white)) == pytest.approx(1.0)


def test_weighted_l1_sees_only_the_weighted_place():
    wanted, weight = torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4)
    drawn = wanted.clone()
    drawn[..., :2, :] = 0.5
    drawn[..., 2:, :] = 9.0
    weight[..., :2, :] = 1
    assert float(weighted_l1(drawn, wanted, weight)) == pytest.approx(0.5)


def test_a_parabola_has_no_jerk_and_noise_has():
    steps = torch.arange(20, dtype=torch.float32)
    smooth = (steps**2 / 100)[None, :, None].expand(1, 20, 4)
    assert float(jerk(smooth)) < 1e-5
    assert float(jerk(smooth + 0.1 * torch.randn(1, 20, 4))) > 0.1


def test_seam_ratio_finds_a_jump_where_it_is():
    motion = torch.arange(30.0)[None, :, None].repeat(1, 1, 3)
    assert seam_ratio(motion, [10, 20]) == pytest.approx(1.0)
    motion[:, 10:] += 9
    assert seam_ratio(motion, [10, 20]) == pytest.approx(5.5)  # the mean of 10 and 1
    assert seam_ratio(motion, [20]) < 1


def test_a_mouth_that_follows_the_voice_scores_above_the_reversed_voice():
    torch.manual_seed(0)
    loudness = torch.rand(100).repeat_interleave(4) * 0.1 + 1e-3
    score = lip_sync(3 * loudness + 0.03 * torch.randn(400), loudness)
    assert score.correlation > 0.8
    assert abs(score.reversed) < 0.3
    assert score.lag == 0


def test_a_late_mouth_is_told_by_its_lag():
    torch.manual_seed(0)
    loudness = torch.rand(300) * 0.1 + 1e-3
    score = lip_sync(torch.roll(loudness, 5), loudness)
    assert score.lag == 5
    assert score.at_lag > 0.9 > score.correlation


def test_a_still_mouth_has_no_correlation():
    assert correlation(torch.ones(10), torch.rand(10)) == 0.0
