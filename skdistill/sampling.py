"""What a fitted distiller makes samples with: denoising, refining and decoding of one batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import diffusers
import numpy as np
import torch

from skdistill.generate import (
    class_generator,
    denoise,
    draw_noise,
    invert,
    make_scheduler,
    noised,
    remaining_timesteps,
    sample_generator,
)
from skdistill.guidance import Guidance, prepare_targets
from skdistill.latents import ClassProjectors, at_least_float32
from skdistill.pixels import DataFormat

__all__ = ["Sampler"]


@dataclass(frozen=True)
class Sampler:
    """The parts of a fitted distiller that samples are made with.

    Parameters
    ----------
    backbone : backbone
        What predicts and decodes.

    model_classes : ndarray of shape (n_classes,)
        The backbone's classes.

    data_format : DataFormat
        The caller's terms.

    latents : sequence or mapping of ndarray of shape (n_samples_of_class, n_features)
        The real ones, by class.

    projectors : ClassProjectors
        Fitted to them.

    refiner : refiner or None
        What refines each class.

    seed : int
        The root seed.

    scheduler : diffusers scheduler
        From :func:`~skdistill.generate.make_scheduler`.

    num_inference_steps : int
        Steps of a whole run.

    init_noise : float
        The share of the noise schedule that runs start from.

    guidance : Guidance
        What corrects the clean predictions; not asked where its strengths are zero.

    radii : list of float
        Multiples of the projectors' radius, of prepared tangents.

    tangents : {"prepared", "posterior"} or None
        How tangent spaces are found; None guides without a projection.

    paper_form : bool
        Whether strengths are in units of sigma_t.

    guidance_scale : float or None
        Classifier-free guidance; None for the backbone's own.

    dtype : {"float32", "bfloat16", "float16"}
        Of the diffusion network.

    device : torch.device
        Where to compute.
    """

    backbone: object
    model_classes: np.ndarray
    data_format: DataFormat
    latents: Sequence | Mapping
    projectors: ClassProjectors
    refiner: object
    seed: int
    scheduler: diffusers.SchedulerMixin
    num_inference_steps: int
    init_noise: float
    guidance: Guidance
    radii: list
    tangents: str | None
    paper_form: bool
    guidance_scale: float | None
    dtype: str
    device: torch.device

    def of_classes(self, classes):
        """Return a sampler of some classes, which holds the latents of no others.

        Parameters
        ----------
        classes : list of int
            Their places.

        Returns
        -------
        sampler : Sampler
            It makes the same samples of them.
        """
        latents = {k: self.latents[k] for k in classes}
        projectors = ClassProjectors(self.projectors.projector, latents)
        return replace(self, latents=latents, projectors=projectors)

    def run(self):
        """Return what a run goes through.

        Returns
        -------
        scheduler : diffusers scheduler
            Ready to run once.

        timesteps : Tensor
            Those of its timesteps that are run, from `init_noise` on.
        """
        scheduler = make_scheduler(None, self.scheduler)
        scheduler.set_timesteps(self.num_inference_steps)
        if self.init_noise == 1.0:
            return scheduler, scheduler.timesteps
        return scheduler, remaining_timesteps(scheduler, self.init_noise)

    def sample(self, plan, batch, calls, progress):
        """Make samples.

        Parameters
        ----------
        plan : Plan
            Of a set.

        batch : slice or ndarray of int
            Which of its samples; all of a class where there is a refiner.

        calls : BatchedCalls
            Splits the networks' calls.

        progress : callable or None
            Called after each step.

        Returns
        -------
        X : ndarray of shape (n_samples, ...)
            In the caller's terms.
        """
        return self.decode(self.sample_latents(plan, batch, calls, progress), calls)

    def sample_latents(self, plan, batch, calls, progress=None, watch=None):
        """Make samples, but for the last step of decoding them.

        Parameters
        ----------
        plan, batch, calls, progress : object
            See :meth:`sample`.

        watch : callable, default=None
            Returns what is taken for the guidance that it is given.

        Returns
        -------
        z : Tensor of shape (n_samples, *latent_shape)
            Their latents.
        """
        places = zip(plan.labels[batch], plan.indices[batch], strict=True)
        generators = [sample_generator(self.seed, int(k), int(i)) for k, i in places]
        scheduler, timesteps = self.run()
        latent_shape = self.backbone.latent_shape
        centers = torch.from_numpy(plan.centers[plan.assigned[batch]])
        if self.init_noise == 1.0:
            start = draw_noise(latent_shape, generators, scheduler, centers)
        else:
            centers = centers.reshape(-1, *latent_shape)
            start = noised(centers, generators, scheduler, timesteps)
        z = denoise(
            self.backbone.to(self.device),
            start.to(self.device),
            self._labels(plan, batch),
            scheduler,
            calls,
            timesteps=timesteps,
            paper_form=self.paper_form,
            guidance_scale=self.guidance_scale,
            generators=generators,
            progress=progress or (lambda: None),
            **self._guided(plan, batch, watch),
        )
        if self.refiner is None:
            return z
        return self._refine(z, int(plan.labels[batch][0]), progress)

    def carry(self, plan, batch, z, calls, progress):
        """Carry latents up to `init_noise` by inversion and back under guidance.

        Parameters
        ----------
        plan, batch, calls, progress : object
            See :meth:`sample`.

        z : Tensor of shape (n_samples, *latent_shape)
            What is carried.

        Returns
        -------
        z : Tensor of shape (n_samples, *latent_shape)
            What became of it; no row depends on another, and nothing is drawn at random.
        """
        scheduler, timesteps = self.run()
        backbone, labels = self.backbone.to(self.device), self._labels(plan, batch)
        options = {
            "timesteps": timesteps,
            "guidance_scale": self.guidance_scale,
            "progress": progress,
        }
        noisy = invert(backbone, z.to(self.device), labels, scheduler, calls, **options)
        guided = self._guided(plan, batch)
        return denoise(backbone, noisy, labels, scheduler, calls, **options, **guided)

    def decode(self, z, calls):
        """Return latents in the caller's terms.

        Parameters
        ----------
        z : Tensor of shape (n_samples, *latent_shape)
            Latents.

        calls : BatchedCalls
            Splits the network's calls.

        Returns
        -------
        X : ndarray of shape (n_samples, ...)
            Rows or images.

        Raises
        ------
        ValueError
            If they are not finite.
        """
        if not torch.isfinite(z).all():
            raise ValueError(
                "Sampling ended in values that are not finite, with "
                f"scheduler={type(self.scheduler).__name__}, "
                f"num_inference_steps={self.num_inference_steps}, "
                f"guidance_form={'paper' if self.paper_form else 'clean'!r}, "
                f"strength={self.guidance.strength!r}, guidance_scale={self.guidance_scale!r}, "
                f"refiner={self.refiner!r} and dtype={self.dtype!r}. Fewer steps, lower "
                "strengths or dtype='float32' may do."
            )
        return self.data_format.from_backbone(self.backbone.decode(z, calls))

    def _labels(self, plan, batch):
        return torch.from_numpy(self.model_classes[plan.labels[batch]]).to(self.device)

    def _guided(self, plan, batch, watch=None):
        """Return what denoise needs to guide a batch, nothing where it is not guided."""
        guidance = self.guidance
        if guidance.strength == guidance.normal_strength == 0 and watch is None:
            return {}
        targets = prepare_targets(
            plan.centers,
            plan.center_classes,
            plan.assigned[batch],
            self.projectors,
            radii=self.radii,
            tangents=self.tangents,
            device=self.device,
        )
        return {"guidance": guidance if watch is None else watch(guidance), "targets": targets}

    def _refine(self, z, k, progress):
        """Refine the latents of class `k`, held against some of its real ones."""
        generator = class_generator(self.seed, k)
        few = torch.randperm(len(self.latents[k]), generator=generator)[: self.refiner.n_real]
        real = at_least_float32(self.latents[k][few.sort().values.numpy()])
        return self.refiner.refine(
            z,
            torch.from_numpy(real).reshape(-1, *self.backbone.latent_shape).to(z),
            getattr(self.backbone, "to_images", None),
            generator,
            # Where float16 overflows, gradients are lost.
            dtype=torch.bfloat16 if self.dtype == "bfloat16" else torch.float32,
            progress=progress or (lambda: None),
        )
