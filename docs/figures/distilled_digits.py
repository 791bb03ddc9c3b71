"""A distilled set: ten synthetic digits a class."""

import matplotlib.pyplot as plt
from digits import fitted

from skdistill.plotting import DistilledGrid

_, ax = plt.subplots(figsize=(5, 5))
DistilledGrid.from_estimator(fitted(), ax=ax)
