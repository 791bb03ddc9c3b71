"""The reverse diffusion loop: any scheduler of diffusers' Karras family, guided or not.

A backbone predicts, a scheduler steps, a :class:`~skdistill.guidance.Guidance` corrects the clean
prediction in between. Nothing here knows of trees, kernels or classes' names.
"""

import inspect
import math

import diffusers
import numpy as np
import torch
from diffusers.utils.torch_utils import randn_tensor

__all__ = [
    "BatchedCalls",
    "class_generator",
    "clean_prediction",
    "denoise",
    "draw_noise",
    "invert",
    "make_scheduler",
    "model_prediction",
    "noised",
    "paper_rate",
    "remaining_timesteps",
    "run_fraction",
    "sample_generator",
    "signal_level",
]


# Those that go from noise to image by the noise levels of DDPM; others read a model otherwise.
FAMILY = (
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
)
# Those of them that diffusers has not taught to read a model that predicts clean samples.
NOT_FROM_SAMPLES = (
    "EulerAncestralDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "PNDMScheduler",
)


class BatchedCalls:
    """Call a function on slices of its arguments; halve the slices when memory runs out.

    Parameters
    ----------
    batch_size : int
        Number of rows a call starts with. What a device turned out to hold is remembered for the
        calls that follow.

    progress : callable, default=does nothing
        Called with the number of rows that are done.
    """

    def __init__(self, batch_size, progress=lambda n_rows: None):
        self.batch_size = batch_size
        self.progress = progress

    def __call__(self, function, *tensors):
        """Return ``function(*tensors)``, computed in slices along the first axis.

        Parameters
        ----------
        function : callable
            Takes slices of `tensors`, returns a tensor with as many rows.

        *tensors : Tensor
            Of equal length, at least one row.

        Returns
        -------
        result : Tensor
            The results, concatenated.

        Raises
        ------
        RuntimeError
            If a single row does not fit.
        """
        results, start = [], 0
        while start < len(tensors[0]):
            try:
                results.append(function(*(t[start : start + self.batch_size] for t in tensors)))
            except RuntimeError as error:
                # Only the message says so on mps.
                exhausted = isinstance(error, torch.OutOfMemoryError) or (
                    "out of memory" in str(error).lower()
                )
                if self.batch_size == 1 or not exhausted:
                    raise
                self.batch_size = math.ceil(self.batch_size / 2)
                torch.cuda.empty_cache()
            else:
                start += self.batch_size
                self.progress(len(results[-1]))
        return torch.cat(results)


def make_scheduler(scheduler, default):
    """Return a fresh scheduler that leaves the clean prediction as it is.

    Parameters
    ----------
    scheduler : str, diffusers scheduler or None
        A class name of diffusers, such as "DDIMScheduler", which then takes the noise schedule of
        `default`; a scheduler, which is taken with its own configuration; None for `default`.

    default : diffusers scheduler
        The backbone's own.

    Returns
    -------
    scheduler : diffusers scheduler
        With ``clip_sample`` and ``thresholding`` off: both would undo guidance, and latents have
        no bounds to be clipped to.

    Raises
    ------
    ValueError
        If it is none of the Karras family, takes the model's output for something else than it
        is or can't read it, or counts in the noise levels of flow matching.
    """
    given = default if scheduler is None else scheduler
    name = given if isinstance(given, str) else type(given).__name__
    if name not in FAMILY:
        raise ValueError(
            f"scheduler={name!r} is not one of diffusers' Karras family: {', '.join(FAMILY)}."
        )
    kind = getattr(diffusers, name)
    config = default.config if isinstance(given, str) else given.config
    if config.prediction_type != default.config.prediction_type:
        raise ValueError(
            f"scheduler={kind.__name__}(prediction_type={config.prediction_type!r}) does not suit "
            f"a backbone that predicts {default.config.prediction_type!r}; scheduler="
            f"{kind.__name__!r}, as a string, takes all such terms from the backbone."
        )
    if config.prediction_type == "sample" and name in NOT_FROM_SAMPLES:
        others = ", ".join(other for other in FAMILY if other not in NOT_FROM_SAMPLES)
        raise ValueError(
            f"scheduler={name!r} can't draw from a backbone that predicts 'sample', as this one "
            f"does; those that can are {others}."
        )
    if config.get("use_flow_sigmas"):
        raise ValueError(
            f"scheduler={kind.__name__}(use_flow_sigmas=True) is for models of flow matching; "
            "backbones here have the noise levels of diffusion, so leave it False."
        )
    known = set(inspect.signature(kind).parameters)
    made = kind.from_config({key: value for key, value in config.items() if key in known})
    off = {"clip_sample": False, "thresholding": False}
    if kind is not diffusers.DDPMScheduler:
        # Only DDPM reads a learned variance; denoise() gives the others the mean alone.
        off["variance_type"] = None
    made.register_to_config(**{key: value for key, value in off.items() if key in made.config})
    return made


