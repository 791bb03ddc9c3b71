"""ManifoldGDDistiller: encode, cluster, denoise under guidance, decode."""

import copy
import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import wraps
from numbers import Integral, Real

import joblib
import numpy as np
import torch
from joblib import delayed, effective_n_jobs
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin, _fit_context, clone
from sklearn.metrics import accuracy_score, pairwise_distances_argmin
from sklearn.utils import check_consistent_length, check_random_state, gen_batches, get_tags
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils._set_output import _wrap_data_with_container
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, check_memory, validate_data

from skdistill.backbones import ClosedFormBackbone, load_backbone, shipped_backbones
from skdistill.backbones.latent_diffusion import warn_if_poor
from skdistill.description import describe_run
from skdistill.generate import BatchedCalls, make_scheduler, run_fraction
from skdistill.guidance import ANNEALINGS, KERNELS, Guidance, radius_multipliers
from skdistill.hierarchy import HierarchicalIPC
from skdistill.io import RunDirectory, fingerprint, load_distilled
from skdistill.latents import ClassProjectors, LatentsOnDisk, at_least_float32
from skdistill.pixels import infer_format
from skdistill.progress import progress_bar
from skdistill.protocols import linear_student
from skdistill.refining import MatchingRefiner, SupportPointsRefiner
from skdistill.rows import BackboneRows, ImageFiles, MappedRows, are_paths, check_finite
from skdistill.sampling import Sampler
from skdistill.tangent import TangentProjector
from skdistill.tasks import ClusterTask, EncodeTask, Plan, SampleTask, count_distinct, run_tasks
from skdistill.validation import IPC_CONSTRAINT, check_ipc, pick_device

__all__ = ["ManifoldGDDistiller"]

# What is taken where None is given: settled on splits of training images, digits and Fashion-MNIST.
# The paper's own are the defaults of the two classes.
OWN_CLUSTERER = HierarchicalIPC(selection="leaves")
OWN_PROJECTOR = TangentProjector(32, n_neighbors=100)
# Images that tell whether a VAE suits the data.
RECONSTRUCTION_ROWS = 256
# Height and width of the largest images that are refined unasked.
LARGEST_REFINED = 32
ROWS_SCORED_AT_ONCE = 1024
# A set made with others of these than `fit` had would not be the one that its manifest describes.
USED_BY_FIT = ("backbone", "clusterer", "projector", "refiner", "class_map", "value_range")
USED_BY_FIT += ("image_shape", "resize", "revision", "dtype", "compile", "latents_dtype")


