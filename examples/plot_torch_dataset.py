"""
The distilled set in PyTorch
============================

For users of PyTorch. The distilled set is two arrays, so that a ``TensorDataset`` of them is one
line; and a run directory holds it as a folder of class folders, which torchvision's ``ImageFolder``
and Hugging Face's ``imagefolder`` read as it is.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from datasets import disable_progress_bars, load_dataset
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from skdistill import ManifoldGDDistiller, load_distilled
from skdistill.datasets import load_digits_split
from skdistill.networks import conv_net
from skdistill.pixels import to_networks
from skdistill.plotting import DistilledGrid

# %%
# Ten images a class, from the shipped backbone. With ``out_dir`` the set is kept as it is made: a
# run that is stopped goes on where it was, and one that is complete is read back.

folder = tempfile.TemporaryDirectory()
run_dir = Path(folder.name) / "distilled"
X_train, X_test, y_train, y_test = load_digits_split()
distiller = ManifoldGDDistiller(
    ipc=10, backbone="digits", num_inference_steps=25, random_state=0
).fit(X_train, y_train)
distiller.sample(out_dir=run_dir)
print(*sorted(path.name for path in run_dir.iterdir()), sep="\n")

# %%
# A dataset of tensors
# --------------------
# :func:`~skdistill.load_distilled` returns what ``sample`` did.
# :func:`~skdistill.pixels.to_networks` brings images to [-1, 1] with the channels first.

X_syn, y_syn = load_distilled(run_dir)
DistilledGrid.from_arrays(X_syn, y_syn, value_range=(0, 16))
plt.show()

# %%
# Images and labels as tensors.


def as_dataset(X, y, value_range):
    return TensorDataset(torch.from_numpy(to_networks(X, value_range)), torch.from_numpy(y))


distilled = as_dataset(X_syn, y_syn, (0, 16))
test = as_dataset(X_test, y_test, (0, 16))

# %%
# A training loop as anyone writes it. It makes as many updates whatever the size of the set, so
# that small and large ones are trained for equally long.


def train(dataset, steps=200):
    torch.manual_seed(0)
    network = conv_net((8, 8), 10, width=32)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    draws = RandomSampler(dataset, replacement=True, num_samples=50 * steps)
    for images, labels in DataLoader(dataset, batch_size=50, sampler=draws):
        loss = torch.nn.functional.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


@torch.no_grad()
def accuracy(network):
    images, labels = test.tensors
    return (network(images).argmax(dim=1) == labels).double().mean().item()


from_arrays = accuracy(train(distilled))
everything = accuracy(train(as_dataset(X_train, y_train, (0, 16))))
print(
    f"A ConvNet trained on {len(distilled)} distilled images labels {from_arrays:.1%} of "
    f"{len(test)} held-out ones rightly,\none trained on all {len(X_train)} {everything:.1%}."
)

# %%
# A folder of images
# ------------------
# Hugging Face's ``datasets`` reads the folder with what ``metadata.jsonl`` says of each image: its
# label, the centroid that it was guided to, the level of that centroid in the hierarchy, and the
# training image nearest to it. Labels are text there, as in the names of the folders.

disable_progress_bars()
images = load_dataset(
    "imagefolder",
    data_dir=str(run_dir / "images"),
    split="train",
    cache_dir=str(Path(folder.name) / "cache"),
)
print({name: value for name, value in images[12].items() if name not in ("image", "sha256")})
pixels = np.stack([np.asarray(image) for image in images["image"]])
labels = np.array(images["label"]).astype(np.int64)
from_folder = accuracy(train(as_dataset(pixels, labels, (0, 255))))
print(
    f"The folder holds the same {len(images)} images, in 8 bits; a ConvNet trained on them labels "
    f"{from_folder:.1%}\nof the held-out ones rightly."
)

# %%
# With torchvision, which is not needed here, it is
#
# .. code-block:: python
#
#     from torchvision.datasets import ImageFolder
#     from torchvision.transforms.v2 import Compose, Grayscale, Normalize, ToDtype, ToImage
#
#     transform = Compose(
#         [ToImage(), Grayscale(), ToDtype(torch.float32, scale=True), Normalize([0.5], [0.5])]
#     )
#     dataset = ImageFolder(run_dir / "images", transform=transform)

folder.cleanup()
