"""Windows of clips: what is drawn, what the augmentation keeps, and that samples are functions."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from mien.data.clips import ClipCache
from mien.data.faces import FaceCache, face_model, fit_fingerprint
from mien.data.records import read_records
from mien.data.windows import (
    ClipFaces,
    FaceWindows,
    FixedWindows,
    WindowAugmentConfig,
    as_window,
    augment_window,
    collate_windows,
)
from mien.errors import UserError
from mien.loki.faces import coefficient_dims, coefficient_vectors, face_maps, mirrored_vectors
from mien.ops.warp import identity_grid
from mien.types import FaceWindow
from tests.face_model.faces import coefficients
from tests.loki.tiny import write_faces

STILL = WindowAugmentConfig(
    bend=0.0, stretch=0.0, turn=0.0, shift=0.0, flip=0.0, color=0.0, gamma=0.0, backdrop=0.0
)
SIZE = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_faces(folder)
    return folder


def cache(folder: Path) -> FaceCache:
    return FaceCache(folder, folder / "faces")


def windows(folder: Path, capacity: int = 0, **more) -> FaceWindows:
    records = read_records(folder, Path("train.jsonl"))
    clips = ClipCache(folder, SIZE, 10**8)
    faces = ClipFaces(cache(folder), SIZE, more.pop("positions", "projected"), capacity)
    given = {"length": 3, "stride": 4, "augmentation": WindowAugmentConfig()} | more
    return FaceWindows(records, clips, faces, balance=0.25, seed=3, **given)


def equal(one: FaceWindow, other: FaceWindow) -> bool:
    return all(torch.equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))


def test_a_sample_is_a_function_of_its_number_whatever_is_cached(folder: Path):
    fresh, kept = windows(folder), windows(folder, capacity=10**8)
    for index in (0, 5, 5, *range(9, 30)):
        assert equal(fresh[index], kept[index])
    assert not equal(kept[0], kept[5])


def test_kept_maps_are_those_that_are_drawn_in_use(folder: Path):
    """16 bits keep all that `face_maps` gives."""
    faces = ClipFaces(cache(folder), SIZE, "neutral", capacity=10**6)
    record = read_records(folder, Path("train.jsonl"))[0]
    for row in (0, 3):
        drawn = face_maps(face_model(), faces.of(record).at(np.array([row])), SIZE, "neutral")
        assert torch.equal(faces.maps(record, [row]), drawn)


def test_the_cache_of_maps_keeps_to_its_size(folder: Path):
    faces = ClipFaces(cache(folder), SIZE, "projected", capacity=5 * 2 * 7 * SIZE**2)
    record = read_records(folder, Path("train.jsonl"))[0]
    first = faces.maps(record, range(5))
    assert torch.equal(first, faces.maps(record, range(5)))
    faces.maps(record, [7, 8])
    assert [row for _, row in faces._maps] == [2, 3, 4, 7, 8]


def test_a_window_shows_frames_and_their_own_maps(folder: Path):
    data = windows(folder, augmentation=STILL)
    model = face_model()
    for index in range(4):
        window = data[index]
        record = next(
            r
            for r in read_records(folder, Path("train.jsonl"))
            if (coefficient_vectors(data.faces.of(r)) == window.reference_coefficients).all(1).any()
        )
        faces = data.faces.of(record)
        values = coefficient_vectors(faces)
        rows = [int((values == one).all(1).nonzero()) for one in window.coefficients[0]]
        assert len({np.diff(rows)[0], np.diff(rows)[-1]}) == 1 and 1 <= rows[1] - rows[0] <= 4
        wanted = face_maps(model, faces.at(np.array(rows)), SIZE, "projected")
        # Reading a picture at its own pixels.
        torch.testing.assert_close(window.maps[0], wanted, atol=0.02, rtol=2e-3)


def test_fixed_windows_are_spread_and_start_from_the_first_frame(folder: Path):
    records = read_records(folder, Path("valid.jsonl"))
    faces = ClipFaces(cache(folder), SIZE, "neutral")
    fixed = FixedWindows(records, ClipCache(folder, SIZE, 0), faces, 3, 2)
    assert len(fixed) == 4
    batch = collate_windows([fixed[i] for i in range(4)])
    assert batch.frames.shape == (4, 3, 3, SIZE, SIZE) and batch.maps.shape[2] == 7
    first = coefficient_vectors(faces.of(records[0]))
    assert torch.equal(batch.reference_coefficients[:2], first[[0, 0]])
    assert torch.equal(batch.coefficients[1], first[-3:])


def maps_and_pictures():
    maps = face_maps(face_model(), coefficients(face_model(), t=4, seed=3), SIZE, "projected")
    torch.manual_seed(0)
    # Pictures that show their own maps: whatever warps both alike keeps that.
    return maps, maps[:, 3:6].clamp(-1, 1) * 0.9, torch.randn(4, coefficient_dims(face_model()))


def test_pictures_and_maps_are_warped_alike():
    maps, pictures, values = maps_and_pictures()
    config = WindowAugmentConfig(flip=0.0, color=0.0, gamma=0.0, backdrop=0.0)
    window = augment_window(pictures, maps, values, True, config, torch.Generator().manual_seed(1))
    assert (window.maps[0] - maps[:-1]).abs().max() > 0.3
    shown, drawn = window.frames[0], window.maps[0, :, 3:6].clamp(-1, 1) * 0.9
    inside = window.maps[0, :, 6:].expand_as(shown).bool()
    assert (shown - drawn)[inside].abs().mean() < 0.02
    assert window.maps[0, :, :6].abs().amax(1)[window.maps[0, :, 6] == 0].max() == 0


def test_smaller_maps_are_warped_like_the_pictures():
    """Pictures of twice the maps' side that show them: they agree as at the same size."""
    maps, pictures, values = maps_and_pictures()
    large = torch.nn.functional.interpolate(pictures, scale_factor=2)
    config = WindowAugmentConfig(flip=0.0, color=0.0, gamma=0.0, backdrop=0.0)
    window = augment_window(large, maps, values, True, config, torch.Generator().manual_seed(1))
    assert window.frames.shape[-1] == 2 * SIZE and window.maps.shape[-1] == SIZE
    shown = torch.nn.functional.avg_pool2d(window.frames[0], 2)
    drawn = window.maps[0, :, 3:6].clamp(-1, 1) * 0.9
    inside = window.maps[0, :, 6:].expand_as(shown).bool()
    error = (shown - drawn)[inside].abs().mean()
    assert error < 0.05 < 0.1 < (shown - drawn.roll(2, dims=-1))[inside].abs().mean()
    own = identity_grid(SIZE, SIZE, like=maps).permute(2, 0, 1)
    torch.testing.assert_close(window.maps[0, :, :2], own * window.maps[0, :, 6:])


