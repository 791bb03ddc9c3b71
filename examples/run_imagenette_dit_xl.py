"""
The paper's own setting: DiT-XL/2 on ImageNette
===============================================

For those who have the weights and a GPU. Ten classes of ImageNet at 256 x 256 pixels, ten images a
class from DiT-XL/2-256 with its VAE, as in ManifoldGD (Roy et al., CVPR 2026, arXiv:2602.23295):
the unguided model, mode guidance (MGD), ManifoldGD with the published settings and with the
defaults of this library. Students, ResNetAP-10 and ConvNet-6, are trained from scratch on each set
with hard labels and tested on ImageNette's real validation images::

    python run_imagenette_dit_xl.py imagenette2-320 --out imagenette

``imagenette2-320`` is the folder that https://github.com/fastai/imagenette offers, with ``train``
and ``val``. The weights are downloaded from the hub unless ``--backbone`` names a folder; only
safetensors are read, and where a revision of the hub's has none the error says so. A run may be
stopped at any time: started again, it goes on where it was.

The paper reports 59.1 % (unguided), 61.9 % (MGD) and 64.1 % (ManifoldGD) for ResNetAP-10. Its
students are trained by another protocol, so that differences between methods compare, and levels
do not.
"""

import argparse
import json
from pathlib import Path

from skdistill import HierarchicalIPC, ManifoldGDDistiller, TangentProjector
from skdistill.atomic import write_atomically
from skdistill.backbones import describe_backbone
from skdistill.baselines import rivals
from skdistill.datasets import load_image_folder
from skdistill.evaluation import format_accuracies, train_student
from skdistill.protocols import judges

# %%
# The settings that the paper names. Its guidance is scaled with the noise of a DDPM step and is not
# held back where it overshoots. Neighbourhoods are those of the real latents, as the paper
# describes, not of random points around a centroid, as in its code.

PUBLISHED = {
    "clusterer": HierarchicalIPC(n_init=10),
    "projector": TangentProjector(n_components=3, n_neighbors=12),
    "strength": 0.1,
    "normal_strength": 0.1,
    "guidance_form": "paper",
    "clip_guidance": False,
    "guidance_interval": (0.0, 0.5),
    "annealing": "exponential",
    "max_radius": 2.0,
    "warm_steps": 5,
    "scheduler": "DDPMScheduler",
    "num_inference_steps": 50,
    "guidance_scale": 4.0,
    "refiner": "passthrough",
}

# %%
# ImageNette's folders are named by WordNet ids; the model knows classes by their ImageNet numbers.

CLASSES = {
    "n01440764": 0,  # tench
    "n02102040": 217,  # English springer
    "n02979186": 482,  # cassette player
    "n03000684": 491,  # chain saw
    "n03028079": 497,  # church
    "n03394916": 566,  # French horn
    "n03417042": 569,  # garbage truck
    "n03425413": 571,  # gas pump
    "n03445777": 574,  # golf ball
    "n03888257": 701,  # parachute
}

# %%
# What is compared, and who judges it.


def distillers(options, labels, seed):
    shared = {
        "class_map": {label: CLASSES[label] for label in labels},
        "revision": options.revision,
        "device": options.device,
        "dtype": options.dtype,
        "batch_size": options.batch_size,
        # The latents of the training images are the same for all methods and seeds.
        "memory": str(options.out / "encoded"),
        "verbose": 1,
    }
    made = rivals(options.ipc, options.backbone, random_state=seed, guidance_scale=4.0, **shared)
    return {name: made[name] for name in ("unguided", "MGD")} | {
        "ManifoldGD, published": ManifoldGDDistiller(
            options.ipc, options.backbone, random_state=seed, **shared, **PUBLISHED
        ),
        "ManifoldGD": made["ManifoldGD"],
    }


def students(options, image_size):
    made = judges(
        steps=options.steps,
        augmentation=("flip", "crop", "color"),
        value_range=(0, 255),
        device=options.device,
    )
    # As many blocks as bring the images to 4 x 4 pixels: 6 for 256 x 256.
    depth = image_size.bit_length() - 3
    return {
        "ResNetAP-10": made["ResNetAP-10"],
        f"ConvNet-{depth}": made["ConvNet"].set_params(depth=depth),
    }


# %%
# One set a method and seed, each in a run directory of its own. Every accuracy is kept as soon as
# it is known.


def main():
    parser = argparse.ArgumentParser(description="Distil ImageNette with DiT-XL/2-256.")
    parser.add_argument("folder", type=Path, help="ImageNette, with train and val")
    parser.add_argument("--out", type=Path, required=True, help="folder for sets and accuracies")
    parser.add_argument("--backbone", default="facebook/DiT-XL-2-256", help="hub id or folder")
    parser.add_argument("--revision", help="branch, tag or commit of a hub id")
    parser.add_argument("--ipc", type=int, default=10, help="images a class")
    parser.add_argument("--seeds", type=int, default=3, help="sets a method")
    parser.add_argument("--steps", type=int, default=2000, help="updates of a student")
    parser.add_argument("--batch-size", type=int, default=32, help="images denoised at once")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="bfloat16", help="of the diffusion network")
    options = parser.parse_args()

    size = describe_backbone(options.backbone, revision=options.revision)["image_shape"][0]
    X, y = load_image_folder(options.folder / "train", image_size=size)
    X_test, y_test = load_image_folder(options.folder / "val", image_size=size)
    labels = sorted(set(y.tolist()))

    kept = options.out / "accuracies.json"
    accuracies = json.loads(kept.read_text()) if kept.exists() else {}
    table = {}
    for seed in range(options.seeds):
        for method, distiller in distillers(options, labels, seed).items():
            missing = [
                student
                for student in students(options, size)
                if f"{method}/{student}/{seed}" not in accuracies
            ]
            if missing:
                run_dir = options.out / f"{method.replace(', ', '-')}-{seed}"
                X_syn, y_syn = distiller.fit(X, y).sample(out_dir=run_dir)
            for student in missing:
                judge = train_student(students(options, size)[student], X_syn, y_syn, seed)
                accuracies[f"{method}/{student}/{seed}"] = float(judge.score(X_test, y_test))
                write_atomically(kept, (json.dumps(accuracies, indent=1) + "\n").encode())
            for student in students(options, size):
                row = table.setdefault(method, {})
                row.setdefault(student, []).append(accuracies[f"{method}/{student}/{seed}"])
    print(format_accuracies(table, len(y_test)))
    means = {method: sum(row["ResNetAP-10"]) / options.seeds for method, row in table.items()}
    best = max(means, key=means.get)
    print(
        f"By ResNetAP-10 the best of {len(means)} methods at {options.ipc} images a class is "
        f"{best}, with {means[best]:.1%}."
    )


if __name__ == "__main__":
    main()
