"""Names of class folders: one for each label, on every file system."""

import hashlib
import unicodedata
from collections import Counter

__all__ = ["class_folder", "class_folders"]

FORBIDDEN = set('/\\<>:"|?*%\x7f')
# Names that Windows keeps for devices, whatever follows their first dot.
DEVICES = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}
DEVICES |= {f"{port}{number}" for port in ("COM", "LPT") for number in "0123456789¹²³"}
LONGEST_NAME = 200


def class_folder(label):
    """Return the name of a class's folder, whatever its label holds.

    Different labels have different names. On file systems that ignore case it takes all labels to
    tell, :func:`class_folders`.

    Parameters
    ----------
    label : object
        A label.

    Returns
    -------
    name : str
        The label, with what some file system does not take percent-encoded and what is very long
        cut; never empty, hidden, "." or "..", and none that Windows keeps for a device.

    Examples
    --------
    >>> from skdistill.names import class_folder
    >>> class_folder("tabby cat"), class_folder("../x"), class_folder("con")
    ('tabby cat', '%..%2Fx', '%con')
    """
    text = str(label)
    name = "".join(map(_encoded, text))
    if name.endswith((".", " ")):
        # Windows drops these.
        name = f"{name[:-1]}%{ord(name[-1]):02X}"
    device = name.split(".")[0].rstrip().upper() in DEVICES
    if not name or name.startswith(".") or device or name.lower() == "metadata.jsonl":
        # No two hexadecimal digits follow, so that it is the encoding of nothing.
        name = f"%{name}"
    return name if len(name.encode()) <= LONGEST_NAME else _marked(name, text)


def class_folders(labels):
    """Return the names of the folders of classes, which no file system takes for the same.

    Parameters
    ----------
    labels : sequence
        All labels, different.

    Returns
    -------
    names : list of str
        :func:`class_folder` of each. Names that differ only in case, or in how accents are written,
        are marked with a digest of the label.

    Examples
    --------
    >>> from skdistill.names import class_folders
    >>> class_folders(["dog", "Crane", "crane"])
    ['dog', 'Crane%%cf5445e943f762bd', 'crane%%2c6ac23e4ffdf95f']
    """
    names = [class_folder(label) for label in labels]
    counts = Counter(map(_folded, names))
    return [
        name if counts[_folded(name)] == 1 else _marked(name, str(label))
        for label, name in zip(labels, names, strict=True)
    ]


def _encoded(character):
    """Percent-encode a character that some file system does not take in names."""
    code = ord(character)
    # Halves of surrogate pairs stand for bytes of a name that are no text.
    if character in FORBIDDEN or code < 32 or 0xD800 <= code <= 0xDFFF:
        return "".join(f"%{byte:02X}" for byte in character.encode(errors="surrogatepass"))
    return character


def _marked(name, text):
    """Cut a name where it is long and tell it apart by a digest; no other holds two % in a row."""
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
    return name.encode()[: LONGEST_NAME - 18].decode(errors="ignore") + "%%" + digest


def _folded(name):
    """Return what names have in common that some file system takes for the same."""
    decomposed = unicodedata.normalize("NFD", name).casefold()
    return unicodedata.normalize("NFD", decomposed)
