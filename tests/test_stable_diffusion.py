import json
import pickle
import shutil
import sys
import warnings

import diffusers
import numpy as np
import pytest
import torch
from conftest import write_stable_diffusion_folder
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import load_file, save_file

from skdistill import ManifoldGDDistiller
from skdistill.backbones import (
    LatentEncoder,
    StableDiffusionBackbone,
    describe_backbone,
    find_backbone,
    load_backbone,
)
from skdistill.cli import main
from skdistill.generate import BatchedCalls, denoise, make_scheduler
from skdistill.refining import MatchingRefiner
from skdistill.sampling import Sampler

PROMPTS = {0: "a photo of a zero", 1: "a photo of a one", 2: "a drawing of two"}
calls = BatchedCalls(1000)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory):
    return write_stable_diffusion_folder(tmp_path_factory.mktemp("sd") / "tiny")


@pytest.fixture
def folder(shared_folder, tmp_path):
    """A folder that a test may change."""
    return shutil.copytree(shared_folder, tmp_path / "tiny")


def prompted(folder, **options):
    backbone = StableDiffusionBackbone(folder, **options)
    backbone.class_indices(np.array(list(PROMPTS)), PROMPTS)
    return backbone


def distil(folder, images, **params):
    params = {"ipc": 2, "random_state": 0, "num_inference_steps": 6, **params}
    params = {"class_map": PROMPTS, "resize": "bilinear", **params}
    params = {"refiner": MatchingRefiner(5, width=16), **params}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The VAE of backbone")
        return ManifoldGDDistiller(backbone=folder, **params).fit(*images)


def test_a_folder_knows_its_shapes_and_its_latents_are_scaled(shared_folder):
    backbone = load_backbone(shared_folder)
    assert isinstance(backbone, StableDiffusionBackbone)
    assert backbone.latent_shape == (4, 4, 4)
    assert backbone.image_shape == (3, 8, 8)
    assert backbone.guidance_scale == 7.5
    x = np.random.default_rng(0).uniform(-1, 1, (5, 3, 8, 8)).astype(np.float32)
    z = backbone.encode(x, calls)
    mode = backbone.vae.encode(torch.from_numpy(x)).latent_dist.mode()
    np.testing.assert_allclose(z, 0.18215 * mode, atol=1e-6)
    decoded = backbone.decode(torch.from_numpy(z), calls)
    np.testing.assert_allclose(decoded, backbone.vae.decode(mode).sample, atol=1e-5)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_unguided_images_are_those_of_diffusers_own_pipeline(tmp_path, prediction_type):
    folder = write_stable_diffusion_folder(tmp_path / "sd", prediction_type=prediction_type)
    latents = torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    backbone, labels = prompted(folder), torch.arange(3)
    for name in (None, "DDIMScheduler"):
        if name is not None:
            config = {**pipeline.scheduler.config, "clip_sample": False}
            pipeline.scheduler = getattr(diffusers, name).from_config(config)
        for scale in (1.0, 5.0):
            expected = pipeline(
                list(PROMPTS.values()),
                latents=latents,
                num_inference_steps=6,
                guidance_scale=scale,
                output_type="np",
            ).images
            scheduler = make_scheduler(name, backbone.default_scheduler)
            scheduler.set_timesteps(6)
            z = denoise(backbone, latents, labels, scheduler, calls, guidance_scale=scale)
            images = backbone.decode(z, calls).transpose(0, 2, 3, 1) / 2 + 0.5
            np.testing.assert_allclose(images.clip(0, 1), expected, atol=2e-4)
            assert expected.std(axis=0).max() > 0.01


def test_the_null_class_is_the_empty_prompt(shared_folder):
    backbone = prompted(shared_folder)
    empty = StableDiffusionBackbone(shared_folder)
    # What is truncated to nothing but its ends is the empty prompt.
    empty.embeddings = backbone.embeddings[3:]
    x = torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    t, labels = torch.tensor(500), torch.tensor([0, 1, 2])
    conditional = backbone.predict(x, t, None, labels, 1.0)
    unconditional = empty.predict(x, t, None, torch.zeros_like(labels), 1.0)
    guided = backbone.predict(x, t, None, labels, 2.5)
    torch.testing.assert_close(guided, unconditional + 2.5 * (conditional - unconditional))
    assert not torch.allclose(conditional, unconditional, atol=1e-3)


