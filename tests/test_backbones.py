import json
import shutil

import diffusers
import numpy as np
import pytest
import torch
from conftest import write_dit_folder
from huggingface_hub.utils import filter_repo_objects
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits, load_iris, load_wine

from skdistill.backbones import (
    ClosedFormBackbone,
    DiTBackbone,
    GaussianMixtureScore,
    find_backbone,
    shipped_backbones,
)
from skdistill.generate import BatchedCalls, denoise, make_scheduler

calls = BatchedCalls(1000)


@pytest.fixture(scope="module")
def wine():
    X, y = load_wine(return_X_y=True)
    return ClosedFormBackbone(random_state=0).fit(X, y, 3)


@settings(deadline=None, max_examples=25)
@given(st.floats(0.001, 0.9999), st.integers(0, 1000), st.integers(0, 2))
def test_noise_prediction_is_the_numerical_gradient_of_the_log_density(wine, alpha_bar, seed, k):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(3, 13, dtype=torch.float64, generator=generator)
    alpha_bar = torch.tensor(alpha_bar, dtype=torch.float64)
    noise = wine.predict(x, None, alpha_bar, torch.full((3,), k))
    step = 1e-5
    for j in range(13):
        shift = step * torch.eye(13, dtype=torch.float64)[j]
        ahead, behind = (wine.mixtures[k].log_density(x + s, alpha_bar) for s in (shift, -shift))
        score = (ahead - behind) / (2 * step)
        torch.testing.assert_close(
            noise[:, j], -(1 - alpha_bar).sqrt() * score, atol=1e-5, rtol=1e-5
        )


