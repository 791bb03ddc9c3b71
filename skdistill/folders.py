"""Image files in class folders: which there are, and what is in them."""

import hashlib
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

__all__ = ["IMAGE_SUFFIXES", "find_images", "read_image", "survey_image"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
# Pillow would try all it knows, and hand a PostScript file of whatever name to an interpreter.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
# Where Pillow looks for an orientation, among what it has read of an image.
NOTES = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")


def find_images(folder):
    """List the images of each class folder, however deep they lie.

    Links are followed. Names that begin with a dot are passed over, as are files that do not end
    as images do.

    Parameters
    ----------
    folder : Path
        With a folder for each class.

    Returns
    -------
    paths : dict of str to list of Path
        The files of each class, sorted, by the name of its folder; classes are sorted too.

    Raises
    ------
    ValueError
        If a link leads nowhere, or to a folder that it lies in.

    OSError
        If a folder may not be listed.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skdistill.folders import find_images
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("cat/1.png", "cat/old/2.JPG", "cat/.DS_Store"):
    ...         (Path(folder) / name).parent.mkdir(exist_ok=True)
    ...         (Path(folder) / name).touch()
    ...     paths = find_images(Path(folder))
    >>> {label: [path.name for path in found] for label, found in paths.items()}
    {'cat': ['1.png', '2.JPG']}
    """
    return {
        path.name: _images_below(path, (_identity(folder),))
        for path in _visible(folder)
        if path.is_dir()
    }


def read_image(path, image_size=None):
    """Read an image as it is meant to be seen.

    Parameters
    ----------
    path : str or path-like
        A PNG, JPEG, BMP, GIF, TIFF or WebP file, whichever of their names it has.

    image_size : int or tuple of int, default=None
        Cut the middle out of the image and resize it to this many pixels a side, or to this height
        and width.

    Returns
    -------
    image : PIL.Image.Image
        Of the mode "L" if it is grey, otherwise "RGB". The orientation that a camera noted is
        applied, transparency is dropped, 16 bits keep the upper 8, and of several frames or pages
        it is the first.

    Raises
    ------
    ValueError
        If the file cannot be read, if it has more pixels than ``PIL.Image.MAX_IMAGE_PIXELS``, or if
        its values have no fixed black and white (modes "I" and "F").
    """
    with _opened(path) as image:
        image = _to_bytes(ImageOps.exif_transpose(image))
        if image_size is not None:
            height, width = np.broadcast_to(image_size, 2).tolist()
            image = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
        return image


def survey_image(path):
    """Find out what :func:`read_image` would return, without decoding it.

    Parameters
    ----------
    path : str or path-like
        An image file.

    Returns
    -------
    size : tuple of int
        (height, width), as it is meant to be seen.

    grey : bool
        Whether it is grey.

    digest : bytes
        SHA-256 of the file.

    Raises
    ------
    ValueError
        As :func:`read_image` does, but for damage that only decoding shows.
    """
    with _opened(path) as image:
        # Pillow has turned a TIFF by now, and would decode a PNG in search of an orientation.
        turned = (
            image.format != "TIFF"
            and not image.info.keys().isdisjoint(NOTES)
            and image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
        )
        size = (image.width, image.height) if turned else (image.height, image.width)
        image.fp.seek(0)
        digest = hashlib.file_digest(image.fp, "sha256").digest()
        return size, _is_grey(image.mode), digest


@contextmanager
def _opened(path):
    """Open an image; raise ValueError for what is wrong with it, then and within the block."""
    path = Path(path)
    try:
        # Opening a pipe would wait for somebody to write into it.
        if path.exists() and not path.is_file():
            raise ValueError("it is no file")
        with warnings.catch_warnings():
            # Up to twice its limit, Pillow only warns.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                yield image
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ValueError(
            f"The image {str(path)!r} is refused: {error} If it is meant to be as large, raise "
            "PIL.Image.MAX_IMAGE_PIXELS."
        ) from error
    # Decoders raise whatever broken bytes lead them to.
    except Exception as error:
        raise ValueError(
            f"The image {str(path)!r} cannot be read: {str(error) or repr(error)}."
        ) from error


def _visible(folder):
    """List a folder without hidden names, sorted; refuse links that lead nowhere."""
    paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    for path in paths:
        # One in place of an image is a matter of that image.
        if path.is_symlink() and not _is_image_name(path) and not path.exists():
            raise ValueError(
                f"{str(path)!r} is a link to {str(path.readlink())!r}, where nothing is; it may "
                "have been a folder of images. Mend or remove it."
            )
    return paths


def _images_below(folder, above):
    """List the images in a folder that is reached through the folders `above`."""
    identity = _identity(folder)
    if identity in above:
        raise ValueError(
            f"{str(folder)!r} is a link to a folder that it lies in; its images would be taken "
            "twice. Remove it."
        )
    images = []
    for path in _visible(folder):
        if path.is_dir():
            images += _images_below(path, (*above, identity))
        elif _is_image_name(path):
            images.append(path)
    return images


def _is_image_name(path):
    return path.suffix.lower() in IMAGE_SUFFIXES


def _identity(folder):
    status = folder.stat()
    return status.st_dev, status.st_ino


def _is_grey(mode):
    """Return whether pictures of a mode are grey; raise ValueError if nothing says."""
    if mode in ("I", "F"):
        raise ValueError(
            f"nothing says which values of its mode {mode!r} are black and white; save it "
            "with 8 or 16 bits a channel"
        )
    return mode in ("1", "L", "LA") or mode.startswith("I;16")


def _to_bytes(image):
    """Turn a picture of any mode into grey or colours of 8 bits."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if _is_grey(image.mode):
        return image.convert("L")
    if image.mode == "P":
        # Straight to RGB, Pillow would warn of the transparency that is lost.
        image = image.convert("RGBA")
    return image.convert("RGB")
