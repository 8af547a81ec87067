"""The main job on one page: a voice and a portrait in, a speaking video out.

    audio    - load_sound -> waveform (s) - log_mel -> features (l f) - listen -> AudioContext
    portrait - load_picture, find_portrait -> source (b 3 h w) - encode_appearance -> Appearance
                                                               - encode_motion -> motion (b m)
                                                               - guided_face, if guided
    both     - rollout -> motion (b t m), a window at a time
             - finish -> swaying, resting where nobody speaks, blinking
             - retargeted_guides -> Guide, if guided
             - render_stream -> frames (b t 3 h w), a few at a time - VideoWriter -> mp4

Only the sound is held whole; frames never pile up.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mien.audio.features import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME, frame_count
from mien.audio.pretrained import load_front_end
from mien.audio.voice_activity import speech_gate, speech_probability
from mien.checkpoint import (
    default_weights,
    load_animator,
    load_speech_to_motion,
    motion_fingerprint,
)
from mien.data.meshes import face_mesh
from mien.errors import UserError
from mien.face import (
    Box,
    Picture,
    Scene,
    crop,
    find_portrait,
    portrait_box,
    quarter_turns,
    scene_of,
)
from mien.face_model.mouth import MouthInterior
from mien.media import (
    AUTO,
    Sound,
    VideoWriter,
    load_picture,
    picture_size,
    read_sound,
    speaking_channel,
    to_bytes,
    to_waveform,
)
from mien.mesh.guide import to_device
from mien.mesh.motion import MESH_DIM, from_vectors
from mien.mesh.retarget import PortraitMesh, retargeted_guides
from mien.motion.controls import Controls
from mien.motion.finishing import finish
from mien.motion.rollout import SamplingConfig, rollout
from mien.motion.speech_to_motion import SpeechToMotion
from mien.portrait.animator import Animator
from mien.portrait.streaming import GuideOf, render_stream
from mien.report import Report, Stopwatch, back_ends, machine
from mien.types import AudioContext, Guide

PARTS = "audio", "portrait", "motion", "render", "encode"  # of the work, as reports name them
# Generated lips come near each other too seldom: with this they close at p, b and m of people never
# seen in 0.82 of the cases instead of 0.76 (real lips: 0.97), and open as far as before.
LIP_CONTRAST = 1.35
Progress = Callable[[int, int], None]


@torch.inference_mode()
def animate(
    audio: Path | str,
    portrait: Path | str | Picture,
    output: Path | str,
    *,
    animator: Animator | None = None,
    speech: SpeechToMotion | None = None,
    sampling: SamplingConfig | None = None,
    controls: Controls | None = None,
    seed: int = 0,
    box: Box | None = None,
    overwrite: bool = False,
    channel: str = AUTO,
    progress: Progress = lambda done, total: None,
) -> Report:
    """Make the portrait say the audio, as a square mp4 of 25 frames a second with the sound.

    `portrait` is a file or the pixels themselves; `box` is the face in pixels of the upright
    picture (x0, y0, x1, y1), without it the largest face is found. The nets are those that ship
    unless both are given. `channel` is the one of the sound that speaks (`speaking_channel`).
    `controls` scale expression and pose and set how often eyes blink.
    `progress` is called with (frames done, frames in all). Same seed and
    threads on one machine, same frames.

    Raises:
        UserError: an input cannot be used, or the output exists and `overwrite` is off.
    """
    audio, output = Path(audio), Path(output)
    named = () if isinstance(portrait, np.ndarray) else (Path(portrait),)
    refuse_output(output, (audio, *named), overwrite)
    if (animator is None) != (speech is None):
        raise ValueError("animator and speech belong together: give both or neither")
    if animator is None or speech is None:
        animator, speech = load_models()
    device = next(animator.parameters()).device
    watch = Stopwatch(dict.fromkeys(PARTS, 0.0))

    with watch.measure("audio"):
        sound, waveform, heard = load_sound(audio, channel)
        frames = frame_count(waveform.shape[0])
        context, gate = hear(speech, waveform)

    with watch.measure("portrait"):
        source, notes = load_face(portrait, box, animator.config.image_size)
        appearance = animator.encode_appearance(source.to(device))
        source_motion = animator.encode_motion(source.to(device))
        guide_of = guides_for(source, animator, speech)
        at_rest = resting(speech, source_motion)

    generator = torch.Generator().manual_seed(seed)
    asked = sampling or SamplingConfig()
    motion = rollout(speech, context, appearance.vector, at_rest, asked, generator)
    motion = finish(motion, gate, at_rest, speech.config, controls or Controls(), seed)
    motion = watch.measure_items("motion", motion)
    drawn = render_stream(animator, appearance, source_motion, motion, guide_of)
    drawn = watch.measure_items("render", drawn)

    done = 0
    with VideoWriter(output, sound) as writer:
        for chunk in drawn:
            with watch.measure("encode"):
                writer.write(to_bytes(chunk[0]))
            done += chunk.shape[1]
            progress(done, frames)
    return Report(
        output, done / FPS, done, watch.seconds, seed, machine(), back_ends(), heard + notes
    )


def load_models(
    animator: Path | str | None = None, speech: Path | str | None = None
) -> tuple[Animator, SpeechToMotion]:
    """Both nets, ready for use on the accelerator if torch sees one: those that ship unless named.

    Raises:
        UserError: a file is missing, damaged or foreign, or the two were not trained together.
    """
    shipped = default_weights()
    drawing = load_animator(Path(animator or shipped[0]))
    speaking = load_speech_to_motion(
        Path(speech or shipped[1]), motion_fingerprint(drawing.state_dict())
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return drawing.to(device), speaking.to(device)


def load_sound(
    audio: Path, channel: str = AUTO
) -> tuple[Sound, Float[Tensor, " s"], tuple[str, ...]]:
    """The sound as it came, the speech in it for the nets, at least a frame, and what to tell the
    user.

    Raises:
        UserError: it cannot be read, is too short, or has no such channel.
    """
    sound = read_sound(audio)
    mono, note = speaking_channel(sound, channel, str(audio))
    waveform = to_waveform(mono, sound.rate)
    if waveform.shape[0] < SAMPLES_PER_FRAME:
        milliseconds = 1000 * waveform.shape[0] / SAMPLE_RATE
        raise UserError(
            f"{audio} lasts {milliseconds:.0f} ms, less than a video frame (40 ms): "
            "give a longer sound"
        )
    return sound, waveform, () if note is None else (note,)


def hear(
    speech: SpeechToMotion, waveform: Float[Tensor, " s"]
) -> tuple[AudioContext, Float[Tensor, " t"]]:
    """What the net makes of the sound, and in which video frames somebody speaks (1) or not (0)."""
    device = next(speech.parameters()).device
    features = load_front_end(speech.config.front_end)(waveform[None])
    gate = speech_gate(speech_probability(waveform, frame_count(waveform.shape[0])))
    return speech.listen(features.to(device)), gate.to(device)


def refuse_output(output: Path, inputs: tuple[Path, ...], overwrite: bool) -> None:
    """Say what is wrong with an output path before any work is done.

    Raises:
        UserError: it is not an mp4, its folder is missing, it exists already, or it is an input.
    """
    if output.suffix.lower() != ".mp4":
        raise UserError(f"the output {output} must end in .mp4")
    if not output.parent.is_dir():
        raise UserError(f"the folder {output.parent} of the output does not exist: make it first")
    if output.is_dir():
        raise UserError(f"the output {output} is a folder: give the name of a file")
    if not output.exists():
        return
    if any(path.exists() and output.samefile(path) for path in inputs):
        raise UserError(f"the output {output} is an input as well: choose another name with -o")
    if not overwrite:
        raise UserError(f"{output} exists: choose another name with -o, or add --overwrite")


def load_face(
    portrait: Path | str | Picture, box: Box | None, size: int
) -> tuple[Float[Tensor, "1 3 size size"], tuple[str, ...]]:
    """The square around the face at `size` pixels in [-1, 1], and what to tell the user about it.

    Raises:
        UserError: the picture cannot be read, shows no face, or the box is not inside it.
    """
    if isinstance(portrait, np.ndarray):
        picture, name, (width, height) = portrait, "the picture", portrait.shape[1::-1]
    else:
        picture, name = load_picture(Path(portrait)), str(portrait)
        width, height = picture_size(Path(portrait))
    if box is None:
        notes = []
        if turns := quarter_turns(picture, face_mesh()):
            picture = np.ascontiguousarray(np.rot90(picture, turns))
            notes.append(f"the face in {name} is not upright: turned by {90 * turns} degrees")
        place = find_portrait(picture, face_mesh(), name)
        if place.faces > 1:
            several = f"{place.faces} faces in {name}: the largest speaks (--box chooses another)"
            notes.append(several)
        return crop(picture, place.box, size), tuple(notes)
    if not (box[0] >= 0 and box[1] >= 0 and box[2] <= width and box[3] <= height):
        asked = ",".join(f"{number:g}" for number in box)
        raise UserError(f"the box {asked} leaves {name}, which is {width} x {height} pixels")
    shrunk = picture.shape[1] / width  # large files are loaded smaller than they are
    x0, y0, x1, y1 = (number * shrunk for number in box)
    return crop(picture, portrait_box((x0, y0, x1, y1)), size), ()


@dataclass(frozen=True)
class GuidedFace:
    """A portrait's mesh, the person and what stands behind, and the inside of the mouth."""

    mesh: PortraitMesh
    scene: Scene
    mouth: MouthInterior