def test_projected_positions_stay_the_pixels_own_and_neutral_ones_go_with_the_picture():
    maps, pictures, values = maps_and_pictures()
    for projected in (True, False):
        config = WindowAugmentConfig(backdrop=0.0)
        generator = torch.Generator().manual_seed(2)
        window = augment_window(pictures, maps, values, projected, config, generator)
        own = identity_grid(SIZE, SIZE, like=maps).permute(2, 0, 1)
        covered = window.maps[0, :, 6:]
        same = ((window.maps[0, :, :2] - own) * covered).abs().max() < 1e-6
        assert bool(same) == projected


def test_mirrored_maps_are_those_of_the_mirror_image():
    maps, pictures, values = maps_and_pictures()
    flipped = WindowAugmentConfig(
        bend=0.0, stretch=0.0, turn=0.0, shift=0.0, flip=1.0, color=0.0, gamma=0.0, backdrop=0.0
    )
    window = augment_window(pictures, maps, values, True, flipped, torch.Generator())
    torch.testing.assert_close(window.frames[0], pictures[:-1].flip(-1), atol=1e-5, rtol=0)
    sign = torch.tensor([-1.0, 1, 1, -1, 1, 1, 1])[:, None, None]
    torch.testing.assert_close(window.maps[0], maps[:-1].flip(-1) * sign, atol=0.05, rtol=0)
    names = face_model().expression_names
    torch.testing.assert_close(window.coefficients[0], mirrored_vectors(values, names)[:-1])


