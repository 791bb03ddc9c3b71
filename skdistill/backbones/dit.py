"""Class-conditional latent diffusion transformers in diffusers' folder format."""

from collections import defaultdict
from numbers import Integral
from pathlib import Path

import numpy as np

from skdistill.backbones.folder import hash_files, read_json, weight_files
from skdistill.backbones.latent_diffusion import LatentDiffusion
from skdistill.validation import check_class_map

__all__ = ["DiTBackbone"]

# What facebook/DiT-XL-2-256 was published with, for folders that do not name their own.
DEFAULT_GUIDANCE_SCALE = 4.0


class DiTBackbone(LatentDiffusion):
    """A pretrained VAE and class-conditional diffusion transformer (DiT, Peebles & Xie, 2023).

    Parameters
    ----------
    folder : Path
        ``vae`` (AutoencoderKL), ``transformer`` (DiTTransformer2DModel), ``scheduler`` and
        ``model_index.json``, which may give ``id2label``, names of the classes,
        ``guidance_scale`` and ``value_range``.

    dtype : {"float32", "bfloat16", "float16"}, default="float32"
        Of the transformer; the VAE and all geometry stay in float32.

    name : str, default=None
        What messages call it; None for the folder's name.

    compile : bool, default=False
        Whether the network that denoises goes through :func:`torch.compile`.

    Attributes
    ----------
    vae, denoiser : diffusers models
        The VAE and the transformer.

    fingerprint : str
        SHA-256 of the weights.

    latent_shape : tuple of int
        (channels, height, width) of a latent.

    image_shape : tuple of int
        (channels, height, width) of an image.

    n_classes : int
        Number of classes; its null class has this index.

    id2label : dict of int to str
        Names of the classes, empty where the folder has none.

    value_range : list of float or None
        Values of black and white in the images it was trained on, where the folder says so.

    guidance_scale : float
        Classifier-free guidance the folder asks for, 4.0 if it does not say.

    default_scheduler : diffusers scheduler
        As configured in the folder.
    """

    def __init__(self, folder, dtype="float32", *, name=None, compile=False):
        folder = Path(folder)
        super().__init__(
            folder,
            "transformer",
            dtype,
            name=name,
            guidance_scale=DEFAULT_GUIDANCE_SCALE,
            compile=compile,
        )
        self.fingerprint = hash_files(
            [*weight_files(folder, "transformer"), *weight_files(folder, "vae")]
        )
        names = read_json(folder / "model_index.json").get("id2label", {})
        try:
            self.id2label = {int(k): str(v) for k, v in names.items()}
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(
                f"id2label in {str(folder / 'model_index.json')!r} must map numbers of classes to "
                f"names, got {names!r}."
            ) from error
        self.n_classes = self.denoiser.config.num_embeds_ada_norm

    def class_indices(self, classes, class_map=None):
        """Find the model's class for each of the caller's.

        Parameters
        ----------
        classes : ndarray of shape (n_classes,)
            The caller's labels.

        class_map : mapping, default=None
            From each label to an index or a name of the model's classes. None matches names, and
            takes integers for indices where the model has no names.

        Returns
        -------
        indices : ndarray of shape (n_classes,), dtype int64
            The model's class of each label.

        Raises
        ------
        ValueError
            If a label has no class or several, or `class_map` names one that the model or
            `classes` lacks.
        """
        by_name, by_synonym = defaultdict(set), defaultdict(set)
        for index, names in self.id2label.items():
            by_name[names].add(index)
            # ImageNet's classes carry all their synonyms: "tench, Tinca tinca".
            for name in names.split(","):
                by_synonym[name.strip()].add(index)
        by_name = {**by_synonym, **by_name}
        check_class_map(class_map, classes)

        indices = []
        for label in classes.tolist():
            wanted = label if class_map is None else class_map[label]
            is_index = isinstance(wanted, Integral) and not isinstance(wanted, bool)
            if is_index and (class_map is not None or not by_name):
                index = wanted
            else:
                found = sorted(by_name.get(str(wanted), [-1]))
                if len(found) > 1:
                    raise ValueError(
                        f"The class {label!r} of y is to be {wanted!r}, which is the name of "
                        f"{len(found)} classes of the backbone {self.name!r}: "
                        f"{', '.join(map(str, found))}. Give class_map={{{label!r}: the number}}."
                    )
                index = found[0]
            if not 0 <= index < self.n_classes:
                known = ", ".join(map(repr, list(self.id2label.values())[:12])) or "without names"
                raise ValueError(
                    f"The class {label!r} of y is to be {wanted!r}, which the backbone "
                    f"{self.name!r} does not know; it has {self.n_classes} classes ({known}). Give "
                    "class_map={label of y: index or name of the backbone's class}."
                )
            indices.append(index)
        return np.asarray(indices, dtype=np.int64)

    def _call(self, x, timesteps, labels):
        return self.denoiser(x, timestep=timesteps, class_labels=labels).sample
