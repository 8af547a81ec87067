import torch
import torch.nn.functional as F

from mien.nn.mamba import BidirectionalMamba, MambaBlock, reverse_within


def test_parameters_have_the_names_and_shapes_of_mamba_ssm():
    shapes = {name: tuple(p.shape) for name, p in MambaBlock(32, state=16).named_parameters()}
    assert shapes == {
        "A_log": (64, 16),
        "D": (64,),
        "in_proj.weight": (128, 32),
        "conv1d.weight": (64, 1, 4),
        "conv1d.bias": (64,),
        "x_proj.weight": (2 + 32, 64),
        "dt_proj.weight": (64, 2),
        "dt_proj.bias": (64,),
        "out_proj.weight": (32, 64),
    }


def test_memory_starts_as_the_paper_says():
    block = MambaBlock(64)
    torch.testing.assert_close(block.A_log.exp()[5], torch.arange(1.0, 17))
    dt = F.softplus(block.dt_proj.bias)
    assert dt.min() >= 0.99e-3 and dt.max() <= 0.101
    assert (dt < 1e-2).float().mean().item() > 0.3  # log-uniform: half lies below 1e-2
    marked = {n for n, p in block.named_parameters() if getattr(p, "_no_weight_decay", False)}
    assert marked == {"A_log", "D", "dt_proj.bias"}


def test_a_block_does_not_hear_the_future():
    block = MambaBlock(8)
    now = torch.randn(1, 12, 8)
    later = now.clone()
    later[:, 7:] += 1
    torch.testing.assert_close(block(now)[:, :7], block(later)[:, :7])
    assert not torch.allclose(block(now)[:, 7:], block(later)[:, 7:])


def test_both_directions_hear_everything():
    net = BidirectionalMamba(8)
    sequence = torch.randn(1, 10, 8, requires_grad=True)
    net(sequence, torch.tensor([10]))[0, 4].sum().backward()
    assert sequence.grad is not None
    assert (sequence.grad[0].abs().sum(-1) > 0).all()


def test_with_equal_halves_time_reversed_in_is_time_reversed_out():
    net = BidirectionalMamba(8)
    net.backward_in_time.load_state_dict(net.onward.state_dict())
    sequence, lengths = torch.randn(2, 9, 8), torch.tensor([9, 6])
    heard = net(reverse_within(sequence, lengths), lengths)
    expected = reverse_within(net(sequence, lengths), lengths)
    torch.testing.assert_close(heard[0], expected[0])
    torch.testing.assert_close(heard[1, :6], expected[1, :6])


def test_reversal_stays_within_each_length():
    sequence = torch.arange(5.0)[None, :, None].repeat(2, 1, 1)
    reversed_ = reverse_within(sequence, torch.tensor([3, 5]))[..., 0]
    torch.testing.assert_close(
        reversed_, torch.tensor([[2.0, 1.0, 0.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0, 0.0]])
    )


def test_padding_changes_nothing():
    net = BidirectionalMamba(8)
    short = torch.randn(1, 6, 8)
    padded = torch.cat([short, 100 * torch.randn(1, 4, 8)], dim=1)
    alone = net(short, torch.tensor([6]))
    torch.testing.assert_close(net(padded, torch.tensor([6]))[:, :6], alone)


def test_every_parameter_gets_a_gradient():
    net = BidirectionalMamba(8)
    net(torch.randn(2, 6, 8), torch.tensor([6, 4])).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
