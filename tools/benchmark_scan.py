#!/usr/bin/env python
"""Benchmark of the selective scan: time, memory and error of each back end.

    python tools/benchmark_scan.py [--lengths 250 1000 5000 20000] [--widths 256 512 2048]
                                   [--back-ends reference numba] [--device cpu] [--threads N]
                                   [--json FILE]

Each case is one sequence with a state of 16, all options on, float32. Times are the best of three;
the error is the largest against float64, relative to the largest value, of the output and of every
gradient; GB/s is the least memory traffic of the forward pass over its time, and `copying` the
bandwidth of a memory copy. `upstream_loop` is mamba-ssm's own `selective_scan_ref`, where it is
installed.
"""

import argparse
import json
import math
import sys
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from mien.command_line import Parser, run_guarded
from mien.devices import add_device_option, choose_device, synchronize

if TYPE_CHECKING:
    import torch

STATE = 16
COPIED = 2**28  # bytes; far more than a cache holds
UPSTREAM = "upstream_loop"
# Largest length times width that is measured, and why.
LARGEST = {"reference": 5000 * 2048, UPSTREAM: 1000 * 512}
TOO_LARGE = {
    "reference": "it keeps every state, tens of GB",
    UPSTREAM: "autograd writes all steps for every step, which takes minutes",
}


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = Parser(description="How fast is the selective scan here, back end by back end?")
    parser.add_argument("--lengths", type=int, nargs="+", default=[250, 1000, 5000, 20000])
    parser.add_argument("--widths", type=int, nargs="+", default=[256, 512, 2048])
    parser.add_argument("--back-ends", nargs="+", help="by name (default: all that work)")
    add_device_option(parser)
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    return run_guarded(lambda: measure(parser.parse_args(argv)))


def measure(given: argparse.Namespace) -> None:
    """Print a row for each case and back end."""
    import torch

    from mien.ops.selective_scan import SELECTIVE_SCAN
    from mien.report import machine

    if given.threads:
        torch.set_num_threads(given.threads)
    device = choose_device(given.device)
    scans = {
        name: _scan_on(name) for name in given.back_ends or _working(SELECTIVE_SCAN, device.type)
    }
    if not given.back_ends and (upstream := upstream_loop()) is not None:
        scans[UPSTREAM] = upstream
    print(
        f"machine  {machine(device)}, torch {torch.__version__}, {torch.get_num_threads()} threads"
    )
    print(f"state    {STATE}, batch 1, float32")
    copying = copying_speed(device)
    print(f"copying  {copying:.1f} GB/s read and written\n")
    print(f"{'length':>7}{'width':>7}  {'back end':16}{'first s':>9}{'forward ms':>12}"
          f"{'both ms':>10}{'MB':>8}{'error':>10}{'GB/s':>8}")  # fmt: skip
    rows = []
    # Both agree with the recurrence written out to 1e-12 (tests/ops); numba's memory stays small.
    oracle = "reference" if SELECTIVE_SCAN.problems()["numba"] else "numba"
    for width in given.widths:
        for length in given.lengths:
            exact = _results(
                _scan_on(oracle), _case(width, length, choose_device("cpu"), torch.float64)
            )
            for name, scan in scans.items():
                if length * width > LARGEST.get(name, math.inf):
                    print(f"{length:7}{width:7}  {name:16} skipped: {TOO_LARGE[name]}")
                    continue
                rows.append(_row(name, scan, width, length, device, exact))
    if given.json is not None:
        named = {"machine": machine(device), "torch": torch.__version__,
                 "copying_gb_s": copying, "rows": rows}  # fmt: skip
        given.json.write_text(json.dumps(named, indent=1) + "\n", encoding="utf-8")


