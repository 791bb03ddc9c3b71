"""One fitted distiller of the handwritten digits, which several pictures share."""

import functools

from skdistill import ManifoldGDDistiller
from skdistill.datasets import load_digits_split


@functools.cache
def training_images():
    """Return the training images and their labels."""
    X, _, y, _ = load_digits_split()
    return X, y


@functools.cache
def fitted(**settings):
    """Return a distiller of them with ten samples a class, its settings changed to these."""
    return ManifoldGDDistiller(ipc=10, backbone="digits", random_state=0, **settings).fit(
        *training_images()
    )
