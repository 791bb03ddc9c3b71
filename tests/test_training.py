import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch
from diffusers.models.embeddings import LabelEmbedding
from safetensors.torch import load_file
from sklearn.svm import SVC
from torch.nn import Dropout

import skdistill
from skdistill.datasets import load_digits_split
from skdistill.pixels import from_networks, to_networks
from skdistill.training import checkpoint_folder, loop, pretrain
from skdistill.training.dit import dit_loss, make_dit
from skdistill.training.vae import encode as encode_views
from skdistill.training.vae import fold_scale, make_vae, vae_loss

TINY = {"vae_width": 8, "width": 32, "depth": 1, "batch_size": 16, "device": "cpu"}
SHORT = TINY | {"vae_steps": 20, "steps": 60, "checkpoint_every": 5}
DIGITS = Path(skdistill.__file__).parent / "weights" / "digits"
WEIGHTS = "diffusion_pytorch_model.safetensors"


def load(folder):
    vae = diffusers.AutoencoderKL.from_pretrained(folder / "vae", low_cpu_mem_usage=False)
    dit = diffusers.DiTTransformer2DModel.from_pretrained(
        folder / "transformer", low_cpu_mem_usage=False
    )
    return vae.eval(), dit.eval()


@torch.no_grad()
def encode(vae, X, value_range):
    x = torch.from_numpy(to_networks(X, value_range))
    return vae.config.scaling_factor * vae.encode(x).latent_dist.mode()


@torch.no_grad()
def decode(vae, z, value_range):
    x = vae.decode(z / vae.config.scaling_factor).sample.numpy()
    return from_networks(x, value_range, shape=(8, 8), dtype=np.float64)


@pytest.fixture(scope="module")
def trained(small_images, tmp_path_factory):
    """A backbone after a minute's fraction of training, on bytes with string labels."""
    X, y = small_images
    names = np.array(["zero", "one", "two"])[y]
    out = tmp_path_factory.mktemp("trained") / "backbone"
    settings = TINY | {"vae_steps": 300, "steps": 150, "guidance_scale": 2.5}
    return pretrain(X, names, out, **settings, data="three digits", license="CC0-1.0")


def test_the_folder_is_what_diffusers_and_its_readers_expect(trained):
    files = {path.relative_to(trained).as_posix() for path in trained.rglob("*") if path.is_file()}
    assert files == {
        "README.md",
        "model_index.json",
        "training.json",
        "scheduler/scheduler_config.json",
        "transformer/config.json",
        f"transformer/{WEIGHTS}",
        "vae/config.json",
        f"vae/{WEIGHTS}",
    }
    assert os.listdir(trained.parent) == ["backbone"]
    pipeline = diffusers.DiTPipeline.from_pretrained(trained, low_cpu_mem_usage=False)
    assert isinstance(pipeline.scheduler, diffusers.DDIMScheduler)
    assert not pipeline.scheduler.config.clip_sample
    # What the loss teaches; see the tests of it.
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    assert pipeline.transformer.config.num_embeds_ada_norm == 3
    assert pipeline.get_label_ids(["one", "two", "zero"]) == [0, 1, 2]
    index = json.loads((trained / "model_index.json").read_text())
    assert index["guidance_scale"] == 2.5
    assert index["value_range"] == [0.0, 255.0]


def test_weights_are_in_half_precision(trained):
    for part in ("vae", "transformer"):
        tensors = load_file(trained / part / WEIGHTS)
        assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}


def test_the_card_says_what_was_done(trained):
    card = (trained / "README.md").read_text()
    assert "three digits" in card
    assert "CC0-1.0" in card
    assert "40 of shape 8 x 8 in 3 classes" in card
    assert "pretrain(X, y, out, steps=150" in card


def test_latents_have_zero_mean_and_unit_variance_in_every_channel(trained, small_images):
    vae, _ = load(trained)
    z = encode(vae, small_images[0], (0.0, 255.0)).transpose(0, 1).flatten(1)
    torch.testing.assert_close(z.mean(1), torch.zeros(4), atol=0.01, rtol=0)
    torch.testing.assert_close(z.std(1), torch.ones(4), atol=0.01, rtol=0)


