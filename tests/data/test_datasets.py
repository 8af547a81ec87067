"""Samples are functions of their number, people count alike, windows line up with their sound."""

from collections import Counter
from dataclasses import fields, replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from mien.audio.features import SAMPLES_PER_FRAME, STEPS_PER_FRAME
from mien.audio.pretrained import FrontEndConfig
from mien.data.augment import AugmentConfig
from mien.data.datasets import (
    ClipCache,
    FixedPairs,
    FramePairs,
    People,
    collate_pairs,
    far_frames,
    frames_around,
    mouth_map,
    sample_generator,
    to_picture,
)
from mien.data.drawn import write_clips
from mien.data.latents import (
    extract,
    extract_all,
    latents_name,
    motion_examples,
    read,
    resting_frames,
)
from mien.data.loading import SampleNumbers
from mien.data.manifest import ClipRecord, write_manifest
from mien.data.records import data_root, read_records
from mien.data.speech import (
    FixedWindows,
    SpeechClips,
    VoiceConfig,
    WindowSpec,
    add_noise,
    collate_speech,
    vtlp,
)
from mien.errors import UserError
from tests.portrait.tiny import tiny_animator

WINDOW = WindowSpec(frames=12, history=4, front_end=FrontEndConfig())
SILENT_CHANGE = VoiceConfig(noise=0.0, vtlp=0.0)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder, "train", people=3, clips=2, frames=30, size=64, seed=0)
    return folder


@pytest.fixture(scope="module")
def records(clips) -> list[ClipRecord]:
    return read_records(clips, Path("train.jsonl"))


@pytest.fixture(scope="module")
def folder(clips, records, tmp_path_factory) -> Path:
    """The latents of all clips."""
    folder = tmp_path_factory.mktemp("motion")
    extract_all(tiny_animator().eval(), records, clips, folder)
    return folder


PLAIN = replace(
    AugmentConfig(bend=0.0, stretch=0.0, turn=0.0, shift=0.0, flip=0.0, color=0.0, gamma=0.0),
    **dict.fromkeys(("backdrop", "motion_view", "same_frame", "head_move", "flow"), 0.0),
)


def pairs_of(clips, records, capacity: int = 10**8, seed: int = 0) -> FramePairs:
    return FramePairs(
        records, ClipCache(clips, 64, capacity), AugmentConfig(), balance=0.0, seed=seed
    )


def same(a, b) -> bool:
    return all(
        torch.equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a) if f.name != "guide"
    )


def test_sample_is_a_function_of_seed_and_number(clips, records):
    one, two, other = (pairs_of(clips, records, seed=seed) for seed in (0, 0, 1))
    one[3]  # whatever was read before
    assert same(one[7], two[7])
    assert not same(one[7], one[8])
    assert not same(one[7], other[7])


def test_the_motion_encoder_sees_the_frames_around_the_driving_one(clips, records):
    assert frames_around(0, 10, 2) == [0, 0, 1, 2] and frames_around(9, 10, 1) == [8, 9]
    cache = ClipCache(clips, 64, 9)
    pairs = FramePairs(records, cache, PLAIN, balance=0.0, seed=0, context=2)
    for index in range(4):
        pair = pairs[index]
        assert pair.motion_view_driving.shape == (1, 5, 3, 64, 64)
        torch.testing.assert_close(pair.motion_view_driving[:, 2], pair.driving)
        places = []
        for view in pair.motion_view_driving[0]:
            errors = [
                (to_picture(cache.frames(record)) - view).abs().mean(dim=(1, 2, 3))
                for record in records
            ]
            best = min(range(len(records)), key=lambda i: float(errors[i].min()))
            places.append((best, int(errors[best].argmin())))
        assert len({record for record, _ in places}) == 1
        numbers = [number for _, number in places]
        count = records[places[0][0]].frames
        middle = numbers[2]
        wanted = [min(max(middle + step, 0), count - 1) for step in range(-2, 3)]
        assert max(abs(a - b) for a, b in zip(numbers, wanted, strict=True)) <= 1


def test_sampler_goes_on_where_it_is_told():
    assert list(islice(SampleNumbers(0), 5))[3:] == list(islice(SampleNumbers(3), 2))