def test_density_is_that_of_full_covariances(wine):
    mixture = wine.mixtures[1]
    x = torch.randn(5, 13, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for alpha_bar in (1.0, 0.3):
        covariances = torch.einsum(
            "krf,kr,krg->kfg", mixture.bases, mixture.variances, mixture.bases
        )
        covariances += mixture.isotropic[:, None, None] * torch.eye(13)
        components = torch.distributions.MultivariateNormal(
            alpha_bar**0.5 * mixture.means,
            alpha_bar * covariances + (1 - alpha_bar) * torch.eye(13),
        )
        expected = torch.logsumexp(mixture.weights.log() + components.log_prob(x[:, None]), dim=1)
        torch.testing.assert_close(mixture.log_density(x, alpha_bar), expected)


def test_samples_follow_the_mixture_ever_more_closely():
    """Mean and covariance against those of the mixture, at 10, 100 and 1,000 steps."""
    generator = torch.Generator().manual_seed(0)
    bases, _ = torch.linalg.qr(torch.randn(2, 6, 2, dtype=torch.float64, generator=generator))
    mixture = GaussianMixtureScore(
        weights=torch.tensor([0.3, 0.7], dtype=torch.float64),
        means=torch.randn(2, 6, dtype=torch.float64, generator=generator),
        bases=bases.mT.contiguous(),
        variances=torch.tensor([[1.0, 0.4], [0.6, 0.2]], dtype=torch.float64),
        isotropic=torch.tensor([0.1, 0.2], dtype=torch.float64),
    )
    backbone = ClosedFormBackbone()
    backbone.mixtures = [mixture]
    mean = mixture.weights @ mixture.means
    covariance = torch.einsum(
        "k,krf,kr,krg->fg", mixture.weights, mixture.bases, mixture.variances, mixture.bases
    )
    covariance += mixture.weights @ mixture.isotropic * torch.eye(6)
    deviations = mixture.means - mean
    covariance += torch.einsum("k,kf,kg->fg", mixture.weights, deviations, deviations)

    n, errors = 40_000, []
    for steps in (10, 100, 1000):
        scheduler = make_scheduler("DDIMScheduler", backbone.default_scheduler)
        scheduler.set_timesteps(steps)
        x = torch.randn(n, 6, dtype=torch.float64, generator=generator)
        labels = torch.zeros(n, dtype=torch.int64)
        z = denoise(backbone, x, labels, scheduler, BatchedCalls(n))
        directions = torch.linalg.eigh(covariance)[1]
        variances = (z @ directions).var(0) / torch.diag(directions.T @ covariance @ directions)
        errors.append(float((variances - 1).abs().max()))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.05
    assert torch.linalg.vector_norm(z.mean(0) - mean) < 0.05
    assert torch.linalg.matrix_norm(z.T.cov() - covariance) < 0.05 * torch.linalg.matrix_norm(
        covariance
    )


def test_the_closed_form_does_not_hand_back_training_rows():
    X, y = load_iris(return_X_y=True)
    backbone = ClosedFormBackbone(random_state=0).fit(X, y, 3)
    Z = torch.from_numpy(backbone.encode(X))
    scheduler = make_scheduler(None, backbone.default_scheduler)
    scheduler.set_timesteps(200)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(150, 4, dtype=torch.float64, generator=generator)
    labels = torch.from_numpy(y)
    generators = [torch.Generator().manual_seed(i) for i in range(150)]
    samples = denoise(backbone, x, labels, scheduler, calls, generators=generators)
    to_real = torch.cdist(samples, Z).min(dim=1).values
    between_real = torch.cdist(Z, Z).fill_diagonal_(torch.inf).min(dim=1).values
    assert to_real.median() > between_real.median()
    assert (to_real > 0.01).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_closed_form_computes_in_the_precision_of_its_input(dtype):
    X, y = load_iris(return_X_y=True)
    backbone = ClosedFormBackbone(random_state=0).fit(X.astype(dtype), y, 3)
    z = backbone.encode(X.astype(dtype))
    noise = backbone.predict(
        torch.from_numpy(z), None, torch.tensor(0.5, dtype=torch.float64), torch.from_numpy(y)
    )
    assert z.dtype == dtype
    assert noise.numpy().dtype == dtype
    assert backbone.decode(torch.from_numpy(z)).dtype == dtype
    np.testing.assert_allclose(backbone.decode(torch.from_numpy(z)), X, rtol=1e-5)


def test_images_keep_the_geometry_of_their_pixels():
    digits = load_digits()
    x = digits.images[:200, None] / 8.0 - 1.0
    backbone = ClosedFormBackbone(random_state=0).fit(x, digits.target[:200], 10)
    z = backbone.encode(x)
    pixels = x.reshape(200, -1)
    ratios = np.linalg.norm(z[1:] - z[0], axis=1) / np.linalg.norm(pixels[1:] - pixels[0], axis=1)
    np.testing.assert_allclose(ratios, ratios[0])
    np.testing.assert_allclose(backbone.decode(torch.from_numpy(z)), x, atol=1e-12)


@pytest.mark.parametrize("rows", [1, 2])
def test_classes_of_one_or_identical_rows_have_a_finite_score(rows):
    X = np.concatenate([np.full((rows, 3), 2.0), np.random.default_rng(0).normal(size=(30, 3))])
    backbone = ClosedFormBackbone(random_state=0).fit(X, np.array([0] * rows + [1] * 30), 2)
    for alpha_bar in (1e-4, 0.5, 0.9999):
        noise = backbone.predict(
            torch.zeros(2, 3, dtype=torch.float64),
            None,
            torch.tensor(alpha_bar, dtype=torch.float64),
            torch.tensor([0, 1]),
        )
        assert torch.isfinite(noise).all()


def test_constant_features_come_back_unchanged():
    X = np.random.default_rng(0).normal(size=(40, 3))
    X[:, 1] = 7.0
    backbone = ClosedFormBackbone(random_state=0).fit(X, np.zeros(40, int), 1)
    decoded = backbone.decode(torch.randn(5, 3, dtype=torch.float64))
    assert (decoded[:, 1] == 7.0).all()


def test_classifier_free_guidance_of_the_closed_form_extrapolates(wine):
    x = torch.randn(4, 13, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 0])
    alpha_bar = torch.tensor(0.4, dtype=torch.float64)
    at = {s: wine.predict(x, None, alpha_bar, labels, s) for s in (0.0, 1.0, 3.0)}
    marginal = -(1 - alpha_bar).sqrt() * wine.marginal.score(x, alpha_bar)
    torch.testing.assert_close(at[0.0], marginal)
    torch.testing.assert_close(at[3.0], at[0.0] + 3.0 * (at[1.0] - at[0.0]))


