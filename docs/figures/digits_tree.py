"""The tree of the threes."""

import matplotlib.pyplot as plt
from digits import fitted, training_images

from skdistill.plotting import HierarchyDisplay

X, y = training_images()
_, ax = plt.subplots(figsize=(8, 4))
HierarchyDisplay.from_estimator(fitted(), X, y, label=3, ax=ax)
