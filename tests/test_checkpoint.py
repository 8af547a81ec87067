"""Files of weights describe themselves, survive being halved, and refuse what does not fit."""

import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from mien.checkpoint import (
    ANIMATOR,
    SPEECH_TO_MOTION,
    load_animator,
    load_speech_to_motion,
    motion_fingerprint,
)
from mien.errors import UserError
from mien.kinds import (
    Kind,
    current_state,
    describe,
    fingerprint,
    kind_named,
    load,
    read_weights,
    refuse_other_run,
    register,
    save_weights,
    to_float16,
    use_current_names,
)
from mien.motion.sampling import SamplingConfig
from tests.portrait.tiny import TINY, pictures, tiny_animator
from tests.tiny_nets import TINY_SPEECH, save_net, save_tiny_pair, tiny_pair


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[Path, Path]:
    return save_tiny_pair(tmp_path_factory.mktemp("pair"))


def test_animator_comes_back_the_same(pair):
    saved, _ = tiny_pair()
    loaded = load_animator(pair[0])
    assert loaded.config == saved.config == TINY
    assert not loaded.training
    torch.testing.assert_close(
        loaded.encode_motion(pictures(2)), saved.encode_motion(pictures(2)), rtol=0, atol=0
    )


def test_speech_to_motion_comes_back_the_same(pair):
    _, saved = tiny_pair()
    loaded = load_speech_to_motion(pair[1], motion_fingerprint(load_animator(pair[0]).state_dict()))
    assert loaded.config == TINY_SPEECH
    assert fingerprint(loaded.state_dict()) == fingerprint(saved.state_dict())
    assert all(
        torch.equal(a, b) for a, b in zip(loaded.parameters(), saved.parameters(), strict=True)
    )


def test_sampling_settings_are_those_of_the_training_run(pair, tmp_path):
    path, weights = tmp_path / "speech.safetensors", read_weights(pair[1])
    save_weights(path, replace(weights, sampling=None))
    assert load_speech_to_motion(path).sampling == SamplingConfig()
    for settings in (SamplingConfig.preset("paper"), SamplingConfig(steps=3, crossfade=0)):
        save_weights(path, to_float16(replace(weights, sampling=asdict(settings))))
        assert load_speech_to_motion(path).sampling == settings != SamplingConfig()
    for wrong in ({"steps": 0}, {"sampler": "dpm"}, {"strides": 3}):
        save_weights(path, replace(weights, sampling=wrong))
        with pytest.raises(UserError, match="speech.safetensors has sampling settings that"):
            load_speech_to_motion(path)


def test_half_the_size_keeps_the_fingerprint(pair, tmp_path):
    whole = read_weights(pair[0])
    save_weights(tmp_path / "half.safetensors", to_float16(whole))
    half = read_weights(tmp_path / "half.safetensors", ANIMATOR)
    assert half.fingerprint == whole.fingerprint
    sizes = [p.stat().st_size for p in (pair[0], tmp_path / "half.safetensors")]
    assert sizes[1] < 0.6 * sizes[0]
    animator = load_animator(tmp_path / "half.safetensors")
    assert {p.dtype for p in animator.parameters()} == {torch.float32}
    assert fingerprint(animator.state_dict()) == whole.fingerprint


def test_fingerprint_tells_weights_names_and_shapes_apart():
    state = {"a": torch.arange(6.0), "b": torch.ones(2)}
    prints = {
        fingerprint(state),
        fingerprint(state | {"a": torch.arange(6.0) + 0.01}),
        fingerprint({"c": state["a"], "b": state["b"]}),
        fingerprint(state | {"a": torch.arange(6.0).view(2, 3)}),
    }
    assert len(prints) == 4
    assert fingerprint(dict(reversed(state.items()))) == fingerprint(state)
    assert fingerprint(state | {"b": torch.ones(2) + 1e-5}) == fingerprint(state)
    zeros = torch.zeros(3)
    assert fingerprint({"a": -zeros}) == fingerprint({"a": zeros})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state, key: state.pop(key), "lacks the key {key}"),
        (lambda state, key: state.update(spare=torch.ones(1)), "has the unknown key spare"),
    ],
)
def test_removed_and_unknown_keys_are_named(pair, tmp_path, change, words: str):
    weights = read_weights(pair[0])
    state = dict(weights.state)
    key = sorted(state)[0]
    change(state, key)
    path = tmp_path / "other.safetensors"
    save_weights(path, replace(weights, state=state, fingerprint=fingerprint(state)))
    with pytest.raises(UserError, match=words.format(key=key)):
        load_animator(path)


def test_shape_that_does_not_fit_is_named(pair, tmp_path):
    weights = read_weights(pair[0])
    name = sorted(weights.state)[0]
    state = weights.state | {name: torch.ones(3, 3, 3)}
    path = tmp_path / "shape.safetensors"
    save_weights(path, replace(weights, state=state, fingerprint=fingerprint(state)))
    with pytest.raises(UserError, match=rf"{name} as \(3, 3, 3\)"):
        load_animator(path)