def test_people_are_drawn_alike_however_many_clips_they_have(clips, records):
    loud = [replace(records[0], path=f"copy{i}.mp4") for i in range(500)]
    pairs = pairs_of(clips, [*records, *loud])
    seen: Counter[str] = Counter()
    pairs.clips.frames_at = lambda record, numbers: (  # pyright: ignore
        seen.update([record.identity]) or torch.zeros(2, 64, 64, 3, dtype=torch.uint8)
    )
    for index in range(300):
        pairs[index]
    assert set(seen) == {record.identity for record in records}
    assert min(seen.values()) > 70  # of 100 expected


def test_frames_of_a_pair_are_far_apart():
    for index in range(200):
        a, b = far_frames(30, sample_generator(0, index))
        assert min(a, b) >= 0 and max(a, b) < 30 and abs(a - b) >= 10
    assert sorted(far_frames(2, sample_generator(0, 0))) == [0, 1]
    assert far_frames(1, sample_generator(0, 0)) == [0, 0]


def test_cache_keeps_the_most_recent_clips(clips, records):
    cache = ClipCache(clips, 32, capacity=2 * 30 * 32 * 32 * 3)
    for record in (*records[:3], records[1]):
        assert cache.frames(record).shape == (30, 32, 32, 3)
    assert list(cache._clips) == [records[2].path, records[1].path]


def test_a_set_larger_than_the_cache_gives_the_same_pairs(clips, records):
    kept, sought = pairs_of(clips, records), pairs_of(clips, records, capacity=0)
    for index in range(6):
        assert same(kept[index], sought[index])
    assert kept.clips._clips and not sought.clips._clips


