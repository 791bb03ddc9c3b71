import importlib
import json
import os
import sys
from pathlib import Path

# Processes that run tests side by side have a core each; threads of all would wait for one another.
# Before torch is imported, and for the processes that tests start.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from skdistill.networks import conv_net
from skdistill.protocols import PROTOCOLS
from skdistill.refining import MatchingRefiner
from skdistill.students import ConvNetClassifier


def feature_distance(real, synthetic, n_networks=10, width=48):
    """Mean squared distance of mean features, in networks that no matching has seen."""
    n_channels, *size = real.shape[1:]
    total = 0.0
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for seed in range(n_networks):
            torch.manual_seed(10_000 + seed)
            features = conv_net((*size, n_channels), 2, width=width)[:-1]
            gap = features(real).mean(dim=0) - features(synthetic).mean(dim=0)
            total += gap.square().sum().item() / n_networks
    return total


def write_dit_folder(
    folder, *, n_classes=3, learned_variance=False, image_size=8, channels=1, names=None, **schedule
):
    """Write a randomly initialised backbone of the real classes in diffusers' format."""
    torch.manual_seed(0)
    transformer = diffusers.DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8 if learned_variance else 4,
        num_layers=2,
        sample_size=image_size // 2,
        patch_size=2,
        num_embeds_ada_norm=n_classes,
    )
    vae = diffusers.AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        latent_channels=4,
        mid_block_add_attention=False,
        scaling_factor=0.5,
    )
    if learned_variance:
        schedule["variance_type"] = "learned_range"
    transformer.save_pretrained(folder / "transformer")
    vae.save_pretrained(folder / "vae")
    diffusers.DDPMScheduler(**schedule).save_pretrained(folder / "scheduler")
    index = {"_class_name": "DiTPipeline"}
    if names is not None:
        index["id2label"] = {str(k): name for k, name in enumerate(names)}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def write_stable_diffusion_folder(folder, *, prediction_type="epsilon"):
    """Write a randomly initialised Stable Diffusion for images of 8 x 8 pixels, as it is saved."""
    transformers = pytest.importorskip("transformers", reason="prompts are transformers'")
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        sample_size=4,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=4,
        cross_attention_dim=16,
    )
    vae = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        latent_channels=4,
        mid_block_add_attention=False,
    )
    letters = [c + end for c in "abcdefghijklmnopqrstuvwxyz0123456789" for end in ("", "</w>")]
    merges = [("p", "h"), ("t", "o</w>"), ("ph", "o"), ("pho", "to</w>"), ("o", "f</w>")]
    words = [*letters, *map("".join, merges), "<|startoftext|>", "<|endoftext|>"]
    text_encoder = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=24,
            bos_token_id=len(words) - 2,
            eos_token_id=len(words) - 1,
        )
    )
    # So that prompts differ by as much as noise does.
    text_encoder.embeddings.token_embedding.weight.data.normal_()
    for part, network in (("unet", unet), ("vae", vae), ("text_encoder", text_encoder)):
        network.save_pretrained(folder / part)
    diffusers.PNDMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        skip_prk_steps=True,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction_type,
    ).save_pretrained(folder / "scheduler")
    tokenizer = folder / "tokenizer"
    tokenizer.mkdir()
    vocabulary = {word: number for number, word in enumerate(words)}
    (tokenizer / "vocab.json").write_text(json.dumps(vocabulary))
    lines = ["#version: 0.2", *map(" ".join, merges)]
    (tokenizer / "merges.txt").write_text("\n".join(lines) + "\n")
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 24}
    (tokenizer / "tokenizer_config.json").write_text(json.dumps(settings))
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": diffusers.__version__,
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "PNDMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def rows_of(X):
    """Return the rows of X as a set."""
    return {row.tobytes() for row in X}


@pytest.fixture
def load_benchmark(monkeypatch):
    """Return a function that imports a script of examples/benchmarks."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "examples" / "benchmarks"))

    def load(name):
        # Something else of that name may have been imported before.
        for module in (name, "results"):
            monkeypatch.delitem(sys.modules, module, raising=False)
        return importlib.import_module(name)

    return load


@pytest.fixture
def dit_folder(tmp_path):
    return write_dit_folder(tmp_path / "dit", names=["0", "1", "2"])


@pytest.fixture(scope="session")
def small_images():
    """Forty 8 x 8 images of three digits, as bytes, with their labels."""
    from sklearn.datasets import load_digits

    digits = load_digits(n_class=3)
    rows = np.concatenate([np.flatnonzero(digits.target == k)[:14] for k in range(3)])[:40]
    return np.round(digits.images[rows] * 15.9).astype(np.uint8), digits.target[rows]


@pytest.fixture(scope="session")
def studied_data():
    """The folder of studied data sets."""
    folder = os.environ.get("SKDISTILL_DATA")
    if folder is None:
        pytest.skip("SKDISTILL_DATA does not name a folder of data sets")
    return Path(folder)


@pytest.fixture(scope="session")
def torchmetrics():
    return pytest.importorskip("torchmetrics", reason="the Fréchet distance is torchmetrics'")


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory, small_images):
    """A folder of class folders with the small images."""
    folder = tmp_path_factory.mktemp("images")
    for i, (image, label) in enumerate(zip(*small_images, strict=True)):
        path = folder / f"class {label}" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


@pytest.fixture
def short_refining(monkeypatch):
    """A tenth of the steps that images are refined in unasked, which take a minute."""
    monkeypatch.setattr(MatchingRefiner.__init__, "__defaults__", (20,))


@pytest.fixture
def short_training(monkeypatch):
    """Students that are trained no longer than a test can wait."""
    monkeypatch.setitem(ConvNetClassifier.__init__.__kwdefaults__, "steps", 20)
    monkeypatch.setitem(PROTOCOLS["digits"], "steps", 20)