def test_losses_fall_and_reconstructions_are_as_recorded(trained, small_images):
    log = json.loads((trained / "training.json").read_text())
    assert np.mean(log["vae"]["loss"][-5:]) < 0.3 * np.mean(log["vae"]["loss"][:5])
    assert np.mean(log["dit"]["loss"][-20:]) < 0.95 * np.mean(log["dit"]["loss"][:20])
    X = small_images[0]
    vae, _ = load(trained)
    decoded = decode(vae, encode(vae, X, (0.0, 255.0)), (0.0, 255.0))
    rmse = np.sqrt(np.square(decoded - X).mean())
    assert rmse == pytest.approx(log["reconstruction_rmse"], rel=1e-2)
    assert rmse < 0.4 * X.std()


def test_finished_training_is_not_repeated(trained, small_images):
    X, y = small_images
    names = np.array(["zero", "one", "two"])[y]
    settings = TINY | {"vae_steps": 300, "steps": 150, "guidance_scale": 2.5}
    before = (trained / "training.json").stat().st_mtime_ns
    # As of a run that was killed just before it would have removed this.
    left = checkpoint_folder(trained)
    left.mkdir()
    (left / "run.json").touch()
    assert pretrain(X, names, trained, **settings) == trained
    assert not left.exists()
    assert (trained / "training.json").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="other settings .steps=150 there, 151 here"):
        pretrain(X, names, trained, **settings | {"steps": 151})
    with pytest.raises(ValueError, match="on other data"):
        pretrain(X[::-1], names[::-1], trained, **settings)


@pytest.mark.parametrize("content", ['{"a": 1}', "[]", "{", '{"data": 1, "settings": 2}'])
def test_a_record_of_something_else_is_named(small_images, tmp_path, content):
    (tmp_path / "training.json").write_text(content)
    with pytest.raises(ValueError, match=r"training.json' is .* not written by a training"):
        pretrain(*small_images, tmp_path, **TINY)


def test_a_folder_of_something_else_is_left_alone(small_images, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="exists and holds no backbone"):
        pretrain(*small_images, tmp_path, **SHORT)
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_a_killed_run_goes_on_to_the_same_weights_and_losses(small_images, tmp_path):
    X, y = small_images
    np.savez(tmp_path / "images.npz", X=X, y=y)
    out = tmp_path / "killed"
    script = (
        "import numpy as np; from skdistill.training import pretrain; "
        f"images = np.load({str(tmp_path / 'images.npz')!r}); "
        f"pretrain(images['X'], images['y'], {str(out)!r}, **{SHORT | {'dropout': 0.1}!r})"
    )
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    for stage in ("vae", "dit"):
        process = subprocess.Popen([sys.executable, "-c", script], env=environment)
        checkpoint = tmp_path / "killed.partial" / f"{stage}.safetensors"
        while not checkpoint.exists():
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not out.exists()
    with pytest.raises(ValueError, match=r"killed.partial holds .*dropout=0.1 there, 0.0 here"):
        pretrain(X, y, out, **SHORT)
    pretrain(X, y, out, **SHORT, dropout=0.1)
    whole = pretrain(X, y, tmp_path / "whole", **SHORT, dropout=0.1)
    for part in ("vae", "transformer"):
        tensors, expected = (load_file(folder / part / WEIGHTS) for folder in (out, whole))
        torch.testing.assert_close(tensors, expected, rtol=1e-3, atol=1e-4)
    log, expected = (json.loads((folder / "training.json").read_text()) for folder in (out, whole))
    for stage in ("vae", "dit"):
        np.testing.assert_allclose(log[stage]["loss"], expected[stage]["loss"], rtol=1e-3)