def signal_level(scheduler, t):
    """Return alpha_bar of the sample that the scheduler holds before its step at `t`.

    Parameters
    ----------
    scheduler : diffusers scheduler
        After ``set_timesteps`` and ``set_begin_index``.

    t : Tensor of shape ()
        The timestep.

    Returns
    -------
    alpha_bar : Tensor of shape (), dtype float64
        In [0, 1]. 1 / (1 + sigma^2) for schedulers that count in sigmas.
    """
    if hasattr(scheduler, "sigmas_interpol"):
        # Every other call of KDPM2 is between two sigmas; only its scale of the sample tells where.
        return scheduler.scale_model_input(torch.ones((), dtype=torch.float64), t) ** 2
    if hasattr(scheduler, "sigmas"):
        index = scheduler.begin_index if scheduler.step_index is None else scheduler.step_index
        return 1.0 / (1.0 + scheduler.sigmas[index].double() ** 2)
    return scheduler.alphas_cumprod[int(t)].double()


def _amplitudes(alpha_bar, dtype):
    """Return sqrt(alpha_bar) and sqrt(1 - alpha_bar).

    Where alpha_bar is, which is the host: a number there enters a device's operations as it is,
    while its copy to the device would wait for all that the device has yet to do.
    """
    return alpha_bar.sqrt().to(dtype), (1.0 - alpha_bar).sqrt().to(dtype)


def clean_prediction(prediction, x_t, alpha_bar, prediction_type):
    """Turn a model's prediction into the clean sample that it stands for.

    Parameters
    ----------
    prediction : Tensor
        What the model predicts at `x_t`.

    x_t : Tensor of the same shape
        The noisy sample, sqrt(alpha_bar) x + sqrt(1 - alpha_bar) eps.

    alpha_bar : Tensor of shape ()
        Noise level.

    prediction_type : {"epsilon", "sample", "v_prediction"}
        The noise eps, the clean x, or the velocity sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x.

    Returns
    -------
    x0 : Tensor of the same shape
        The clean prediction.

    Raises
    ------
    ValueError
        If `prediction_type` is something else.
    """
    signal, noise = _amplitudes(alpha_bar, x_t.dtype)
    if prediction_type == "epsilon":
        return (x_t - noise * prediction) / signal
    if prediction_type == "v_prediction":
        return signal * x_t - noise * prediction
    if prediction_type == "sample":
        return prediction
    raise ValueError(
        f"The backbone's prediction_type is {prediction_type!r}; it must be 'epsilon', 'sample' "
        "or 'v_prediction'."
    )


def model_prediction(x0, x_t, alpha_bar, prediction_type):
    """Undo :func:`clean_prediction`: what a model would have predicted to mean `x0`.

    Parameters
    ----------
    x0 : Tensor
        A clean sample.

    x_t : Tensor of the same shape
        The noisy sample.

    alpha_bar : Tensor of shape ()
        Noise level, below 1.

    prediction_type : {"epsilon", "sample", "v_prediction"}
        See :func:`clean_prediction`.

    Returns
    -------
    prediction : Tensor of the same shape
        In the model's own terms.
    """
    signal, noise = _amplitudes(alpha_bar, x_t.dtype)
    if prediction_type == "epsilon":
        return (x_t - signal * x0) / noise
    if prediction_type == "v_prediction":
        return (signal * x_t - x0) / noise
    return x0


