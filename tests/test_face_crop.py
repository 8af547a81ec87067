import numpy as np
import pytest
import torch

from mien.face import crop, framed, portrait_box


class TestCrop:
    def test_inside_the_picture_nothing_is_invented(self):
        picture = np.arange(100 * 100 * 3, dtype=np.int64).reshape(100, 100, 3) % 251
        picture = picture.astype(np.uint8)
        cut = crop(picture, (10.0, 20.0, 74.0, 84.0), 64)
        expected = torch.from_numpy(picture[20:84, 10:74]).permute(2, 0, 1)[None] / 127.5 - 1
        torch.testing.assert_close(cut, expected)

    @pytest.mark.parametrize(
        "square", [(-30, -30, 70, 70), (60, 60, 160, 160), (-40, -40, 140, 140)]
    )
    def test_beyond_the_border_no_other_colour_comes_in(self, square):
        picture = np.full((100, 100, 3), 200, dtype=np.uint8)
        cut = crop(picture, tuple(map(float, square)), 32)
        assert cut.shape == (1, 3, 32, 32)
        torch.testing.assert_close(cut, torch.full_like(cut, 200 / 127.5 - 1))

    def test_beyond_the_border_the_edge_goes_on(self):
        picture = np.arange(64, dtype=np.uint8)[None, :, None].repeat(64, 0).repeat(3, 2) * 2
        row = crop(picture, (-8.0, 0.0, 56.0, 64.0), 64)[0, 0, 0]
        expected = torch.arange(56) * 2 / 127.5 - 1
        torch.testing.assert_close(row[8:], expected)  # what is in the picture stays sharp
        # The edge is black; the blur lets in a little of the ramp behind it, in the same order.
        assert (row[:8] < -0.8).all() and (row[:8].diff() <= 0.02).all()

    def test_a_streaky_edge_fades_out_with_the_distance(self):
        picture = np.zeros((64, 64, 3), dtype=np.uint8)
        picture[:, ::2] = 255
        beyond = crop(picture, (0.0, 24.0, 64.0, 88.0), 64)[0, 0, 40:]
        contrast = beyond[:, 8:-8].std(dim=1)
        assert (contrast.diff() < 0).all() and contrast[-1] < 0.05 * contrast[0]


class TestFramed:
    def test_a_face_is_framed_alike_in_every_picture(self):
        face = (40.0, 50.0, 110.0, 150.0)
        for width, height in ((200, 300), (2000, 100)):
            assert framed(face, "face", width, height) == portrait_box(face)

    def test_a_half_body_is_as_large_as_the_picture_and_keeps_the_head(self):
        face = (400.0, 300.0, 480.0, 400.0)
        assert framed(face, "half_body", 1080, 1920) == (0, 250, 1080, 1330)
        left, top, right, bottom = framed(face, "half_body", 1920, 1080)
        assert (top, bottom) == (0, 1080) and left <= 400 and right - left == 1080