class ManifoldGDDistiller(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    r"""Distil a labelled data set into a few synthetic samples a class.

    ManifoldGD [1]_: rows are encoded by a pretrained backbone, a divisive hierarchy of each class
    yields centroids from coarse to fine, and a pretrained diffusion model denoises one sample for
    each centroid, pulled towards it along the tangent space of the real latents around it. Nothing
    is trained.

    Parameters
    ----------
    ipc : int or mapping of class to int, default=10
        Synthetic samples a class ("images per class").

    backbone : str, path-like or backbone, default="closed-form"
        "closed-form" needs no weights and takes tables and images: the exact score of a Gaussian
        mixture fitted to each class. For images, a shipped name
        (:func:`skdistill.backbones.shipped_backbones`), a folder in diffusers' format, as
        :func:`skdistill.training.pretrain` writes it, or a hub id "owner/name", which is
        downloaded. Folders and hub ids hold a class-conditional DiT, or a Stable Diffusion 1 or 2
        such as "stable-diffusion-v1-5/stable-diffusion-v1-5", which takes a prompt a class
        (``class_map``) and needs transformers (extra ``text``).

    clusterer : estimator, default=None
        Anything with ``cluster_centers_`` after ``fit``; the budget goes to its ``ipc`` or
        ``n_clusters``. None is ``HierarchicalIPC(selection="leaves")``; the paper's is
        ``HierarchicalIPC()``, which takes coarser centroids as well.

    projector : TangentProjector, "passthrough" or None, default=None
        Estimates the tangent spaces of each class. None is
        ``TangentProjector(32, n_neighbors=100)``, which of fewer features leaves nothing out; the
        paper's is ``TangentProjector()``, of 3 dimensions and 12 neighbours. "passthrough" guides
        in every direction, which with ``KMeans`` as the clusterer and no refiner is MGD [2]_.

    strength : float in [0, 1], default=1.0
        How far each guided step moves the clean prediction towards the centroid; 0 is unguided.
        With ``guidance_form="paper"`` the lambda of the paper, which may be larger than 1.

    kernel : {"rbf", "laplace", "imq"}, default="rbf"
        How the pull depends on the distance to the centroid,
        :func:`skdistill.guidance.kernel_rate`. Distances are in units of the centroid's distance to
        its `n_neighbors`-th nearest real latent, those of the projector, 12 with "passthrough".

    bandwidth : float in [1e-6, 1e6], default=1.0
        Bandwidth of the kernel, in that unit.

    normal_strength : float in [0, 1], default=0.0
        Strength of the pull towards the tangent plane, :func:`skdistill.guidance.pull_to_plane`.

    guidance_interval : tuple of float, default=(0.0, 0.5)
        The part of the run that is guided, as fractions from noise to image.

    guidance_form : {"clean", "paper"}, default="clean"
        "clean" corrects the clean prediction, under every scheduler. "paper" adds
        strength * sigma_t times the pull to the mean of a DDPM step, whose pull is strong while
        the clean prediction is still worthless.

    clip_guidance : bool, default=True
        Whether a step moves at most all of the way to the centroid.

    tangents : {"prepared", "posterior"}, default="prepared"
        Tangent spaces of the clean neighbours of each centroid, made once; or of the neighbours
        weighted by their posterior probability given the noisy sample, made at each step.

    annealing : {"exponential", "linear", "cosine"} or None, default="exponential"
        How the neighbourhoods of prepared tangents shrink over the first guided steps.

    max_radius : float, default=2.0
        Radius of the first neighbourhood, in multiples of the last.

    warm_steps : int, default=5
        Number of guided steps after which the radius stays.

    num_inference_steps : int, default=50
        Denoising steps of a whole run, from pure noise: at most those that the backbone was trained
        on, usually 1,000, and with "PNDMScheduler" at least 4.

    init_noise : float in [0, 1], default=1.0
        How much of the noise schedule a sample starts from. 1 is pure noise. Less starts from the
        sample's centroid c, noised to this fraction of the schedule,
        :math:`x_t = \sqrt{\bar\alpha_t} c + \sqrt{1 - \bar\alpha_t} \epsilon`, and runs only
        the steps that are left, as D4M [3]_ does with ``KMeans`` as the clusterer,
        ``strength=0`` and no refiner. 0 denoises nothing: samples are the decoded centroids, and
        where there are more samples than centroids they repeat. `guidance_interval` still counts
        from pure noise: with ``init_noise=0.7``, 0.3 of the run are over at the start.

    scheduler : str or diffusers scheduler, default=None
        A class name of diffusers such as "DDIMScheduler", or a scheduler. None is the backbone's
        own.

    guidance_scale : float, default=None
        Classifier-free guidance; None for the backbone's own.

    refiner : refiner, "passthrough" or None, default=None
        Moves the finished latents of a class, all of them together, until the set is like the
        class: :class:`~skdistill.refining.MatchingRefiner` to random networks, which needs a
        pretrained backbone and may cost several times what sampling does,
        :class:`~skdistill.refining.SupportPointsRefiner` by distances, or what has their methods
        (:mod:`skdistill.refining`). It is not of the paper.
        "passthrough" leaves the samples as guidance made them. None is ``SupportPointsRefiner()``
        for the closed form, ``MatchingRefiner()`` for backbones of images of at most 32 x 32
        pixels, for which it was measured, and "passthrough" for all others.

    class_map : mapping, default=None
        From the labels in `y` to indices or names of the backbone's classes; None matches names.
        For Stable Diffusion, to prompts such as "a photo of a red kite"; None asks for "a photo of
        a LABEL" where labels are strings, with spaces for underscores.

    value_range : tuple of float, default=None
        The values of `X` that stand for black and white; results are clipped to them. None means
        the range of the dtype for uint8 and uint16, (0, 1) for floats within it and otherwise what
        `fit` saw. Without it, tables are clipped feature by feature to what `fit` saw.

    image_shape : tuple of int, default=None
        (height, width) or (height, width, channels) of images that come as flat rows.

    resize : {"bilinear", "bicubic", "nearest"}, default=None
        How images are brought to the backbone's size and back, and from grey to colour. None
        refuses images of another size.

    student : classifier, default=None
        What :meth:`score` trains. None is a scaled logistic regression.

    revision : str, default=None
        Branch, tag or commit of a hub id.

    local_files_only : bool, default=False
        Whether a hub id may only be taken from the local cache.

    device : str, default="auto"
        Where the backbone runs. "auto" takes "cuda", then "mps", then "cpu".

    dtype : {"float32", "bfloat16", "float16"}, default="float32"
        Of the diffusion network. Processors without arithmetic in bfloat16 emulate it and take many
        times as long. Geometry is computed in float32 or better.

    compile : bool, default=False
        Whether the diffusion network goes through :func:`torch.compile`, which on a CPU needs a C++
        compiler. It pays for large sets only: each process, and each other size of batch, compiles
        anew. For backbones that are given by name.

    batch_size : int, default=64
        Rows a call of the network starts with; it is halved where memory runs out.

    memory : str or object with the joblib.Memory interface, default=None
        Keeps the encoded rows, so that other fits of the same rows with the same backbone, in a
        search of settings say, do not encode them again. A str is a folder. None keeps nothing,
        and of rows in memory nothing is kept for the closed form. Latents of rows on disk are
        never held in memory: they lie in this folder, and a fit that was killed goes on from the
        last class that was finished; with None, in a temporary folder that goes with the distiller.

    latents_dtype : {"float32", "float16"}, default=None
        Dtype of the latents of rows on disk. None is what the backbone encodes to, float32 if it is
        a network. Arithmetic is in float32 or better.

    random_state : int, RandomState instance or None, default=None
        Decides the set: two calls of :meth:`sample` give the same one, whatever the batch size
        and the number of jobs. An int makes `fit` repeatable too.

    n_jobs : int, default=None
        Number of processes that read files, encode rows on disk and cluster, class by class, and
        sample, batch by batch. As in joblib, whose :class:`~joblib.parallel_config` hands the work
        to a cluster with ``backend="dask"`` or ``"ray"``. Each process loads the backbone for
        itself. For several GPUs, run one process a GPU, each with its own ``CUDA_VISIBLE_DEVICES``
        (a Dask worker has one if ``dask_cuda`` started it).

    verbose : int, default=0
        Whether progress bars are shown, where the output is a terminal.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.

    backbone_ : backbone
        What encoded the rows.

    clusterers_ : list of estimators
        The fitted clusterer of each class.

    projectors_ : sequence of TangentProjector
        The projector of each class, fitted when it is asked for; with "passthrough" it only
        measures distances.

    refiner_ : refiner or None
        What refines each class.

    cluster_centers_ : ndarray of shape (n_centroids, n_latent_features)
        The IPC centroids, in latent space.

    centroid_classes_ : ndarray of shape (n_centroids,), dtype int64
        Place in `classes_` of each centroid's class.

    seed_ : int
        The root seed, drawn from `random_state`.

    value_range_ : tuple
        The values that results are clipped to.

    n_features_in_ : int
        Number of values a row.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where `X` has them all as strings.

    See Also
    --------
    HierarchicalIPC : The clustering on its own.
    TangentProjector : The tangent spaces on their own.
    ManifoldGDResampler : The same for imbalanced-learn's pipelines.

    References
    ----------
    .. [1] Roy, Lee, Chakraborty, Lokhande. "ManifoldGD: Training-Free Hierarchical Manifold
       Guidance for Diffusion-Based Dataset Distillation." CVPR 2026, arXiv:2602.23295.
    .. [2] Chan-Santiago et al. "MGD3: Mode-Guided Dataset Distillation using Diffusion Models."
       ICML 2025, arXiv:2505.18963.
    .. [3] Su et al. "D^4M: Dataset Distillation via Disentangled Diffusion Model." CVPR 2024,
       arXiv:2407.15138.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skdistill import ManifoldGDDistiller
    >>> X, y = load_iris(return_X_y=True)
    >>> distiller = ManifoldGDDistiller(ipc=5, random_state=0).fit(X, y)
    >>> X_syn, y_syn = distiller.sample()
    >>> X_syn.shape, y_syn.shape
    ((15, 4), (15,))
    >>> distiller.score(X, y) > 0.8
    True
    """

    _parameter_constraints = {
        "ipc": IPC_CONSTRAINT,
        "backbone": [str, os.PathLike, HasMethods(["encode", "predict", "decode"])],
        "clusterer": [HasMethods(["fit"]), None],
        "projector": [TangentProjector, StrOptions({"passthrough"}), None],
        "strength": [Interval(Real, 0, None, closed="left")],
        "kernel": [StrOptions(set(KERNELS))],
        "bandwidth": [Interval(Real, 1e-6, 1e6, closed="both")],
        "normal_strength": [Interval(Real, 0, None, closed="left")],
        "guidance_interval": ["array-like"],
        "guidance_form": [StrOptions({"clean", "paper"})],
        "clip_guidance": ["boolean"],
        "tangents": [StrOptions({"prepared", "posterior"})],
        "annealing": [StrOptions(set(ANNEALINGS)), None],
        "max_radius": [Interval(Real, 1, None, closed="left")],
        "warm_steps": [Interval(Integral, 1, None, closed="left")],
        "num_inference_steps": [Interval(Integral, 1, None, closed="left")],
        "init_noise": [Interval(Real, 0, 1, closed="both")],
        "scheduler": [str, HasMethods(["set_timesteps", "step"]), None],
        "guidance_scale": [Interval(Real, 0, None, closed="left"), None],
        "refiner": [HasMethods(["check", "refine"]), StrOptions({"passthrough"}), None],
        "class_map": [Mapping, None],
        "value_range": ["array-like", None],
        "image_shape": ["array-like", None],
        "resize": [StrOptions({"bilinear", "bicubic", "nearest"}), None],
        "student": [HasMethods(["fit", "predict"]), None],
        "revision": [str, None],
        "local_files_only": ["boolean"],
        "device": [str],
        "dtype": [StrOptions({"float32", "bfloat16", "float16"})],
        "compile": ["boolean"],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "memory": [str, HasMethods(["cache"]), None],
        "latents_dtype": [StrOptions({"float16", "float32"}), None],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        ipc=10,
        backbone="closed-form",
        *,
        clusterer=None,
        projector=None,
        strength=1.0,
        kernel="rbf",
        bandwidth=1.0,
        normal_strength=0.0,
        guidance_interval=(0.0, 0.5),
        guidance_form="clean",
        clip_guidance=True,
        tangents="prepared",
        annealing="exponential",
        max_radius=2.0,
        warm_steps=5,
        num_inference_steps=50,
        init_noise=1.0,
        scheduler=None,
        guidance_scale=None,
        refiner=None,
        class_map=None,
        value_range=None,
        image_shape=None,
        resize=None,
        student=None,
        revision=None,
        local_files_only=False,
        device="auto",
        dtype="float32",
        compile=False,
        batch_size=64,
        memory=None,
        latents_dtype=None,
        random_state=None,
        n_jobs=None,
        verbose=0,
    ):
        self.ipc = ipc
        self.backbone = backbone
        self.clusterer = clusterer
        self.projector = projector
        self.strength = strength
        self.kernel = kernel
        self.bandwidth = bandwidth
        self.normal_strength = normal_strength
        self.guidance_interval = guidance_interval
        self.guidance_form = guidance_form
        self.clip_guidance = clip_guidance
        self.tangents = tangents
        self.annealing = annealing
        self.max_radius = max_radius
        self.warm_steps = warm_steps
        self.num_inference_steps = num_inference_steps
        self.init_noise = init_noise
        self.scheduler = scheduler
        self.guidance_scale = guidance_scale
        self.refiner = refiner
        self.class_map = class_map
        self.value_range = value_range
        self.image_shape = image_shape
        self.resize = resize
        self.student = student
        self.revision = revision
        self.local_files_only = local_files_only
        self.device = device
        self.dtype = dtype
        self.compile = compile
        self.batch_size = batch_size
        self.memory = memory
        self.latents_dtype = latents_dtype
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.target_tags.required = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y):
        """Encode the rows and find the centroids and neighbourhoods of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, height, width) or \
                (n_samples, height, width, channels), or paths of shape (n_samples,)
            Rows of a table, or images of any numeric dtype. What lies on disk stays there and is
            read a batch at a time: a memory map (:class:`numpy.memmap`), or image files, as
            :func:`skdistill.datasets.list_image_folder` lists them. Files are images of dtype
            uint8; if they differ in size, `resize` has to be set, and their middle is cut to the
            size of the backbone's images, or of the first file's.

        y : array-like of shape (n_samples,)
            Labels of any kind that scikit-learn's classifiers take.

        Returns
        -------
        self : ManifoldGDDistiller
            The fitted distiller.

        Raises
        ------
        ValueError
            If `X`, `y` or a parameter cannot be used; the message says what would do.
        """
        self._check_settings()
        # Whatever is refused on the way, a former fit stays whole.
        fitted = copy.copy(self)
        fitted._fit(X, y)
        self.__dict__ = fitted.__dict__
        return self

    def _fit(self, X, y):
        rows, y, row_shape = self._validate_rows(X, y, reset=True)
        self.classes_, labels = np.unique(y, return_inverse=True)
        budgets = check_ipc(self.ipc, self.classes_)
        self.seed_ = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

        self._fingerprint = fingerprint(rows, self.classes_, labels)
        self._rows = [np.flatnonzero(labels == k) for k in range(len(self.classes_))]
        self._latents = self._encode(rows, row_shape, labels)
        self.value_range_ = self._format.value_range

        clusterer = self._clusterer()
        jobs = (
            delayed(ClusterTask(clone(clusterer), Z, n))()
            for Z, n in zip(self._latents, budgets, strict=True)
        )
        fitted = run_tasks(jobs, self.n_jobs)
        with self._progress_bar("clustering", len(budgets), fitted) as bar:
            self.clusterers_ = list(bar)
        self.projectors_ = ClassProjectors(self._projector(), self._latents)
        centers = [_centers_of(clusterer, self._latent_dtype) for clusterer in self.clusterers_]
        self.cluster_centers_ = np.concatenate(centers)
        self.centroid_classes_ = np.repeat(np.arange(len(centers)), [len(c) for c in centers])
        self._used = self._used_by_fit()

    def sample(self, ipc=None, *, out_dir=None):
        """Generate the distilled set.

        Parameters
        ----------
        ipc : int or mapping of class to int, default=None
            Samples a class; None is the parameter `ipc`. Sample i of a class uses its i-th
            centroid, modulo their number. A larger budget than that of `fit` grows the hierarchy
            further.

        out_dir : str or path-like, default=None
            Keep each finished batch in this run directory, and go on from those that are there.
            See :mod:`skdistill.io`.

        Returns
        -------
        X_syn : ndarray of shape (n_samples, ...) or DataFrame
            In the shape and dtype of a row of `X`, class by class. The rows of a table are a data
            frame with the columns of `X` where ``set_output`` asks for one.

        y_syn : ndarray of shape (n_samples,)
            Labels.

        Raises
        ------
        ValueError
            If `ipc` is not a budget for the classes of `fit`, `out_dir` holds a run with other
            settings, or a parameter that was set after `fit` cannot be used.
        """
        check_is_fitted(self)
        self._check_settings_since_fit()
        plan = self._plan(self.ipc if ipc is None else ipc)
        sampler = self._sampler()
        scheduler, timesteps = sampler.run()
        self._warn_if_nothing_is_guided(sampler.guidance, scheduler, timesteps)
        n_calls = len(timesteps)
        samples, run = {}, None
        if out_dir is not None:
            run = RunDirectory(out_dir, self._format, self.classes_, *describe_run(self, plan))
            if run.is_complete():
                return self._contained(load_distilled(out_dir)[0]), self.classes_[plan.labels]
            samples = run.read()
        # Fixed whatever is there already, so that an interruption changes no batch.
        places = np.arange(len(plan.labels))
        if self.refiner_ is None:
            batches = [places[part] for part in gen_batches(len(places), self.batch_size)]
        else:
            batches = np.split(places, np.flatnonzero(np.diff(plan.labels)) + 1)
            n_calls += self.refiner_.steps
        batches = [batch for batch in batches if not samples.keys() >= set(batch.tolist())]

        calls = BatchedCalls(self.batch_size)
        in_turn = effective_n_jobs(self.n_jobs) == 1
        with self._progress_bar("denoising", len(batches) * n_calls) as bar:
            jobs = (
                delayed(SampleTask(self, sampler, plan.part(batch)))(
                    calls, bar.update if in_turn else None
                )
                for batch in batches
            )
            results = run_tasks(jobs, self.n_jobs)
            for batch, X_batch in zip(batches, results, strict=True):
                new = [i for i, place in enumerate(batch.tolist()) if place not in samples]
                samples.update(zip(batch[new].tolist(), X_batch[new], strict=True))
                if run is not None:
                    run.write(batch[new], X_batch[new])
                if not in_turn:
                    bar.update(n_calls)
        X_syn = np.stack([samples[i] for i in range(len(plan.labels))])
        y_syn = self.classes_[plan.labels]
        if run is not None:
            run.finish(X_syn, y_syn, plan.labels)
        return self._contained(X_syn), y_syn

    def _warn_if_nothing_is_guided(self, guidance, scheduler, timesteps):
        fractions = [run_fraction(scheduler, t) for t in timesteps]
        wanted = guidance.covers(guidance.interval[0]) and len(fractions) > 0
        if wanted and not any(map(guidance.covers, fractions)):
            warnings.warn(
                f"No step of the run lies in guidance_interval={self.guidance_interval!r}: they "
                f"are from {min(fractions):.3g} to {max(fractions):.3g} of the way from noise to "
                "image. The samples are not guided.",
                UserWarning,
                stacklevel=3,
            )

    def _contained(self, X):
        """Return rows of a table as ``set_output`` asks, and images as they are."""
        return X if X.ndim > 2 else _wrap_data_with_container("transform", X, X, self)

    def transform(self, X=None):
        """Return the guided counterpart of each row, or the distilled set.

        Each row is carried half of the way into the guided interval by deterministic DDIM
        inversion and denoised from there, pulled towards the nearest centroid of any class. Nothing
        is drawn at random and no row depends on another. The correction is that of
        ``guidance_form="clean"`` always: in the paper's form it vanishes where no noise is added.

        Parameters
        ----------
        X : array-like of the shape of a row of `fit` or paths of shape (n_samples,), default=None
            Rows, or image files where `fit` saw images of dtype uint8. None returns
            ``sample()[0]``.

        Returns
        -------
        X_guided : ndarray of the shape of `X`
            One for each row, in the dtype that `fit` saw.

        Raises
        ------
        ValueError
            If rows are not as in `fit`, or a parameter that was set after it cannot be used.
        """
        check_is_fitted(self)
        self._check_settings_since_fit()
        rows, _, row_shape = self._validate_rows(X)
        calls = BatchedCalls(self.batch_size)
        self.backbone_.to(self._device())
        latents = np.concatenate(
            [
                self.backbone_.encode(self._format.to_backbone(rows[batch]), calls)
                for batch in gen_batches(len(rows), self.batch_size)
            ]
        )
        nearest = pairwise_distances_argmin(latents.reshape(len(rows), -1), self.cluster_centers_)
        plan = Plan(self.cluster_centers_, self.centroid_classes_, nearest)
        sampler = replace(
            self._sampler(),
            scheduler=make_scheduler("DDIMScheduler", self.backbone_.default_scheduler),
            init_noise=1.0 - np.mean(self.guidance_interval),
        )
        n_steps = len(sampler.run()[1])

        X_guided = []
        # Rows of one centroid together, so that its tangent planes are not made for every batch.
        order = np.argsort(nearest, kind="stable")
        n_calls = 2 * n_steps * math.ceil(len(rows) / self.batch_size)
        with self._progress_bar("denoising", n_calls) as bar:
            for places in gen_batches(len(rows), self.batch_size):
                batch = order[places]
                start = torch.from_numpy(latents[batch])
                z = sampler.carry(plan, batch, start, calls, bar.update)
                X_guided.append(sampler.decode(z, calls))
        return np.concatenate(X_guided)[np.argsort(order)].reshape(-1, *row_shape)

    def score(self, X, y):
        """Return the accuracy on real rows of a student trained on the distilled set.

        The set is made anew. To judge one that is there already, train a classifier on it.

        Parameters
        ----------
        X : array-like of the shape of a row of `fit` or paths of shape (n_samples,)
            Real rows, held out, or image files where `fit` saw images of dtype uint8.

        y : array-like of shape (n_samples,)
            Their labels.

        Returns
        -------
        score : float
            Share of the rows that the student labels rightly. A student whose tags say that it
            takes three dimensions sees images, any other flattened rows: data frames, where
            ``set_output`` asks for them, so that it may pick columns by their names.

        Raises
        ------
        ValueError
            If rows are not as in `fit`, or a parameter that was set after it cannot be used.

        Warns
        -----
        UserWarning
            If `y` has labels that `fit` has not seen.
        """
        check_is_fitted(self)
        rows, y, _ = self._validate_rows(X, y)
        strangers = np.setdiff1d(y, self.classes_)
        if len(strangers):
            warnings.warn(
                f"y has labels that fit has not seen, such as {strangers[0]!r}: no student can "
                "give them. In a cross-validation, StratifiedKFold keeps all classes in each fold.",
                UserWarning,
                stacklevel=2,
            )
        X_syn, y_syn = self.sample()
        student = linear_student() if self.student is None else clone(self.student)
        if get_tags(student).input_tags.three_d_array and self._format.image_shape is not None:
            shape = (-1, *self._format.image_shape)
        else:
            shape = (-1, rows.shape[1])
        student.fit(self._contained(np.asarray(X_syn).reshape(shape)), y_syn)
        predicted = [
            student.predict(self._contained(rows[batch].reshape(shape)))
            for batch in gen_batches(len(rows), ROWS_SCORED_AT_ONCE)
        ]
        return accuracy_score(y, np.concatenate(predicted))

    def _validate_rows(self, X, y="no_validation", *, reset=False):
        """Return flattened rows, labels and the shape of one row; check both."""
        if isinstance(X, (list, tuple)):
            X = np.asarray(X)
        if are_paths(X):
            return self._validate_paths(X, y, reset)
        given, shape = X, getattr(X, "shape", ())
        if len(shape) > 2:
            row_shape = tuple(shape[1:])
            if len(shape) > 4:
                raise ValueError(
                    f"X has the shape {shape}; it must be (n_samples, n_features), (n_samples, "
                    "height, width) or (n_samples, height, width, channels)."
                )
            X = np.asarray(X).reshape(shape[0], math.prod(row_shape))
        if isinstance(y, str):
            X = validate_data(self, X, reset=reset, ensure_all_finite=False)
        else:
            X, y = validate_data(self, X, y, reset=reset, ensure_all_finite=False)
            check_classification_targets(y)
        if X.dtype.kind not in "biuf":
            raise ValueError(f"X has the dtype {X.dtype}; it must be of real numbers.")
        if isinstance(given, np.memmap):
            X = MappedRows.of(given)
        check_finite(X, self)
        if len(shape) <= 2:
            row_shape = (X.shape[1],)
        if not reset and row_shape not in (self._format.row_shape, self._format.image_shape):
            raise ValueError(
                f"A row of X has the shape {row_shape}, but fit saw {self._format.row_shape}."
            )
        return X, y, row_shape

    def _validate_paths(self, paths, y, reset):
        """Do as :meth:`_validate_rows` for an array of image files."""
        shape = None if reset else self._format.image_shape
        if not reset and (shape is None or self._format.dtype != np.uint8):
            raise ValueError(
                f"X holds paths of images, which have values of dtype uint8, but fit saw rows of "
                f"shape {self._format.row_shape} and dtype {self._format.dtype}."
            )
        if not isinstance(y, str):
            y = validate_data(self, y=y, reset=reset)
            check_classification_targets(y)
            check_consistent_length(paths, y)
        files = ImageFiles.survey(paths, resize=self.resize, image_shape=shape, n_jobs=self.n_jobs)
        return files, y, files.image_shape

    def _check_settings(self):
        """Raise ValueError for what single parameters' constraints cannot see."""
        interval = tuple(self.guidance_interval)
        numbers = len(interval) == 2 and all(isinstance(bound, Real) for bound in interval)
        if not numbers or not 0.0 <= interval[0] <= interval[1] <= 1.0:
            raise ValueError(
                "guidance_interval must be (start, stop) with 0 <= start <= stop <= 1, got "
                f"{self.guidance_interval!r}."
            )
        for name in ("strength", "normal_strength"):
            if self.guidance_form == "clean" and getattr(self, name) > 1:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} must be in [0, 1] with guidance_form='clean'."
                )
        if self.normal_strength > 0 and _is_passthrough(self.projector):
            raise ValueError(
                f"normal_strength={self.normal_strength!r} needs a projector: with 'passthrough' "
                "there is no plane to pull to."
            )
        is_path = isinstance(self.backbone, (str, os.PathLike))
        by_name = is_path and self.backbone != "closed-form"
        if self.revision is not None and not by_name:
            raise ValueError(
                f"revision={self.revision!r} is for a hub id 'owner/name', but "
                f"backbone={self.backbone!r}."
            )
        if self.compile and not by_name:
            raise ValueError(
                "compile=True is for a pretrained backbone that is given by name or folder, but "
                f"backbone={self.backbone!r}."
            )
        if getattr(self.projector, "alpha_bar", None) is not None:
            raise ValueError(
                f"projector={self.projector!r} must have alpha_bar=None: centroids are clean. "
                "tangents='posterior' weighs neighbours at the noise level of each step."
            )

    def _used_by_fit(self):
        """Return the parameters that `fit` uses, those of nested estimators among them."""
        params = self.get_params()
        return {name: params[name] for name in params if name.split("__")[0] in USED_BY_FIT}

    def _check_settings_since_fit(self):
        """Raise ValueError for parameters that were set after `fit` and cannot be used so."""
        self._validate_params()
        self._check_settings()
        params = self._used_by_fit()
        for name, used in self._used.items():
            # Where an estimator was replaced by another kind, it is named itself.
            value = params.get(name, used)
            if value is not used and repr(value) != repr(used):
                raise ValueError(
                    f"{name}={value!r} was set after fit, which used {used!r}: fit again."
                )

    def _encode(self, rows, row_shape, labels):
        """Make the backbone and the data's format; return flattened latents by class."""
        if isinstance(self.backbone, str) and self.backbone == "closed-form":
            self.backbone_ = ClosedFormBackbone(self.seed_)
        elif isinstance(self.backbone, (str, os.PathLike)):
            self.backbone_ = load_backbone(
                self.backbone,
                self.dtype,
                revision=self.revision,
                local_files_only=self.local_files_only,
                compile=self.compile,
            )
        else:
            # Its own fit must not reach the caller's object.
            self.backbone_ = copy.copy(self.backbone)
        network_shape = getattr(self.backbone_, "image_shape", None)
        if isinstance(rows, ImageFiles):
            rows = rows.brought_to(network_shape and network_shape[1:])
            row_shape, self.n_features_in_ = rows.image_shape, rows.shape[1]
        self._format = infer_format(
            rows,
            row_shape,
            image_shape=self.image_shape,
            value_range=self.value_range,
            network_shape=network_shape,
            network_range=getattr(self.backbone_, "value_range", None),
            resize=self.resize,
        )
        in_memory = isinstance(rows, np.ndarray)
        x = self._format.to_backbone(rows) if in_memory else BackboneRows(rows, self._format)
        if hasattr(self.backbone_, "fit"):
            self.backbone_.fit(x, labels, len(self.classes_))
            self._model_classes = np.arange(len(self.classes_))
            if self.class_map is not None:
                raise ValueError(
                    f"class_map={self.class_map!r} is for pretrained backbones; {self.backbone!r} "
                    "is fitted to the classes of y."
                )
            if self._format.image_shape is not None:
                warnings.warn(
                    "Images through the closed-form backbone come out blurred: it knows a class as "
                    "a mixture of Gaussians only. Better choices: a shipped backbone "
                    f"({', '.join(map(repr, shipped_backbones()))}), a folder made from your "
                    "images by skdistill.training.pretrain, or the hub id of a class-conditional "
                    "DiT.",
                    UserWarning,
                    stacklevel=4,
                )
        else:
            self._model_classes = self.backbone_.class_indices(self.classes_, self.class_map)
        self.refiner_ = self._refiner()
        # Here, so that what does not suit is found before the rows are encoded.
        self._scheduler()
        self.backbone_.to(self._device())
        calls = BatchedCalls(self.batch_size)
        few = np.linspace(0, len(x) - 1, min(len(x), RECONSTRUCTION_ROWS)).astype(int)
        if not in_memory:
            if not hasattr(self.backbone_, "fit"):
                self._warn_if_poor(x[few], self.backbone_.encode(x[few], calls), calls)
            return self._encode_on_disk(x)
        if hasattr(self.backbone_, "fit"):
            latents = self.backbone_.encode(x, calls)
        else:
            encode = check_memory(self.memory).cache(_encode, ignore=["backbone", "calls"])
            with self._progress_bar("encoding", len(x)) as bar:
                watched = BatchedCalls(self.batch_size, bar.update)
                latents = encode(self.backbone_.fingerprint, x, self.backbone_, watched)
            self._warn_if_poor(x[few], latents[few], calls)
        latents = latents.reshape(len(rows), -1)
        return [latents[rows_of_class] for rows_of_class in self._rows]

    def _warn_if_poor(self, x, latents, calls):
        decoded = self.backbone_.decode(torch.from_numpy(latents), calls)
        warn_if_poor(x, decoded, self.backbone_.name)

    def _encode_on_disk(self, x):
        """Encode rows class by class into files; go on from those that are there."""
        folder = self.memory
        if folder is not None:
            folder = folder if isinstance(folder, str) else getattr(folder, "location", None)
        if folder is not None:
            key = (self.backbone_.fingerprint, self._fingerprint, self._format, self.latents_dtype)
            folder = os.path.join(folder, "skdistill-latents", joblib.hash(key))
        latents = LatentsOnDisk(len(self._rows), folder)
        missing = [k for k in range(len(latents)) if not latents.has(k)]
        jobs = (delayed(EncodeTask(self, x.part(self._rows[k])))() for k in missing)
        encoded = run_tasks(jobs, self.n_jobs)
        with self._progress_bar("encoding", len(missing), encoded) as bar:
            for k, Z in zip(missing, bar, strict=True):
                latents.write(k, Z)
        return latents

    @property
    def _latent_dtype(self):
        return np.result_type(self._latents[0].dtype, np.float32)

    def _device(self):
        """Return the device to compute on."""
        device = pick_device(self.device)
        # The closed form may need float64, which mps does not have.
        return (
            torch.device("cpu")
            if device.type == "mps" and hasattr(self.backbone_, "fit")
            else device
        )

    def _scheduler(self):
        """Return the scheduler; check that it suits the other settings."""
        default = self.backbone_.default_scheduler
        scheduler = make_scheduler(self.scheduler, default)
        name = type(scheduler).__name__
        if self.guidance_form == "paper" and name != "DDPMScheduler":
            raise ValueError(
                "guidance_form='paper' needs scheduler='DDPMScheduler', whose sigma_t it scales "
                f"with; got {name}."
            )
        trained = not hasattr(self.backbone_, "fit")
        if trained and not torch.equal(scheduler.alphas_cumprod, default.alphas_cumprod):
            raise ValueError(
                f"scheduler={name} has other noise levels than the backbone was trained on; "
                f"scheduler={name!r}, as a string, takes the backbone's."
            )
        n_steps, n_train = self.num_inference_steps, scheduler.config.num_train_timesteps
        # Runge-Kutta steps, of which PNDM makes three at the head of a run, are no fewer.
        n_least = 4 if name == "PNDMScheduler" and not scheduler.config.skip_prk_steps else 1
        if not n_least <= n_steps <= n_train:
            raise ValueError(
                f"num_inference_steps={n_steps} must be in [{n_least}, {n_train}] with "
                f"scheduler={name}."
            )
        return scheduler

    def _clusterer(self):
        """Return an unfitted clusterer that this distiller's seed decides."""
        clusterer = clone(OWN_CLUSTERER if self.clusterer is None else self.clusterer)
        params = clusterer.get_params()
        if "random_state" in params and params["random_state"] is None:
            clusterer.set_params(random_state=self.seed_)
        return clusterer

    def _projector(self):
        """Return an unfitted projector; it measures distances even where none projects."""
        if _is_passthrough(self.projector):
            return TangentProjector()
        projector = clone(OWN_PROJECTOR if self.projector is None else self.projector)
        projector._validate_params()
        return projector

    def _refiner(self):
        """Return what refines the classes, None for nothing."""
        if _is_passthrough(self.refiner):
            return None
        if self.refiner is None:
            if hasattr(self.backbone_, "fit"):
                return SupportPointsRefiner()
            possible = hasattr(self.backbone_, "to_images")
            small = possible and max(self.backbone_.image_shape) <= LARGEST_REFINED
            return MatchingRefiner() if small else None
        refiner = clone(self.refiner)
        refiner.check(self.backbone_)
        return refiner

    def _progress_bar(self, description, total, iterable=None):
        return progress_bar(iterable, description=description, total=total, verbose=self.verbose)

    def _plan(self, ipc):
        """Assign every sample of a set to its centroid; grow hierarchies that are too small."""
        budgets = check_ipc(ipc, self.classes_)
        centers, assigned, indices, levels, clusterers, n_centers = [], [], [], [], [], 0
        for clusterer, Z, n in zip(self.clusterers_, self._latents, budgets, strict=True):
            if n > len(clusterer.cluster_centers_) and isinstance(clusterer, HierarchicalIPC):
                Z = at_least_float32(Z)
                capped = min(n, count_distinct(Z))
                clusterer = copy.copy(clusterer).set_params(ipc=capped, warm_start=True).fit(Z)
            clusterers.append(clusterer)
            centers.append(_centers_of(clusterer, self._latent_dtype))
            assigned.append(n_centers + np.arange(n) % len(centers[-1]))
            indices.append(np.arange(n))
            depths = getattr(clusterer, "prototype_levels_", None)
            levels += [None] * len(centers[-1]) if depths is None else depths.tolist()
            n_centers += len(centers[-1])
        return Plan(
            np.concatenate(centers),
            np.repeat(np.arange(len(centers)), [len(c) for c in centers]),
            np.concatenate(assigned),
            np.concatenate(indices),
            levels,
            clusterers,
        )

    def _sampler(self):
        """Return what makes samples, with the settings of now."""
        radii = radius_multipliers(self.annealing, self.max_radius, self.warm_steps)
        guidance = Guidance(
            strength=self.strength,
            kernel=self.kernel,
            bandwidth=self.bandwidth,
            normal_strength=self.normal_strength,
            interval=tuple(self.guidance_interval),
            stages=len(radii),
            clip=self.clip_guidance,
        )
        return Sampler(
            backbone=self.backbone_,
            model_classes=self._model_classes,
            data_format=self._format,
            latents=self._latents,
            projectors=self.projectors_,
            refiner=self.refiner_,
            seed=self.seed_,
            scheduler=self._scheduler(),
            num_inference_steps=self.num_inference_steps,
            init_noise=self.init_noise,
            guidance=guidance,
            radii=radii,
            tangents=None if _is_passthrough(self.projector) else self.tangents,
            paper_form=self.guidance_form == "paper",
            guidance_scale=self.guidance_scale,
            dtype=self.dtype,
            device=self._device(),
        )