def _row(
    name: str, scan: Callable, width: int, length: int, device: "torch.device", exact: list
) -> dict:
    import torch

    from mien.report import best_time

    case = _case(width, length, device, torch.float32)
    begin = time.perf_counter()
    results = _results(scan, case)
    synchronize(device)
    first = time.perf_counter() - begin
    error = max(
        ((got.double().cpu() - true).abs().max() / true.abs().max()).item()
        for got, true in zip(results, exact, strict=True)
    )
    with torch.no_grad():
        forward = best_time(lambda: scan(case), device)
    before = _reset_peak(device)
    both = best_time(lambda: _results(scan, case), device)
    memory = (_peak(device) - before) / 1e6 if before else math.nan
    # What must be read and written at the least: u, delta, z and y, and B and C once.
    moved = 4 * (4 * width * length + 2 * STATE * length)
    row = dict(
        length=length, width=width, back_end=name, first_s=first, forward_ms=1e3 * forward,
        both_ms=1e3 * both, memory_mb=None if math.isnan(memory) else memory,
        error=error, forward_gb_s=moved / forward / 1e9,
    )  # fmt: skip
    print(f"{length:7}{width:7}  {name:16}{first:9.2f}{1e3 * forward:12.2f}{1e3 * both:10.2f}"
          f"{memory:8.0f}{error:10.1e}{row['forward_gb_s']:8.2f}", flush=True)  # fmt: skip
    return row


def copying_speed(device: "torch.device") -> float:
    """Memory bandwidth of a copy, GB/s read and written."""
    import torch

    from mien.report import best_time

    here = torch.ones(COPIED, dtype=torch.uint8, device=device)
    there = torch.empty_like(here)
    return 2 * COPIED / best_time(lambda: there.copy_(here), device) / 1e9


def _working(operation, device: str) -> list[str]:
    """The back ends that can be used on this device."""
    with warnings.catch_warnings(action="ignore"):  # `mien doctor` tells what is broken
        problems = operation.problems()
    serving = (b.name for b in operation.back_ends if b.serves(device))
    return [name for name in serving if problems[name] is None]


def _scan_on(name: str) -> Callable:
    from mien.ops.selective_scan import selective_scan

    return lambda case: selective_scan(**case, delta_softplus=True, back_end=name)


def upstream_loop() -> Callable | None:
    """mamba-ssm's own reference, if it is installed; if its compiled parts are not, it is imported
    with stubs for them, and both are removed from sys.modules again.
    """
    absent = [n for n in ("selective_scan_cuda", "causal_conv1d_cuda") if find_spec(n) is None]
    sys.modules.update({name: ModuleType(name) for name in absent})
    try:
        from mamba_ssm.ops.selective_scan_interface import (  # pyright: ignore
            selective_scan_ref,
        )
    except Exception as error:  # an unbuilt package may raise anything
        print(f"without {UPSTREAM}: {type(error).__name__}: {error}")
        return None
    finally:
        for name in list(sys.modules) if absent else ():
            if name in absent or name.split(".")[0] in ("mamba_ssm", "causal_conv1d"):
                del sys.modules[name]
    return lambda case: selective_scan_ref(**case, delta_softplus=True)


def _case(width: int, length: int, device: "torch.device", dtype) -> dict:
    """All arguments, drawn in float32 whatever the type is."""
    import torch

    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int):
        return torch.randn(*shape, generator=generator)

    case = dict(
        u=normal(1, width, length), delta=normal(1, width, length) - 3,
        A=-torch.arange(1.0, STATE + 1).repeat(width, 1),
        B=normal(1, STATE, length), C=normal(1, STATE, length), D=normal(width),
        z=normal(1, width, length), delta_bias=normal(width),
    )  # fmt: skip
    return {name: value.to(device, dtype).requires_grad_() for name, value in case.items()}


def _results(scan: Callable, case: dict) -> list:
    """The output and every gradient."""
    import torch

    y = scan(case)
    weight = torch.linspace(-1, 1, y.shape[-1], dtype=y.dtype, device=y.device)
    return [y.detach(), *torch.autograd.grad((y * weight).sum(), list(case.values()))]


def _reset_peak(device: "torch.device") -> int:
    """Reset the peak memory; returns the bytes in use."""
    import torch

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    refs = Path("/proc/self/clear_refs")
    if refs.exists():
        refs.write_text("5", encoding="ascii")
    return _peak(device)


def _peak(device: "torch.device") -> int:
    """Peak memory in bytes since `_reset_peak` (on the CPU: resident set, Linux only)."""
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    lines = status.read_text(encoding="ascii").splitlines()
    return 1024 * next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


if __name__ == "__main__":
    sys.exit(main())
