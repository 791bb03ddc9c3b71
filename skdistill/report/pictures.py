"""Pictures small enough to be part of a page."""

import base64
import errno
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from skdistill.pictures import to_picture
from skdistill.pixels import from_networks, to_networks

__all__ = ["Picture", "pictures_of_rows", "read_picture"]

# Pixels a side: what is larger is made smaller, what is smaller is shown larger.
LARGEST = 96
SMALLEST_SHOWN = 48


@dataclass(frozen=True)
class Picture:
    """A picture that a page can hold.

    Attributes
    ----------
    uri : str
        A ``data:`` address.

    width : int
        Pixels that it is shown at.

    height : int
        Pixels that it is shown at.

    enlarged : bool
        Whether its own pixels are to be seen as squares.
    """

    uri: str
    width: int
    height: int
    enlarged: bool


def read_picture(path):
    """Read an image.

    Parameters
    ----------
    path : Path
        A file of a run directory.

    Returns
    -------
    picture : Picture
        Of at most 96 pixels a side.

    Raises
    ------
    ValueError
        If it is missing or no image.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return _embedded(image)
    except (OSError, SyntaxError, EOFError) as error:
        # What the system refuses has a number; what Pillow cannot decode has none.
        if getattr(error, "errno", None) not in (None, errno.ENOENT):
            raise
        raise ValueError(
            f"{str(path)!r} is lost or no image; the call that wrote the run makes it again."
        ) from error


def pictures_of_rows(X, image_shape, value_range):
    """Return the pictures of real images.

    Parameters
    ----------
    X : ndarray of shape (n_samples, ...)
        Images, or rows that hold one each.

    image_shape : tuple of int
        (height, width) or (height, width, channels).

    value_range : tuple of float
        The values that stand for black and white.

    Returns
    -------
    pictures : list of Picture
        One each.
    """
    x = to_networks(X.reshape(-1, *image_shape), value_range)
    pixels = from_networks(x, (0.0, 255.0), shape=tuple(image_shape), dtype=np.uint8)
    return [_embedded(to_picture(image)) for image in pixels]


def _embedded(image):
    side = max(image.size)
    if side > LARGEST:
        image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    # Few pixels, and those of what is transparent, would suffer from JPEG.
    kind = "JPEG" if side > LARGEST and image.mode in ("L", "RGB") else "PNG"
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": 85} if kind == "JPEG" else {}))
    data = base64.b64encode(buffer.getvalue()).decode()
    # By a whole number, so that the squares are all of one size.
    factor = max(1, -(-SMALLEST_SHOWN // max(image.size)))
    width, height = image.size
    return Picture(
        f"data:image/{kind.lower()};base64,{data}", factor * width, factor * height, factor > 1
    )