def test_other_stage_1_is_refused_with_both_fingerprints(pair):
    bound_to = read_weights(pair[1]).animator_fingerprint
    with pytest.raises(UserError, match=f"{bound_to}.*0123456789abcdef: add --speech"):
        load_speech_to_motion(pair[1], "0123456789abcdef")


def test_kinds_are_not_mistaken(pair):
    with pytest.raises(UserError, match="kind animator, but speech_to_motion is expected"):
        load_speech_to_motion(pair[0], "")


def test_config_of_another_version_is_named(pair, tmp_path):
    weights = read_weights(pair[0])
    path = tmp_path / "old.safetensors"
    save_weights(path, replace(weights, config=weights.config | {"regionz": 4}))
    with pytest.raises(UserError, match="regionz"):
        load_animator(path)


def foreign(kind: str, path: Path, pair: tuple[Path, Path]) -> None:
    good = pair[0].read_bytes()
    if kind == "text":
        path.write_text("these are no weights\n")
    elif kind == "empty":
        path.touch()
    elif kind == "cut":
        path.write_bytes(good[: len(good) // 2])
    elif kind == "another project's checkpoint":
        torch.save({"state_dict": {"a": torch.ones(2)}}, path)
    elif kind == "a tensor":
        torch.save(torch.ones(2), path)
    elif kind == "pickled code":
        torch.save({"kind": Path}, path)
    elif kind == "flipped bits":
        path.write_bytes(good[:-1000] + bytes(b ^ 0xFF for b in good[-1000:]))
    elif kind == "folder":
        path.mkdir()


@pytest.mark.parametrize(
    "kind",
    ["text", "empty", "cut", "another project's checkpoint", "a tensor", "pickled code"]
    + ["flipped bits", "folder", "missing"],
)
def test_damaged_and_foreign_files_are_named(pair, tmp_path, kind: str):
    path = tmp_path / "file.ckpt"
    foreign(kind, path, pair)
    with pytest.raises(UserError, match=r"file\.ckpt"):
        load_animator(path)


def test_failed_write_leaves_the_old_file_and_nothing_else(pair, tmp_path, monkeypatch):
    path = tmp_path / "animator.safetensors"
    save_net(path, ANIMATOR, tiny_pair()[0])
    before = path.read_bytes()

    def full_disk(state, file, metadata):
        Path(file).write_bytes(b"half of it")
        raise OSError("no space left")

    monkeypatch.setattr("mien.kinds.save_file", full_disk)
    with pytest.raises(OSError, match="no space"):
        save_net(path, ANIMATOR, tiny_pair()[0])
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_what_draws_may_be_trained_on_beside_a_stage_2():
    animator = tiny_animator()
    state = animator.state_dict()
    drawn = {k: v + k.startswith(("frame_decoder.", "dense_motion.")) for k, v in state.items()}
    seen = {k: v + k.startswith("motion_encoder.") for k, v in state.items()}
    assert motion_fingerprint(drawn) == motion_fingerprint(state) != motion_fingerprint(seen)
    assert fingerprint(drawn) != fingerprint(state)


def test_files_older_than_a_number_load_to_the_net_that_was_saved(pair, tmp_path):
    """Before there were meshes no file said that it has none."""
    for path, load_it, younger in (
        (pair[0], load_animator, ("guide", "field_sees_volume", "motion_pooling")),
        (pair[1], load_speech_to_motion, ("mesh", "direct_head")),
    ):
        weights = read_weights(path)
        older = {key: value for key, value in weights.config.items() if key not in younger}
        save_weights(tmp_path / path.name, replace(weights, config=older))
        loaded, saved = load_it(tmp_path / path.name), load_it(path)
        assert loaded.config == saved.config
        assert fingerprint(loaded.state_dict()) == weights.fingerprint


@pytest.mark.parametrize("number", [0, 1])
def test_what_ships_is_loaded_to_the_bit(shipped, number: int):
    path = shipped[number]
    net = (load_animator, load_speech_to_motion)[number](path)
    kept = load_file(path)
    assert any(name not in net.state_dict() for name in kept), "some have other names now"
    kept = current_state(read_weights(path))
    state = net.state_dict()
    assert state.keys() == kept.keys()
    for name, value in kept.items():
        wide = value.float() if value.is_floating_point() else value
        assert torch.equal(state[name], wide), name


@dataclass(frozen=True)
class BlinkConfig:
    width: int = 3
    depth: int = 1
    gated: bool = True


class BlinkNet(nn.Module):
    def __init__(self, config: BlinkConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(nn.Linear(config.width, 2) for _ in range(config.depth))
        self.gate = nn.Linear(config.width, 1) if config.gated else None


BLINKS = register(Kind("blinks", BlinkConfig, BlinkNet, "blinking", {"gated": False}))


class TestAThirdKind:
    """Another system's weights, through the same functions and the same refusals."""

    def training_checkpoint(self, folder: Path, config: BlinkConfig) -> tuple[Path, BlinkNet]:
        net = BlinkNet(config)
        state = {f"blinking.{name}": value for name, value in net.state_dict().items()}
        checkpoint = {"state_dict": state | {"critic.weight": torch.ones(2)}}
        describe(checkpoint, BLINKS, config)
        torch.save(checkpoint, folder / "last.ckpt")
        return folder / "last.ckpt", net

    def test_it_comes_back_from_training_and_as_it_ships(self, tmp_path: Path):
        path, net = self.training_checkpoint(tmp_path, BlinkConfig(width=5, depth=2))
        save_weights(tmp_path / "half.safetensors", to_float16(read_weights(path)))
        for file in (path, tmp_path / "half.safetensors"):
            loaded = load(file, BLINKS)
            assert loaded.config == net.config and not loaded.training
            assert fingerprint(loaded.state_dict()) == fingerprint(net.state_dict())
        whole = load(path, BLINKS).state_dict()
        assert all(torch.equal(whole[name], value) for name, value in net.state_dict().items())

    def test_other_kinds_are_refused_both_ways(self, pair, tmp_path: Path):
        path, _ = self.training_checkpoint(tmp_path, BlinkConfig())
        with pytest.raises(UserError, match="of the kind blinks, but animator is expected"):
            load_animator(path)
        with pytest.raises(UserError, match="of the kind animator, but blinks is expected"):
            load(pair[0], BLINKS)

    def test_keys_numbers_and_bytes_that_do_not_fit_are_named(self, tmp_path: Path):
        path, net = self.training_checkpoint(tmp_path, BlinkConfig())
        weights = read_weights(path)
        other = tmp_path / "other.safetensors"
        save_weights(other, replace(weights, config={"width": 3, "heigth": 4}))
        with pytest.raises(UserError, match="heigth"):
            load(other, BLINKS)
        save_weights(other, replace(weights, config={"width": 4, "gated": True}))
        with pytest.raises(UserError, match=r"gate.weight as \(1, 3\)"):
            load(other, BLINKS)
        save_weights(other, replace(weights, config={"width": 3}))  # before there were gates
        with pytest.raises(UserError, match="has the unknown key gate.bias and 1 more"):
            load(other, BLINKS)
        save_weights(other, replace(weights, fingerprint="0" * 16))
        with pytest.raises(UserError, match="is damaged"):
            load(other, BLINKS)

    def test_a_run_goes_on_only_with_its_own_numbers(self, tmp_path: Path):
        path, _ = self.training_checkpoint(tmp_path, BlinkConfig(gated=False))
        checkpoint = torch.load(path, weights_only=True)
        refuse_other_run(checkpoint, BLINKS, BlinkConfig(gated=False))
        with pytest.raises(UserError, match="has width 3, the config says 4"):
            refuse_other_run(checkpoint, BLINKS, BlinkConfig(width=4, gated=False))
        with pytest.raises(UserError, match="kind blinks, this stage trains animator"):
            refuse_other_run(checkpoint, ANIMATOR, TINY)
        del checkpoint["config"]["gated"]  # as older runs wrote it
        refuse_other_run(checkpoint, BLINKS, BlinkConfig(gated=False))

    def test_two_kinds_of_one_name_are_refused(self):
        assert register(BLINKS) is BLINKS
        with pytest.raises(ValueError, match="two kinds of weights are named blinks"):
            register(replace(BLINKS, part="net"))


def test_a_kind_is_known_by_its_name_before_its_system_is_imported(tmp_path: Path):
    animator = tiny_animator()
    state = {f"animator.{name}": value for name, value in animator.state_dict().items()}
    checkpoint = {"state_dict": state}
    describe(checkpoint, ANIMATOR, animator.config)
    torch.save(checkpoint, tmp_path / "last.ckpt")
    code = (
        "import sys; from pathlib import Path; from mien.kinds import read_weights; "
        "assert 'mien.checkpoint' not in sys.modules; "
        "print(read_weights(Path(sys.argv[1])).kind)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "last.ckpt")]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "animator\n"
    assert kind_named("speech_to_motion") is SPEECH_TO_MOTION


def test_an_unknown_kind_is_no_checkpoint_of_mien(tmp_path: Path):
    torch.save({"kind": "dances", "config": {}, "state_dict": {}}, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match=r"last\.ckpt is not a checkpoint of mien"):
        read_weights(tmp_path / "last.ckpt")


def test_a_run_of_an_older_version_is_resumed_under_the_names_of_now():
    old = {"speech.denoiser.inwards.weight": torch.ones(1), "speech.space.basis": torch.ones(2)}
    checkpoint = {"state_dict": dict(old), "current_model_state": dict(old)}
    use_current_names(checkpoint, SPEECH_TO_MOTION)
    for state in checkpoint.values():
        assert set(state) == {"speech.denoiser.in_proj.weight", "speech.space.basis"}
