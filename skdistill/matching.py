"""Distribution matching: images whose features have the mean of the real ones, in any network."""

import copy
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
import torch
from sklearn.base import _fit_context
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval, StrOptions
from threadpoolctl import threadpool_limits
from torch import nn

from skdistill.augmentation import augment, check_augmentation
from skdistill.classwise import ClasswiseBaseline
from skdistill.networks import conv_net, own_random_state
from skdistill.pixels import infer_format
from skdistill.progress import progress_bar
from skdistill.students import SMALL
from skdistill.validation import IPC_CONSTRAINT, has_bfloat16, pick_device

__all__ = ["DistributionMatching", "RandomFeatures", "match_distribution"]


class DistributionMatching(ClasswiseBaseline):
    r"""Images trained to have the mean features of their class in random networks: DM [1]_.

    The training-based reference: starting from real images, drawn at random, the pixels of each
    class are optimised by :func:`match_distribution`.

    Parameters
    ----------
    ipc : int or mapping of class to int, default=10
        Samples a class.

    steps : int, default=1000
        Updates of each class. The paper takes 20,000.

    batch_size : int, default=128
        Real images an update. The paper takes 256.

    learning_rate : float, default=1.0
        Of gradient descent with a momentum of 0.5 on pixels in [-1, 1].

    augmentation : sequence of str, default=("flip", "crop", "cutout", "scale", "rotate", "color")
        Kinds of change that keep the class, of :func:`skdistill.augmentation.augment`, one of which
        each update takes at random: leave "flip" out for digits.

    depth : int, default=None
        Blocks of the random ConvNets, :func:`skdistill.networks.conv_net`.

    width : int, default=128
        Channels of the random ConvNets.

    image_shape : tuple of int, default=None
        (height, width) or (height, width, channels) of images that come as flat rows.

    value_range : tuple of float, default=None
        The values of `X` that stand for black and white; None infers them.

    dtype : {"float32", "bfloat16"}, default="float32"
        In what convolutions are computed, by autocast; float32 where the device would have to
        emulate bfloat16.

    device : str, default="auto"
        Where to compute. "auto" takes "cuda", then "mps", then "cpu".

    random_state : int, RandomState instance or None, default=None
        Seeds the images to start from, the networks, the batches and the changes.

    verbose : int, default=0
        Whether a terminal shows a progress bar.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The class labels.

    n_features_in_ : int
        Number of values a row.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where `X` has them all as strings.

    See Also
    --------
    skdistill.subsets.RandomSubset : Where it starts from.

    References
    ----------
    .. [1] B. Zhao, H. Bilen, "Dataset Condensation with Distribution Matching", WACV 2023,
       arXiv:2110.04181.

    Examples
    --------
    >>> from skdistill.matching import DistributionMatching
    >>> from skdistill.datasets import load_digits_split
    >>> X_train, _, y_train, _ = load_digits_split()
    >>> rival = DistributionMatching(1, steps=5, augmentation=["crop"], width=16, random_state=0)
    >>> X_syn, y_syn = rival.fit(X_train, y_train).sample()
    >>> X_syn.shape
    (10, 8, 8)
    """

    _parameter_constraints: ClassVar[dict] = {
        "ipc": IPC_CONSTRAINT,
        "steps": [Interval(Integral, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "augmentation": ["array-like"],
        "depth": [None, Interval(Integral, 1, None, closed="left")],
        "width": [Interval(Integral, 1, None, closed="left")],
        "image_shape": [None, "array-like"],
        "value_range": [None, "array-like"],
        "dtype": [StrOptions({"float32", "bfloat16"})],
        "device": [str],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        ipc=10,
        *,
        steps=1000,
        batch_size=128,
        learning_rate=1.0,
        augmentation=("flip", "crop", "cutout", "scale", "rotate", "color"),
        depth=None,
        width=128,
        image_shape=None,
        value_range=None,
        dtype="float32",
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.ipc = ipc
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.augmentation = augmentation
        self.depth = depth
        self.width = width
        self.image_shape = image_shape
        self.value_range = value_range
        self.dtype = dtype
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Keep the images that samples are made from.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width), (n_samples, height, width, channels) \
                or (n_samples, n_features)
            Real images of any integer or floating dtype; flat rows need `image_shape`.

        y : array-like of shape (n_samples,)
            Labels.

        Returns
        -------
        self : DistributionMatching
            The fitted baseline.

        Raises
        ------
        ValueError
            If `X` holds no images, `y` does not fit it, or a kind of change is unknown.
        """
        X = check_array(X, allow_nd=True, input_name="X", estimator=self)
        check_augmentation(self.augmentation)
        images = infer_format(
            X.reshape(len(X), -1),
            X.shape[1:],
            image_shape=self.image_shape,
            value_range=self.value_range,
        )
        if images.image_shape is None:
            raise ValueError(
                f"X has flat rows, its shape is {X.shape}; give image_shape=(height, width) or "
                "(height, width, channels)."
            )
        if len(images.image_shape) not in (2, 3) or min(images.image_shape) < 1:
            raise ValueError(
                "Images must have the shape (height, width) or (height, width, channels), got "
                f"{images.image_shape}."
            )
        # Nothing is kept before all is checked: a fit that fails leaves what was there.
        super().fit(X, y)
        self._format = images
        return self

    def _n_available(self, rows):
        return len(rows)

    def _make(self, rows, n, seed):
        device = pick_device(self.device)
        generator = torch.Generator().manual_seed(
            int(np.random.SeedSequence(seed).generate_state(1)[0])
        )
        real = torch.from_numpy(self._format.to_backbone(rows)).float().to(device)
        start = torch.randperm(len(real), generator=generator)[:n]
        # A second thread brings nothing at this size: see students.
        limit = 1 if max(self._format.image_shape[:2]) <= SMALL else None
        bar = progress_bar(description=f"class {seed[1]}", total=self.steps, verbose=self.verbose)
        with threadpool_limits(limit, user_api="openmp"), bar:
            matched = match_distribution(
                real,
                real[start.to(device)],
                steps=self.steps,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                augmentation=self.augmentation,
                generator=generator,
                depth=self.depth,
                width=self.width,
                dtype=getattr(torch, self.dtype),
                progress=bar.update,
            )
        return self._format.from_backbone(matched.cpu().numpy()).reshape(n, -1)


@torch.enable_grad()
def match_distribution(
    real,
    synthetic,
    *,
    steps,
    batch_size,
    learning_rate,
    augmentation,
    generator,
    depth=None,
    width=128,
    dtype=torch.float32,
    progress=None,
):
    r"""Optimise the pixels of images so that random networks take them for the real ones.

    Each step draws a ConvNet :math:`\psi` with random weights, a change :math:`\omega` of
    `augmentation` and a batch of real images, and follows the gradient of

    .. math:: \Bigl\| \frac{1}{|B|} \sum_{x \in B} \psi(\omega(x))
              - \frac{1}{|S|} \sum_{s \in S} \psi(\omega(s)) \Bigr\|^2

    with respect to the synthetic images s, where :math:`\psi` are the features before the last
    layer, then clips them to [-1, 1]. No network is trained.

    Parameters
    ----------
    real : Tensor of shape (n_real, channels, height, width)
        Real images of one class in [-1, 1].

    synthetic : Tensor of shape (n_synthetic, channels, height, width)
        Images to start from, in [-1, 1]; the same device and dtype.

    steps : int
        Number of updates.

    batch_size : int
        Real images an update.

    learning_rate : float
        Of gradient descent with a momentum of 0.5.

    augmentation : sequence of str
        Kinds of change, of which each step takes one: :func:`skdistill.augmentation.augment`. The
        same draw changes real and synthetic images.

    generator : torch.Generator
        On the CPU; draws weights, batches and changes.

    depth : int, default=None
        Blocks of the ConvNet, :func:`skdistill.networks.conv_net`.

    width : int, default=128
        Channels of the ConvNet.

    dtype : torch.dtype, default=torch.float32
        In what convolutions are computed, by autocast; float32 where the device would have to
        emulate bfloat16.

    progress : callable, default=None
        Called after each step.

    Returns
    -------
    synthetic : Tensor of shape (n_synthetic, channels, height, width)
        Optimised images in [-1, 1].

    Raises
    ------
    ValueError
        If `augmentation` is no sequence of known names, or the images are too small for `depth`.

    References
    ----------
    B. Zhao, H. Bilen, "Dataset Condensation with Distribution Matching", WACV 2023.

    Examples
    --------
    Real images are white on the left; those that start white on the right follow them:

    >>> import torch
    >>> from skdistill.matching import match_distribution
    >>> real = -torch.ones(4, 1, 8, 8)
    >>> real[..., :4] = 1.0
    >>> matched = match_distribution(
    ...     real,
    ...     real[:2].flip(-1),
    ...     steps=50,
    ...     batch_size=4,
    ...     learning_rate=1.0,
    ...     augmentation=["crop"],
    ...     generator=torch.Generator().manual_seed(0),
    ...     width=8,
    ... )
    >>> bool(matched[..., :4].mean() > 0.5), bool(matched[..., 4:].mean() < -0.5)
    (True, True)
    """
    features = RandomFeatures(
        real,
        augmentation=augmentation,
        generator=generator,
        depth=depth,
        width=width,
        dtype=dtype,
    )
    synthetic = synthetic.clone().requires_grad_()
    optimizer = torch.optim.SGD([synthetic], lr=learning_rate, momentum=0.5)
    for _ in range(steps):
        wanted = features.draw(batch_size)
        loss = torch.sum((wanted - features(synthetic).mean(dim=0)) ** 2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            synthetic.clamp_(-1.0, 1.0)
        if progress is not None:
            progress()
    return synthetic.detach()


class RandomFeatures:
    """What ConvNets with random weights see of images, of which each step draws another.

    Parameters
    ----------
    real : Tensor of shape (n_real, channels, height, width)
        Real images of one class in [-1, 1].

    augmentation : sequence of str
        Kinds of change, of which each step takes one: :func:`skdistill.augmentation.augment`.

    generator : torch.Generator
        On the CPU; draws weights, batches and changes.

    depth, width : int or None and int
        Blocks and channels of the ConvNet, :func:`skdistill.networks.conv_net`.

    dtype : torch.dtype
        In what convolutions are computed, by autocast; float32 where the device would have to
        emulate bfloat16.

    activation : type, default=torch.nn.ReLU
        Of the ConvNet.

    Raises
    ------
    ValueError
        If `augmentation` is no sequence of known names, or the images are too small for `depth`.
    """

    def __init__(self, real, *, augmentation, generator, depth, width, dtype, activation=nn.ReLU):
        self.real = real
        self.augmentation = check_augmentation(augmentation)
        self.generator = generator
        self._autocast = torch.autocast(
            real.device.type,
            torch.bfloat16,
            enabled=dtype == torch.bfloat16 and has_bfloat16(real.device),
        )
        n_channels, *size = real.shape[1:]
        with own_random_state() as drawing:
            drawing.manual_seed(_draw(generator, 2**63 - 1))
            # It stays on the CPU, so that a seed means the same weights on every device.
            self._drawn = conv_net(
                (*size, n_channels), 2, depth=depth, width=width, activation=activation
            )[:-1].float()
            self._weights = torch.random.get_rng_state()
        self._network = copy.deepcopy(self._drawn).requires_grad_(False).to(real.device)

    @torch.no_grad()
    def draw(self, batch_size):
        """Go on to the next network and change.

        Parameters
        ----------
        batch_size : int
            Number of real images.

        Returns
        -------
        mean : Tensor of shape (n_features,)
            The mean features of that many real images, drawn at random.
        """
        with own_random_state():
            torch.random.set_rng_state(self._weights)
            for module in self._drawn.modules():
                if isinstance(module, nn.Conv2d):
                    module.reset_parameters()
            self._weights = torch.random.get_rng_state()
        self._network.load_state_dict(self._drawn.state_dict())
        batch = torch.randperm(len(self.real), generator=self.generator)[:batch_size]
        if self.augmentation:
            self._change = self.augmentation[_draw(self.generator, len(self.augmentation))]
            self._state = self.generator.get_state()
        return self(self.real[batch.to(self.real.device)]).mean(dim=0)

    def __call__(self, x):
        """Return the features of images, after the change that all of a step undergo.

        Parameters
        ----------
        x : Tensor of shape (n_images, channels, height, width)
            Images in [-1, 1].

        Returns
        -------
        features : Tensor of shape (n_images, n_features)
            What comes before the network's last layer, in float32.
        """
        if self.augmentation:
            # The same numbers again, so that the change is the same.
            self.generator.set_state(self._state)
            x = augment(x, [self._change], self.generator, shared=True)
        with self._autocast:
            return self._network(x).float()


def _draw(generator, high):
    return int(torch.randint(high, (), generator=generator))
