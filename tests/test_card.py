import json
import shutil
from pathlib import Path

import diffusers
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from skdistill.backbones import (
    DiTBackbone,
    describe_backbone,
    folder,
    shipped_backbones,
    write_card,
)
from skdistill.backbones.folder import WEIGHTS


@pytest.fixture
def digits(tmp_path):
    """A copy of the shipped backbone that a test may change."""
    return Path(shutil.copytree(WEIGHTS / "digits", tmp_path / "digits"))


@pytest.mark.parametrize("name", shipped_backbones())
def test_the_cards_of_shipped_backbones_are_what_their_records_say(name, tmp_path):
    copy = shutil.copytree(WEIGHTS / name, tmp_path / name)
    write_card(copy)
    assert (copy / "README.md").read_text() == (WEIGHTS / name / "README.md").read_text()


def test_what_was_measured_stands_in_the_card(digits):
    evaluation = {"method": "By hand.", "figures": {"FID": "1.5"}, "picture": "a.png", "fid": 1.5}
    (digits / "evaluation.json").write_text(json.dumps(evaluation))
    write_card(digits)
    card = (digits / "README.md").read_text()
    assert "## Measured\n\nBy hand.\n" in card
    assert "| FID | 1.5 |" in card
    assert "(a.png)" in card
    assert describe_backbone(digits)["fid"] == 1.5


def test_a_description_agrees_with_the_networks(digits):
    described = describe_backbone(digits)
    backbone = DiTBackbone(digits)
    assert described["latent_shape"] == backbone.latent_shape
    assert described["image_shape"] == (8, 8, 1)
    assert described["classes"] == list("0123456789")
    assert described["guidance_scale"] == backbone.guidance_scale
    assert described["bytes"] > 2 * sum(described["n_parameters"].values())
    for part, network in (("vae", backbone.vae), ("transformer", backbone.denoiser)):
        assert described["n_parameters"][part] == sum(w.numel() for w in network.parameters())
    assert not described["shipped"]
    assert describe_backbone("digits")["shipped"]


def test_a_folder_without_a_record_of_its_training_is_described_too(digits):
    for name in ("training.json", "model_index.json"):
        (digits / name).unlink()
    described = describe_backbone(digits)
    assert described["data"] is described["license"] is described["training_seconds"] is None
    assert described["classes"] == []
    assert described["guidance_scale"] == 4.0


def test_of_a_hub_id_only_the_configuration_is_downloaded(digits, monkeypatch):
    asked = []

    def download(name, **options):
        asked.append((name, options["allow_patterns"]))
        if options["local_files_only"]:
            raise LocalEntryNotFoundError("not in the cache")
        for path in digits.rglob("*.safetensors"):
            path.unlink()
        return str(digits)

    monkeypatch.setattr(folder, "snapshot_download", download)
    described = describe_backbone("owner/name")
    assert asked == [("owner/name", ["*.json"])]
    assert described["n_classes"] == 10
    assert described["bytes"] is None
    with pytest.raises(ValueError, match="not in the cache"):
        describe_backbone("owner/name", local_files_only=True)


def spoil_json(folder):
    (folder / "vae" / "config.json").write_text("{")


def spoil_weights(folder):
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    path.rename(path.with_suffix(".bin"))


def spoil_kind(folder):
    diffusers.UNet2DModel(block_out_channels=(32,) * 4).save_config(folder / "transformer")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_json, r"config.json' is no JSON"),
        (spoil_weights, "only pickled weights .* in transformer"),
        (spoil_kind, "holds a UNet2DModel in transformer"),
        (lambda folder: shutil.rmtree(folder / "vae"), "has no vae/config.json"),
    ],
)
def test_a_damaged_folder_is_told(digits, spoil, message):
    spoil(digits)
    with pytest.raises(ValueError, match=message):
        describe_backbone(digits)