def test_a_tenth_of_the_labels_is_dropped_and_the_others_are_the_images_own():
    torch.manual_seed(0)
    labels = np.arange(200) % 2
    # Far beyond the noise at every timestep, so that the sign tells the class.
    latents = torch.from_numpy(np.where(labels, 1e6, -1e6)).float()[None, :, None, None, None]
    given = []

    class Recorder:
        config = SimpleNamespace(num_embeds_ada_norm=2)

        def __call__(self, z, t, condition):
            given.append(torch.stack([(z.flatten() > 0).long(), condition]))
            return SimpleNamespace(sample=torch.zeros_like(z))

    scheduler = diffusers.DDIMScheduler(beta_schedule="squaredcos_cap_v2")
    loss = dit_loss(Recorder(), latents, labels, scheduler, {"batch_size": 100})
    for _ in range(100):
        loss()
    own, condition = torch.cat(given, dim=1)
    dropped = condition == 2
    assert dropped.float().mean() == pytest.approx(0.1, abs=0.015)
    assert own[dropped].float().mean() == pytest.approx(0.5, abs=0.1)
    assert torch.equal(own[~dropped], condition[~dropped])


def test_labels_are_dropped_once_a_sample_in_a_run(small_images, tmp_path, monkeypatch):
    conditions = []
    embed = LabelEmbedding.forward

    def forward(self, labels, force_drop_ids=None):
        assert not self.training, "the model would drop labels once more"
        conditions.append(labels.clone())
        return embed(self, labels, force_drop_ids)

    monkeypatch.setattr(LabelEmbedding, "forward", forward)
    pretrain(*small_images, tmp_path / "out", **SHORT | {"vae_steps": 1, "depth": 2}, verbose=0)
    counts = torch.bincount(torch.cat(conditions), minlength=4)
    assert len(counts) == 4
    assert counts.min() > 0
    assert 0.05 < counts[3] / counts.sum() < 0.15
    # Both blocks of a step see the same labels; diffusers embeds them again for the output.
    by_step = torch.stack(conditions).reshape(SHORT["steps"], -1, 16)
    assert (by_step == by_step[:, :1]).all()


def test_what_is_written_is_the_moving_average(small_images, tmp_path, monkeypatch):
    history = []
    save = loop._save

    def save_and_record(path, progress, model, *rest):
        if path.stem == "dit":
            history.append(model.proj_out_2.weight.detach().clone())
        save(path, progress, model, *rest)

    monkeypatch.setattr(loop, "_save", save_and_record)
    # So that the last checkpoint can be read.
    monkeypatch.setattr(shutil, "rmtree", lambda folder: None)
    settings = SHORT | {"vae_steps": 8, "steps": 8, "checkpoint_every": 1, "learning_rate": 0.03}
    out = pretrain(*small_images, tmp_path / "out", **settings, verbose=0)

    # These weights start at zero, and step k keeps k / (k + 9) of the average.
    expected = torch.zeros_like(history[0])
    for k, weights in enumerate(history, start=1):
        expected = k / (k + 9) * expected + 9 / (k + 9) * weights
    written = load_file(out / "transformer" / WEIGHTS)
    assert (history[-1] - expected).abs().max() > 1e-4
    torch.testing.assert_close(written["proj_out_2.weight"].float(), expected, rtol=1e-3, atol=1e-6)
    for stage, part, names in (
        ("dit", "transformer", list(written)),
        # Scale and shift of the latents are folded into the two convolutions beside them.
        ("vae", "vae", ["encoder.conv_in.weight", "decoder.conv_out.weight"]),
    ):
        tensors = load_file(checkpoint_folder(out) / f"{stage}.safetensors")
        written = load_file(out / part / WEIGHTS)
        for name in names:
            assert torch.equal(written[name], tensors[f"average.{name}"].half()), name
        assert any(
            not torch.equal(written[name], tensors[f"model.{name}"].half()) for name in names
        )


def test_divergence_is_told_and_other_settings_may_follow(small_images, tmp_path):
    X, y = small_images
    out = tmp_path / "backbone"
    with pytest.raises(FloatingPointError, match="vae diverged before step 5; .* learning_rate"):
        pretrain(X, y, out, **SHORT, learning_rate=1e30)
    assert not out.exists()
    assert pretrain(X, y, out, **SHORT | {"steps": 1}) == out