def test_a_folder_loads_and_knows_its_shapes(dit_folder):
    backbone = DiTBackbone(dit_folder)
    assert backbone.latent_shape == (4, 4, 4)
    assert backbone.image_shape == (1, 8, 8)
    assert backbone.n_classes == 3
    assert backbone.guidance_scale == 4.0
    x = np.random.default_rng(0).uniform(-1, 1, (5, 1, 8, 8)).astype(np.float32)
    z = backbone.encode(x, calls)
    assert z.shape == (5, 4, 4, 4)
    assert backbone.decode(torch.from_numpy(z), calls).shape == x.shape
    mode = backbone.vae.encode(torch.from_numpy(x)).latent_dist.mode()
    np.testing.assert_allclose(z, 0.5 * mode, atol=1e-6)


def test_a_folder_may_name_its_guidance_scale(dit_folder):
    index = json.loads((dit_folder / "model_index.json").read_text())
    (dit_folder / "model_index.json").write_text(json.dumps({**index, "guidance_scale": 1.5}))
    assert DiTBackbone(dit_folder).guidance_scale == 1.5


def test_classifier_free_guidance_uses_the_models_own_null_class(dit_folder):
    backbone = DiTBackbone(dit_folder)
    x = torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    labels, t = torch.tensor([0, 1, 2]), torch.tensor(500)
    null = torch.full((3,), 3)
    conditional = backbone.predict(x, t, None, labels, 1.0)
    unconditional = backbone.predict(x, t, None, null, 1.0)
    guided = backbone.predict(x, t, None, labels, 2.5)
    torch.testing.assert_close(guided, unconditional + 2.5 * (conditional - unconditional))
    assert not torch.allclose(conditional, unconditional)


def test_a_learned_variance_is_the_conditional_one(tmp_path):
    backbone = DiTBackbone(write_dit_folder(tmp_path / "dit", learned_variance=True))
    x = torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    labels, t = torch.tensor([0, 1, 2]), torch.tensor(500)
    output = backbone.predict(x, t, None, labels, 2.5)
    assert output.shape == (3, 8, 4, 4)
    torch.testing.assert_close(output[:, 4:], backbone.predict(x, t, None, labels, 1.0)[:, 4:])


@pytest.mark.parametrize("name", ["DDPMScheduler", "DDIMScheduler", "UniPCMultistepScheduler"])
def test_a_learned_variance_serves_ddpm_and_is_dropped_elsewhere(tmp_path, name):
    backbone = DiTBackbone(write_dit_folder(tmp_path / "dit", learned_variance=True))
    scheduler = make_scheduler(name, backbone.default_scheduler)
    scheduler.set_timesteps(4)
    variances = []
    if name == "DDPMScheduler":
        plain = scheduler._get_variance

        def watched(t, predicted_variance=None, variance_type=None):
            variances.append(predicted_variance)
            return plain(t, predicted_variance, variance_type)

        scheduler._get_variance = watched
    generators = [torch.Generator().manual_seed(i) for i in range(2)]
    x = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    z = denoise(backbone, x, torch.tensor([0, 1]), scheduler, calls, generators=generators)
    assert z.shape == x.shape
    assert all(v is not None for v in variances)
    assert bool(variances) == (name == "DDPMScheduler")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_network_may_be_narrow_while_latents_are_not(dit_folder, dtype):
    wide, narrow = DiTBackbone(dit_folder), DiTBackbone(dit_folder, dtype)
    x = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    labels, t = torch.tensor([0, 1]), torch.tensor(10)
    noise = narrow.predict(x, t, None, labels, 1.5)
    assert noise.dtype == torch.float32
    torch.testing.assert_close(noise, wide.predict(x, t, None, labels, 1.5), atol=0.1, rtol=0.1)


