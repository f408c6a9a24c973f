"""Pictures from and to the browser: what is refused, and how they are fitted to a model."""

import base64

import numpy as np
import pytest
from drawings import RING, drawing, png
from PIL import Image

from bench.demo import pictures
from bench.demo.pictures import SIDE


def test_place_and_size_of_a_drawing_do_not_matter():
    small, large = (drawing([(100, 100), (100, 100 + s), (100 + s, 100)], width=s // 8) for s in (60, 120))
    fitted = [pictures.fit(pixels, 32).astype(float) for pixels in (small, large)]
    assert np.abs(fitted[0] - fitted[1]).mean() < 10
    assert np.abs(np.argwhere(fitted[0][0] < 128).mean(axis=0) - 15.5).max() < 4


def test_a_drawing_has_the_ground_of_the_images_that_the_model_knows():
    black_on_white = drawing(RING)
    corners = {level: pictures.fit(black_on_white, 28, level)[0, 0, 0] for level in (33, 128, 235)}
    assert corners == {33: 0, 128: 255, 235: 255}  # MNIST's, glyphs', Omniglot's
    assert pictures.fit(255 - black_on_white, 28, 235)[0, 0, 0] == 255


def test_a_photograph_is_not_cropped():
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    expected = Image.fromarray(photo).resize((32, 32), Image.Resampling.BILINEAR)
    assert (pictures.fit(photo, 32) == np.asarray(expected).transpose(2, 0, 1)).all()
    blank = np.full((SIDE, SIDE, 3), 255, np.uint8)
    assert (pictures.fit(blank, 32) == 255).all()


def url(content: bytes) -> str:
    return pictures.PREFIX + base64.b64encode(content).decode()


def test_the_canvas_comes_back():
    pixels = drawing(RING)
    assert (pictures.decode(pictures.encode(pixels)) == pixels).all()


@pytest.mark.parametrize(
    "sent",
    [
        None, 3, "", {"path": "/etc/passwd"}, "file:///etc/passwd", pictures.PREFIX, pictures.PREFIX + "%%%",
        url(png((SIDE, SIDE))[:60]), url(b"\x89PNG\r\n\x1a\n" + bytes(100)), url(png((SIDE, SIDE), "JPEG")),
        url(png((SIDE + 1, SIDE))), url(png((6000, 6000))), pictures.PREFIX + "A" * pictures.LONGEST,
    ],
)  # fmt: skip
def test_what_is_not_a_canvas_is_refused(sent):
    with pytest.raises(pictures.NotAPicture):
        pictures.decode(sent)
