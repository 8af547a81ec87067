"""House rules that no single file shows: who may import whom, and where heavy things enter."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "mien"
FILES = sorted(PACKAGE.rglob("*.py"))

# Imports point strictly down; portrait and motion are siblings and never meet.
LAYERS = {
    -1: ("types", "errors", "_compat"),
    0: ("config", "devices", "overlays", "paths"),
    1: ("ops", "presets"),
    2: ("nn", "diffusion", "media", "face", "report"),
    3: ("audio", "mesh", "command_line", "kinds"),
    4: ("portrait", "motion", "face_model"),
    5: ("checkpoint", "metrics", "loki"),
    6: ("data", "engines"),
    7: ("training", "session"),
    8: ("pipeline", "jobs"),
    9: ("infer", "reenactment", "doctor", "face_fitting"),
    10: (
        "motion_export",
        "curve_driving",
        "demo",
        "graph_export",
        "prepare",
        "evaluation",
        "recipe",
    ),
    11: ("make_pairs",),
    12: ("cli",),
    13: ("__main__",),
}
LAYER_OF = {name: layer for layer, names in LAYERS.items() for name in names}

# Third parties that are heavy, optional or replaceable, and the only places where they may enter.
IMPORTERS = {
    "lightning": (
        "data/portrait_data",
        "data/speech_data",
        "data/loki_data",
        "data/loading",
        "training/",
        "cli",
    ),
    "torchvision": ("training/perceptual",),
    "timm": ("portrait/motion_encoder",),
    "diffusers": ("loki/backbone", "loki/space"),
    "torchaudio": ("audio/pretrained",),
    "h5py": ("training/perceptual",),
    "av": ("media",),
    "cv2": (
        "data/colors",
        "data/loading",
        "data/flow",
        "face/",
        "mesh/",
        "prepare/",
        "evaluation/masks",
    ),
    "silero_vad": ("audio/voice_activity",),
    "pillow_heif": ("media",),
    "PIL": ("media", "prepare/cutting"),
    "soundfile": ("media",),
    "soxr": ("media",),
    "librosa": (),
    "ai_edge_litert": ("face",),
    "skimage": ("demo", "face"),
    "mamba_ssm": ("ops/",),
    "causal_conv1d": ("ops/",),
    "triton": ("ops/",),
    "numba": ("ops/",),
    "wandb": (),
    "torchmetrics": ("metrics", "evaluation/metrics", "training/"),
    "omegaconf": ("config", "overlays", "presets", "prepare/"),
    "jsonargparse": ("cli", "training/"),
    "tqdm": (
        "command_line",
        "demo",
        "data/",
        "prepare/",
        "evaluation/gather",
        "make_pairs/command",
    ),
    "ray": ("prepare/engine",),
    "dlib": ("face/identity",),
    "hama": ("evaluation/phonemes",),
    "fsspec": ("data/store",),
    "openvino": ("engines/",),
    "onnx": ("engines/",),
    "onnxscript": ("engines/onnx", "graph_export"),
    "onnxruntime": ("engines/",),
}
# These are optional: never at the top of a file, so that importing mien does not need them.
LATE = (
    "silero_vad",
    "pillow_heif",
    "timm",
    "diffusers",
    "torchaudio",
    "h5py",
    "torchvision",
    "mamba_ssm",
    "causal_conv1d",
    "triton",
    "numba",
    "ray",
    "dlib",
    "hama",
    "openvino",
    "onnx",
    "onnxscript",
    "onnxruntime",
)
# Files that are made of one of them; they are themselves imported late.
MADE_OF = {
    "engines/onnxruntime": "onnxruntime",
    "engines/openvino": "openvino",
    "engines/openvino_sampling": "openvino",
    "engines/partition": "openvino",
    "mesh/person_numba": "numba",
    "ops/normalization_numba": "numba",
    "ops/numba_compiler": "numba",
    "ops/rasterize_numba": "numba",
    "ops/sampling_numba": "numba",
    "ops/selective_scan_numba": "numba",
    "ops/selective_scan_triton": "triton",
    "ops/selective_scan_triton_kernels": "triton",
    "portrait/composition_numba": "numba",
    "portrait/region_inputs_numba": "numba",
}


def imports_of(file: Path, nodes: list[ast.stmt] | None = None) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in nodes if nodes is not None else ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            names.add(str(node.module))
            if node.module == "mien":
                names.update(f"mien.{alias.name}" for alias in node.names)
    return names


def name_of(file: Path) -> str:
    return file.relative_to(PACKAGE).with_suffix("").as_posix()


def part_of(name: str) -> str:
    return name.split("/")[0]


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_imports_point_strictly_down(file: Path):
    here = part_of(name_of(file))
    if here == "__init__":  # the public names, each loaded on first use
        return
    for imported in imports_of(file):
        top, _, rest = imported.partition(".")
        there = rest.split(".")[0]
        if top != "mien" or not there or there == here:
            continue
        assert LAYER_OF[there] < LAYER_OF[here], (
            f"{here} (layer {LAYER_OF[here]}) imports {there} (layer {LAYER_OF[there]})"
        )


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_third_parties_are_imported_where_they_may_be(file: Path):
    here = name_of(file)
    for imported in imports_of(file):
        package = imported.split(".")[0]
        if package in IMPORTERS:
            importers = IMPORTERS[package]
            inside = [
                here == importer or here.startswith(importer.rstrip("/") + "/")
                for importer in importers
            ]
            assert any(inside), (
                f"{here} imports {package}; it may be imported by {importers or 'none'}"
            )


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_optional_third_parties_are_imported_late(file: Path):
    here = name_of(file)
    top_level = imports_of(file, ast.parse(file.read_text(encoding="utf-8")).body)
    early = {name.split(".")[0] for name in top_level} & set(LATE) - {MADE_OF.get(here)}
    if here not in MADE_OF:
        early |= {f"mien.{name.replace('/', '.')}" for name in MADE_OF} & top_level
    assert not early, f"{here} imports {early} at its top"


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_files_and_functions_stay_small(file: Path):
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300, "find the second idea in this file"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
            lines = (node.end_lineno or 0) - body[0].lineno + 1
            assert lines <= 50, f"{node.name} has {lines} lines: find the second idea in it"


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_files_say_what_they_are_and_keep_the_style(file: Path):
    text = file.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), "a file opens with what it is"
    assert "from __future__" not in text, "postponed annotations hide shapes from the checks"
    assert "TODO" not in text and "FIXME" not in text


def test_no_drawer_files():
    drawers = {"utils", "util", "common", "helpers", "core", "misc", "tools"}
    assert not drawers & {part for file in FILES for part in file.with_suffix("").parts[-2:]}


def test_repository_names_no_machine():
    suffixes = {".py", ".md", ".yaml", ".toml", ".txt", ".jsonl"}
    files = [ROOT / "Makefile", *ROOT.glob("*.*"), *ROOT.glob(".ci/*")]
    for folder in ("src", "tools", "configs", "tests", "data_manifests"):
        files += (ROOT / folder).rglob("*")
    words = ("/work" + "/", "/opt/" + "pypi", "/root" + "/", "/home" + "/")
    for file in files:
        if file.is_file() and (file.suffix in suffixes or file.name in ("Makefile", "run")):
            text = file.read_text(encoding="utf-8")
            assert not [word for word in words if word in text], f"{file} names a machine's path"
