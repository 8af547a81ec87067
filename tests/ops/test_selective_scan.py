"""Every back end computes the same scan as the recurrence written out, gradients included."""

import gc
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mien.ops.scan_inputs import ScanInputs
from mien.ops.selective_scan import SELECTIVE_SCAN, selective_scan, selective_scan_step
from tests.ops.scan_cases import TENSORS, draw, gradients, oracle

# Those that compute float64 too, on the CPU; triton is compared in float32, on a card where there
# is one and through its interpreter elsewhere.
PLAIN = ["reference", "numba"]
CARD = "cuda" if torch.cuda.is_available() else "cpu"

# Relative to the largest value of each result. float64: the oracle's own rounding, summed over a
# few hundred steps. float32: seven digits, of which sums over time and state lose one or two.
EXACT, SINGLE = 1e-12, 2e-5
# The results are rounded to the inputs' type: 8 bits for bfloat16, 11 for float16.
HALF = {torch.bfloat16: 2**-8, torch.float16: 2**-11}


CHUNK = 128 if torch.cuda.is_available() else 16


@pytest.fixture(autouse=True)
def _unforced(monkeypatch):
    monkeypatch.delenv("MIEN_SCAN", raising=False)
    if find_spec("triton"):
        from mien.ops import selective_scan_triton

        # The interpreter takes milliseconds a step, so short chunks stand in for long ones.
        monkeypatch.setattr(selective_scan_triton, "_TIME", CHUNK)


def need(back_end: str) -> None:
    problem = SELECTIVE_SCAN.problems()[back_end]
    if problem:
        pytest.skip(f"{back_end}: {problem}")


def device_of(back_end: str) -> str:
    return CARD if back_end in ("triton", "mamba_ssm") else "cpu"


def assert_near(actual: torch.Tensor, expected: torch.Tensor, tolerance: float, name: str) -> None:
    assert actual.shape == expected.shape, name
    scale = expected.detach().abs().max().clamp_min(0.1)  # sums of few terms may cancel
    error = ((actual.detach().double() - expected.detach()).abs().max() / scale).item()
    assert error <= tolerance, f"{name}: {error:.1e} is more than {tolerance:.0e}"


def assert_agrees(back_end: str, tolerance: float, softplus: bool = True, **case) -> None:
    need(back_end)
    case = {"device": device_of(back_end)} | case
    inputs = draw(**case) if softplus else draw_without_softplus(**case)
    y, last = selective_scan(
        **inputs, delta_softplus=softplus, return_last_state=True, back_end=back_end
    )
    expected = oracle(inputs, softplus)
    assert y.dtype == inputs["u"].dtype
    assert_near(y, expected[0], tolerance, "y")
    assert_near(last, expected[1], tolerance, "last state")
    actual, wanted = gradients(inputs, y, last), gradients(inputs, *expected)
    for name in inputs:
        assert actual[name].dtype == inputs[name].dtype
        assert_near(actual[name], wanted[name], tolerance, f"gradient of {name}")


def draw_without_softplus(**case) -> dict[str, torch.Tensor]:
    """Time steps that are positive as they are: states would explode otherwise."""
    inputs = draw(**case)
    for name in {"delta", "delta_bias"} & inputs.keys():
        inputs[name] = inputs[name].detach().abs().requires_grad_()
    return inputs


OPTIONAL = ("D", "z", "delta_bias", "initial_state")
COMBINATIONS = [tuple(n for i, n in enumerate(OPTIONAL) if mask >> i & 1) for mask in range(16)]


@pytest.mark.parametrize("without", COMBINATIONS, ids=lambda names: "-".join(names) or "all")
@pytest.mark.parametrize("softplus", [True, False])
@pytest.mark.parametrize("back_end", PLAIN)
def test_all_combinations_of_arguments(back_end, softplus, without):
    assert_agrees(back_end, EXACT, softplus, without=without)


