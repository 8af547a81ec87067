"""Face detection, landmarks, framing, identity embeddings and person segmentation.

Used for the crop of a portrait, the mouth boxes and meshes of clips, and lip metrics.
"""

from mien.face.cropping import crop
from mien.face.framing import framed, framed_clip, portrait_box
from mien.face.geometry import Box, Picture
from mien.face.identity import SAME_PERSON, FaceIdentity, cluster_people
from mien.face.landmarker import FaceLandmarker
from mien.face.measures import (
    PortraitPlace,
    face_box,
    find_portrait,
    lip_gap,
    mouth_box,
    mouth_width,
    quarter_turns,
)
from mien.face.mesh import Face, FaceMesh, Landmarks
from mien.face.person import Scene, person_mask, scene_of

__all__ = [
    "SAME_PERSON",
    "Box",
    "Face",
    "FaceIdentity",
    "FaceLandmarker",
    "FaceMesh",
    "Landmarks",
    "Picture",
    "PortraitPlace",
    "Scene",
    "cluster_people",
    "crop",
    "face_box",
    "find_portrait",
    "framed",
    "framed_clip",
    "lip_gap",
    "mouth_box",
    "mouth_width",
    "person_mask",
    "portrait_box",
    "quarter_turns",
    "scene_of",
]
