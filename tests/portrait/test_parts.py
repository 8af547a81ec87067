import torch

from mien.ops.warp import identity_grid, resize_displacement, warp_map, warp_volume
from mien.portrait.deviation import DeviationTransformer
from mien.portrait.frame_decoder import occlude
from mien.portrait.motion_encoder import (
    GRID,
    TOKEN_DIM,
    MotionEncoder,
    motion_tokens,
    token_positions,
)
from mien.portrait.region_attention import RegionAttention, mean_flow


def test_no_displacement_changes_nothing():
    volume = torch.randn(2, 3, 4, 8, 8)
    still = torch.zeros(2, 4, 8, 8, 2)
    torch.testing.assert_close(warp_volume(volume, still), volume, rtol=0, atol=1e-6)


def test_one_pixel_of_displacement_moves_features_by_one_pixel():
    volume = torch.randn(1, 3, 4, 8, 8)
    right = torch.zeros(1, 4, 8, 8, 2)
    right[..., 0] = 2 / 8  # 8 pixels span [-1, 1]
    torch.testing.assert_close(
        warp_volume(volume, right)[..., :-1], volume[..., 1:], rtol=0, atol=1e-5
    )
    down = torch.zeros(1, 4, 8, 8, 2)
    down[:, 1, ..., 1] = 2 / 8  # only the second layer
    moved = warp_volume(volume, down)
    torch.testing.assert_close(moved[:, :, 1, :-1], volume[:, :, 1, 1:], rtol=0, atol=1e-5)
    torch.testing.assert_close(moved[:, :, 0], volume[:, :, 0], rtol=0, atol=1e-6)


def test_outside_the_border_the_edge_goes_on():
    features = torch.arange(4.0).view(1, 1, 1, 4).expand(1, 1, 4, 4)
    far = torch.full((1, 4, 4, 2), 10.0)
    assert (warp_map(features, far) == 3).all()


def test_displacement_keeps_its_meaning_on_another_grid():
    displacement = torch.full((1, 4, 4, 2), 0.25)
    assert (resize_displacement(displacement, 16, 16) == 0.25).all()


def test_the_grid_stands_on_pixel_centres():
    grid = identity_grid(2, 4, like=torch.zeros(1))
    torch.testing.assert_close(grid[0, :, 0], torch.tensor([-0.75, -0.25, 0.25, 0.75]))
    torch.testing.assert_close(grid[:, 0, 1], torch.tensor([-0.5, 0.5]))


def test_occlusion_follows_the_papers_formula():
    moved, still = torch.randn(1, 2, 1, 2, 2), torch.randn(1, 2, 1, 2, 2)
    mask = torch.rand(1, 1, 2, 2)
    mixed = mask * moved + (1 - mask) * still
    expected = mixed.clamp_min(0) + 0.3 * mixed.clamp_max(0)
    torch.testing.assert_close(occlude(moved, still, mask, "blend", 0.3), expected)
    dropped = mask * moved
    torch.testing.assert_close(
        occlude(moved, still, mask, "multiply", 0.3),
        dropped.clamp_min(0) + 0.3 * dropped.clamp_max(0),
    )


def test_shares_sum_to_one_and_the_background_is_never_withheld():
    torch.manual_seed(0)
    attention = RegionAttention(3, 2, 4, 2, (8, 8), volume=False, dropout=0.999).train()
    shares, mask = attention(torch.randn(2, 4, 2, 8, 8), torch.randn(2, 3, 2, 8, 8, 2) * 0.1)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(2, 2, 8, 8))
    assert shares[:, 0].min() > 0.9  # every region is gone, the background holds all
    assert mask.mean() > 0.7  # starts by preferring what moved


def test_flow_for_skips_counts_layers_by_their_mask():
    displacement = torch.tensor([1.0, 3.0]).view(1, 2, 1, 1, 1).expand(1, 2, 1, 1, 2)
    mask = torch.tensor([0.25, 0.75]).view(1, 2, 1, 1)
    torch.testing.assert_close(mean_flow(displacement, mask), torch.full((1, 1, 1, 2), 2.5))


def test_a_pairs_own_deviation_does_not_normalise_its_amplitude():
    torch.manual_seed(0)
    transformer = DeviationTransformer(2, 16, 1, 2, 2, 1).eval()
    source = torch.randn(1, 768)
    step = torch.randn(1, 1, 768)
    with torch.no_grad():
        near = transformer(source, source[:, None] + 0.01 * step)
        far = transformer(source, source[:, None] + 0.1 * step)
    assert 8 < far.abs().mean() / near.abs().mean() < 12


def test_running_statistics_learn_the_size_of_differences_only_in_training():
    torch.manual_seed(0)
    transformer = DeviationTransformer(2, 16, 1, 2, 2, 1)
    source, driving = torch.randn(4, 768), torch.randn(4, 1, 768)
    transformer.eval()(source, driving)
    assert (transformer.running_square == 1).all()
    transformer.train()(source, driving)
    learned = transformer.running_square.clone()
    assert ((learned > 1.5) & (learned < 2.5)).all()  # two unit variances


def test_tokens_look_around_their_own_cells():
    cells = identity_grid(GRID, GRID, like=torch.zeros(1))
    assert torch.equal(token_positions(torch.zeros(1, TOKEN_DIM, GRID, GRID))[0], cells)
    torch.manual_seed(0)
    encoder = MotionEncoder(64, (16, 24, 32), (1, 1, 1), 16, None)
    places = token_positions(encoder.tokens(torch.rand(2, 3, 64, 64)))
    assert (places - cells).abs().max() < 3 * 2 / GRID
    assert (places - cells).abs().mean() < 2 / GRID


def test_tokens_learn_to_follow_what_moves():
    torch.manual_seed(0)
    encoder = MotionEncoder(64, (16, 24, 32), (1, 1, 1), 16, None)
    optimizer = torch.optim.Adam(encoder.parameters(), 2e-3)
    picture = torch.nn.functional.interpolate(torch.rand(8, 3, 12, 12), 64, mode="bicubic")
    explained = []
    for _ in range(60):
        move = 0.1 * torch.randn(8, 1, 1, 2).expand(8, 64, 64, 2)
        pair = torch.cat((picture, warp_map(picture, move)))
        source, driving = token_positions(encoder.tokens(pair))[:, 1:-1, 1:-1].chunk(2)
        error = (driving + move[:, :1, :1] - source).square().mean()
        explained.append(1 - (error / move.square().mean()).item())
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    assert sum(explained[-10:]) / 10 > 0.3 > 0.1 > explained[0]


def test_the_motion_is_the_standardised_tokens():
    encoder = MotionEncoder(64, (16, 24, 32), (1, 1, 1), 16, None).eval()
    picture = torch.rand(2, 3, 64, 64)
    motion = encoder(picture)
    tokens = encoder.tokens(picture)
    spread = tokens.flatten(1).std(dim=1, correction=0).view(2, 1, 1, 1)
    middle = tokens.flatten(1).mean(dim=1).view(2, 1, 1, 1)
    torch.testing.assert_close(
        motion_tokens(motion), (tokens - middle) / spread, rtol=1e-3, atol=1e-3
    )
    torch.testing.assert_close(motion.std(dim=1, correction=0), torch.ones(2), rtol=0, atol=1e-3)