def paper_rate(scheduler, t):
    """Return sigma_t / c1_t, the paper's pull in terms of the clean prediction.

    The paper adds strength * sigma_t * g to the mean of the DDPM posterior, in which the clean
    prediction has the weight c1_t = sqrt(abar_prev) beta_t / (1 - abar_t). It is the same as adding
    strength * sigma_t / c1_t * g to the clean prediction, with the fixed small variance
    sigma_t^2 = beta_t (1 - abar_prev) / (1 - abar_t).

    Parameters
    ----------
    scheduler : diffusers.DDPMScheduler
        After ``set_timesteps``.

    t : Tensor of shape ()
        The timestep.

    Returns
    -------
    rate : float
        Large where noise dominates, 0 at the last step.
    """
    previous = scheduler.previous_timestep(t)
    abar = float(scheduler.alphas_cumprod[int(t)])
    abar_previous = float(scheduler.alphas_cumprod[int(previous)]) if previous >= 0 else 1.0
    beta = 1.0 - abar / abar_previous
    sigma = math.sqrt(beta * (1.0 - abar_previous) / (1.0 - abar))
    return sigma * (1.0 - abar) / (math.sqrt(abar_previous) * beta)


def run_fraction(scheduler, t):
    """Return how much of a whole run lies before a timestep.

    Parameters
    ----------
    scheduler : diffusers scheduler
        Says how many timesteps the model was trained on.

    t : Tensor of shape () or float
        The timestep.

    Returns
    -------
    fraction : float
        0 is pure noise, 1 the image.

    Examples
    --------
    >>> import diffusers
    >>> from skdistill.generate import run_fraction
    >>> run_fraction(diffusers.DDIMScheduler(num_train_timesteps=1000), 749)
    0.25
    """
    return 1.0 - (float(t) + 1.0) / scheduler.config.num_train_timesteps


def sample_generator(seed, class_index, index):
    """Return the random stream of one sample, which nothing but its place in the set decides.

    Parameters
    ----------
    seed : int
        Root seed of the set.

    class_index : int
        Place of the class among the sorted classes.

    index : int
        Number of the sample within the class.

    Returns
    -------
    generator : torch.Generator
        On the CPU whatever the device, so that every device draws the same noise.
    """
    return _generator(np.random.SeedSequence([seed, class_index, index]))


def class_generator(seed, class_index):
    """Return the random stream of what looks at all samples of a class.

    Parameters
    ----------
    seed : int
        Root seed of the set.

    class_index : int
        Place of the class among the sorted classes.

    Returns
    -------
    generator : torch.Generator
        On the CPU; independent of the streams of the class's samples.
    """
    return _generator(np.random.SeedSequence(seed, spawn_key=(class_index,)))


def _generator(sequence):
    return torch.Generator().manual_seed(int(sequence.generate_state(1, np.uint64)[0]))


def _predict(backbone, x_t, t, alpha_bar, labels, guidance_scale, calls):
    """Return the mean and, where the model has learned one, the variance part of its output."""
    output = calls(
        lambda x, y: backbone.predict(x, t, alpha_bar, y, guidance_scale).to(x_t.dtype),
        x_t,
        labels,
    )
    channels = x_t.shape[1]
    return output[:, :channels], output[:, channels:]


