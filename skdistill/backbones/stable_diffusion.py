"""Text-to-image latent diffusion, a prompt a class: the Stable Diffusion family."""

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from skdistill.backbones.folder import (
    STABLE_DIFFUSION,
    TOKENIZER_TEXT,
    hash_files,
    load_network,
    read_config,
    weight_files,
)
from skdistill.backbones.latent_diffusion import LatentDiffusion
from skdistill.generate import BatchedCalls
from skdistill.validation import check_class_map

__all__ = ["StableDiffusionBackbone"]

# What Stable Diffusion was published with, for folders that do not name their own.
DEFAULT_GUIDANCE_SCALE = 7.5
PROMPTS_AT_ONCE = 64


class StableDiffusionBackbone(LatentDiffusion):
    """A pretrained VAE and text-conditional U-Net (Stable Diffusion 1 and 2, Rombach et al., 2022).

    Each class is described by a prompt. Prompts are encoded once, on the CPU, when the classes are
    known; the text encoder is not kept. The null class of classifier-free guidance is the empty
    prompt.

    Parameters
    ----------
    folder : Path
        As :class:`diffusers.StableDiffusionPipeline` is saved: ``vae`` (AutoencoderKL), ``unet``
        (UNet2DConditionModel), ``text_encoder`` (CLIPTextModel), ``tokenizer`` (CLIPTokenizer),
        ``scheduler`` and ``model_index.json``, which may give ``guidance_scale`` and
        ``value_range``. What else there is, a safety checker for one, is left where it is.

    dtype : {"float32", "bfloat16", "float16"}, default="float32"
        Of the U-Net; the VAE, the text encoder and all geometry stay in float32.

    name : str, default=None
        What messages call it; None for the folder's name.

    compile : bool, default=False
        Whether the network that denoises goes through :func:`torch.compile`.

    Attributes
    ----------
    vae, denoiser : diffusers models
        The VAE and the U-Net.

    fingerprint : str
        SHA-256 of the weights and of the tokenizer's files.

    latent_shape : tuple of int
        (channels, height, width) of a latent: the ``sample_size`` of the U-Net.

    image_shape : tuple of int
        (channels, height, width) of an image.

    n_classes : int
        Number of prompts, after :meth:`class_indices`.

    embeddings : Tensor of shape (n_classes + 1, n_tokens, n_text_features)
        Of the prompts and of the empty one, after :meth:`class_indices`.

    value_range : list of float or None
        Values of black and white in the images it was trained on, where the folder says so.

    guidance_scale : float
        Classifier-free guidance the folder asks for, 7.5 if it does not say.

    default_scheduler : diffusers scheduler
        As configured in the folder.

    Raises
    ------
    ValueError
        If a part is missing, damaged, or of another kind.
    """

    def __init__(self, folder, dtype="float32", *, name=None, compile=False):
        folder = Path(folder)
        for part, kind in STABLE_DIFFUSION.items():
            read_config(folder, part, kind)
        weights = [file for part in STABLE_DIFFUSION for file in weight_files(folder, part)]
        self.fingerprint = hash_files([*weights, *_tokenizer_files(folder)])
        super().__init__(
            folder,
            "unet",
            dtype,
            name=name,
            guidance_scale=DEFAULT_GUIDANCE_SCALE,
            compile=compile,
        )
        extra = self.denoiser.config.addition_embed_type or self.denoiser.config.class_embed_type
        if extra is not None:
            raise ValueError(
                f"The U-Net of backbone {self.name!r} wants more than a prompt ({extra}), as that "
                "of Stable Diffusion XL does; Stable Diffusion 1 and 2 are supported."
            )

    def class_indices(self, classes, class_map=None):
        """Encode a prompt for each of the caller's classes.

        Parameters
        ----------
        classes : ndarray of shape (n_classes,)
            The caller's labels.

        class_map : mapping, default=None
            From each label to its prompt. None takes labels that are strings into "a photo of a
            LABEL", with a space for each underscore.

        Returns
        -------
        indices : ndarray of shape (n_classes,), dtype int64
            The numbers of the prompts.

        Raises
        ------
        ValueError
            If a label has no prompt, `class_map` names one that `classes` lacks, a prompt is no
            text or longer than the text encoder reads, or its weights cannot be read.

        ImportError
            If transformers is not installed.
        """
        check_class_map(class_map, classes)
        labels = classes.tolist()
        prompts = [self._prompt(label, class_map) for label in labels]
        self.embeddings = self._embed(prompts)
        self.n_classes = len(prompts)
        return np.arange(len(prompts))

    def to(self, device):
        """Move networks and prompts to a device.

        Parameters
        ----------
        device : str or torch.device
            Where to.

        Returns
        -------
        self : StableDiffusionBackbone
            With its networks there.
        """
        if hasattr(self, "embeddings"):
            self.embeddings = self.embeddings.to(device)
        return super().to(device)

    def _prompt(self, label, class_map):
        """Return the prompt of a class."""
        prompt = label if class_map is None else class_map[label]
        if not isinstance(prompt, str) or not prompt.strip():
            wrong = "no text" if class_map is None else f"to be {prompt!r}, which is no text"
            raise ValueError(
                f"The class {label!r} of y is {wrong}; the backbone {self.name!r} needs a prompt a "
                "class: class_map={label of y: 'a photo of a ...'}."
            )
        return f"a photo of a {prompt.replace('_', ' ')}" if class_map is None else prompt

    @torch.no_grad()
    def _embed(self, prompts):
        """Return the embeddings of prompts, and of the empty one as the last."""
        try:
            from transformers import CLIPTextModel
        except ImportError as error:
            raise ImportError(
                f"The prompts of backbone {self.name!r} need transformers: pip install "
                "skdistill[text]"
            ) from error
        with _no_progress_bars():
            encoder = load_network(CLIPTextModel, self.folder, "text_encoder", dtype=torch.float32)
        ids = self._tokenize([*prompts, ""], encoder.config.max_position_embeddings)
        too_large = int(ids.max()) >= encoder.config.vocab_size
        if too_large:
            raise ValueError(
                f"The tokenizer in {str(self.folder)!r} has more words than its text encoder, "
                f"which has {encoder.config.vocab_size}; they do not belong together."
            )
        return BatchedCalls(PROMPTS_AT_ONCE)(lambda rows: encoder(rows).last_hidden_state, ids)

    def _tokenize(self, prompts, n_positions):
        """Return the tokens of prompts, (n_prompts, n_tokens), padded to what the model reads."""
        from transformers import CLIPTokenizer

        path = self.folder / "tokenizer"
        try:
            tokenizer = CLIPTokenizer.from_pretrained(path, local_files_only=True)
            length = min(tokenizer.model_max_length, n_positions)
            whole = tokenizer(prompts).input_ids
            padded = tokenizer(
                prompts,
                padding="max_length",
                max_length=length,
                truncation=True,
                return_tensors="pt",
            ).input_ids
        # A damaged tokenizer raises whatever its library leads to.
        except Exception as error:
            raise ValueError(f"The tokenizer in {str(path)!r} cannot be read: {error}") from error
        for prompt, tokens in zip(prompts, whole, strict=True):
            if len(tokens) > length:
                raise ValueError(
                    f"The prompt {prompt!r} has {len(tokens)} tokens; the backbone {self.name!r} "
                    f"reads {length}."
                )
        return padded

    def _call(self, x, timesteps, labels):
        embeddings = self.embeddings[labels].to(x.dtype)
        return self.denoiser(x, timesteps, encoder_hidden_states=embeddings).sample


def _tokenizer_files(folder):
    """Return the files of a tokenizer, or raise ValueError where it would be made up."""
    path = folder / "tokenizer"
    whole, parts = path / "tokenizer.json", [path / "vocab.json", folder / TOKENIZER_TEXT]
    if not (whole.is_file() or all(part.is_file() for part in parts)):
        raise ValueError(
            f"backbone folder {str(folder)!r} has no tokenizer: neither tokenizer/tokenizer.json, "
            "nor both tokenizer/vocab.json and tokenizer/merges.txt."
        )
    return sorted(file for file in path.iterdir() if file.suffix in (".json", ".txt"))


@contextmanager
def _no_progress_bars():
    """Keep transformers from showing how it reads a file."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