def decoded_whole(cache: ClipCache, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The clips that the cache decodes from their beginning to their end, as they come."""
    whole: list[str] = []
    read = cache._read
    monkeypatch.setattr(cache, "_read", lambda record: whole.append(record.path) or read(record))
    return whole


def test_a_set_that_fits_is_decoded_once(clips, records, monkeypatch):
    cache = ClipCache(clips, 32, capacity=len(records) * 30 * 32 * 32 * 3)
    whole = decoded_whole(cache, monkeypatch)
    for _ in range(4):
        for record in records:
            assert cache.frames_at(record, [0, 9]).shape == (2, 32, 32, 3)
    assert whole == [record.path for record in records]


def test_a_set_that_does_not_fit_is_sought_and_the_cache_stays_small(clips, records, monkeypatch):
    """Read round and round, so that an LRU cache of all clips would never hit."""
    capacity = (len(records) - 1) * 30 * 32 * 32 * 3
    cache = ClipCache(clips, 32, capacity)
    whole = decoded_whole(cache, monkeypatch)
    for _ in range(4):
        for record in records:
            cache.frames_at(record, [0, 9])
    assert not whole
    for record in (*records[:2], *records[:2], *records):
        cache.frames_at(record, [0])
        assert sum(clip.nbytes for clip in cache._clips.values()) == cache._bytes <= capacity
    assert whole[:2] == [record.path for record in records[:2]], "these are asked for again soon"


def test_clips_of_any_length_fill_no_more_than_the_bytes(clips, records):
    cache = ClipCache(clips, 32, capacity=100 * 32 * 32 * 3)
    for record in records:
        cache.frames(record)
        assert cache._bytes <= cache.capacity
    assert len(cache._clips) == 3


def test_mouth_map_is_on_the_mouth(records):
    x0, y0, x1, y1 = records[0].mouth or (0, 0, 0, 0)
    weight = mouth_map(records[0], 100)[0]
    assert weight[round(50 * (y0 + y1)), round(50 * (x0 + x1))] > 0.95
    assert weight[10, 50] < 0.01
    assert mouth_map(replace(records[0], mouth=None), 100).abs().max() == 0


def test_mouth_is_where_drawn_mouths_move(clips, records):
    """The drawn clips' own box holds what opens and closes."""
    frames = to_picture(ClipCache(clips, 64, 1).frames(records[0]))
    dark = (frames < -0.6).all(dim=1).float().std(dim=0)  # the open mouth is nearly black
    inside = (dark * mouth_map(records[0], 64)[0]).sum() / dark.sum()
    assert inside > 0.5


def test_validation_pairs_start_at_the_first_frame_and_are_not_changed(clips, records):
    cache = ClipCache(clips, 64, 9)
    fixed = FixedPairs(records, cache, pairs_per_clip=3)
    assert len(fixed) == 3 * len(records)
    frames = to_picture(cache.frames(records[1]))
    for index, frame in zip((3, 4, 5), (10, 19, 29), strict=True):
        assert torch.equal(fixed[index].source[0], frames[0])
        assert torch.equal(fixed[index].driving[0], frames[frame])
        assert torch.equal(fixed[index].motion_view_driving[:, 0], fixed[index].driving)


def test_collate_joins_pairs(clips, records):
    pairs = pairs_of(clips, records)
    batch = collate_pairs([pairs[0], pairs[1]])
    assert batch.source.shape == (2, 3, 64, 64)
    assert torch.equal(batch.mouth[1:], pairs[1].mouth)


def test_latents_are_written_once_and_read_back(clips, records, folder):
    animator = tiny_animator().eval()
    path = folder / latents_name(records[0])
    before = path.stat().st_mtime_ns
    extract_all(animator, records, clips, folder)
    assert path.stat().st_mtime_ns == before

    saved = read(folder, records[0])
    frames = ClipCache(clips, 64, 1).frames(records[0])
    again = animator.encode_motion(to_picture(frames[4:5]))
    torch.testing.assert_close(saved.motion[4:5], again, rtol=1e-4, atol=1e-5)
    assert len(saved.sound) == len(saved.motion) * SAMPLES_PER_FRAME
    assert saved.appearance.shape == (8, 32)
    assert torch.equal(saved.source_motion[0], saved.motion[0])
    fresh = extract(animator, ClipCache(clips, 64, 1), records[0])
    torch.testing.assert_close(saved.sound, fresh.sound, rtol=0, atol=1e-4)


def test_stopped_extraction_goes_on(clips, records, tmp_path, monkeypatch):
    calls: list[str] = []

    def stop_at_second(animator, cache, record):
        calls.append(record.path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return extract(animator, cache, record)

    monkeypatch.setattr("mien.data.latents.extract", stop_at_second)
    for _ in range(2):
        try:
            extract_all(tiny_animator().eval(), records[:3], clips, tmp_path)
        except KeyboardInterrupt:
            assert len(list(tmp_path.iterdir())) == 1
    assert calls == [records[i].path for i in (0, 1, 1, 2)]


def test_windows_hold_the_motion_before_them_and_the_sound_of_the_whole(records, folder):
    speech = SpeechClips(records, folder, WINDOW, SILENT_CHANGE, balance=0.0, seed=0)
    assert same(
        speech[5], SpeechClips(records, folder, WINDOW, SILENT_CHANGE, balance=0.0, seed=0)[5]
    )
    latents = {r.path: read(folder, r) for r in records}
    starts = set()
    for index in range(60):
        clip = speech[index]
        start = int(clip.start)
        starts.add(start)
        whole = next(x for x in latents.values() if (x.motion == clip.motion[0, 0]).all(1).any())
        assert torch.equal(clip.motion[0], whole.motion[start : start + 12])
        assert bool(clip.history_known) == (start >= 4)
        if start >= 4:
            assert torch.equal(clip.history[0], whole.motion[start - 4 : start])
        assert clip.features.shape[1] == int(clip.feature_lengths) == 30 * STEPS_PER_FRAME
    assert {0, 18} <= starts <= set(range(19))


def test_portraits_of_a_clip_are_frames_in_which_nobody_speaks():
    loudness = torch.full((80,), 0.001)
    loudness[20:60] = 0.1 + 0.05 * torch.sin(torch.arange(40.0))
    loudness[40] = 0.0  # one quiet frame amid speech is no rest
    frames = resting_frames(loudness).tolist()
    assert len(set(frames)) == 8 and frames == sorted(frames)
    assert all(frame < 20 or frame >= 60 for frame in frames)


@pytest.mark.parametrize("length", [1, 3, 8, 9])
def test_a_short_clip_has_portraits_as_well(length: int):
    frames = resting_frames(torch.rand(length, generator=torch.Generator().manual_seed(0)))
    assert len(set(frames.tolist())) == min(8, length)


def test_validation_windows_are_the_first_and_the_last(records, folder):
    fixed = FixedWindows(records, folder, WINDOW)
    assert [int(fixed[i].start) for i in (0, len(records))] == [0, 18]
    batch = collate_speech([fixed[0], fixed[1]])
    assert batch.motion.shape == (2, 12, 768)


def test_collate_pads_sounds_with_silence(records, folder):
    fixed = FixedWindows(records, folder, WINDOW)
    short = replace(
        fixed[0], features=fixed[0].features[:, :60], feature_lengths=torch.tensor([60])
    )
    batch = collate_speech([short, fixed[1]])
    assert batch.features.shape[1] == 120
    assert batch.feature_lengths.tolist() == [60, 120]
    assert batch.features[0, 60:].unique().numel() == 1


def test_noise_lies_as_far_below_the_voice_as_asked():
    voice = torch.randn(16_000, generator=torch.Generator().manual_seed(1)) * 0.1
    config = VoiceConfig(noise=1.0, noise_db=(20.0, 20.0))
    noisy = add_noise(voice, config, torch.Generator().manual_seed(0))
    ratio = 20 * torch.log10(voice.std() / (noisy - voice).std())
    assert abs(float(ratio) - 20) < 0.2
    none = add_noise(voice, SILENT_CHANGE, torch.Generator().manual_seed(0))
    assert torch.equal(none, voice)


def test_other_throat_moves_formants_and_nothing_in_time():
    features = torch.zeros(1, 8, 80)
    features[0, 3, 40] = 1.0
    assert torch.equal(vtlp(features, SILENT_CHANGE, torch.Generator()), features)
    places = set()
    for seed in range(8):
        moved = vtlp(features, VoiceConfig(), torch.Generator().manual_seed(seed))
        assert moved[0, [0, 1, 2, 4, 5, 6, 7]].abs().max() == 0
        places.add(int(moved[0, 3].argmax()))
    assert len(places) > 3 and all(28 < place < 60 for place in places)


def test_motion_examples_are_differences_from_a_portrait(records, folder):
    people = [records[:2], records[2:]]
    examples = list(motion_examples(people, folder))
    assert [len(differences) for differences, _ in examples] == [30] * len(records)
    differences, source = examples[0]
    torch.testing.assert_close(differences + source, read(folder, records[0]).motion)
    assert len(list(motion_examples(people, folder, clips_each=1))) == 2


def test_data_root_is_told_to_be_missing(monkeypatch, tmp_path):
    monkeypatch.delenv("MIEN_DATA", raising=False)
    with pytest.raises(UserError, match="MIEN_DATA"):
        data_root(None)
    monkeypatch.setenv("MIEN_DATA", str(tmp_path))
    assert str(data_root(None)) == str(tmp_path)
    with pytest.raises(UserError, match="nowhere"):
        data_root(tmp_path / "nowhere")


def test_clips_may_lie_in_the_folder_named_like_their_manifest(clips, records, tmp_path):
    short = [replace(record, path=record.path.removeprefix("train/")) for record in records]
    write_manifest(tmp_path / "train.jsonl", short)
    assert read_records(clips, tmp_path / "train.jsonl") == records
    write_manifest(tmp_path / "other.jsonl", short)
    with pytest.raises(UserError, match=f"{short[0].path}, which is not in"):
        read_records(clips, tmp_path / "other.jsonl")


def test_balance_lies_between_people_and_seconds():
    records = [ClipRecord(f"a{i}.mp4", "a", "pd", 3.0, 75) for i in range(16)]
    records.append(ClipRecord("b.mp4", "b", "pd", 3.0, 75))

    def share_of_b(balance: float) -> float:
        people, generator = People(records, balance), torch.Generator().manual_seed(0)
        drawn = [people.draw_clip(generator).identity for _ in range(2000)]
        return drawn.count("b") / len(drawn)

    assert abs(share_of_b(0.0) - 1 / 2) < 0.04
    assert abs(share_of_b(0.5) - 1 / 5) < 0.04
    assert abs(share_of_b(1.0) - 1 / 17) < 0.02