@torch.no_grad()
def denoise(
    backbone,
    x,
    labels,
    scheduler,
    calls,
    *,
    timesteps=None,
    guidance=None,
    targets=None,
    paper_form=False,
    guidance_scale=None,
    generators=None,
    progress=lambda: None,
):
    """Run the reverse process from noise to clean latents.

    Parameters
    ----------
    backbone : object with ``predict``
        See :mod:`skdistill.backbones`.

    x : Tensor of shape (n_samples, *latent_shape)
        Noise, in the scheduler's own scale.

    labels : Tensor of shape (n_samples,), dtype int64
        The backbone's classes.

    scheduler : diffusers scheduler
        After ``set_timesteps``; from :func:`make_scheduler`.

    calls : BatchedCalls
        Splits the network's calls.

    timesteps : Tensor, default=None
        The last of the scheduler's timesteps, where the run starts with `x` in the middle; see
        :func:`remaining_timesteps`.

    guidance : Guidance, default=None
        Correction of the clean predictions. None is the unguided model.

    targets : Targets, default=None
        What `guidance` pulls the samples towards.

    paper_form : bool, default=False
        Guide by strength * sigma_t, as the paper does, instead of by strength. DDPM only.

    guidance_scale : float, default=None
        Classifier-free guidance; None for the backbone's own.

    generators : list of torch.Generator, default=None
        One a sample, for schedulers that add noise.

    progress : callable, default=does nothing
        Called after each step.

    Returns
    -------
    x : Tensor of shape (n_samples, *latent_shape)
        Clean latents.
    """
    prediction_type = scheduler.config.prediction_type
    step_parameters = inspect.signature(scheduler.step).parameters
    step_options = {"generator": generators} if "generator" in step_parameters else {}
    keeps_variance = getattr(scheduler.config, "variance_type", None) in (
        "learned",
        "learned_range",
    )
    timesteps = scheduler.timesteps if timesteps is None else timesteps
    scheduler_skips = len(scheduler.timesteps) - len(timesteps)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(scheduler_skips)

    for n_done, t in enumerate(timesteps):
        x_t = scheduler.scale_model_input(x, t)
        alpha_bar = signal_level(scheduler, t)
        prediction, variance = _predict(backbone, x_t, t, alpha_bar, labels, guidance_scale, calls)
        fraction = run_fraction(scheduler, t)
        if guidance is not None and guidance.covers(fraction):
            x0 = clean_prediction(prediction, x_t, alpha_bar, prediction_type)
            # Counted in noise levels, since some schedulers call more often than they have steps.
            step = int((fraction - guidance.interval[0]) * scheduler.num_inference_steps + 1e-6)
            x0 = guidance.correct(
                x0.flatten(1),
                x_t.flatten(1),
                float(alpha_bar),
                step,
                targets,
                rate=paper_rate(scheduler, t) if paper_form else 1.0,
            ).reshape(x0.shape)
            prediction = model_prediction(x0, x_t, alpha_bar, prediction_type)
        if keeps_variance:
            prediction = torch.cat([prediction, variance], dim=1)
        if "order" in step_parameters:
            # LMS takes all steps before one for done, also where the run starts in the middle.
            step_options["order"] = min(n_done + 1, step_parameters["order"].default)
        x = scheduler.step(prediction, t, x, **step_options).prev_sample
        progress()
    return x


@torch.no_grad()
def invert(
    backbone,
    x,
    labels,
    scheduler,
    calls,
    *,
    timesteps,
    guidance_scale=None,
    progress=lambda: None,
):
    """Carry clean latents up to a noise level by deterministic DDIM inversion.

    Each step is DDIM's own, x = sqrt(abar) x0 + sqrt(1 - abar) eps, towards more noise instead of
    less, so a row's noise comes from the row itself.

    Parameters
    ----------
    backbone : object with ``predict``
        See :mod:`skdistill.backbones`.

    x : Tensor of shape (n_samples, *latent_shape)
        Clean latents.

    labels : Tensor of shape (n_samples,), dtype int64
        The backbone's classes.

    scheduler : diffusers.DDIMScheduler
        After ``set_timesteps``; from :func:`make_scheduler`.

    calls : BatchedCalls
        Splits the network's calls.

    timesteps : Tensor
        The last of the scheduler's timesteps, most noise first; the result is at the first.

    guidance_scale : float, default=None
        Classifier-free guidance; None for the backbone's own.

    progress : callable, default=does nothing
        Called after each step.

    Returns
    -------
    x : Tensor of shape (n_samples, *latent_shape)
        Noisy latents.
    """
    prediction_type = scheduler.config.prediction_type
    previous = scheduler.final_alpha_cumprod.double()
    for t in reversed(timesteps):
        alpha_bar = signal_level(scheduler, t)
        # As usual, the noise at the level gone to stands for the one in between.
        prediction, _ = _predict(backbone, x, t, alpha_bar, labels, guidance_scale, calls)
        x0 = clean_prediction(prediction, x, alpha_bar, prediction_type)
        noise = model_prediction(x0, x, alpha_bar, "epsilon")
        x0 = clean_prediction(noise, x, previous, "epsilon")
        signal, spread = _amplitudes(alpha_bar, x.dtype)
        x = signal * x0 + spread * noise
        previous = alpha_bar
        progress()
    return x