def test_mirroring_values_twice_changes_nothing_and_swaps_sides():
    names = face_model().expression_names
    values = torch.randn(3, coefficient_dims(face_model()))
    once = mirrored_vectors(values, names)
    torch.testing.assert_close(mirrored_vectors(once, names), values)
    left, right = names.index("mouthSmileLeft"), names.index("mouthSmileRight")
    assert torch.equal(once[:, left], values[:, right])
    assert torch.equal(once[:, names.index("jawOpen")], values[:, names.index("jawOpen")])
    turn = len(names) + 1  # yaw
    assert torch.equal(once[:, turn], -values[:, turn])


def test_a_blue_screen_is_replaced_alike_in_all_frames():
    maps, _, values = maps_and_pictures()
    screen = torch.tensor([-0.9, -0.4, 0.9])[:, None, None].expand(3, SIZE, SIZE).clone()
    screen[:, 10:, 8:24] = torch.tensor([0.6, 0.2, 0.0])[:, None, None]
    pictures = screen.expand(4, -1, -1, -1)
    config = WindowAugmentConfig(
        bend=0.0, stretch=0.0, turn=0.0, shift=0.0, flip=0.0, color=0.0, gamma=0.0, backdrop=1.0
    )
    window = augment_window(pictures, maps, values, True, config, torch.Generator().manual_seed(0))
    assert (window.frames[0] - screen)[:, :, :8].abs().mean() > 0.2
    assert torch.equal(window.frames[0, 0], window.reference[0])


def test_a_clip_without_a_face_is_left_out(folder: Path, tmp_path: Path):
    record = read_records(folder, Path("train.jsonl"))[0]
    faces = FaceCache(folder, tmp_path / "faces")
    faces.keep(record, None)
    assert faces.read(record) is None
    with pytest.raises(ValueError, match="shows no face"):
        ClipFaces(faces, SIZE, "projected").of(record)


def test_another_fit_is_another_cache(folder: Path, tmp_path: Path, monkeypatch):
    record = read_records(folder, Path("train.jsonl"))[0]
    kept = coefficients(face_model(), t=5)
    FaceCache(folder, tmp_path / "faces").keep(record, kept)
    known = FaceCache(folder, tmp_path / "faces").read(record)
    assert known is not None and np.array_equal(known.expression, kept.expression)
    monkeypatch.setattr("mien.data.faces.FIT_VERSION", -1)
    later = FaceCache(folder, tmp_path / "faces")
    later.extract([record])
    fitted = later.read(record)
    assert fitted is None or not np.array_equal(fitted.expression, kept.expression)
    assert len({path.parent for path in (tmp_path / "faces").rglob("*.npz")}) == 2


def test_another_face_model_is_another_cache(tmp_path: Path, monkeypatch):
    before = fit_fingerprint()
    (tmp_path / "other.npz").write_bytes(b"another model")
    monkeypatch.setattr("mien.data.faces.FACE_MODEL", tmp_path / "other.npz")
    assert fit_fingerprint() != before


def test_no_clip_with_a_face_is_refused(folder: Path, tmp_path: Path):
    from mien.data.loki_data import LokiData
    from mien.data.specs import WindowSpec

    faces = FaceCache(folder, tmp_path / "faces")
    for name in ("train", "valid"):
        for record in read_records(folder, Path(f"{name}.jsonl")):
            faces.keep(record, None)
    data = LokiData(str(folder), faces=tmp_path / "faces", spec=WindowSpec(SIZE, SIZE, 3))
    data.prepare_data()
    with pytest.raises(UserError, match="3 frames of model.loki.window"):
        data.setup("fit")


def test_the_last_frame_is_the_reference():
    maps, pictures, values = maps_and_pictures()
    window = as_window(pictures, maps, values)
    assert torch.equal(window.reference[0], pictures[-1])
    assert torch.equal(window.frames[0], pictures[:-1])