def guided_face(source: Float[Tensor, "1 3 size size"]) -> GuidedFace | None:
    """The mesh of the face in a cropped portrait; None where no face is found in it."""
    picture, nets = to_bytes(source)[0], face_mesh()
    faces = nets.faces(picture)
    if not faces:
        return None
    points = nets.landmarks(picture, faces[0])[0].astype(np.float64)
    mesh, scene = PortraitMesh.of(points), scene_of(picture, points[:, :2])
    return GuidedFace(mesh, scene, MouthInterior.of(mesh, picture))


def resting(speech: SpeechToMotion, source_motion: Float[Tensor, "1 m"]) -> Float[Tensor, "1 n"]:
    """The source's motion as stage 2 counts it: with a mesh, one at rest stands behind it."""
    behind = sum(speech.config.motion_blocks[1:])
    return torch.cat((source_motion, source_motion.new_zeros(1, behind)), dim=1)


def guides_for(
    source: Float[Tensor, "1 3 size size"], animator: Animator, speech: SpeechToMotion
) -> GuideOf:
    """What makes guides of generated motion for this portrait, behind which stand its blinks; there
    are none where one of the nets knows no mesh, or the portrait shows no face that FaceMesh finds.
    """
    guided = animator.config.guide and speech.config.mesh
    face = guided_face(source) if guided else None

    def guide_of(motion: Float[Tensor, "1 t n"]) -> Guide | None:
        if face is None:
            return None
        numbers = motion[0].double().cpu().numpy()
        mesh, blinks = from_vectors(numbers[:, -MESH_DIM - 1 : -1]), numbers[:, -1]
        guide = retargeted_guides(
            face.mesh, mesh, source.shape[-1], face.mouth, blinks, face.scene, LIP_CONTRAST
        )
        return to_device(guide, motion.device)

    return guide_of
