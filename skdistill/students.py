"""The models that judge a distilled set: trained on it from scratch, tested on real data."""

import math
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import LabelEncoder, StandardScaler
from sklearn.utils import check_array, check_consistent_length, check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d
from threadpoolctl import threadpool_limits
from torch import nn
from tqdm.auto import tqdm

from skdistill.pixels import check_value_range, infer_value_range, to_networks
from skdistill.validation import pick_device

__all__ = ["ConvNetClassifier", "linear_student"]

# Pixels a side of images that are trained on by one thread.
SMALL = 16


class ConvNetClassifier(ClassifierMixin, BaseEstimator):
    """The convolutional network by which dataset distillation is judged.

    ConvNet-d: d blocks of a 3 x 3 convolution, instance normalisation with a scale and a shift per
    channel, ReLU and 2 x 2 average pooling, then a linear layer. It is trained from scratch with
    AdamW under a cosine schedule, for the same number of steps however many images there are.

    Parameters
    ----------
    depth : int, default=None
        Number of blocks. None takes what leaves about 4 x 4 pixels, and two at least where the
        images allow it: 2 for 8 x 8 images, 3 for 32 x 32, 6 for 256 x 256.

    width : int, default=128
        Number of channels of each convolution.

    steps : int, default=500
        Number of updates.

    batch_size : int, default=64
        Number of images an update, and at once in prediction.

    learning_rate : float, default=0.001
        Step size at the start; it falls to zero along half a cosine.

    flip : bool, default=False
        Whether to mirror each training image left to right at random. Only where that keeps the
        class, as it does for photographs, not for digits.

    image_shape : tuple of int, default=None
        (height, width) or (height, width, channels) of an image where `X` has flat rows.

    value_range : tuple of float, default=None
        The values of `X` that stand for black and white. None infers them from what fit is given:
        see :func:`skdistill.pixels.infer_value_range`. Give it where training sets are compared,
        lest each has its own.

    device : {"auto", "cpu", "cuda", "mps"}, default="auto"
        Where to train and predict. "auto" takes an accelerator where there is one. On "cuda" the
        network runs in bfloat16 autocast.

    random_state : int, RandomState instance or None, default=None
        Seeds the weights, the order of the images and the flips. An int repeats the result on the
        same device.

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

    network_ : torch.nn.Sequential
        The trained network. It takes images in [-1, 1], channels first, and returns logits.

    value_range_ : tuple of float
        The values that stand for black and white.

    Notes
    -----
    The architecture is that of Gidaris and Komodakis as used since Zhao and Bilen.

    References
    ----------
    S. Gidaris, N. Komodakis, "Dynamic Few-Shot Visual Learning without Forgetting", CVPR 2018.

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
        "steps": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "flip": ["boolean"],
        "image_shape": [None, "array-like"],
        "value_range": [None, "array-like"],
        "device": [str],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        depth=None,
        width=128,
        *,
        steps=500,
        batch_size=64,
        learning_rate=1e-3,
        flip=False,
        image_shape=None,
        value_range=None,
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.depth = depth
        self.width = width
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.flip = flip
        self.image_shape = image_shape
        self.value_range = value_range
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Train the network.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width), (n_samples, height, width, channels) \
                or (n_samples, n_features)
            Images of any integer or floating dtype; flat rows need `image_shape`.

        y : array-like of shape (n_samples,)
            Labels.

        Returns
        -------
        self : ConvNetClassifier
            The fitted classifier.
        """
        X = check_array(X, allow_nd=True, input_name="X", estimator=self)
        y = column_or_1d(y, warn=True)
        check_consistent_length(X, y)
        check_classification_targets(y)
        encoder = LabelEncoder().fit(y)
        if len(encoder.classes_) < 2:
            raise ValueError(
                f"y must have at least two classes, got only one: {encoder.classes_[0]!r}."
            )
        self.image_shape_ = self._infer_image_shape(X)
        self.n_features_in_ = math.prod(self.image_shape_)
        if self.value_range is None:
            self.value_range_ = infer_value_range(X)
        else:
            self.value_range_ = check_value_range(self.value_range)
        self.classes_ = encoder.classes_

        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        device = pick_device(self.device)
        # Weights are drawn on the CPU, so that a seed means the same on every device.
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(seed)
            network = _conv_net(
                self.image_shape_, len(self.classes_), depth=self.depth, width=self.width
            )
        self.network_ = network.to(device, memory_format=torch.channels_last)
        images = torch.from_numpy(self._to_network(X)).to(device)
        targets = torch.from_numpy(encoder.transform(y)).to(device)
        # A second thread brings nothing at this size, and on a busy machine costs tenfold: threads
        # spin while they wait for each other.
        limit = 1 if max(self.image_shape_[:2]) <= SMALL else None
        with threadpool_limits(limit, user_api="openmp"):
            self._train(images, targets, torch.Generator().manual_seed(seed))
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
        X = check_array(X, allow_nd=True, input_name="X", estimator=self)
        if X.shape[1:] not in (self.image_shape_, (self.n_features_in_,)):
            raise ValueError(
                f"X must have images of shape {self.image_shape_} or flat rows of "
                f"{self.n_features_in_} values as in fit, got an array of shape {X.shape}."
            )
        device = next(self.network_.parameters()).device
        self.network_.eval()
        probabilities = []
        with torch.inference_mode():
            for start in range(0, len(X), self.batch_size):
                images = torch.from_numpy(self._to_network(X[start : start + self.batch_size]))
                with _autocast(device):
                    logits = self.network_(images.to(device))
                probabilities.append(logits.float().softmax(dim=1).cpu())
        return torch.cat(probabilities).numpy()

    def _train(self, images, targets, generator):
        """Update the network `steps` times on batches from a chain of random orders."""
        device = images.device
        batch_size = min(self.batch_size, len(images))
        n_orders = math.ceil(self.steps * batch_size / len(images))
        orders = [torch.randperm(len(images), generator=generator) for _ in range(n_orders)]
        batches = torch.cat(orders)[: self.steps * batch_size].reshape(self.steps, batch_size)

        optimizer = torch.optim.AdamW(self.network_.parameters(), lr=self.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        self.network_.train()
        disable = None if self.verbose else True
        bar = tqdm(batches.to(device), desc="ConvNet", unit="step", disable=disable)
        for batch in bar:
            x = images[batch]
            if self.flip:
                mirrored = torch.rand(batch_size, 1, 1, 1, generator=generator) < 0.5
                x = torch.where(mirrored.to(device), x.flip(-1), x)
            with _autocast(device):
                loss = nn.functional.cross_entropy(self.network_(x), targets[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if not bar.disable:
                bar.set_postfix(loss=f"{loss.item():.3f}")

    def _infer_image_shape(self, X):
        """Return (height, width) or (height, width, channels) of an image of X."""
        shape = X.shape[1:]
        if self.image_shape is not None:
            shape = tuple(int(n) for n in self.image_shape)
            if X.shape[1:] not in (shape, (math.prod(shape),)):
                raise ValueError(
                    f"image_shape={shape} does not fit X, which has the shape {X.shape}."
                )
        elif X.ndim == 2:
            raise ValueError(
                f"X has flat rows, its shape is {X.shape}; give image_shape=(height, width) or "
                "(height, width, channels)."
            )
        if len(shape) not in (2, 3):
            raise ValueError(
                "Images must have the shape (height, width) or (height, width, channels), got "
                f"{shape}."
            )
        return shape

    def _to_network(self, X):
        return to_networks(X.reshape(-1, *self.image_shape_), self.value_range_)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


def linear_student():
    """Return the linear classifier by which distilled sets are judged.

    Returns
    -------
    student : sklearn.pipeline.Pipeline
        A logistic regression on features of zero mean and unit variance, not fitted. It takes flat
        rows.

    Examples
    --------
    >>> from skdistill.datasets import load_digits_split
    >>> from skdistill.students import linear_student
    >>> X_train, X_test, y_train, y_test = load_digits_split()
    >>> student = linear_student().fit(X_train.reshape(-1, 64), y_train)
    >>> student.score(X_test.reshape(-1, 64), y_test) > 0.95
    True
    """
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


def _autocast(device):
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def _conv_net(image_shape, n_classes, *, depth, width):
    """Build a ConvNet-d with random weights for images of (height, width[, channels])."""
    height, width_of_image = image_shape[:2]
    shorter = min(height, width_of_image)
    # Instance normalisation of a single pixel would leave nothing of it.
    deepest = math.floor(math.log2(shorter))
    if depth is None:
        depth = min(max(2, round(math.log2(shorter / 4))), deepest)
    if not 1 <= depth <= deepest:
        raise ValueError(
            f"Images of {height} x {width_of_image} pixels allow a depth of at most {deepest}, "
            f"got {depth}."
        )
    layers = []
    n_channels = math.prod(image_shape[2:])
    for _ in range(depth):
        layers += [
            nn.Conv2d(n_channels, width, kernel_size=3, padding=1),
            nn.GroupNorm(width, width),
            nn.ReLU(),
            nn.AvgPool2d(2),
        ]
        n_channels = width
    n_pixels = (height >> depth) * (width_of_image >> depth)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * n_pixels, n_classes))