@pytest.mark.parametrize("B", ["fixed", "varying", 1, 2, 4])
@pytest.mark.parametrize("C", ["fixed", "varying", 2])
@pytest.mark.parametrize("back_end", PLAIN)
def test_fixed_varying_and_grouped_entries(back_end, B, C):
    assert_agrees(back_end, EXACT, B=B, C=C)


@pytest.mark.parametrize("back_end", PLAIN)
@given(
    batch=st.integers(1, 3),
    groups=st.integers(1, 3),
    sharing=st.integers(1, 3),
    state=st.integers(1, 17),
    length=st.integers(1, 65),
    seed=st.integers(0, 2**31),
    fixed=st.sampled_from(["", "B", "C", "BC"]),
)
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_drawn_shapes(back_end, batch, groups, sharing, state, length, seed, fixed):
    case = dict(batch=batch, width=groups * sharing, state=state, length=length, seed=seed)
    kinds = {name: "fixed" if name in fixed else groups for name in ("B", "C")}
    assert_agrees(back_end, EXACT, **case, **kinds)


@pytest.mark.parametrize("back_end", PLAIN)
@pytest.mark.parametrize("length", [1, 250, 1001])
def test_float32_keeps_its_digits(back_end, length):
    assert_agrees(back_end, SINGLE, width=6, state=16, length=length, dtype=torch.float32)


# Shorter than a chunk, exactly one, one more, and more than two.
@pytest.mark.parametrize("length", [1, CHUNK - 3, CHUNK, CHUNK + 1, 2 * CHUNK + 5])
def test_triton_agrees_whatever_is_left_of_the_last_chunk(length):
    assert_agrees("triton", SINGLE, batch=1, length=length, dtype=torch.float32)


@pytest.mark.parametrize("without", [COMBINATIONS[i] for i in (1, 2, 4, 8, 15)], ids="-".join)
@pytest.mark.parametrize("softplus", [True, False])
def test_triton_agrees_without_optional_arguments(without, softplus):
    assert_agrees("triton", SINGLE, softplus, without=without, length=20, dtype=torch.float32)


@pytest.mark.parametrize(("B", "C"), [("fixed", "varying"), ("varying", "fixed"), (2, 4), (4, 1)])
def test_triton_agrees_on_fixed_and_grouped_entries(B, C):
    assert_agrees("triton", SINGLE, B=B, C=C, length=CHUNK + 4, dtype=torch.float32)


def test_triton_agrees_where_channels_share_a_program(monkeypatch):
    need("triton")
    from mien.ops import selective_scan_triton

    monkeypatch.setattr(selective_scan_triton, "_ENOUGH_PROGRAMS", 1)
    assert_agrees("triton", SINGLE, width=8, B=2, length=CHUNK + 3, dtype=torch.float32)
    assert_agrees("triton", SINGLE, width=8, B=2, C="fixed", length=CHUNK + 3, dtype=torch.float32)


@pytest.mark.parametrize("state", [1, 2, 16, 17])
def test_triton_agrees_for_any_number_of_states(state):
    assert_agrees("triton", SINGLE, state=state, length=30, dtype=torch.float32)


