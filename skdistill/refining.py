"""Refining a finished set: the latents of a class are moved together, until they are like it.

A refiner has ``steps``, the number of its steps a class; ``n_real``, the number of real latents
that it looks at; ``check(backbone)``, which raises ValueError where it cannot be used; and
``refine(z, real, decode, generator, dtype=dtype, progress=progress)``, which returns what latents
of a class become, given real ones of that class.
"""

import math
from numbers import Integral, Real
from typing import ClassVar

import torch
from sklearn.base import BaseEstimator
from sklearn.utils import gen_batches
from sklearn.utils._param_validation import Interval
from threadpoolctl import threadpool_limits
from torch import nn

from skdistill.matching import RandomFeatures
from skdistill.students import SMALL

__all__ = ["MatchingRefiner", "SupportPointsRefiner"]

# As a share of a class's spread, where distances are rounded off: at a kink, the last bit decides.
LEAST_DISTANCE = 1e-3
DISTANCES_AT_ONCE = 2**22


class MatchingRefiner(BaseEstimator):
    r"""Move the latents of a class until random networks take the set for the class.

    Guided sampling places each sample; nothing in it looks at the set. This does, afterwards: with
    :math:`D` the decoder and :math:`\psi` a ConvNet with random weights, another one at each step,
    the latents :math:`z_i` follow the gradient of

    .. math:: \Bigl\| \frac{1}{|B|} \sum_{x \in B} \psi(\omega(x))
              - \frac{1}{n} \sum_{i=1}^{n} \psi(\omega(D(z_i))) \Bigr\|^2
              + w \frac{q}{p} \Bigl\| \bar x - \frac{1}{n} \sum_{i=1}^{n} D(z_i) \Bigr\|^2

    where B is a batch of real images of the class, :math:`\bar x` the mean of all of them,
    :math:`\omega` a change that all images of a step undergo alike, and q and p the numbers of
    features and of pixels. The first part is the loss of distribution matching [1]_. The networks
    normalise each image, so what a linear model sees, brightness and contrast, is for the second
    part. That latents are moved instead of pixels keeps the samples what the decoder can draw, as
    in [2]_. No network is trained.

    Parameters
    ----------
    steps : int, default=200
        Gradients taken a class. The first moves nothing: it tells Adam their scale.

    learning_rate : float, default=0.1
        Of Adam, in units of latents, whose standard deviation is about 1. After the first step it
        falls to zero along a line.

    batch_size : int, default=64
        Real images an update, and synthetic ones that are decoded at once.

    augmentation : sequence of str, default=("crop", "cutout", "scale", "rotate", "color")
        Kinds of change, of which each update takes one: :func:`skdistill.augmentation.augment`.
        They are part of the features, not of the images, so they need not keep the class.

    depth : int, default=None
        Blocks of the random ConvNets, :func:`skdistill.networks.conv_net`.

    width : int, default=64
        Channels of the random ConvNets, which have GELU in place of ReLU.

    pixel_weight : float, default=0.1
        The w of the formula. Much of it blurs small sets: the one image whose pixels are the mean
        of a class is that mean.

    See Also
    --------
    skdistill.matching.DistributionMatching : The same loss on pixels, from real images on.
    skdistill.ManifoldGDDistiller : Refines each class of its set.

    Notes
    -----
    An update costs a pass of the decoder and of a ConvNet over the n samples, forwards and
    backwards, and one of the ConvNet over the batch. Memory is that of `batch_size` samples; more
    than these are passed forwards twice.

    References
    ----------
    .. [1] B. Zhao, H. Bilen, "Dataset Condensation with Distribution Matching", WACV 2023,
       arXiv:2110.04181.
    .. [2] G. Cazenavette et al., "Generalizing Dataset Distillation via Deep Generative Prior",
       CVPR 2023, arXiv:2305.01649.

    Examples
    --------
    Latents that are pixels themselves, white on the right at first; the class is white on the left:

    >>> import torch
    >>> from skdistill.refining import MatchingRefiner
    >>> real = -torch.ones(4, 1, 8, 8)
    >>> real[..., :4] = 1.0
    >>> refiner = MatchingRefiner(50, learning_rate=0.5, augmentation=(), width=8)
    >>> z = refiner.refine(
    ...     real[:2].flip(-1), real, torch.clone, torch.Generator().manual_seed(0)
    ... )
    >>> bool(z[..., :4].mean() > 0.5), bool(z[..., 4:].mean() < -0.5)
    (True, True)
    """

    n_real = 256

    _parameter_constraints: ClassVar[dict] = {
        "steps": [Interval(Integral, 0, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "augmentation": ["array-like"],
        "depth": [None, Interval(Integral, 1, None, closed="left")],
        "width": [Interval(Integral, 1, None, closed="left")],
        "pixel_weight": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        steps=200,
        *,
        learning_rate=0.1,
        batch_size=64,
        augmentation=("crop", "cutout", "scale", "rotate", "color"),
        depth=None,
        width=64,
        pixel_weight=0.1,
    ):
        self.steps = steps
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.depth = depth
        self.width = width
        self.pixel_weight = pixel_weight

    def check(self, backbone):
        """Check that the latents of a backbone can be refined, before anything is made.

        Parameters
        ----------
        backbone : backbone
            What decodes them.

        Raises
        ------
        ValueError
            If a parameter cannot be used, the backbone's decoder cannot be followed backwards, or
            its images are too small for `depth`.
        """
        self._validate_params()
        if not hasattr(backbone, "to_images"):
            raise ValueError(
                f"refiner={self!r} needs a backbone whose decoder can be followed backwards, as "
                f"pretrained ones can; got a {type(backbone).__name__}. None and "
                "SupportPointsRefiner() do without."
            )
        images = torch.zeros(1, *backbone.image_shape)
        self._random_features(images, torch.Generator(), torch.float32)

    @torch.enable_grad()
    def refine(self, z, real, decode, generator, *, dtype=torch.float32, progress=lambda: None):
        """Return the refined latents of a class.

        Parameters
        ----------
        z : Tensor of shape (n_samples, *latent_shape)
            Latents of one class.

        real : Tensor of shape (n_real, *latent_shape)
            Latents of real images of that class.

        decode : callable
            From latents to images of shape (n, channels, height, width) in [-1, 1], to be followed
            backwards.

        generator : torch.Generator
            On the CPU; draws weights, batches and changes.

        dtype : torch.dtype, default=torch.float32
            In what the convolutions of the random ConvNets are computed, by autocast; float32
            where the device would have to emulate bfloat16.

        progress : callable, default=does nothing
            Called after each step.

        Returns
        -------
        z : Tensor of shape (n_samples, *latent_shape)
            What they became.

        Raises
        ------
        ValueError
            If a parameter cannot be used, or the images are too small for `depth`.
        """
        self._validate_params()
        with torch.no_grad():
            # As decoded, so that nothing is asked of the latents that the decoder cannot draw.
            slices = gen_batches(len(real), self.batch_size)
            images = torch.cat([decode(real[rows]) for rows in slices])
        features = self._random_features(images, generator, dtype)
        mean_pixels = images.flatten(1).mean(dim=0)

        def look(images):
            return self._with_pixels(features(images), images.flatten(1))

        z = z.clone()
        optimizer = torch.optim.Adam([z], lr=self.learning_rate)
        # Adam's first update is the sign of the gradient: a latent whose first gradient is as
        # good as zero would go up or down by a whole learning rate as the last bit has it.
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: 1.0 - step / self.steps if step else 0.0
        )
        # A second thread costs more than it brings at this size: see students.
        limit = 1 if max(images.shape[2:]) <= SMALL else None
        with threadpool_limits(limit, user_api="openmp"):
            for _ in range(self.steps):
                wanted = self._with_pixels(features.draw(self.batch_size), mean_pixels)
                z.grad = self._gradient(z, wanted, look, decode)
                optimizer.step()
                schedule.step()
                progress()
        return z.detach()

    def _random_features(self, real, generator, dtype):
        return RandomFeatures(
            real,
            augmentation=self.augmentation,
            generator=generator,
            depth=self.depth,
            width=self.width,
            dtype=dtype,
            # At a ReLU's kink, the last bit decides the gradient, and steps magnify that a
            # thousand times: here, a smooth loss makes the set depend on the seed alone.
            activation=nn.GELU,
        )

    def _with_pixels(self, seen, pixels):
        """Return features and pixels, so scaled that squared distances are those of the loss."""
        weight = self.pixel_weight * seen.shape[-1] / pixels.shape[-1]
        return torch.cat([seen, math.sqrt(weight) * pixels], dim=-1)

    def _gradient(self, z, wanted, look, decode):
        """Return the gradient in the latents, a slice of which is decoded at a time.

        The loss is the squared distance of `wanted` from the mean of what `look` sees.
        """
        slices = list(gen_batches(len(z), self.batch_size))
        found = None
        if len(slices) > 1:
            with torch.no_grad():
                found = torch.cat([look(decode(z[rows])) for rows in slices]).mean(dim=0)
        gradient = torch.empty_like(z)
        for rows in slices:
            z_rows = z[rows].detach().requires_grad_()
            seen = look(decode(z_rows))
            mean = seen.detach().mean(dim=0) if found is None else found
            # The set's mean is linear in what each sample adds to it.
            share = seen @ (mean - wanted) * (2.0 / len(z))
            (gradient[rows],) = torch.autograd.grad(share.sum(), z_rows)
        return gradient


class SupportPointsRefiner(BaseEstimator):
    r"""Move the latents of a class to where their energy distance to it is least.

    Guided sampling places each sample; nothing in it looks at the set. This does, afterwards: it
    moves the latents :math:`z_i` towards the real ones :math:`r_j` of their class and away from
    each other, so that the energy distance

    .. math:: \frac{2}{n N} \sum_{i=1}^{n} \sum_{j=1}^{N} \| z_i - r_j \|
              - \frac{1}{n^2} \sum_{i=1}^{n} \sum_{k=1}^{n} \| z_i - z_k \|

    falls at every step. Points at its minimum are the support points of the class [1]_: of all sets
    of n, one that is distributed as the class is. A step is that of their convex-concave procedure,

    .. math:: z_i \leftarrow \Bigl(\sum_j \frac{1}{\| z_i - r_j \|}\Bigr)^{-1} \Bigl(
              \sum_j \frac{r_j}{\| z_i - r_j \|}
              + \frac{N}{n} \sum_{k \ne i} \frac{z_i - z_k}{\| z_i - z_k \|} \Bigr),

    which has no step size. It needs neither gradients nor networks, and distances of rows that mean
    something, as between standardised rows of a table.

    Parameters
    ----------
    steps : int, default=50
        Steps a class.

    See Also
    --------
    MatchingRefiner : For images: features of random ConvNets in place of distances.
    skdistill.ManifoldGDDistiller : Refines each class of its set.

    Notes
    -----
    The more of the class's rows there are points for, the more of these come to lie on real rows: n
    points of n rows are the rows.

    A step takes :math:`O(n (n + N) d)` in d dimensions, and a bounded number of distances at once.
    Below a thousandth of the spread of a class, distances d are rounded off,
    :math:`\sqrt{d^2 + \epsilon^2}`, and samples as near as that to each other do not push.

    References
    ----------
    .. [1] S. Mak, V. R. Joseph, "Support points", Annals of Statistics 46 (2018), arXiv:1609.01811.

    Examples
    --------
    Two points for a class of three clusters, the middle one of which they share:

    >>> import torch
    >>> from skdistill.refining import SupportPointsRefiner
    >>> real = torch.tensor([[0.0], [0.1], [1.0], [1.1], [2.0], [2.1]])
    >>> SupportPointsRefiner().refine(torch.tensor([[1.0], [1.1]]), real).round(decimals=1)
    tensor([[0.1000],
            [2.0000]])
    """

    n_real = 4096

    _parameter_constraints: ClassVar[dict] = {"steps": [Interval(Integral, 0, None, closed="left")]}

    def __init__(self, steps=50):
        self.steps = steps

    def check(self, backbone):
        """Check the parameters, before anything is made.

        Parameters
        ----------
        backbone : backbone
            Not needed: any latents have distances.

        Raises
        ------
        ValueError
            If `steps` cannot be used.
        """
        self._validate_params()

    @torch.no_grad()
    def refine(self, z, real, decode=None, generator=None, *, dtype=None, progress=lambda: None):
        """Return the refined latents of a class.

        Parameters
        ----------
        z : Tensor of shape (n_samples, *latent_shape)
            Latents of one class.

        real : Tensor of shape (n_real, *latent_shape)
            Latents of real rows of that class.

        decode, generator, dtype : object
            Not needed: there is no image to look at, nothing is drawn at random, and distances are
            of the dtype of `z`.

        progress : callable, default=does nothing
            Called after each step.

        Returns
        -------
        z : Tensor of shape (n_samples, *latent_shape)
            What they became.

        Raises
        ------
        ValueError
            If `steps` cannot be used.
        """
        self._validate_params()
        points, rows = z.flatten(1), real.flatten(1)
        center = rows.mean(dim=0)
        # Near the origin, little is lost to rounding.
        points, rows = points - center, rows - center
        least = LEAST_DISTANCE * rows.square().sum(dim=1).mean().sqrt()
        at_once = max(1, DISTANCES_AT_ONCE // (len(points) + len(rows)))
        for _ in range(self.steps):
            if least > 0:
                slices = gen_batches(len(points), at_once)
                points = torch.cat([_step(points[part], points, rows, least) for part in slices])
            else:
                # All real rows are the same one.
                points = torch.zeros_like(points)
            progress()
        return (points + center).reshape(z.shape)


def _step(some, points, rows, least):
    """Return where some of the points go in a step of the convex-concave procedure."""
    to_rows, to_points = (_inverse_distances(some, others, least) for others in (rows, points))
    # A point and itself, or another in its place, push each other nowhere; their terms below, which
    # have the largest weights, would cancel but for the rounding.
    to_points[to_points > 0.5 / least] = 0.0
    away = some * to_points.sum(dim=1, keepdim=True) - to_points @ points
    total = to_rows @ rows + away * (len(rows) / len(points))
    return total / to_rows.sum(dim=1, keepdim=True)


def _inverse_distances(some, others, least):
    # Products of rows, faster, would lose the short distances, whose inverses are largest.
    distances = torch.cdist(some, others, compute_mode="donot_use_mm_for_euclid_dist")
    return torch.rsqrt(distances.square() + least**2)