class TestClassIndices:
    def indices(self, folder, classes, class_map=None, **options):
        backbone = DiTBackbone(write_dit_folder(folder / "dit", **options))
        return backbone.class_indices(np.array(classes), class_map).tolist()

    def test_names_are_matched(self, tmp_path):
        names = ["tench, Tinca tinca", "goldfish", "shark"]
        classes = ["Tinca tinca", "goldfish", "tench"]
        assert self.indices(tmp_path, classes, names=names) == [0, 1, 0]

    def test_whole_names_come_before_synonyms(self, tmp_path):
        names = ["cat, dog", "dog", "fox, "]
        assert self.indices(tmp_path, names, names=names) == [0, 1, 2]

    def test_a_name_of_two_classes_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match=r"'crane'.* 2 classes .*: 0, 2. Give class_map=.'a':"):
            self.indices(tmp_path, ["a"], {"a": "crane"}, names=["crane", "b", "crane"])

    def test_integers_are_names_where_there_are_any(self, tmp_path):
        assert self.indices(tmp_path, [5, 7], names=["7", "6", "5"]) == [2, 0]

    def test_integers_are_indices_where_there_are_no_names(self, tmp_path):
        assert self.indices(tmp_path, [0, 2]) == [0, 2]

    def test_numpy_integers_are_indices_too(self, tmp_path):
        assert self.indices(tmp_path, ["a"], {"a": np.int64(2)}, names=["x", "y", "z"]) == [2]

    def test_a_map_gives_indices_or_names(self, tmp_path):
        names = ["tench", "goldfish", "shark"]
        assert self.indices(tmp_path, ["a", "b"], {"a": 2, "b": "tench"}, names=names) == [2, 0]

    @pytest.mark.parametrize(
        ("classes", "class_map", "match"),
        [
            (["a"], None, "class 'a' of y is to be 'a', which .* does not know"),
            ([3], None, "class 3 of y"),
            ([0], {0: 7}, "class 0 of y is to be 7"),
            ([0], {0: "whale"}, "class 0 of y is to be 'whale'"),
            ([0, 1], {0: 1}, "class_map says nothing of the class 1"),
            ([0], {0: 1, 5: 2}, "class_map names 5, which is not in y"),
        ],
    )
    def test_what_the_model_does_not_know_is_refused(self, tmp_path, classes, class_map, match):
        with pytest.raises(ValueError, match=match):
            self.indices(tmp_path, classes, class_map)