def test_colour_images_flips_and_the_callers_random_state(tmp_path):
    X = np.random.default_rng(0).random((12, 12, 12, 3), dtype=np.float32)
    y = np.arange(12) % 2
    state = torch.get_rng_state()
    out = pretrain(X, y, tmp_path / "new" / "colour", **SHORT | {"steps": 3}, flip=True)
    assert torch.equal(torch.get_rng_state(), state)
    vae, dit = load(out)
    assert encode(vae, X, (0.0, 1.0)).shape == (12, 8, 6, 6)
    assert dit.config.in_channels == 8
    assert (dit.config.sample_size, dit.config.patch_size) == (6, 1)


X, Y = np.arange(256.0).reshape(4, 8, 8), [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("X", "y", "settings", "message"),
    [
        ([], [], {}, "X is empty"),
        ([np.zeros((8, 8)), np.zeros((9, 9))], [0, 0], {}, r"one shape, got 2: \(8, 8\), \(9, 9\)"),
        (X.reshape(4, 64), Y, {}, r"got \(4, 64\)"),
        (np.zeros((4, 8, 6)), Y, {}, "to a square"),
        (X.astype(str), Y, {}, "must hold numbers"),
        (np.full((4, 8, 8), np.nan), Y, {}, "X contains NaN"),
        (X, [0, 0, 1], {}, "one label for each of the 4 images"),
        (X, [0, 0, 1, 2], {}, "two images a class, class 1 has one"),
        (X, [0, 0, np.nan, np.nan], {}, "y contains NaN"),
        (X, [0, 0, "a", None], {}, "y must hold labels of one type, got NoneType, int, str"),
        (X[:, :0, :0], Y, {}, "at least one pixel"),
        (X[[0, 0, 0, 0]], Y, {}, "all 4 are the same"),
        (X[:, :7, :7], Y, {}, "downsamplings=1 needs an image size .* of 2, got 7 x 7"),
        (X, Y, {"patch_size": 3}, "patch_size=3 must divide the size of the latents, 4"),
        (X, Y, {"width": 100}, "width must be a multiple of 32, got 100"),
        (X, Y, {"vae_width": 12}, "vae_width must be a multiple of 8, got 12"),
        (X, Y, {"steps": 0}, "'steps' parameter"),
        (X, Y, {"guidance_scale": 0.5}, "'guidance_scale' parameter"),
        (X, Y, {"value_range": (1, 0)}, "value_range must be"),
        (X, Y, {"random_state": None}, "'random_state' parameter"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(X, y, settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        pretrain(X, y, tmp_path / "backbone", **settings)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("out", ["digits", "./fashion", Path("cifar10")])
def test_the_name_of_a_shipped_backbone_is_refused(out, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="is the name of a shipped backbone"):
        pretrain(X, Y, out, **TINY)
    with pytest.raises(ValueError, match=r"out='.' must name a folder"):
        pretrain(X, Y, "", **TINY)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_followed(there, tmp_path, small_images):
    if there:
        (tmp_path / "large disk").mkdir()
    (tmp_path / "link").symlink_to("large disk", target_is_directory=True)
    settings = SHORT | {"vae_steps": 1, "steps": 1}
    # Which a name of a file may have in it on Linux.
    out = pretrain(*small_images, tmp_path / "link", **settings, data="caf\udce9")
    assert out == tmp_path / "link"
    assert sorted(os.listdir(tmp_path)) == ["large disk", "link"]
    assert (tmp_path / "large disk" / "model_index.json").exists()
    assert "caf\\udce9" in (out / "README.md").read_text(encoding="utf-8")


def test_values_outside_the_range_are_warned_of(tmp_path, small_images):
    settings = SHORT | {"vae_steps": 1, "steps": 1, "value_range": (0, 1)}
    with pytest.warns(UserWarning, match=r"\d\d% of the values of X lie outside value_range=\(0"):
        pretrain(*small_images, tmp_path / "out", **settings)


def test_checkpoints_that_are_of_no_use_are_named(tmp_path, small_images, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    out, partial = tmp_path / "out", tmp_path / "out.partial"
    with monkeypatch.context() as stopping:
        stopping.setattr("skdistill.training.run.make_dit", stop)
        with pytest.raises(KeyboardInterrupt):
            pretrain(*small_images, out, **SHORT)
    record, checkpoint = partial / "run.json", partial / "vae.safetensors"
    whole, described = checkpoint.read_bytes(), record.read_bytes()

    checkpoint.write_bytes(whole[:5000])
    with pytest.raises(ValueError, match=r"vae.safetensors' is damaged .*; remove it"):
        pretrain(*small_images, out, **SHORT)
    checkpoint.write_bytes(whole)
    record.unlink()
    with pytest.raises(ValueError, match=r"run.json' is missing"):
        pretrain(*small_images, out, **SHORT)
    # As if another run had begun in this folder before the first checkpoint of this one.
    record.write_bytes(described.replace(b'"random_state": 0', b'"random_state": 1'))
    with pytest.raises(ValueError, match=r"vae.safetensors' is of another run"):
        pretrain(*small_images, out, **SHORT, random_state=1)


def linear_vae():
    """A VAE of random weights whose latents are neither centred nor of unit variance."""
    torch.manual_seed(0)
    settings = {"downsamplings": 1, "latent_channels": 4, "vae_width": 8, "value_range": (0, 1)}
    X = np.random.default_rng(0).random((50, 8, 8))
    vae = make_vae(X, settings)
    with torch.no_grad():
        vae.quant_conv.weight *= torch.tensor([5.0, 1.0, 0.2, 9.0, 1.0, 1.0, 1.0, 1.0])[
            :, None, None, None
        ]
        vae.quant_conv.bias += torch.tensor([3.0, -2.0, 0.5, 10.0, 0.0, 1.0, -1.0, 0.5])
    return vae, X, settings


@torch.no_grad()
def test_folding_the_scale_changes_latents_and_nothing_else():
    vae, X, settings = linear_vae()
    x = torch.from_numpy(to_networks(X, (0, 1)))
    before = vae.encode(x).latent_dist
    decoded, axes = vae.decode(before.mean).sample, (0, 2, 3)
    std, mean = before.mean.std(axes, keepdim=True), before.mean.mean(axes, keepdim=True)
    assert (std - 1).abs().min() > 0.1
    fold_scale(vae, X, settings | {"flip": False})
    after = vae.encode(x).latent_dist
    # Up to the rounding of weights to half precision.
    close = {"rtol": 5e-3, "atol": 5e-2}
    torch.testing.assert_close(after.mean, (before.mean - mean) / std, **close)
    torch.testing.assert_close(after.std, before.std / std, **close)
    torch.testing.assert_close(vae.decode(after.mean).sample, decoded, **close)


def test_a_vae_whose_latents_do_not_vary_is_refused():
    vae, X, settings = linear_vae()
    with pytest.raises(FloatingPointError, match="The VAE does not fit half precision"):
        # Of one pixel each, so that they do not vary within an image either.
        fold_scale(vae, X[[0] * 10, :2, :2], settings | {"flip": False})


def test_the_loss_of_a_vae_is_the_squared_error_and_a_thousandth_of_the_divergence_a_pixel():
    X = np.random.default_rng(0).random((6, 4, 4))
    seen = []

    def encode_as_it_is(x):
        seen.append(x)
        kl = torch.full((len(x),), 32.0)
        return SimpleNamespace(latent_dist=SimpleNamespace(sample=lambda: x, kl=lambda: kl))

    vae = SimpleNamespace(
        device=torch.device("cpu"),
        encode=encode_as_it_is,
        decode=lambda z: SimpleNamespace(sample=z + 0.5),
    )
    settings = {"batch_size": 4, "value_range": (0, 1), "flip": True}
    loss = vae_loss(vae, X, settings)
    torch.manual_seed(0)
    for _ in range(20):
        assert loss().item() == pytest.approx(0.5**2 + 1e-3 * 32 / 16, rel=1e-4)
    images = to_networks(X, (0, 1))
    counts = np.zeros((2, 6))
    for x in torch.cat(seen).numpy():
        for mirrored, these in enumerate((images, images[..., ::-1])):
            counts[mirrored] += (these == x).all(axis=(1, 2, 3))
    assert counts.sum() == 80
    assert counts.min() > 0


@torch.no_grad()
def test_the_second_view_of_latents_is_that_of_mirrored_images():
    vae, X, settings = linear_vae()
    views = encode_views(vae, X, settings | {"flip": True})
    for view, images in zip(views, (X, X[:, :, ::-1]), strict=True):
        (expected,) = encode_views(vae, images, settings | {"flip": False})
        torch.testing.assert_close(view, expected)


def test_a_dit_that_predicts_the_velocity_has_no_loss_and_others_a_min_snr_one():
    scheduler = diffusers.DDIMScheduler(beta_schedule="squaredcos_cap_v2")
    alpha_bar, clean, seen = scheduler.alphas_cumprod, 1.5, []

    class Oracle:
        config = SimpleNamespace(num_embeds_ada_norm=1)
        error = 0.0

        def __call__(self, z, t, condition):
            seen.append(t)
            alpha, sigma = (
                level[:, None, None, None].sqrt() for level in (alpha_bar[t], 1 - alpha_bar[t])
            )
            noise = (z - alpha * clean) / sigma
            return SimpleNamespace(sample=alpha * noise - sigma * clean + self.error)

    oracle = Oracle()
    latents = torch.full((1, 1000, 1, 2, 2), clean)
    loss = dit_loss(oracle, latents, np.zeros(1000, int), scheduler, {"batch_size": 1000})
    torch.manual_seed(0)
    assert loss().item() == pytest.approx(0, abs=1e-6)
    # Each of the thousand once.
    assert sorted(seen[0].tolist()) == list(range(1000))
    oracle.error = 1.0
    snr = alpha_bar / (1 - alpha_bar)
    expected = (snr.clamp(max=5) / (snr + 1)).mean().item()
    assert loss().item() == pytest.approx(expected, rel=1e-4)


def test_a_dit_learns_of_both_views():
    signs = []

    class Recorder:
        config = SimpleNamespace(num_embeds_ada_norm=1)

        def __call__(self, z, t, condition):
            signs.append(z.flatten() > 0)
            return SimpleNamespace(sample=torch.zeros_like(z))

    # Far beyond the noise at every timestep.
    latents = torch.tensor([1e6, -1e6])[:, None, None, None, None].expand(2, 100, 1, 1, 1)
    scheduler = diffusers.DDIMScheduler(beta_schedule="squaredcos_cap_v2")
    loss = dit_loss(Recorder(), latents, np.zeros(100, int), scheduler, {"batch_size": 100})
    torch.manual_seed(0)
    for _ in range(10):
        loss()
    assert torch.cat(signs).float().mean() == pytest.approx(0.5, abs=0.05)


def test_dropout_reaches_the_blocks():
    latents = torch.zeros(1, 2, 4, 4, 4)
    settings = {"width": 32, "depth": 1, "patch_size": 1, "dropout": 0.25}
    dit = make_dit(latents, 2, settings)
    assert [m.p for m in dit.transformer_blocks[0].ff.modules() if isinstance(m, Dropout)] == [0.25]


def run_loop(values, folder, **settings):
    """Train one weight by given losses, or gradients; return the weight before every step."""
    weights, steps = [], iter(values)
    model = torch.nn.Linear(1, 1, bias=False)

    def loss():
        weights.append(model.weight.item())
        return next(steps)(model.weight.sum())

    settings = {"learning_rate": 0.01, "checkpoint_every": 10, "verbose": 0} | settings
    loop.train(model, loss, len(values), (0,), folder / "model.safetensors", run="", **settings)
    return np.array([*weights, model.weight.item()])


def test_adam_steps_by_the_rate_and_gradients_are_clipped(tmp_path, monkeypatch):
    # From zero, where the decay of weights is next to nothing.
    monkeypatch.setattr(torch.nn.init, "kaiming_uniform_", lambda w, *_, **__: w.data.zero_())
    steady = run_loop([lambda w: w] * 300, tmp_path)
    rates = [0.01 * loop._rate(step, 300) for step in range(300)]
    np.testing.assert_allclose(-np.diff(steady), rates, rtol=0.03)
    # Unclipped, one gradient of a million would leave no others in the mean of squares.
    (tmp_path / "model.safetensors").unlink()
    shaken = run_loop(
        [(lambda w: 1e6 * w) if step == 150 else (lambda w: w) for step in range(300)], tmp_path
    )
    np.testing.assert_allclose(np.diff(shaken), np.diff(steady), rtol=0.02)


@pytest.mark.parametrize("value", [50.0, np.nan, np.inf])
def test_a_loss_far_above_its_first_value_is_divergence(value, tmp_path):
    values = [1.0] * 10 + [value] * 10
    with pytest.raises(FloatingPointError, match="model diverged before step 20; .* than 0.01"):
        run_loop([lambda w, v=v: v + 0 * w for v in values], tmp_path)


def test_the_shipped_digits_are_small_and_say_where_they_come_from():
    files = [path for path in DIGITS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 3_500_000
    assert {path.suffix for path in files} == {".md", ".json", ".png", ".safetensors"}
    assert "skdistill pretrain digits --out" in (DIGITS / "README.md").read_text()
    log = json.loads((DIGITS / "training.json").read_text())
    assert log["data"]["shape"] == [1257, 8, 8]


def test_the_shipped_digits_reconstruct_images_they_never_saw():
    vae, _ = load(DIGITS)
    X_train, X_test, _, _ = load_digits_split()
    for X, share in ((X_train, 0.02), (X_test, 0.06)):
        decoded = decode(vae, encode(vae, X, (0, 16)), (0, 16))
        assert np.sqrt(np.square(decoded - X).mean()) < share * 16


@torch.no_grad()
def test_the_shipped_digits_are_drawn_in_their_class_and_are_no_copies():
    vae, dit = load(DIGITS)
    scheduler = diffusers.DDIMScheduler.from_pretrained(DIGITS / "scheduler")
    scheduler.set_timesteps(25)
    scale = json.loads((DIGITS / "model_index.json").read_text())["guidance_scale"]
    labels = torch.arange(10).repeat_interleave(20)
    both = torch.cat([labels, torch.full_like(labels, dit.config.num_embeds_ada_norm)])
    z = torch.randn(len(labels), 4, 4, 4, generator=torch.Generator().manual_seed(0))
    for t in scheduler.timesteps:
        with_label, without = dit(torch.cat([z, z]), t.expand(len(both)), both).sample.chunk(2)
        velocity = without + scale * (with_label - without)
        z = scheduler.step(velocity, t, z).prev_sample
    generated = decode(vae, z, (0, 16)).reshape(len(labels), 64)
    X, _, y, _ = load_digits_split()
    X = X.reshape(len(X), 64)
    agreement = SVC(gamma=0.001).fit(X, y).score(generated, labels.numpy())
    assert agreement >= 0.97
    distances = np.linalg.norm(generated[:, None] - X[None], axis=2)
    assert (distances.min(1) < 2.0).mean() < 0.02


@pytest.mark.parametrize("native", [False, True])
def test_training_is_in_half_precision_where_the_device_has_it(native, tmp_path, monkeypatch):
    monkeypatch.setattr("skdistill.training.loop.has_bfloat16", lambda device: native)
    model, dtypes = torch.nn.Linear(2, 1), []

    def loss():
        made = model(torch.ones(1, 2))
        dtypes.append(made.dtype)
        return made.float().square().mean()

    settings = {"run": "", "learning_rate": 1e-3, "checkpoint_every": 1, "verbose": 0}
    loop.train(model, loss, 1, (0, 1), tmp_path / "model.safetensors", **settings)
    assert dtypes == [torch.bfloat16 if native else torch.float32]


def test_the_learning_rate_rises_stays_and_falls_to_nothing():
    shares = np.array([loop._rate(step, 1000) for step in range(1000)])
    assert shares[0] == pytest.approx(0.01)
    assert np.all(np.diff(shares[:100]) > 0)
    assert np.all(shares[100:700] == 1.0)
    assert np.all(np.diff(shares[701:]) < 0)
    assert 0 < shares[-1] < 0.01
    assert all(0 < loop._rate(step, 3) <= 1.0 for step in range(3))