def test_the_network_may_be_narrow_while_latents_are_not(shared_folder):
    wide, narrow = prompted(shared_folder), prompted(shared_folder, dtype="bfloat16")
    x = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    labels, t = torch.tensor([0, 1]), torch.tensor(10)
    noise = narrow.predict(x, t, None, labels, 1.5)
    assert noise.dtype == torch.float32
    torch.testing.assert_close(noise, wide.predict(x, t, None, labels, 1.5), atol=0.1, rtol=0.1)


class TestPrompts:
    def prompts(self, folder, classes, class_map=None, monkeypatch=None):
        """Return the prompts that are encoded, without encoding them."""
        encoded = []
        monkeypatch.setattr(StableDiffusionBackbone, "_embed", lambda self, p: encoded.extend(p))
        backbone = StableDiffusionBackbone(folder)
        indices = backbone.class_indices(np.array(classes), class_map)
        assert indices.tolist() == list(range(backbone.n_classes))
        return encoded

    def test_labels_that_are_text_make_their_own(self, shared_folder, monkeypatch):
        found = self.prompts(shared_folder, ["red_kite", "owl"], None, monkeypatch)
        assert found == ["a photo of a red kite", "a photo of a owl"]

    def test_a_map_gives_them_as_they_are(self, shared_folder, monkeypatch):
        class_map = {7: "an owl_at night", 3: "a red kite"}
        found = self.prompts(shared_folder, [3, 7], class_map, monkeypatch)
        assert found == ["a red kite", "an owl_at night"]

    @pytest.mark.parametrize(
        ("classes", "class_map", "match"),
        [
            ([0, 1], None, "class 0 of y is no text; .* class_map={label of y: 'a photo of a"),
            ([0, 1], {0: "a kite", 1: 7}, "class 1 of y is to be 7, which is no text"),
            ([0, 1], {0: "a kite", 1: " "}, "class 1 of y is to be ' ', which is no text"),
            ([0, 1], {0: "a kite"}, "class_map says nothing of the class 1"),
            ([0], {0: "a kite", 5: "an owl"}, "class_map names 5, which is not in y"),
            ([0], {0: "kite " * 9}, "'kite kite .* has 38 tokens; the backbone 'tiny' reads 24"),
        ],
    )
    def test_what_is_no_prompt_is_refused(self, shared_folder, classes, class_map, match):
        with pytest.raises(ValueError, match=match):
            StableDiffusionBackbone(shared_folder).class_indices(np.array(classes), class_map)

    def test_without_transformers_the_extra_is_named(self, shared_folder, monkeypatch):
        backbone = StableDiffusionBackbone(shared_folder)
        monkeypatch.setitem(sys.modules, "transformers", None)
        with pytest.raises(ImportError, match=r"pip install skdistill\[text\]"):
            backbone.class_indices(np.array(["kite"]))

    def test_nothing_is_printed_while_they_are_encoded(self, shared_folder, capfd):
        prompted(shared_folder)
        assert capfd.readouterr() == ("", "")