class TestBadFolders:
    def test_pickled_weights_are_not_loaded(self, dit_folder):
        path = dit_folder / "transformer" / "diffusion_pytorch_model.safetensors"
        path.rename(path.with_suffix(".bin"))
        with pytest.raises(
            ValueError, match=r"only pickled weights \(diffusion.*\.bin\).*revision"
        ):
            DiTBackbone(dit_folder)

    def test_damaged_weights_are_named(self, dit_folder):
        path = dit_folder / "vae" / "diffusion_pytorch_model.safetensors"
        path.write_bytes(path.read_bytes()[:1000])
        with pytest.raises(ValueError, match="weights in '.*vae' cannot be read"):
            DiTBackbone(dit_folder)

    def test_weights_that_would_be_made_up_are_named(self, dit_folder):
        path = dit_folder / "vae" / "diffusion_pytorch_model.safetensors"
        weights = load_file(path)
        del weights["decoder.conv_out.bias"]
        save_file(weights, path)
        with pytest.raises(
            ValueError, match=r"vae' .*'decoder.conv_out.bias' is missing, one of 1"
        ):
            DiTBackbone(dit_folder)

    def test_variants_of_weights_are_not_loaded(self, dit_folder):
        path = dit_folder / "vae" / "diffusion_pytorch_model.safetensors"
        path.rename(path.with_suffix(".fp16.safetensors"))
        with pytest.raises(ValueError, match=r"only variants of weights \(.*fp16.safetensors\) in"):
            DiTBackbone(dit_folder)

    def test_a_scheduler_that_diffusers_does_not_have_is_named(self, dit_folder):
        path = dit_folder / "scheduler" / "scheduler_config.json"
        path.write_text(json.dumps({"_class_name": "DiffusionPipeline"}))
        with pytest.raises(ValueError, match=r"names a scheduler 'DiffusionPipeline', which diff"):
            DiTBackbone(dit_folder)

    @pytest.mark.parametrize(
        ("file", "key", "value", "match"),
        [
            ("model_index.json", "id2label", ["a"], "id2label in .* must map"),
            ("model_index.json", "id2label", {"x": "a"}, "id2label in .* must map"),
            ("model_index.json", "guidance_scale", "abc", "model_index.json' has a value_range or"),
            ("model_index.json", "guidance_scale", float("nan"), "guidance_scale=nan must be fin"),
            ("model_index.json", "value_range", 5, "value_range must be .* got 5"),
            ("model_index.json", "value_range", [1, 0], "value_range must be"),
            ("transformer/config.json", "num_layers", "a", "weights in .* cannot be read"),
            ("scheduler/scheduler_config.json", "beta_schedule", "x", "configures no DDPM"),
            ("scheduler/scheduler_config.json", "num_train_timesteps", "x", "configures no"),
        ],
    )
    def test_values_that_cannot_be_used_are_named(self, dit_folder, file, key, value, match):
        path = dit_folder / file
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
        with pytest.raises(ValueError, match=match):
            DiTBackbone(dit_folder)

    @pytest.mark.parametrize("part", ["vae", "transformer"])
    def test_weights_that_are_not_finite_are_named(self, dit_folder, part):
        path = dit_folder / part / "diffusion_pytorch_model.safetensors"
        weights = load_file(path)
        name = sorted(weights)[-1]
        weights[name] = weights[name] * float("nan")
        save_file(weights, path)
        with pytest.raises(ValueError, match=f"{part}' cannot be used: '{name}' has values"):
            DiTBackbone(dit_folder)

    def test_networks_that_do_not_belong_together_are_refused(self, dit_folder):
        vae = diffusers.AutoencoderKL(latent_channels=3, norm_num_groups=8, block_out_channels=(8,))
        vae.save_pretrained(dit_folder / "vae")
        with pytest.raises(ValueError, match="takes 4 channels, but latents have 3"):
            DiTBackbone(dit_folder)

    @pytest.mark.parametrize("part", ["vae", "transformer", "scheduler"])
    def test_a_missing_part_is_named(self, dit_folder, part):
        shutil.rmtree(dit_folder / part)
        with pytest.raises(ValueError, match=f"has no {part}"):
            DiTBackbone(dit_folder)

    def test_another_architecture_is_refused(self, dit_folder):
        path = dit_folder / "transformer" / "config.json"
        config = json.loads(path.read_text())
        path.write_text(json.dumps({**config, "_class_name": "UNet2DModel"}))
        with pytest.raises(ValueError, match="holds a UNet2DModel in transformer"):
            DiTBackbone(dit_folder)


def test_a_folder_comes_before_the_hub(dit_folder):
    assert find_backbone(dit_folder) == dit_folder
    assert find_backbone(str(dit_folder)) == dit_folder


def test_shipped_names_are_found():
    for name in shipped_backbones():
        assert (find_backbone(name) / "model_index.json").is_file()


@pytest.mark.parametrize("name", ["nonsense", "/no/such/folder", "./here", "a/b/c", ""])
def test_a_missing_backbone_is_refused_with_the_choices(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"neither 'closed-form', nor shipped"):
        find_backbone(name)


