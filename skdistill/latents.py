"""Latents on disk, a file a class, and what is fitted to them when it is asked for."""

import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.base import clone

from skdistill.atomic import atomic_file

__all__ = ["ClassProjectors", "LatentsOnDisk", "at_least_float32"]


def at_least_float32(Z):
    """Return latents as arithmetic takes them.

    Parameters
    ----------
    Z : ndarray of shape (n_samples, n_features)
        Latents of a class.

    Returns
    -------
    Z : ndarray of shape (n_samples, n_features)
        A copy in float32 of float16; any other dtype as it is, mapped memory too.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.latents import at_least_float32
    >>> at_least_float32(np.zeros((1, 2), dtype=np.float16)).dtype
    dtype('float32')
    """
    return Z.astype(np.float32) if Z.dtype == np.float16 else np.asarray(Z)


class LatentsOnDisk(Sequence):
    """The latents of each class in a file of its own, mapped when they are asked for.

    ``latents[k]`` is a memory map of shape (n_samples_of_class, n_features). A file that is there
    is complete: it is written under another name and renamed.

    Parameters
    ----------
    n_classes : int
        Number of classes.

    folder : str or path-like, default=None
        Where the files are; it is made where it is missing. None makes a temporary folder, which is
        removed when this object goes or its process ends, unless by SIGKILL. A pickle of the object
        then holds the latents, otherwise the name of the folder. Copies share the files.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.latents import LatentsOnDisk
    >>> latents = LatentsOnDisk(n_classes=2)
    >>> latents.write(1, np.eye(3, dtype=np.float32))
    >>> latents.has(0), latents[1].shape
    (False, (3, 3))
    """

    def __init__(self, n_classes, folder=None):
        self.n_classes = n_classes
        self.temporary = folder is None
        if self.temporary:
            folder = tempfile.mkdtemp(prefix="skdistill-")
            weakref.finalize(self, _remove, folder, os.getpid())
        self.folder = Path(folder).absolute()

    def __len__(self):
        return self.n_classes

    def __getitem__(self, k):
        if not 0 <= k < self.n_classes:
            raise IndexError(k)
        try:
            return np.load(self._path(k), mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"The latents that fit kept in {str(self.folder)!r} cannot be read any more; fit "
                f"again: {error}"
            ) from error

    def __reduce__(self):
        if self.temporary:
            return _restored, (list(self),)
        return LatentsOnDisk, (self.n_classes, self.folder)

    def __deepcopy__(self, memo):
        # What was written is never altered.
        return self

    def has(self, k):
        """Return whether the latents of a class are there.

        Parameters
        ----------
        k : int
            The class.

        Returns
        -------
        has : bool
            Whether :meth:`write` has finished for it.
        """
        return self._path(k).is_file()

    def write(self, k, Z):
        """Write the latents of a class.

        Parameters
        ----------
        k : int
            The class.

        Z : ndarray of shape (n_samples_of_class, n_features)
            Its latents.

        Raises
        ------
        OSError
            If they cannot be written; it names the file.
        """
        with atomic_file(self._path(k)) as file:
            np.save(file, Z, allow_pickle=False)

    def _path(self, k):
        return self.folder / f"{k:06d}.npy"


def _remove(folder, pid):
    # A forked process has copies of its parent's objects, whose files are not its own to remove.
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)


def _restored(arrays):
    latents = LatentsOnDisk(len(arrays))
    for k, Z in enumerate(arrays):
        latents.write(k, Z)
    return latents


class ClassProjectors(Sequence):
    """Projectors of the classes, each fitted when it is asked for.

    They hold nothing that the latents do not, so that none has to be kept.

    Parameters
    ----------
    projector : TangentProjector
        Unfitted.

    latents : sequence or mapping of ndarray of shape (n_samples_of_class, n_features)
        By class.
    """

    def __init__(self, projector, latents):
        self.projector, self.latents = projector, latents

    def __len__(self):
        return len(self.latents)

    def __getitem__(self, k):
        return clone(self.projector).fit(at_least_float32(self.latents[k]))
