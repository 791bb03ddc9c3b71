"""What the displays read off fitted estimators and plain arrays."""

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from skdistill.generate import BatchedCalls
from skdistill.pixels import DataFormat, infer_value_range

__all__ = [
    "FittedData",
    "check_distiller",
    "place_of",
    "standardised",
    "to_pictures",
]


def check_distiller(estimator):
    """Raise where an estimator is no fitted distiller.

    Parameters
    ----------
    estimator : ManifoldGDDistiller
        What a display was given.

    Raises
    ------
    NotFittedError
        If it is not fitted.

    TypeError
        If it is something else.
    """
    check_is_fitted(estimator)
    if not all(hasattr(estimator, name) for name in ("backbone_", "clusterers_", "projectors_")):
        raise TypeError(
            f"estimator={estimator!r} must be a fitted ManifoldGDDistiller; a resampler's or a "
            "pipeline's own distiller will do."
        )


def place_of(label, classes):
    """Return the place of a class among the sorted ones.

    Parameters
    ----------
    label : object
        A label, or None for the first.

    classes : ndarray of shape (n_classes,)
        All labels.

    Returns
    -------
    place : int
        Such that ``classes[place] == label``.

    Raises
    ------
    ValueError
        If there is no such class.
    """
    labels = classes.tolist()
    if label is None:
        return 0
    if label not in labels:
        raise ValueError(f"label={label!r} must be one of the classes {labels}.")
    return labels.index(label)


def to_pictures(X, image_shape, value_range=None):
    """Turn rows into bytes that can be shown.

    Parameters
    ----------
    X : ndarray of shape (n_samples, ...)
        Images, or rows that hold one each.

    image_shape : tuple of int
        (height, width) or (height, width, channels).

    value_range : tuple of float, default=None
        The values that stand for black and white; None infers them.

    Returns
    -------
    pictures : ndarray of shape (n_samples, height, width) or (n_samples, height, width, channels)
        Of dtype uint8, with 3 or 4 channels where there are any.

    Raises
    ------
    ValueError
        If the images have another number of channels.
    """
    if value_range is None:
        value_range = infer_value_range(X)
    pictures = DataFormat(X.shape[1:], tuple(image_shape), X.dtype, value_range).to_uint8(X)
    if pictures.ndim == 4 and pictures.shape[3] == 1:
        return pictures[..., 0]
    if pictures.ndim == 4 and pictures.shape[3] not in (3, 4):
        raise ValueError(f"Images of {pictures.shape[3]} channels cannot be drawn; 1, 3 or 4 can.")
    return pictures


def standardised(X, reference):
    """Bring features to one scale.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Rows.

    reference : ndarray of shape (n_reference, n_features)
        Rows whose means and standard deviations become 0 and 1.

    Returns
    -------
    Z : ndarray of shape (n_samples, n_features)
        The rows in standard deviations from the mean; 0 for a feature that does not vary.
    """
    scale = reference.std(axis=0)
    return np.where(scale > 0, (X - reference.mean(axis=0)) / np.where(scale > 0, scale, 1.0), 0.0)


class FittedData:
    """A fitted distiller beside rows in the caller's terms.

    Parameters
    ----------
    distiller : ManifoldGDDistiller
        Fitted.

    X : ndarray of shape (n_samples, ...)
        Rows of the shape and dtype that `fit` saw.

    Attributes
    ----------
    image_shape : tuple of int or None
        (height, width) or (height, width, channels) of images, None for tables.
    """

    def __init__(self, distiller, X):
        self.distiller = distiller
        row_shape = X.shape[1:]
        self.image_shape = row_shape if len(row_shape) > 1 else None
        if distiller.image_shape is not None:
            self.image_shape = tuple(distiller.image_shape)
        if np.prod(row_shape) != distiller.n_features_in_:
            raise ValueError(
                f"A row of X has the shape {row_shape}, but the distiller was fitted to rows of "
                f"{distiller.n_features_in_} values."
            )
        self._format = DataFormat(
            row_shape,
            self.image_shape,
            X.dtype,
            distiller.value_range_,
            getattr(distiller.backbone_, "image_shape", None),
            distiller.resize,
        )

    def encode(self, X):
        """Return the latents of rows.

        Parameters
        ----------
        X : ndarray of shape (n_samples, ...)
            Rows.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_latent_features)
            Latents.
        """
        backbone = self.distiller.backbone_.to(self.distiller._device())
        x = self._format.to_backbone(X.reshape(len(X), -1))
        return backbone.encode(x, BatchedCalls(self.distiller.batch_size)).reshape(len(X), -1)

    def decode(self, Z):
        """Return the rows that latents stand for.

        Parameters
        ----------
        Z : ndarray of shape (n_samples, n_latent_features)
            Latents.

        Returns
        -------
        X : ndarray of shape (n_samples, ...)
            Rows in the caller's terms.
        """
        backbone = self.distiller.backbone_.to(self.distiller._device())
        z = torch.from_numpy(Z).reshape(-1, *backbone.latent_shape)
        return self._format.from_backbone(
            backbone.decode(z, BatchedCalls(self.distiller.batch_size))
        )

    def pictures(self, X):
        """Return bytes that can be shown.

        Parameters
        ----------
        X : ndarray of shape (n_samples, ...)
            Images in the caller's terms.

        Returns
        -------
        pictures : ndarray of shape (n_samples, height, width) or \
                (n_samples, height, width, channels)
            See :func:`to_pictures`.
        """
        return to_pictures(X, self.image_shape, self.distiller.value_range_)

    def rows_of_classes(self, y):
        """Return where the rows of each class are.

        Parameters
        ----------
        y : array-like of shape (n_samples,)
            The labels that `fit` saw.

        Returns
        -------
        rows : list of n_classes ndarray
            Places in `y`, which are those of the rows of ``projectors_[k].reference_``.

        Raises
        ------
        ValueError
            If these are not the labels of `fit`.
        """
        y = np.asarray(y)
        classes = self.distiller.classes_
        rows = [np.flatnonzero(y == label) for label in classes]
        for label, places, projector in zip(
            classes.tolist(), rows, self.distiller.projectors_, strict=True
        ):
            if len(places) != len(projector.reference_):
                raise ValueError(
                    f"X and y must be what the distiller was fitted to: y has {len(places)} rows "
                    f"of the class {label!r}, fit saw {len(projector.reference_)}."
                )
        return rows

    def latents_of(self, y):
        """Return the latents of the rows of `fit`, which need not be encoded again.

        Parameters
        ----------
        y : array-like of shape (n_samples,)
            The labels that `fit` saw.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_latent_features)
            Latents, in the order of `y`.
        """
        rows = np.concatenate(self.rows_of_classes(y))
        latents = np.concatenate([p.reference_ for p in self.distiller.projectors_])
        return latents[np.argsort(rows)]
