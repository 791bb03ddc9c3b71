"""Runs of the reverse process that are watched step by step."""

from dataclasses import dataclass, replace

import numpy as np

from skdistill.generate import BatchedCalls
from skdistill.guidance import radius_multipliers
from skdistill.plotting.fitted import check_distiller, place_of
from skdistill.validation import check_ipc

__all__ = ["GuidedRun", "RecordedStep", "RecordingGuidance", "record_run", "run_of"]


@dataclass(frozen=True)
class RecordedStep:
    """What a guidance did at one step.

    Attributes
    ----------
    number : int or None
        Number of guided steps before this one; None where it is not guided.

    prediction : ndarray of shape (n_samples, n_features)
        The model's clean predictions.

    corrected : ndarray of shape (n_samples, n_features)
        What the guidance made of them.

    mode : ndarray of shape (n_samples, n_features)
        The pull to the centroids as it would be without a projection.

    tangential : ndarray of shape (n_samples, n_features)
        Its part within the tangent spaces. What the correction adds to it is the pull to the plane.
    """

    number: int | None
    prediction: np.ndarray
    corrected: np.ndarray
    mode: np.ndarray
    tangential: np.ndarray


class RecordingGuidance:
    """A guidance that does what another one does and keeps what it did.

    It goes wherever a :class:`~skdistill.guidance.Guidance` goes, such as into
    :func:`~skdistill.generate.denoise`. The steps that the other one does not cover pass through it
    too, unchanged but for rounding, so that they are recorded as well.

    Parameters
    ----------
    guidance : Guidance
        The one to watch.

    Attributes
    ----------
    steps : list of RecordedStep
        One for each step so far.

    Examples
    --------
    >>> import torch
    >>> from skdistill.guidance import Guidance, Targets
    >>> from skdistill.plotting import RecordingGuidance
    >>> guidance = RecordingGuidance(Guidance(strength=0.5))
    >>> guidance.covers(0.0)
    True
    >>> targets = Targets(centroid=torch.tensor([[2.0, 0.0]]), scale=torch.ones(1))
    >>> guidance.correct(torch.zeros(1, 2), torch.zeros(1, 2), 0.5, 0, targets)
    tensor([[1., 0.]])
    >>> guidance.steps[0].mode
    array([[1., 0.]], dtype=float32)
    """

    def __init__(self, guidance):
        self.guidance = guidance
        self.interval = guidance.interval
        self.steps = []
        self._guided = False

    def covers(self, fraction):
        """Return that the step at `fraction` is to be recorded, which each one is.

        Parameters
        ----------
        fraction : float
            0 is pure noise, 1 the image.

        Returns
        -------
        recorded : bool
            True.
        """
        self._guided = self.guidance.covers(fraction)
        return True

    def correct(self, x0, x_t, alpha_bar, step, targets, rate=1.0):
        """Return what the other guidance does, see :meth:`skdistill.guidance.Guidance.correct`.

        Parameters
        ----------
        x0 : Tensor of shape (n_samples, n_features)
            Clean predictions of the model.

        x_t : Tensor of shape (n_samples, n_features)
            The noisy points they were made from.

        alpha_bar : float
            Noise level.

        step : int
            Number of guided steps before this one.

        targets : Targets
            What each sample is pulled towards.

        rate : float, default=1.0
            A factor on the strengths.

        Returns
        -------
        x0 : Tensor of shape (n_samples, n_features)
            The corrected predictions, those of the model where the step is not guided.
        """
        corrected = tangential = mode = x0
        if self._guided:
            terms = (x0, x_t, alpha_bar, step)
            corrected = self.guidance.correct(*terms, targets, rate)
            along = replace(self.guidance, normal_strength=0.0)
            tangential = along.correct(*terms, targets, rate)
            mode = along.correct(*terms, replace(targets, tangent=None), rate)
        tensors = (x0, corrected, mode - x0, tangential - x0)
        arrays = (tensor.cpu().numpy() for tensor in tensors)
        self.steps.append(RecordedStep(step if self._guided else None, *arrays))
        return corrected


@dataclass(frozen=True)
class GuidedRun:
    """What happened to the samples of one class, from noise to clean latents.

    Attributes
    ----------
    label : object
        The class.

    centroids : ndarray of shape (n_samples, n_features)
        What each sample was pulled towards.

    guided : ndarray of shape (n_steps,), dtype bool
        Which steps were guided.

    predictions : ndarray of shape (n_steps, n_samples, n_features)
        The model's clean predictions.

    corrected : ndarray of shape (n_steps, n_samples, n_features)
        What the guidance made of them; equal to them where a step is not guided.

    mode_pull : ndarray of shape (n_steps, n_samples)
        How far the guidance would move each prediction towards its centroid without a projection.

    tangential_pull : ndarray of shape (n_steps, n_samples)
        How far it does: the length of the part within the tangent space.

    removed_pull : ndarray of shape (n_steps, n_samples)
        Length of the part normal to it, which the projection takes away.

    radius : ndarray of shape (n_steps, n_samples)
        Radius of the neighbourhood that each tangent space comes from, NaN where there is none.

    latents : ndarray of shape (n_samples, n_features)
        Where the samples ended, refined if they were.
    """

    label: object
    centroids: np.ndarray
    guided: np.ndarray
    predictions: np.ndarray
    corrected: np.ndarray
    mode_pull: np.ndarray
    tangential_pull: np.ndarray
    removed_pull: np.ndarray
    radius: np.ndarray
    latents: np.ndarray