class TestDistiller:
    def test_a_set_is_guided_resumed_and_repeated(self, shared_folder, small_images, tmp_path):
        X_syn, y_syn = distil(shared_folder, small_images).sample()
        assert X_syn.shape == (6, 8, 8)
        assert X_syn.dtype == np.uint8
        assert y_syn.tolist() == [0, 0, 1, 1, 2, 2]
        unguided = distil(shared_folder, small_images, strength=0.0).sample()[0]
        assert not np.array_equal(unguided, X_syn)

        def stop(*_, plain=Sampler.sample):
            if len(list(tmp_path.glob("run/batches/*.npz"))):
                raise KeyboardInterrupt
            return plain(*_)

        partly = distil(shared_folder, small_images, batch_size=2)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Sampler, "sample", stop)
            with pytest.raises(KeyboardInterrupt):
                partly.sample(out_dir=tmp_path / "run")
        again = distil(shared_folder, small_images, batch_size=2)
        np.testing.assert_array_equal(again.sample(out_dir=tmp_path / "run")[0], X_syn)
        other = distil(shared_folder, small_images, class_map=PROMPTS | {0: "an egg"})
        with pytest.raises(ValueError, match="holds a run with class_map="):
            other.sample(out_dir=tmp_path / "run")

    def test_prompts_decide_the_set(self, shared_folder, small_images):
        options = {"strength": 0.0, "init_noise": 1.0}
        first = distil(shared_folder, small_images, **options).sample()[0]
        class_map = PROMPTS | {0: "9 8 7"}
        other = distil(shared_folder, small_images, class_map=class_map, **options).sample()[0]
        assert not np.array_equal(first[:2], other[:2])
        np.testing.assert_array_equal(first[2:], other[2:])

    def test_labels_that_are_text_need_no_map(self, shared_folder, small_images):
        X, y = small_images
        named = (X, np.array(["zero", "one", "two"])[y])
        assert distil(shared_folder, named, class_map=None).sample()[1].tolist() == [
            *["one"] * 2,
            *["two"] * 2,
            *["zero"] * 2,
        ]

    def test_pickling_keeps_the_set(self, shared_folder, small_images):
        distiller = distil(shared_folder, small_images)
        copied = pickle.loads(pickle.dumps(distiller))
        np.testing.assert_array_equal(copied.sample()[0], distiller.sample()[0])

    def test_a_loaded_backbone_may_be_given(self, shared_folder, small_images):
        expected = distil(shared_folder, small_images).sample()[0]
        backbone = StableDiffusionBackbone(shared_folder)
        np.testing.assert_array_equal(distil(backbone, small_images).sample()[0], expected)
        assert not hasattr(backbone, "embeddings")


def test_latents_are_features_without_any_prompt(shared_folder, small_images):
    encoder = LatentEncoder(shared_folder, resize="bilinear").fit(small_images[0])
    assert encoder.transform(small_images[0]).shape == (40, 64)


class TestBadFolders:
    @pytest.mark.parametrize(
        ("part", "match"),
        [
            ("vae", "has no vae/config.json; .* with vae, unet, text_encoder, tokenizer and sche"),
            ("unet", "has no unet/config.json"),
            ("text_encoder", "has no text_encoder/config.json"),
            ("tokenizer", "has no tokenizer: neither tokenizer/tokenizer.json"),
            ("scheduler", "has no scheduler"),
        ],
    )
    def test_a_missing_part_is_named(self, folder, part, match):
        shutil.rmtree(folder / part)
        with pytest.raises(ValueError, match=match):
            load_backbone(folder)

    @pytest.mark.parametrize("part", ["vae", "unet", "text_encoder"])
    def test_damaged_weights_are_named(self, folder, part):
        (path,) = (folder / part).glob("*.safetensors")
        path.write_bytes(path.read_bytes()[:1000])
        with pytest.raises(ValueError, match=f"weights in '.*{part}' cannot be read"):
            prompted(folder)

    @pytest.mark.parametrize(
        ("part", "name"),
        [("unet", "conv_in.bias"), ("text_encoder", "final_layer_norm.bias")],
    )
    def test_weights_that_would_be_made_up_are_named(self, folder, part, name):
        (path,) = (folder / part).glob("*.safetensors")
        weights = load_file(path)
        save_file(
            {k: w for k, w in weights.items() if not k.endswith(name)}, path, {"format": "pt"}
        )
        with pytest.raises(ValueError, match=f"{part}' .*{name}' is missing, one of 1"):
            prompted(folder)

    @pytest.mark.parametrize("part", ["unet", "text_encoder"])
    def test_pickled_weights_are_not_loaded(self, folder, part):
        (path,) = (folder / part).glob("*.safetensors")
        path.rename(path.with_suffix(".bin"))
        with pytest.raises(ValueError, match=rf"only pickled .*\.bin\) in {part}.*revision"):
            load_backbone(folder)

    @pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
    def test_a_tokenizer_is_not_made_up(self, folder, name):
        (folder / "tokenizer" / name).unlink()
        with pytest.raises(ValueError, match="has no tokenizer"):
            load_backbone(folder)

    def test_a_damaged_tokenizer_is_named(self, folder):
        (folder / "tokenizer" / "vocab.json").write_text("{")
        with pytest.raises(ValueError, match="tokenizer in '.*tokenizer' cannot be read"):
            prompted(folder)

    def test_a_tokenizer_of_another_model_is_refused(self, folder):
        path = folder / "tokenizer" / "vocab.json"
        vocabulary = json.loads(path.read_text())
        path.write_text(json.dumps({word: i + 50 for word, i in vocabulary.items()}))
        with pytest.raises(ValueError, match="has more words than its text encoder, which has 79"):
            prompted(folder)

    def test_stable_diffusion_xl_is_refused(self, folder):
        path = folder / "model_index.json"
        index = json.loads(path.read_text()) | {"_class_name": "StableDiffusionXLPipeline"}
        index["text_encoder_2"] = ["transformers", "CLIPTextModelWithProjection"]
        path.write_text(json.dumps(index))
        for use in (load_backbone, describe_backbone):
            with pytest.raises(
                ValueError, match=r"two text encoders.*\(StableDiffusionXLPipeline\)"
            ):
                use(folder)

    def test_a_unet_with_added_conditions_is_refused(self, folder):
        unet = diffusers.UNet2DConditionModel(
            sample_size=4,
            block_out_channels=(8, 16),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            norm_num_groups=4,
            attention_head_dim=4,
            cross_attention_dim=16,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=16,
        )
        unet.save_pretrained(folder / "unet")
        with pytest.raises(ValueError, match=r"wants more than a prompt \(text_time\)"):
            load_backbone(folder)

    def test_a_model_for_inpainting_is_refused(self, folder):
        unet = diffusers.UNet2DConditionModel.from_pretrained(folder / "unet")
        diffusers.UNet2DConditionModel(**{**unet.config, "in_channels": 9}).save_pretrained(
            folder / "unet"
        )
        with pytest.raises(ValueError, match="takes 9 channels, but latents have 4; .*inpainting"):
            load_backbone(folder)

    def test_another_text_encoder_is_refused(self, folder):
        path = folder / "text_encoder" / "config.json"
        config = json.loads(path.read_text()) | {"architectures": ["T5EncoderModel"]}
        path.write_text(json.dumps(config))
        with pytest.raises(ValueError, match="holds a T5EncoderModel in text_encoder"):
            load_backbone(folder)