def _encode(fingerprint, x, backbone, calls):
    """Encode rows; by the fingerprint of the backbone and the rows the result can be kept."""
    return backbone.encode(x, calls)


def _is_passthrough(step):
    return isinstance(step, str) and step == "passthrough"


def _optional_X(transform):
    """Let a wrapped transform be called without X, and with images."""

    @wraps(transform)
    def transform_or_sample(self, X=None):
        if X is None:
            return self.sample()[0]
        if hasattr(self, "_format") and len(self._format.row_shape) > 1:
            return transform.__wrapped__(self, X)
        return transform(self, X)

    return transform_or_sample


# scikit-learn's wrapper for set_output demands X, whose index it would keep, and two dimensions.
ManifoldGDDistiller.transform = _optional_X(ManifoldGDDistiller.transform)
# Inherited, it is wrapped as well, and would wrap what transform returns once more.
ManifoldGDDistiller.fit_transform = TransformerMixin.fit_transform.__wrapped__


def _centers_of(clusterer, dtype):
    """Return a fitted clusterer's centers, or raise ValueError where it has none."""
    centers = getattr(clusterer, "cluster_centers_", None)
    if centers is None or len(centers) == 0:
        raise ValueError(
            f"clusterer={clusterer!r} has no cluster_centers_ after fit; HierarchicalIPC, KMeans "
            "and BisectingKMeans have."
        )
    return np.asarray(centers, dtype=dtype)
