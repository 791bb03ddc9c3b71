"""The latents of a backbone's VAE as features for any scikit-learn estimator."""

import os
from numbers import Integral
from typing import ClassVar

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_feature_names, check_is_fitted

from skdistill.backbones.loading import load_backbone
from skdistill.generate import BatchedCalls
from skdistill.pixels import infer_format
from skdistill.validation import pick_device

__all__ = ["LatentEncoder"]


class LatentEncoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Turn images into flattened latents, the space in which the distiller clusters and guides.

    For a classifier on latents, for real subsets picked by them and for metrics among them.

    Parameters
    ----------
    backbone : str or path-like, default="digits"
        A shipped name, a folder in diffusers' format or a hub id, as of
        :class:`~skdistill.ManifoldGDDistiller`.

    image_shape : tuple of int, default=None
        (height, width) or (height, width, channels) of images that come as flat rows.

    value_range : tuple of float, default=None
        The values of `X` that stand for black and white; None infers them.

    resize : {"bilinear", "bicubic", "nearest"}, default=None
        How images are brought to the backbone's size. None refuses images of another size.

    device : str, default="auto"
        Where the encoder runs. "auto" takes "cuda", then "mps", then "cpu".

    batch_size : int, default=64
        Images that are encoded at once; it is halved where memory runs out.

    Attributes
    ----------
    backbone_ : DiTBackbone or StableDiffusionBackbone
        What encodes.

    n_features_in_ : int
        Number of values in an image.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where `X` has them all as strings.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from skdistill.backbones import LatentEncoder
    >>> from skdistill.datasets import load_digits_split
    >>> X_train, X_test, y_train, y_test = load_digits_split()
    >>> encoder = LatentEncoder("digits").fit(X_train)
    >>> encoder.transform(X_test).shape
    (540, 64)
    >>> student = make_pipeline(encoder, LogisticRegression(max_iter=1000))
    >>> student.fit(X_train, y_train).score(X_test, y_test) > 0.9
    True
    """

    _parameter_constraints: ClassVar[dict] = {
        "backbone": [str, os.PathLike],
        "image_shape": [None, "array-like"],
        "value_range": [None, "array-like"],
        "resize": [None, StrOptions({"bilinear", "bicubic", "nearest"})],
        "device": [str],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        backbone="digits",
        *,
        image_shape=None,
        value_range=None,
        resize=None,
        device="auto",
        batch_size=64,
    ):
        self.backbone = backbone
        self.image_shape = image_shape
        self.value_range = value_range
        self.resize = resize
        self.device = device
        self.batch_size = batch_size

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Load the backbone and learn how images look.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width), (n_samples, height, width, channels) \
                or (n_samples, n_features)
            Images; flat rows need `image_shape`.

        y : None
            Ignored.

        Returns
        -------
        self : LatentEncoder
            The fitted encoder.

        Raises
        ------
        ValueError
            If there is no such backbone, or the images do not fit it.
        """
        given, X = X, check_array(X, allow_nd=True, input_name="X", estimator=self)
        if X.ndim > 4:
            raise ValueError(
                f"X has the shape {X.shape}; it must be (n_samples, n_features), (n_samples, "
                "height, width) or (n_samples, height, width, channels)."
            )
        rows = X.reshape(len(X), -1)
        self.backbone_ = load_backbone(self.backbone)
        self._format = infer_format(
            rows,
            X.shape[1:],
            image_shape=self.image_shape,
            value_range=self.value_range,
            network_shape=self.backbone_.image_shape,
            network_range=self.backbone_.value_range,
            resize=self.resize,
        )
        _check_feature_names(self, given, reset=True)
        self.n_features_in_ = rows.shape[1]
        self._n_features_out = int(np.prod(self.backbone_.latent_shape))
        return self

    def transform(self, X):
        """Encode images.

        Parameters
        ----------
        X : array-like of the shape of a row of `fit`
            Images.

        Returns
        -------
        latents : ndarray of shape (n_samples, n_latent_features), dtype float32
            Means of the encoder's distribution, scaled as the diffusion model sees them.
        """
        check_is_fitted(self)
        _check_feature_names(self, X, reset=False)
        X = check_array(X, allow_nd=True, input_name="X", estimator=self)
        if X.shape[1:] not in (self._format.row_shape, self._format.image_shape):
            raise ValueError(
                f"A row of X has the shape {X.shape[1:]}, but fit saw {self._format.row_shape}."
            )
        self.backbone_.to(pick_device(self.device))
        x = self._format.to_backbone(X.reshape(len(X), -1))
        return self.backbone_.encode(x, BatchedCalls(self.batch_size)).reshape(len(X), -1)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = []
        return tags
