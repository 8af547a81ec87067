"""The masks of a moved head equal the operations of torch and OpenCV that define them."""

import cv2
import numpy as np
import torch

from mien.mesh.guide import head_move
from mien.mesh.person_numba import moved_person
from mien.ops.warp import warp_map

SIDE, UNSURE, FADES = 48, 2, 0.2


def test_masks_are_sampled_eroded_dilated_and_end_around_the_head():
    random = np.random.default_rng(0)
    person = cv2.GaussianBlur(random.random((SIDE, SIDE)).astype(np.float32), (0, 0), 3)
    person = np.clip((person - person.mean()) * 10 + 0.5, 0, 1)
    heads = random.normal(0, 0.1, (3, 2, 3)).astype(np.float32)
    ellipses = random.uniform(12, 30, (3, 4))
    covered, disoccluded = moved_person(person, heads, ellipses, FADES, UNSURE)

    moves = head_move(torch.from_numpy(heads), SIDE)
    there = warp_map(torch.from_numpy(person)[None, None], moves)[:, 0].numpy()
    kernel = np.ones((2 * UNSURE + 1,) * 2, np.uint8)
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    for k, (x, y, wide, high) in enumerate(ellipses):
        away = np.hypot((columns - x) / wide, (rows - y) / high)
        zone = np.clip((1 - away) / FADES + 1, 0, 1)
        gone = np.maximum(person - cv2.dilate(there[k], kernel), 0)
        np.testing.assert_allclose(covered[k], cv2.erode(there[k], kernel) * zone, atol=2e-5)
        np.testing.assert_allclose(disoccluded[k], gone * zone, atol=2e-5)
    assert covered.max() > 0.5 and disoccluded.max() > 0.1
