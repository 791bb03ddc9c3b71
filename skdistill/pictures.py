"""Images as PNG files, and a set of them as one picture."""

import io
from contextlib import suppress

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from skdistill.atomic import write_atomically

__all__ = ["caption", "draw_grid", "encode_png", "to_picture"]

GRID_COLUMNS = 20
GRID_CELL = 48
LONGEST_CAPTION = 24
# With more scripts than Pillow's own, on Linux, Windows and macOS.
SYSTEM_FONTS = (
    "DejaVuSans.ttf",
    "NotoSansCJK-Regular.ttc",
    "msyh.ttc",
    "Arial Unicode.ttf",
)
# Unicode will never have one here.
NO_CHARACTER = "\uffff"


def to_picture(pixels):
    """Return an image as Pillow has it.

    Parameters
    ----------
    pixels : ndarray of shape (height, width) or (height, width, channels)
        Of dtype uint8, with 1, 3 or 4 channels.

    Returns
    -------
    picture : PIL.Image.Image
        Grey, in colour, or in colour with transparency.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.pictures import to_picture
    >>> to_picture(np.zeros((2, 3, 1), np.uint8)).mode
    'L'
    """
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    return Image.fromarray(pixels)


def encode_png(pixels):
    """Return an image as the content of a PNG file.

    Parameters
    ----------
    pixels : ndarray of shape (height, width) or (height, width, channels)
        Of dtype uint8, with 1, 3 or 4 channels.

    Returns
    -------
    data : bytes
        The same pixels: nothing is lost.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.pictures import encode_png
    >>> encode_png(np.zeros((2, 3), np.uint8))[1:4]
    b'PNG'
    """
    buffer = io.BytesIO()
    to_picture(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def draw_grid(pixels, labels, classes, path):
    """Draw the samples of each class in a row, small ones enlarged.

    Parameters
    ----------
    pixels : ndarray of shape (n_samples, height, width) or (n_samples, height, width, channels)
        Images of dtype uint8.

    labels : ndarray of shape (n_samples,)
        Class of each image, as a place in `classes`.

    classes : sequence
        Labels, a row each; their numbers are written where no font at hand has their letters.

    path : Path
        The PNG file to write. At most the first 20 images of a class are drawn.
    """
    height, width = pixels.shape[1:3]
    scale = max(1, GRID_CELL // max(height, width))
    cell = (width * scale, height * scale)
    font, names = _font_of([caption(label) for label in classes], max(12, cell[1] // 3))
    margin = 16 + max(int(font.getlength(name)) for name in names)
    gap = 4
    columns = min(GRID_COLUMNS, int(np.bincount(labels).max()))
    size = (margin + columns * (cell[0] + gap), gap + len(names) * (cell[1] + gap))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for k, name in enumerate(names):
        top = gap + k * (cell[1] + gap)
        draw.text((8, top + cell[1] / 2), name, fill="black", font=font, anchor="lm")
        for column, image in enumerate(pixels[labels == k][:columns]):
            picture = to_picture(image).resize(cell, Image.Resampling.BICUBIC)
            sheet.paste(picture.convert("RGB"), (margin + column * (cell[0] + gap), top))
    write_atomically(path, encode_png(np.asarray(sheet)))


def _font_of(names, size):
    """Return a font and the names in it: their numbers, where no font that is there has them."""
    characters = {character for name in names for character in name if not character.isspace()}
    default = ImageFont.load_default(size=size)
    fonts = [default]
    for name in SYSTEM_FONTS:
        with suppress(OSError):
            fonts.append(ImageFont.truetype(name, size))
    for font in fonts:
        # What a font lacks it draws as one and the same box.
        box = bytes(font.getmask(NO_CHARACTER))
        if all(bytes(font.getmask(character)) != box for character in characters):
            return font, names
    return default, [f"class {k}" for k in range(1, len(names) + 1)]


def caption(label):
    """Return a label as one line of a picture.

    Parameters
    ----------
    label : object
        Of any kind that has a text.

    Returns
    -------
    text : str
        Of at most 24 characters, all of which can be printed.

    Examples
    --------
    >>> from skdistill.pictures import caption
    >>> caption("a name that is far too long"), caption(3)
    ('a name that is far to...', '3')
    """
    text = "".join(c if c.isprintable() else "?" for c in str(label))
    return text if len(text) <= LONGEST_CAPTION else f"{text[: LONGEST_CAPTION - 3]}..."
