"""A video file -> the coefficients of the face in it.

Axes: h w space.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from mien.errors import UserError
from mien.face.geometry import Picture
from mien.face_model.coefficients import FaceCoefficients
from mien.face_model.fitting import fit_points
from mien.face_model.parametric import FaceModel
from mien.face_model.tracking import FaceTracker
from mien.media import load_picture, pictures_on_grid
from mien.media.picture import PICTURE_SUFFIXES
from mien.types import FPS


def fit_file(
    path: Path,
    tracker: FaceTracker | None = None,
    model: FaceModel | None = None,
    focal: float | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> FaceCoefficients:
    """Fit the largest face of a video, read at 25 frames a second by its time stamps, or of a
    picture. `focal` as in `fit_points`; `progress` is called with the number of frames seen.

    Raises:
        UserError: the file cannot be read or shows no face.
    """
    if path.suffix.lower() in PICTURE_SUFFIXES:
        return fit_frames([load_picture(path)], str(path), tracker, model, focal, progress)
    return fit_frames(pictures_on_grid(path), str(path), tracker, model, focal, progress)


def fit_frames(
    frames: Iterable[Picture],
    name: str,
    tracker: FaceTracker | None = None,
    model: FaceModel | None = None,
    focal: float | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> FaceCoefficients:
    """Fit the largest face in frames of 25 a second; `name` is theirs in messages.

    Raises:
        NoFace: no frame shows a face.
        UserError: the points of a frame are not those of a face.
    """
    sizes: list[tuple[int, int]] = []

    def sized() -> Iterable[Picture]:
        for frame in frames:
            sizes.append((frame.shape[1], frame.shape[0]))
            yield frame

    tracker = tracker or FaceTracker()
    points = tracker.track(sized(), progress)
    size, scores = sizes[0] if sizes else (1, 1), tracker.scores(points)
    try:
        return fit_points(points, size, float(FPS), model, focal=focal, scores=scores)
    except UserError as error:
        raise type(error)(f"{name}: {error}") from error