def test_only_hub_ids_have_revisions(dit_folder):
    for backbone, kind in (("digits", "shipped"), (dit_folder, "a folder")):
        with pytest.raises(ValueError, match=f"revision='v2' is for a hub id .* is {kind} and"):
            find_backbone(backbone, revision="v2")


def test_a_hub_id_out_of_reach_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="as a hub id it could not be had") as raised:
        find_backbone("nobody/nothing", local_files_only=True)
    assert "\n" not in str(raised.value)


def test_of_a_hub_id_only_what_is_loaded_is_fetched(dit_folder, monkeypatch):
    """The network is the one thing that is mocked."""
    asked = {}
    published = [
        *(str(path.relative_to(dit_folder)) for path in dit_folder.rglob("*") if path.is_file()),
        "vae/diffusion_pytorch_model.bin",
        "vae/diffusion_pytorch_model.fp16.safetensors",
        "transformer/diffusion_pytorch_model-00001-of-00002.safetensors",
        "DiT-XL-2-256.safetensors",
        "safety_checker/model.safetensors",
        "vae/model.py",
    ]

    def download(name, **options):
        asked.update(options, name=name)
        return str(dit_folder)

    monkeypatch.setattr("skdistill.backbones.folder.snapshot_download", download)
    assert find_backbone("facebook/DiT-XL-2-256", revision="refs/pr/1") == dit_folder
    assert asked["name"] == "facebook/DiT-XL-2-256"
    assert asked["revision"] == "refs/pr/1"
    fetched = filter_repo_objects(published, allow_patterns=asked["allow_patterns"])
    assert sorted(fetched) == [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "transformer/config.json",
        "transformer/diffusion_pytorch_model-00001-of-00002.safetensors",
        "transformer/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ]


@pytest.mark.slow
def test_the_architecture_of_dit_xl_2_takes_one_guided_step(tmp_path):
    """facebook/DiT-XL-2-256 by its configuration, at random weights."""
    from skdistill.guidance import Guidance, PreparedTangents, Targets

    torch.manual_seed(0)
    with torch.device("cpu"):
        transformer = diffusers.DiTTransformer2DModel(
            num_attention_heads=16,
            attention_head_dim=72,
            in_channels=4,
            out_channels=8,
            num_layers=28,
            sample_size=32,
            patch_size=2,
            num_embeds_ada_norm=1000,
        )
    vae = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
    )
    transformer.half().save_pretrained(tmp_path / "transformer")
    vae.half().save_pretrained(tmp_path / "vae")
    diffusers.DDPMScheduler(variance_type="learned_range").save_pretrained(tmp_path / "scheduler")
    del transformer, vae

    backbone = DiTBackbone(tmp_path, dtype="bfloat16")
    assert backbone.image_shape == (3, 256, 256)
    assert backbone.latent_shape == (4, 32, 32)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 4, 32, 32, generator=generator)
    basis, _ = torch.linalg.qr(torch.randn(1, 4096, 3, generator=generator))
    planes = PreparedTangents(torch.zeros(1, 1, 4096), basis.mT[None])
    targets = Targets(torch.randn(1, 4096, generator=generator), torch.ones(1), planes)
    scheduler = make_scheduler(None, backbone.default_scheduler)
    scheduler.set_timesteps(50)
    scheduler.timesteps = scheduler.timesteps[:1]

    def one_step(strength):
        return denoise(
            backbone,
            x,
            torch.tensor([207]),
            scheduler,
            calls,
            guidance=Guidance(strength=strength),
            targets=targets,
            generators=[torch.Generator().manual_seed(1)],
        )

    moved = (one_step(1.0) - one_step(0.0)).flatten(1)
    assert moved.norm() > 0
    # The step moved within the tangent space and nowhere else.
    inside = moved @ basis[0] @ basis[0].T
    assert (moved - inside).norm() < 1e-3 * moved.norm()