@given(
    batch=st.integers(1, 2),
    groups=st.integers(1, 2),
    sharing=st.sampled_from([1, 2, 3]),
    state=st.integers(1, 5),
    length=st.integers(1, 2 * CHUNK),
    seed=st.integers(0, 2**31),
)
@settings(
    max_examples=4,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_triton_agrees_on_drawn_shapes(batch, groups, sharing, state, length, seed):
    shape = dict(batch=batch, width=groups * sharing, state=state, length=length, seed=seed)
    assert_agrees("triton", SINGLE, B=groups, C=groups, dtype=torch.float32, **shape)


@pytest.mark.parametrize("dtype", list(HALF))
@pytest.mark.parametrize("back_end", [*PLAIN, "triton"])
def test_half_precision_is_rounded_at_the_ends_alone(back_end, dtype):
    need(back_end)
    inputs = draw(length=60, dtype=dtype, device=device_of(back_end))
    with torch.autocast(device_of(back_end), torch.bfloat16):
        y, last = selective_scan(
            **inputs, delta_softplus=True, return_last_state=True, back_end=back_end
        )
    expected = oracle(inputs)
    assert y.dtype == dtype
    rounding = HALF[dtype]
    if back_end == "triton" and CARD == "cpu" and dtype == torch.bfloat16:
        rounding *= 2  # the interpreter cuts digits off where a card rounds
    torch.testing.assert_close(y.double(), expected[0], rtol=rounding, atol=1e-5)
    # What comes back has been rounded where y was, and once more in its own type.
    actual, wanted = gradients(inputs, y, last), gradients(inputs, *expected)
    for name in inputs:
        assert actual[name].dtype == dtype
        assert_near(actual[name], wanted[name].double(), 4 * rounding, f"gradient of {name}")


@pytest.mark.parametrize("back_end", [*PLAIN, "triton"])
def test_memory_layout_does_not_matter(back_end):
    need(back_end)
    inputs = draw(dtype=torch.float32, device=device_of(back_end))
    turned = {
        n: t.detach().transpose(0, -1).contiguous().transpose(0, -1).requires_grad_()
        for n, t in inputs.items()
    }
    assert not turned["u"].is_contiguous()

    def run(given):
        results = selective_scan(
            **given, delta_softplus=True, return_last_state=True, back_end=back_end
        )
        return [*results, *gradients(given, *results).values()]

    # torch sums in another order where memory lies otherwise: the last of seven digits.
    for one, other in zip(run(inputs), run(turned), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("back_end", [*PLAIN, "triton"])
def test_an_input_that_is_one_number_expanded_gets_the_gradient_of_all_its_places(back_end):
    need(back_end)
    inputs = draw(dtype=torch.float32, device=device_of(back_end))
    number = torch.tensor(0.5, device=device_of(back_end), requires_grad=True)
    places = torch.full_like(inputs["u"], 0.5).requires_grad_()

    def total(u):
        return selective_scan(**inputs | {"u": u}, delta_softplus=True, back_end=back_end).sum()

    total(number.expand_as(places)).backward()  # the sum hands back an expanded gradient as well
    total(places).backward()
    torch.testing.assert_close(number.grad, places.grad.sum(), rtol=1e-5, atol=1e-5)


class TestThreads:
    @pytest.fixture(autouse=True)
    def _three(self):
        before = torch.get_num_threads()
        torch.set_num_threads(3)
        yield
        torch.set_num_threads(before)

    @pytest.mark.parametrize("width", [1, 2, 4, 11])
    def test_numba_agrees_however_the_channels_are_dealt(self, width):
        assert_agrees("numba", EXACT, width=width, length=40)
        assert_agrees("numba", EXACT, width=width, length=40, B="fixed")

    def test_two_callers_at_once_get_their_own_results(self):
        cases = [draw(width=16, length=300, seed=seed) for seed in range(8)]

        def run(inputs):
            return selective_scan(**inputs, delta_softplus=True, back_end="numba")

        with ThreadPoolExecutor(4) as callers:
            together = list(callers.map(run, cases))
        for inputs, y in zip(cases, together, strict=True):
            assert torch.equal(y, run(inputs))

    def test_a_fork_finds_threads_of_its_own(self):
        """In a fresh process: torch's own threads, had others used them, may not survive a fork."""
        code = """
import os, torch
from mien.ops.selective_scan import selective_scan
torch.set_num_threads(3)
u, B, A = torch.randn(1, 16, 30), torch.randn(1, 4, 30), -torch.rand(16, 4)
def run():
    return selective_scan(u, u.abs(), A, B, B, back_end="numba")
expected = run()
child = os.fork()
if child == 0:
    os._exit(0 if torch.equal(run(), expected) else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr


def test_the_exponential_is_right_to_the_last_bits():
    from mien.ops import selective_scan_numba as module

    exp = module._compiled(module._exp_float32)
    drawn = torch.empty(2000).uniform_(-87, 88).tolist() + [0.0, -0.0, 88.2, -1e-9]
    for x in map(np.float32, drawn):
        true = math.exp(float(x))
        # x itself is exact; the polynomial and its scaling lose two bits of 24.
        assert abs(float(exp(x)) - true) <= 2**-21.5 * true, x
    assert math.isnan(exp(np.float32("nan")))


@pytest.mark.parametrize("back_end", PLAIN)
def test_gradients_equal_finite_differences(back_end):
    inputs = draw(batch=1, width=2, state=2, length=4)
    assert torch.autograd.gradcheck(
        lambda *tensors: selective_scan(
            **dict(zip(TENSORS, tensors, strict=True)),
            delta_softplus=True,
            return_last_state=True,
            back_end=back_end,
        ),
        tuple(inputs[name] for name in TENSORS),
    )


def test_constant_input_reaches_the_fixed_point_of_its_recurrence():
    # h = a h + step u with a = exp(-step) settles at step u / (1 - a).
    one = torch.ones(1, 1, 400, dtype=torch.float64)
    A = -torch.ones(1, 1, dtype=torch.float64)
    y = selective_scan(one * 3, one * 0.1, A, one, one)
    settled = 0.3 / (1 - torch.exp(torch.tensor(-0.1, dtype=torch.float64)))
    torch.testing.assert_close(y[0, 0, -1], settled)


@pytest.mark.parametrize("back_end", PLAIN)
def test_what_is_not_a_number_does_not_vanish(back_end):
    inputs = draw(batch=1, width=1, dtype=torch.float32)
    with torch.no_grad():
        inputs["delta"][0, 0, 3] = float("nan")
    y = selective_scan(**inputs, delta_softplus=True, back_end=back_end)
    assert y[..., :3].isfinite().all() and y[..., 3:].isnan().all()


@pytest.mark.parametrize("back_end", [*PLAIN, "triton"])
def test_the_same_inputs_give_the_same_bytes(back_end):
    need(back_end)

    def run():
        inputs = draw(width=4, length=50, dtype=torch.float32, device=device_of(back_end))
        y = selective_scan(**inputs, delta_softplus=True, back_end=back_end)
        y.square().sum().backward()
        return [y.detach(), *(tensor.grad for tensor in inputs.values())]

    for one, other in zip(run(), run(), strict=True):
        assert torch.equal(one, other)


class TestStreaming:
    def test_a_scan_in_two_parts_equals_one(self):
        inputs = draw(length=20, without=("initial_state",))
        whole, last = selective_scan(**inputs, delta_softplus=True, return_last_state=True)
        state, parts = None, []
        for part in (slice(0, 7), slice(7, 20)):
            cut = {n: t[..., part] if t.ndim == 3 else t for n, t in inputs.items()}
            y, state = selective_scan(
                **cut, delta_softplus=True, return_last_state=True, initial_state=state
            )
            parts.append(y)
        torch.testing.assert_close(torch.cat(parts, -1), whole)
        torch.testing.assert_close(state, last)

    @pytest.mark.parametrize("kind", ["varying", 2])
    def test_steps_equal_the_scan(self, kind):
        inputs = draw(B=kind, C=kind, length=9)
        whole, last = selective_scan(**inputs, delta_softplus=True, return_last_state=True)
        state = inputs.pop("initial_state")
        ys = []
        for t in range(9):
            now = {n: x[..., t] if x.ndim > 2 else x for n, x in inputs.items()}
            y, state = selective_scan_step(state, **now, delta_softplus=True)
            ys.append(y)
        torch.testing.assert_close(torch.stack(ys, -1), whole)
        torch.testing.assert_close(state, last)

    @torch.no_grad()
    def test_three_thousand_steps_equal_one_pass_in_flat_memory(self):
        inputs = draw(1, 8, 16, 3_000, dtype=torch.float32, without=("initial_state",))
        whole = selective_scan(**inputs, delta_softplus=True)
        state = torch.zeros(1, 8, 16)
        ys, alive = torch.empty_like(whole), []
        for t in range(3_000):
            now = {n: x[..., t] if x.ndim > 2 else x for n, x in inputs.items()}
            ys[..., t], state = selective_scan_step(state, **now, delta_softplus=True)
            if t in (1_000, 2_999):
                alive.append(sum(type(o) is torch.Tensor for o in gc.get_objects()))
        assert_near(ys, whole.double(), 1e-5, "y")
        assert alive[0] == alive[1]
        assert state.untyped_storage().nbytes() == 4 * 8 * 16  # no view of something larger


class TestWrongInputs:
    """Outside the suite nothing checks annotations, so the inputs check themselves."""

    @pytest.mark.parametrize(
        ("name", "shape"),
        [("delta", (2, 4, 6)), ("A", (5, 3)), ("B", (2, 3, 8)), ("C", (4, 2)), ("D", (3,)),
         ("z", (2, 4, 8)), ("initial_state", (2, 4, 4)), ("B", (2, 3, 4, 7))],
    )  # fmt: skip
    def test_a_shape_that_does_not_fit_is_named(self, name, shape):
        with pytest.raises(ValueError, match=rf"^{name} is .*, but must be .* for"):
            unchecked(**draw() | {name: torch.zeros(shape, dtype=torch.float64)})

    def test_groups_must_divide_the_channels(self):
        wrong = {"B": torch.zeros(2, 3, 3, 7, dtype=torch.float64)}
        with pytest.raises(ValueError, match="4 channels do not divide into the 3 groups of B"):
            unchecked(**draw() | wrong)

    def test_complex_decay_is_refused(self):
        inputs = draw()
        with pytest.raises(ValueError, match="A is complex"):
            unchecked(**inputs | {"A": torch.complex(inputs["A"], inputs["A"])})

    def test_nothing_to_scan_is_refused(self):
        with pytest.raises(ValueError, match="at least one time step"):
            unchecked(**draw(length=0))


def unchecked(**inputs) -> None:
    """`ScanInputs` of these, as outside the suite."""
    shell = object.__new__(ScanInputs)
    names = (*TENSORS, "delta_softplus")
    vars(shell).update(dict.fromkeys(names) | inputs | {"delta_softplus": True})
    ScanInputs.__post_init__(shell)


def test_softplus_of_a_large_step_is_the_step():
    inputs = {n: t.detach() for n, t in draw(length=1).items()}
    inputs["delta"] = torch.full_like(inputs["delta"], 30.0)
    y = selective_scan(**inputs, delta_softplus=True)
    torch.testing.assert_close(y, selective_scan(**inputs, delta_softplus=False))
    assert F.softplus(torch.tensor(30.0)) == 30.0


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
class TestOnTheGraphicsCard:
    """Sizes that the interpreter cannot reach, and the upstream kernel."""

    @pytest.mark.parametrize("length", [64, 333, 2000, 20_000])
    def test_triton_agrees_at_real_sizes(self, length):
        assert_agrees("triton", SINGLE, width=512, state=16, length=length, dtype=torch.float32)

    @pytest.mark.parametrize("length", [1, 64, 129, 333, 2000])
    def test_the_upstream_kernel_agrees(self, length):
        need("mamba_ssm")
        case = dict(width=32, state=16, length=length, dtype=torch.float32, device="cuda")
        inputs = draw(**case, without=("initial_state",))
        y = selective_scan(**inputs, delta_softplus=True, back_end="mamba_ssm")
        expected, _ = oracle(inputs)
        assert_near(y, expected, SINGLE, "y")
        actual, wanted = gradients(inputs, y, y), gradients(inputs, expected, expected)
        for name in inputs:
            assert_near(actual[name], wanted[name], SINGLE, f"gradient of {name}")
