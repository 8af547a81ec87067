"""Guided by a mesh from end to end: training from clips, speech that moves a portrait's mesh."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch

from mien.cli import main
from mien.data.manifest import ClipRecord
from mien.data.meshes import ClipMeshes, MeshCache, mesh_motion
from mien.face import FaceMesh
from mien.media import read_video
from mien.mesh.motion import MESH_DIM, from_vectors
from mien.motion.speech_to_motion import SpeechToMotion
from mien.pipeline import animate
from mien.session.guiding import guides_for, with_mesh_at_rest
from mien.session.portrait import load_face, read_portrait
from tests.astronaut import SIDE, write_drifting
from tests.mesh.faces import SIZE, in_picture, open_mouth
from tests.mesh.faces import person as somebody
from tests.portrait.tiny import awake, tiny_animator
from tests.tiny_nets import TINY_SPEECH, voice, write_wav


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """Two clips in which the astronaut's picture drifts, each with a sound."""
    return write_drifting(tmp_path_factory.mktemp("clips"))


def record(name: str) -> ClipRecord:
    return ClipRecord(f"{name}/a.mp4", name, "pd", 1.04, 26, None)


def test_meshes_follow_the_face_and_are_kept_by_content(clips: Path, tmp_path: Path, monkeypatch):
    cache = MeshCache(clips, tmp_path)
    cache.extract([record("train"), record("valid")])
    assert len(list(tmp_path.glob("*.safetensors"))) == 1, "equal clips are looked at once"
    meshes = cache.read(record("train"))
    assert bool(meshes.found.all())
    drift = (meshes.points[20] - meshes.points[0])[:, :2].mean(dim=0) * SIDE
    torch.testing.assert_close(drift, torch.tensor([-4.0, 5.0]), atol=0.4, rtol=0)
    whole = FaceMesh()
    frame = read_video(clips / "train" / "a.mp4")[0]
    points, _ = whole.landmarks(frame, whole.faces(frame)[0])
    np.testing.assert_allclose(meshes.points[0].numpy() * SIDE, points, atol=0.01)

    monkeypatch.setattr("mien.data.meshes.track_meshes", None)  # nobody looks again
    MeshCache(clips, tmp_path).extract([record("train")])


def test_a_clip_with_gaps_moves_on_and_one_without_a_face_not_at_all():
    points = np.stack([in_picture(open_mouth(somebody(0), gap)) for gap in (0, 0, 0, 0, 0.2, 0.4)])
    whole = torch.from_numpy(points / SIZE).float()
    found = torch.tensor([True] * 4 + [False, True])
    motion = mesh_motion(ClipMeshes(whole, found))
    middle = (motion[3] + motion[5]) / 2
    torch.testing.assert_close(motion[4], middle)
    assert not mesh_motion(ClipMeshes(whole, torch.zeros(6, dtype=torch.bool))).any()


def test_a_guided_animator_learns_from_clips(clips: Path, tmp_path: Path):
    numbers = ["--model.animator.guide", "true", "--model.animator.image_size", str(SIDE)]
    run = ["--data.root", str(clips), "--data.meshes", str(tmp_path / "meshes")]
    run += ["--trainer.default_root_dir", str(tmp_path), "--trainer.enable_progress_bar", "false"]
    frozen = ["--model.frozen", "[motion_encoder, appearance_vector]", "--trainer.max_steps", "4"]
    tiny = ["fit", "--config", "stage1.yaml", "--config", "tiny.yaml"]
    assert main([*tiny, *numbers, *run, *frozen]) == 0
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["current_model_state"]
    torch.manual_seed(0)
    assert saved["animator.dense_motion.guide.confidence"] != 10.0, "the guide was trained"
    assert len(list((tmp_path / "meshes").glob("*.safetensors"))) == 1


def guided_pair():
    animator = awake(tiny_animator(guide=True, image_size=SIDE, field_size=16))
    torch.manual_seed(3)
    speech = SpeechToMotion(replace(TINY_SPEECH, mesh=True))
    numbers = sum(speech.config.motion_blocks)
    assert numbers == 768 + MESH_DIM
    speech.space.fit(torch.randn(100, numbers) * 0.01, torch.zeros(2, numbers))
    return animator, speech.eval()


@torch.no_grad()
def test_a_portrait_is_guided_by_what_speech_makes(tmp_path: Path):
    animator, speech = guided_pair()
    source, _ = load_face(skimage.data.astronaut(), None, SIDE)
    portrait = read_portrait(animator, source)
    guide_of = guides_for(portrait)
    at_rest = with_mesh_at_rest(portrait.motion)
    assert at_rest.shape == (1, 768 + MESH_DIM) and not at_rest[:, 768:].any()
    open_wide = at_rest[:, None].clone()
    offsets = open_mouth(np.zeros((468, 3)), 0.3).ravel()
    open_wide[0, 0, 768 : 768 + len(offsets)] = torch.from_numpy(offsets).float()
    eyes_open = torch.zeros(1, 1, 1)
    shut, opened = (
        guide_of(torch.cat((motion, eyes_open), dim=2)) for motion in (at_rest[:, None], open_wide)
    )
    assert shut is not None and opened is not None
    # She smiles with her teeth in the portrait; at rest her lips are closed.
    assert shut.mouth.sum() < 0.2 * opened.mouth.sum()
    assert opened.interior[:, 3].max() > 0.5 and shut.interior[:, 3].max() < 0.2
    assert not from_vectors(at_rest[:, 768:].double().numpy()).offsets.any()

    sound = write_wav(tmp_path / "voice.wav", voice(0.6))
    films = [tmp_path / f"{i}.mp4" for i in range(2)]
    for film in films:
        animate(sound, skimage.data.astronaut(), film, animator=animator, speech=speech)
    assert films[0].read_bytes() == films[1].read_bytes()


@torch.no_grad()
def test_without_a_mesh_there_is_no_guide():
    animator, _ = guided_pair()
    nobody = read_portrait(animator, torch.zeros(1, 3, SIDE, SIDE))
    assert nobody.face is None
    assert guides_for(nobody)(with_mesh_at_rest(nobody.motion)[:, None]) is None
    source, _ = load_face(skimage.data.astronaut(), None, SIDE)
    assert read_portrait(tiny_animator(image_size=SIDE, field_size=16), source).face is None
