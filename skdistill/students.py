"""The networks that judge a distilled set: trained on it from scratch, tested on real data."""

import math
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import check_array, check_consistent_length, check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_feature_names, check_is_fitted, column_or_1d
from threadpoolctl import threadpool_limits
from torch import nn

from skdistill.augmentation import augment
from skdistill.networks import conv_net, own_random_state, resnet
from skdistill.pixels import check_image_shape, check_value_range, infer_value_range, to_networks
from skdistill.progress import progress_bar
from skdistill.validation import has_bfloat16, pick_device

__all__ = ["ConvNetClassifier", "ResNetClassifier"]

# Pixels a side of images that are trained on by one thread.
SMALL = 16
# Share of the updates over which the step size rises.
WARM = 0.2


class _NetworkClassifier(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClassifierMixin, BaseEstimator
):
    """Train what `_build` returns, by the protocol that both kinds of network share."""

    _parameter_constraints: ClassVar[dict] = {
        "steps": [Interval(Integral, 1, None, closed="left")],
        "epochs": [Interval(Integral, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "augmentation": ["array-like"],
        "image_shape": [None, "array-like"],
        "value_range": [None, "array-like"],
        "classes": [None, "array-like"],
        "dtype": [StrOptions({"auto", "float32", "bfloat16"})],
        "compile": ["boolean"],
        "device": [str],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Train the network.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width), (n_samples, height, width, channels) \
                or (n_samples, n_features)
            Images of any integer or floating dtype; flat rows need `image_shape`.

        y : array-like of shape (n_samples,) or (n_samples, n_classes)
            Labels, or the probabilities of the classes.

        Returns
        -------
        self : object
            The fitted classifier.

        Raises
        ------
        ValueError
            If `X` or `y` cannot be used, or if training diverges; the message says what would do.
        """
        _check_feature_names(self, X, reset=True)
        X = check_array(X, allow_nd=True, input_name="X", estimator=self)
        self.classes_, targets = self._check_targets(y)
        check_consistent_length(X, targets)
        self.image_shape_ = self._infer_image_shape(X)
        self.n_features_in_ = math.prod(self.image_shape_)
        if self.value_range is None:
            self.value_range_ = infer_value_range(X)
        else:
            self.value_range_ = check_value_range(self.value_range)

        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        device = pick_device(self.device)
        # Weights are drawn on the CPU, so that a seed means the same on every device.
        with own_random_state() as drawing:
            drawing.manual_seed(seed)
            self.network_ = self._build(self.image_shape_, len(self.classes_)).to(device)
        # A second thread brings nothing at this size, and on a busy machine costs tenfold: threads
        # spin while they wait for each other.
        limit = 1 if max(self.image_shape_[:2]) <= SMALL else None
        with threadpool_limits(limit, user_api="openmp"):
            self._train(X, torch.from_numpy(targets), torch.Generator().manual_seed(seed))
        # Such a network would predict the first class throughout, which looks like a poor set.
        if not all(weights.isfinite().all() for weights in self.network_.parameters()):
            raise ValueError(
                f"Training diverged; learning_rate={self.learning_rate!r} must be smaller."
            )
        return self

    def predict(self, X):
        """Predict the labels of images.

        Parameters
        ----------
        X : array-like of shape (n_samples, *image_shape_) or (n_samples, n_features_in_)
            Images.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            The likeliest class of each.
        """
        probabilities = self.predict_proba(X)
        return self.classes_[np.argmax(probabilities, axis=1)]

    def predict_proba(self, X):
        """Predict the probabilities of the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, *image_shape_) or (n_samples, n_features_in_)
            Images.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes), dtype float32
            In the order of `classes_`.
        """
        check_is_fitted(self)
        return self._apply(X, lambda images: self.network_(images).float().softmax(dim=1))

    def transform(self, X):
        """Return the features that the last layer sees.

        Parameters
        ----------
        X : array-like of shape (n_samples, *image_shape_) or (n_samples, n_features_in_)
            Images.

        Returns
        -------
        features : ndarray of shape (n_samples, n_network_features), dtype float32
            A space in which distances mean more than between pixels, for
            :mod:`skdistill.metrics`.
        """
        check_is_fitted(self)
        return self._apply(X, lambda images: self.network_[:-1](images).float())

    @property
    def _n_features_out(self):
        return self.network_[-1].in_features

    def _apply(self, X, function):
        """Apply `function` to batches of images without gradients."""
        _check_feature_names(self, X, reset=False)
        X = check_array(X, allow_nd=True, input_name="X", estimator=self)
        if X.shape[1:] not in (self.image_shape_, (self.n_features_in_,)):
            raise ValueError(
                f"X must have images of shape {self.image_shape_} or flat rows of "
                f"{self.n_features_in_} values as in fit, got an array of shape {X.shape}."
            )
        device = next(self.network_.parameters()).device
        self.network_.eval()
        results = []
        with torch.inference_mode(), self._autocast(device):
            for start in range(0, len(X), self.batch_size):
                images = self._to_network(X[start : start + self.batch_size])
                results.append(function(images.to(device)).cpu())
        return torch.cat(results).numpy()

    def _train(self, X, targets, generator):
        """Update the network on batches from a chain of random orders."""
        device = next(self.network_.parameters()).device
        batch_size = min(self.batch_size, len(X))
        n_steps = max(self.steps, math.ceil(self.epochs * len(X) / batch_size))
        n_orders = math.ceil(n_steps * batch_size / len(X))
        orders = [torch.randperm(len(X), generator=generator) for _ in range(n_orders)]
        batches = torch.cat(orders)[: n_steps * batch_size].reshape(n_steps, batch_size)

        def loss_of(images, targets):
            return nn.functional.cross_entropy(self.network_(images), targets)

        if self.compile:
            # Only the training step is compiled: the network stays a plain one, which pickles.
            loss_of = torch.compile(loss_of)
        optimizer = torch.optim.AdamW(
            self.network_.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: _warm_then_cosine(step / n_steps)
        )
        self.network_.train()
        name = type(self).__name__
        bar = progress_bar(batches, description=name, verbose=self.verbose)
        for batch in bar:
            images = augment(self._to_network(X[batch.numpy()]), self.augmentation, generator)
            # Outside of what is compiled, or it would be compiled anew at each step.
            with self._autocast(device):
                loss = loss_of(images.to(device), targets[batch].to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if not bar.disable:
                bar.set_postfix(loss=f"{loss.item():.3f}")

    def _check_targets(self, y):
        """Return the classes, and labels as numbers or distributions over the classes."""
        if np.ndim(y) == 2 and np.shape(y)[1] > 1:
            return self._check_distributions(y)
        if self.classes is not None:
            raise ValueError(
                f"classes={self.classes!r} is for y of shape (n_samples, n_classes); y has the "
                f"shape {np.shape(y)}."
            )
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        encoder = LabelEncoder().fit(y)
        if len(encoder.classes_) < 2:
            raise ValueError(
                f"y must have at least two classes, got only one: {encoder.classes_.tolist()[0]!r}."
            )
        return encoder.classes_, encoder.transform(y)

    def _check_distributions(self, y):
        """Return the classes of the columns of `y`, and `y` in float32."""
        y = check_array(y, dtype=np.float32, input_name="y", estimator=self)
        sums = y.sum(axis=1)
        if y.min() < 0 or np.abs(sums - 1).max() > 1e-3:
            row = np.argmax((y.min(axis=1) < 0) | (np.abs(sums - 1) > 1e-3))
            raise ValueError(
                "Each row of a y of shape (n_samples, n_classes) must be a distribution: at least "
                f"0 everywhere, with the sum 1; row {row} is {y[row]}."
            )
        classes = np.arange(y.shape[1]) if self.classes is None else np.asarray(self.classes)
        if len(np.unique(classes)) != y.shape[1] or classes.ndim != 1:
            raise ValueError(
                f"classes={self.classes!r} must name each of the {y.shape[1]} columns of y once."
            )
        return classes, y

    def _infer_image_shape(self, X):
        """Return (height, width) or (height, width, channels) of an image of X."""
        shape = X.shape[1:]
        if self.image_shape is not None:
            shape = check_image_shape(self.image_shape)
            if X.shape[1:] not in (shape, (math.prod(shape),)):
                raise ValueError(
                    f"image_shape={shape} does not fit X, which has the shape {X.shape}."
                )
        elif X.ndim == 2:
            raise ValueError(
                f"X has flat rows, its shape is {X.shape}; give image_shape=(height, width) or "
                "(height, width, channels)."
            )
        if len(shape) not in (2, 3) or min(shape) < 1:
            raise ValueError(
                "Images must have the shape (height, width) or (height, width, channels), got "
                f"{shape}."
            )
        return shape

    def _to_network(self, X):
        return torch.from_numpy(to_networks(X.reshape(-1, *self.image_shape_), self.value_range_))

    def _autocast(self, device):
        chosen = self.dtype == "bfloat16" or (self.dtype == "auto" and device.type == "cuda")
        return torch.autocast(device.type, torch.bfloat16, enabled=chosen and has_bfloat16(device))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        # Features are in float32 whatever the images are in.
        tags.transformer_tags.preserves_dtype = []
        return tags


class ConvNetClassifier(_NetworkClassifier):
    """The convolutional network by which dataset distillation is judged.

    ConvNet-d, :func:`skdistill.networks.conv_net`, trained from scratch with AdamW.

    Parameters
    ----------
    depth : int, default=None
        Number of blocks. None takes what leaves about 4 x 4 pixels, and two at least where the
        images allow it: 2 for 8 x 8 images, 3 for 32 x 32, 6 for 256 x 256.

    width : int, default=128
        Number of channels of each convolution.

    steps : int, default=500
        Least number of updates.

    epochs : int, default=10
        Least number of passes over the data: a small set is seen for `steps` updates, a large one
        `epochs` times.

    batch_size : int, default=64
        Number of images an update, and at once in prediction.

    learning_rate : float, default=0.001
        Largest step size of AdamW: it rises to it over the first fifth of the updates and falls to
        zero along half a cosine.

    weight_decay : float, default=0.05
        Of AdamW.

    augmentation : sequence of str, default=()
        Random changes to each training image, of :func:`skdistill.augmentation.augment`, such as
        ``("flip", "crop")``. Only what keeps the class: a mirrored cat is a cat, a mirrored digit
        is none.

    image_shape : tuple of int, default=None
        (height, width) or (height, width, channels) of an image where `X` has flat rows.

    value_range : tuple of float, default=None
        The values of `X` that stand for black and white. None infers them from what fit is given:
        see :func:`skdistill.pixels.infer_value_range`. Give it where training sets are compared,
        lest each has its own.

    classes : array-like of shape (n_classes,), default=None
        Labels of the columns where `y` has distributions; None numbers them.

    dtype : {"auto", "float32", "bfloat16"}, default="auto"
        In what convolutions are computed, by autocast. "auto" is bfloat16 on "cuda" and float32
        elsewhere. "bfloat16" is float32, too, where the device would have to emulate it, which
        takes many times as long.

    compile : bool, default=False
        Whether the training step goes through :func:`torch.compile`, which on a CPU needs a C++
        compiler. It takes up to a minute at first, and pays where training takes many.

    device : {"auto", "cpu", "cuda", "mps"}, default="auto"
        Where to train and predict. "auto" takes an accelerator where there is one.

    random_state : int, RandomState instance or None, default=None
        Seeds the weights, the order of the images and their augmentation. An int repeats the
        result on the same device.

    verbose : int, default=0
        0 for silence; otherwise a terminal shows a progress bar with the loss.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The class labels.

    image_shape_ : tuple of int
        Shape of an image of the training set.

    n_features_in_ : int
        Number of values in an image: height * width * channels. Images are accepted as they are or
        as flat rows of that length, whichever of the two fit was given.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where `X` has them all as strings.

    network_ : torch.nn.Sequential
        The trained network. It takes images in [-1, 1], channels first, and returns logits.

    value_range_ : tuple of float
        The values that stand for black and white.

    See Also
    --------
    ResNetClassifier : A deeper judge.

    References
    ----------
    B. Zhao, H. Bilen, "Dataset Condensation with Distribution Matching", WACV 2023.

    Examples
    --------
    >>> from skdistill.datasets import load_digits_split
    >>> from skdistill.students import ConvNetClassifier
    >>> X_train, X_test, y_train, y_test = load_digits_split()
    >>> student = ConvNetClassifier(width=32, steps=300, random_state=0).fit(X_train, y_train)
    >>> student.score(X_test, y_test) > 0.9
    True
    """

    _parameter_constraints: ClassVar[dict] = {
        "depth": [None, Interval(Integral, 1, None, closed="left")],
        "width": [Interval(Integral, 1, None, closed="left")],
        **_NetworkClassifier._parameter_constraints,
    }

    def __init__(
        self,
        depth=None,
        width=128,
        *,
        steps=500,
        epochs=10,
        batch_size=64,
        learning_rate=1e-3,
        weight_decay=0.05,
        augmentation=(),
        image_shape=None,
        value_range=None,
        classes=None,
        dtype="auto",
        compile=False,
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.depth = depth
        self.width = width
        self.steps = steps
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.augmentation = augmentation
        self.image_shape = image_shape
        self.value_range = value_range
        self.classes = classes
        self.dtype = dtype
        self.compile = compile
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _build(self, image_shape, n_classes):
        return conv_net(image_shape, n_classes, depth=self.depth, width=self.width)


class ResNetClassifier(_NetworkClassifier):
    """ResNet-18 or ResNetAP-10 with instance normalisation, deeper judges than the ConvNet.

    :func:`skdistill.networks.resnet`, trained from scratch with AdamW.

    Parameters
    ----------
    layers : {10, 18}, default=18
        Number of layers with weights.

    pooling : bool, default=False
        Whether average pooling halves the images, not strided convolutions. ``layers=10,
        pooling=True`` is the literature's ResNetAP-10.

    width : int, default=64
        Number of channels of the first stage; each of the three that follow doubles it.

    steps : int, default=500
        Least number of updates.

    epochs : int, default=10
        Least number of passes over the data: a small set is seen for `steps` updates, a large one
        `epochs` times.

    batch_size : int, default=64
        Number of images an update, and at once in prediction.

    learning_rate : float, default=0.001
        Largest step size of AdamW: it rises to it over the first fifth of the updates and falls to
        zero along half a cosine.

    weight_decay : float, default=0.05
        Of AdamW.

    augmentation : sequence of str, default=()
        Random changes to each training image, of :func:`skdistill.augmentation.augment`, such as
        ``("flip", "crop")``. Only what keeps the class: a mirrored cat is a cat, a mirrored digit
        is none.

    image_shape : tuple of int, default=None
        (height, width) or (height, width, channels) of an image where `X` has flat rows.

    value_range : tuple of float, default=None
        The values of `X` that stand for black and white. None infers them from what fit is given:
        see :func:`skdistill.pixels.infer_value_range`. Give it where training sets are compared,
        lest each has its own.

    classes : array-like of shape (n_classes,), default=None
        Labels of the columns where `y` has distributions; None numbers them.

    dtype : {"auto", "float32", "bfloat16"}, default="auto"
        In what convolutions are computed, by autocast. "auto" is bfloat16 on "cuda" and float32
        elsewhere. "bfloat16" is float32, too, where the device would have to emulate it, which
        takes many times as long.

    compile : bool, default=False
        Whether the training step goes through :func:`torch.compile`, which on a CPU needs a C++
        compiler. It takes up to a minute at first, and pays where training takes many.

    device : {"auto", "cpu", "cuda", "mps"}, default="auto"
        Where to train and predict. "auto" takes an accelerator where there is one.

    random_state : int, RandomState instance or None, default=None
        Seeds the weights, the order of the images and their augmentation. An int repeats the
        result on the same device.

    verbose : int, default=0
        0 for silence; otherwise a terminal shows a progress bar with the loss.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The class labels.

    image_shape_ : tuple of int
        Shape of an image of the training set.

    n_features_in_ : int
        Number of values in an image: height * width * channels. Images are accepted as they are or
        as flat rows of that length, whichever of the two fit was given.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where `X` has them all as strings.

    network_ : torch.nn.Sequential
        The trained network. It takes images in [-1, 1], channels first, and returns logits.

    value_range_ : tuple of float
        The values that stand for black and white.

    See Also
    --------
    ConvNetClassifier : The judge that most comparisons use.

    References
    ----------
    J.-H. Kim et al., "Dataset Condensation via Efficient Synthetic-Data Parameterization", ICML
    2022.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.students import ResNetClassifier
    >>> X = np.zeros((8, 16, 16))
    >>> X[4:, :8] = 1
    >>> y = np.repeat(["bottom", "top"], 4)
    >>> student = ResNetClassifier(10, pooling=True, width=8, steps=20, random_state=0)
    >>> student.fit(X, y).score(X, y)
    1.0
    """

    _parameter_constraints: ClassVar[dict] = {
        "layers": [Options(Integral, {10, 18})],
        "pooling": ["boolean"],
        "width": [Interval(Integral, 1, None, closed="left")],
        **_NetworkClassifier._parameter_constraints,
    }

    def __init__(
        self,
        layers=18,
        pooling=False,
        *,
        width=64,
        steps=500,
        epochs=10,
        batch_size=64,
        learning_rate=1e-3,
        weight_decay=0.05,
        augmentation=(),
        image_shape=None,
        value_range=None,
        classes=None,
        dtype="auto",
        compile=False,
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.layers = layers
        self.pooling = pooling
        self.width = width
        self.steps = steps
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.augmentation = augmentation
        self.image_shape = image_shape
        self.value_range = value_range
        self.classes = classes
        self.dtype = dtype
        self.compile = compile
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _build(self, image_shape, n_classes):
        return resnet(
            image_shape, n_classes, layers=self.layers, pooling=self.pooling, width=self.width
        )


def _warm_then_cosine(progress):
    """Return the share of the largest step size after a share of the updates."""
    if progress < WARM:
        return (progress + 1e-3) / WARM
    return 0.5 * (1.0 + math.cos(math.pi * (progress - WARM) / (1.0 - WARM)))