def record_run(distiller, label=None, n_samples=None):
    """Generate samples of a class as :meth:`~skdistill.ManifoldGDDistiller.sample` does, and watch.

    Parameters
    ----------
    distiller : ManifoldGDDistiller
        Fitted.

    label : object, default=None
        The class; None is the first of ``classes_``.

    n_samples : int, default=None
        How many of its samples, from the first on; None is the budget of `fit`.

    Returns
    -------
    run : GuidedRun
        Its ``latents`` decode to the samples of the class in ``distiller.sample()``, but for
        rounding.

    Raises
    ------
    ValueError
        If there is no such class, or `n_samples` is not within the budget of `fit`.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skdistill import ManifoldGDDistiller
    >>> from skdistill.plotting import record_run
    >>> distiller = ManifoldGDDistiller(ipc=3, num_inference_steps=20, random_state=0)
    >>> run = record_run(distiller.fit(*load_iris(return_X_y=True)), label=1)
    >>> run.predictions.shape
    (20, 3, 4)
    >>> run.guided.sum()
    np.int64(10)
    """
    check_distiller(distiller)
    k = place_of(label, distiller.classes_)
    budget = check_ipc(distiller.ipc, distiller.classes_)[k]
    n_samples = budget if n_samples is None else n_samples
    if not 1 <= n_samples <= budget:
        raise ValueError(
            f"n_samples={n_samples!r} must be from 1 to {budget}, the ipc that the distiller was "
            "fitted with."
        )
    plan = distiller._plan(distiller.ipc)
    # A refiner needs the others to move the first ones.
    batch = np.flatnonzero(plan.labels == k)
    batch = batch[:n_samples] if distiller.refiner_ is None else batch
    centroids = plan.centers[plan.assigned[batch[:n_samples]]]
    watched = []

    def watch(guidance):
        watched.append(RecordingGuidance(guidance))
        return watched[-1]

    calls = BatchedCalls(distiller.batch_size)
    latents = distiller._sampler().sample_latents(plan, batch, calls, watch=watch)
    (guidance,) = watched

    def recorded(name):
        arrays = [getattr(step, name)[:n_samples] for step in guidance.steps]
        return np.stack(arrays) if arrays else np.empty((0, *centroids.shape), centroids.dtype)

    return GuidedRun(
        label=distiller.classes_.tolist()[k],
        centroids=centroids,
        guided=np.array([step.number is not None for step in guidance.steps], dtype=bool),
        predictions=recorded("prediction"),
        corrected=recorded("corrected"),
        mode_pull=np.linalg.norm(recorded("mode"), axis=2),
        tangential_pull=np.linalg.norm(recorded("tangential"), axis=2),
        removed_pull=np.linalg.norm(recorded("mode") - recorded("tangential"), axis=2),
        radius=_radii(distiller, k, centroids, guidance.steps),
        latents=latents[:n_samples].flatten(1).cpu().numpy(),
    )


def _radii(distiller, k, centroids, steps):
    """Return the radii of the neighbourhoods at each step, (n_steps, n_samples)."""
    radii = np.full((len(steps), len(centroids)), np.nan)
    projects = not isinstance(distiller.projector, str)
    if projects and distiller.tangents == "prepared":
        projector = distiller.projectors_[k]
        multipliers = radius_multipliers(
            distiller.annealing, distiller.max_radius, distiller.warm_steps
        )
        unit = (projector.radius or 1.0) * projector.neighbor_distances(centroids)
        for i, step in enumerate(steps):
            if step.number is not None:
                radii[i] = multipliers[min(step.number, len(multipliers) - 1)] * unit
    return radii


def run_of(distiller, label=None, run=None):
    """Return the run that a display draws.

    Parameters
    ----------
    distiller : ManifoldGDDistiller
        Fitted.

    label : object, default=None
        The class that is asked for, if any.

    run : GuidedRun, default=None
        What was recorded; None records it now.

    Returns
    -------
    run : GuidedRun
        Of the class that is asked for.

    Raises
    ------
    ValueError
        If `run` is that of another class.
    """
    if run is None:
        return record_run(distiller, label)
    if label is not None and label != run.label:
        raise ValueError(f"label={label!r} must be the class of the run, {run.label!r}, or None.")
    return run