def draw_noise(latent_shape, generators, scheduler, like):
    """Draw the starting noise of each sample from its own stream.

    Parameters
    ----------
    latent_shape : tuple of int
        Shape of one latent.

    generators : list of torch.Generator
        One a sample.

    scheduler : diffusers scheduler
        After ``set_timesteps``; sets the noise's standard deviation.

    like : Tensor
        Gives dtype and device.

    Returns
    -------
    x : Tensor of shape (len(generators), *latent_shape)
        The start of the reverse process.
    """
    shape = (len(generators), *latent_shape)
    noise = randn_tensor(shape, generator=generators, device=like.device, dtype=like.dtype)
    return noise * scheduler.init_noise_sigma


def remaining_timesteps(scheduler, share):
    """Return the timesteps of a run that starts in the middle.

    Parameters
    ----------
    scheduler : diffusers scheduler
        After ``set_timesteps``. PNDM is set to do without its Runge-Kutta steps, which it makes
        nowhere but at the head of a whole run.

    share : float
        The noise level not to start above, as a share of those that the model was trained on: 0
        is the image, 1 pure noise.

    Returns
    -------
    timesteps : Tensor
        What :func:`denoise` takes to run the rest. Empty where no step starts below that level.

    Examples
    --------
    >>> import diffusers
    >>> from skdistill.generate import remaining_timesteps
    >>> scheduler = diffusers.DDIMScheduler(num_train_timesteps=1000)
    >>> scheduler.set_timesteps(10)
    >>> remaining_timesteps(scheduler, 0.35)
    tensor([300, 200, 100,   0])
    """
    highest = share * scheduler.config.num_train_timesteps + 1e-6
    if isinstance(scheduler, diffusers.PNDMScheduler):
        scheduler.register_to_config(skip_prk_steps=True)
        scheduler.set_timesteps(scheduler.num_inference_steps)
        levels = scheduler.timesteps.unique_consecutive()
        left = levels[levels + 1.0 <= highest]
        # Its second and third calls are both at the level that its first step went to.
        return torch.cat([left[:2], left[1:]])
    # Those of second order call the model twice a step, and a run has to start with a whole step.
    levels = scheduler.timesteps[:: scheduler.order]
    n_skipped = int((levels + 1.0 > highest).sum())
    return scheduler.timesteps[n_skipped * scheduler.order :]


def noised(z, generators, scheduler, timesteps):
    """Carry clean latents up to the noise level at which a run in the middle starts.

    x = sqrt(abar) z + sqrt(1 - abar) eps, or z + sigma eps for schedulers that count in sigmas.

    Parameters
    ----------
    z : Tensor of shape (n_samples, *latent_shape)
        Clean latents.

    generators : list of torch.Generator
        One a sample, which eps is drawn from.

    scheduler : diffusers scheduler
        After ``set_timesteps``.

    timesteps : Tensor
        From :func:`remaining_timesteps`; the result is at the first.

    Returns
    -------
    x : Tensor of shape (n_samples, *latent_shape)
        Noisy latents, in the scheduler's own scale; `z` itself if there are no timesteps.
    """
    if len(timesteps) == 0:
        return z
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(len(scheduler.timesteps) - len(timesteps))
    noise = randn_tensor(z.shape, generator=generators, device=z.device, dtype=z.dtype)
    return scheduler.add_noise(z, noise, timesteps[:1])