def test_of_a_hub_id_only_what_is_loaded_is_fetched(shared_folder, monkeypatch):
    """The network is the one thing that is mocked."""
    published = [
        *(str(p.relative_to(shared_folder)) for p in shared_folder.rglob("*") if p.is_file()),
        "v1-5-pruned.safetensors",
        "v1-5-pruned.ckpt",
        "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.non_ema.safetensors",
        "text_encoder/model.fp16.safetensors",
        "safety_checker/model.safetensors",
        "feature_extractor/code.py",
    ]
    asked = []

    def download(name, **options):
        asked.append((name, options))
        return str(shared_folder)

    monkeypatch.setattr("skdistill.backbones.folder.snapshot_download", download)
    find_backbone("someone/sd", revision="v2", local_files_only=True)
    assert [name for name, _ in asked] == ["someone/sd"] * 2
    assert all(options["revision"] == "v2" for _, options in asked)
    assert all(options["local_files_only"] for _, options in asked)
    first, second = (
        set(filter_repo_objects(published, allow_patterns=options["allow_patterns"]))
        for _, options in asked
    )
    assert all(name.endswith(".json") for name in first)
    assert second - first == {
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
        "tokenizer/merges.txt",
    }


def test_a_description_agrees_with_the_networks(shared_folder, capsys, monkeypatch):
    described, backbone = describe_backbone(shared_folder), load_backbone(shared_folder)
    assert described["latent_shape"] == backbone.latent_shape
    assert described["image_shape"] == (8, 8, 3)
    assert described["n_classes"] is described["classes"] is None
    assert described["guidance_scale"] == backbone.guidance_scale
    assert (described["scheduler"], described["prediction_type"]) == ("PNDMScheduler", "epsilon")
    for part, network in (("vae", backbone.vae), ("unet", backbone.denoiser)):
        assert described["n_parameters"][part] == sum(w.numel() for w in network.parameters())
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["backbones", str(shared_folder)]) == 0
    facts = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()[1:])
    assert facts["classes"] == "any, by a prompt a class"
    assert facts["parameters"].startswith("VAE ")
    assert "U-Net" in facts["parameters"]
