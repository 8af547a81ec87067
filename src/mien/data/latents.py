"""A cache of motion latents, which stage 2 learns from: computed once per clip and animator.

One file per clip, written atomically and named by the clip's content hash, in a folder named by the
animator's fingerprint: extraction resumes after a stop, a changed clip is extracted again, and the
latents of two animators or two data sets are never mixed.
Axes: t video frames, n mesh values, s audio samples, k portraits, m motion, a appearance.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import torch
from jaxtyping import Float, Int, Int16
from safetensors.torch import load, save
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from mien.audio.features import SAMPLES_PER_FRAME
from mien.audio.voice_activity import frame_loudness
from mien.data.datasets import ClipCache, to_picture
from mien.data.manifest import ClipRecord
from mien.data.meshes import face_mesh, mesh_motion, track_meshes
from mien.data.store import Store
from mien.media import load_audio
from mien.mesh.motion import MESH_DIM
from mien.portrait.animator import Animator

FRAMES_AT_ONCE = 32
APPEARANCES = 8  # frames of a clip that may serve as its portrait
QUIET = 5  # frames over which loudness is averaged


@dataclass(frozen=True)
class ClipLatents:
    """The encoded clip. `appearance` and `source_motion` are of the same frames.

    The sound is exactly as long as the frames: t * 640 samples in [-1, 1]. `mesh` is the face's
    MeshMotion, MESH_DIM values per frame.
    """

    motion: Float[Tensor, "t m"]
    mesh: Float[Tensor, "t n"]
    sound: Float[Tensor, " s"]
    appearance: Float[Tensor, "k a"]
    source_motion: Float[Tensor, "k m"]

    def with_mesh(self) -> "ClipLatents":
        """The same, with the mesh motion appended to the motion. A source's mesh motion is zero:
        retargeting neutralises the portrait, so closed lips mean the same for everybody.
        """
        at_rest = self.source_motion.new_zeros(len(self.source_motion), MESH_DIM)
        return replace(
            self,
            motion=torch.cat((self.motion, self.mesh), dim=1),
            source_motion=torch.cat((self.source_motion, at_rest), dim=1),
        )


def latents_name(record: ClipRecord) -> str:
    """The file of a clip's latents, named by its content hash (`Contents.add_to`), or by its path
    if there is none, which is only safe for a single data set that never changes.
    """
    return f"{record.content or sha256(record.path.encode()).hexdigest()[:24]}.safetensors"


def extract_all(
    animator: Animator, records: Sequence[ClipRecord], root: Path | Store, folder: Path | Store
) -> None:
    """Extract and write the missing latents of all clips, with a progress bar."""
    store = Store(folder)
    missing = without_latents(records, store)
    clips = ClipCache(root, animator.config.image_size, capacity=1)
    for record in tqdm(missing, "motion of clips", unit="clip", disable=not missing):
        write(store, record, extract(animator, clips, record))


def without_latents(records: Sequence[ClipRecord], folder: Store) -> list[ClipRecord]:
    """The clips whose latents are missing."""
    there = folder.names()
    return [record for record in records if latents_name(record) not in there]


@torch.inference_mode()
def extract(animator: Animator, clips: ClipCache, record: ClipRecord) -> ClipLatents:
    """Encode every frame of a clip, track its mesh and load its audio."""
    device = next(animator.parameters()).device
    frames = clips.frames(record)
    motion = [
        animator.encode_motion(to_picture(some).to(device)).cpu()
        for some in frames.split(FRAMES_AT_ONCE)
    ]
    with clips.store.file(record.path) as path:
        sound = load_audio(path)
    samples = len(frames) * SAMPLES_PER_FRAME
    sound = F.pad(sound, (0, max(0, samples - len(sound))))[:samples]
    portraits = resting_frames(frame_loudness(sound, len(frames)))
    appearance = [
        animator.encode_identity(to_picture(frames[[t]]).to(device)).cpu()
        for t in portraits.tolist()
    ]
    whole = torch.cat(motion)
    mesh = mesh_motion(track_meshes(face_mesh(), frames.numpy()))
    return ClipLatents(whole, mesh, sound, torch.cat(appearance), whole[portraits])


def resting_frames(loudness: Float[Tensor, " t"]) -> Int[Tensor, " k"]:
    """Sorted frame numbers, spread over the quietest quarter of a clip.

    A portrait shows a face at rest, so motion from speech is learned relative to a resting face.
    Relative to an arbitrary frame, the same sound would sometimes open the mouth, sometimes close
    it.
    """
    t = len(loudness)
    padded = F.pad(loudness[None, None], (QUIET // 2, QUIET // 2), mode="replicate")
    around = F.avg_pool1d(padded, QUIET, stride=1)[0, 0]
    quiet = around.argsort(stable=True)[: max(min(APPEARANCES, t), t // 4)].sort().values
    places = torch.linspace(0, len(quiet) - 1, min(APPEARANCES, t))
    return quiet[places.round().long()]


def write(folder: Store, record: ClipRecord, latents: ClipLatents) -> None:
    """Write the latents of a clip atomically; the sound as 16-bit samples."""
    data = {
        "motion": latents.motion.contiguous(),
        "mesh": latents.mesh.half(),
        "sound": sixteen_bits(latents.sound),
        "appearance": latents.appearance.contiguous(),
        "source_motion": latents.source_motion.contiguous(),
    }
    folder.write(latents_name(record), save(data))


def sixteen_bits(sound: Float[Tensor, " s"]) -> Int16[Tensor, " s"]:
    """Samples in [-1, 1] as 16-bit integers, as sound is stored."""
    return (sound * 32767).round().clamp(-32768, 32767).short()


def read(folder: Path | Store, record: ClipRecord) -> ClipLatents:
    """The latents of a clip.

    Raises:
        UserError: they are missing.
    """
    saved = load(Store(folder).read(latents_name(record)))
    sound = saved["sound"].float() / 32767
    return ClipLatents(
        saved["motion"], saved["mesh"].float(), sound, saved["appearance"], saved["source_motion"]
    )


def motion_examples(
    people: Sequence[Sequence[ClipRecord]],
    folder: Path | Store,
    mesh: bool = False,
    clips_each: int = 40,
) -> Iterator[tuple[Float[Tensor, "n m"], Float[Tensor, "1 m"]]]:
    """M^i - M^0 of many frames and the M^0 itself, clip by clip, with about as many clips of each
    person. Which of a clip's portraits is M^0 alternates, as training samples it.
    """
    for records in people:
        spread = records[:: max(1, len(records) // clips_each)]
        for number, record in enumerate(spread):
            latents = read(folder, record)
            latents = latents.with_mesh() if mesh else latents
            source = latents.source_motion[number % len(latents.source_motion)]
            yield latents.motion - source, source[None]
