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

import skdistill
from skdistill.datasets import load_digits_split
from skdistill.pixels import from_networks, to_networks
from skdistill.training import checkpoint_folder, loop, pretrain
from skdistill.training.dit import dit_loss

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
    assert pretrain(X, names, trained, **settings) == trained
    assert (trained / "training.json").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="other settings .steps=150 there, 151 here"):
        pretrain(X, names, trained, **settings | {"steps": 151})
    with pytest.raises(ValueError, match="on other data"):
        pretrain(X[::-1], names[::-1], trained, **settings)


@pytest.mark.parametrize("content", ['{"a": 1}', "[]", "{", '{"data": 1, "settings": 2}'])
def test_a_record_of_something_else_is_named(small_images, tmp_path, content):
    (tmp_path / "training.json").write_text(content)
    with pytest.raises(ValueError, match=r"training.json' was not written by a training"):
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

    def save_and_record(path, step, seconds, model, *rest):
        if path.stem == "dit":
            history.append(model.proj_out_2.weight.detach().clone())
        save(path, step, seconds, model, *rest)

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


X, Y = np.zeros((4, 8, 8)), [0, 0, 1, 1]


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

    settings = {"learning_rate": 1e-3, "checkpoint_every": 1, "verbose": 0}
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
