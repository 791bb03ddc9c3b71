"""Who judges the sets of a data set, and by which settings: the same for every method."""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skdistill.students import ConvNetClassifier, ResNetClassifier

__all__ = ["PROTOCOLS", "judges", "linear_student"]

# How the students of each data set are trained, on whatever set: fixed before any method was tuned,
# on a split of the training data.
PROTOCOLS = {
    "digits": {"steps": 500, "epochs": 10, "batch_size": 64, "value_range": (0, 16)},
    "fashion-mnist": {
        "steps": 500,
        "epochs": 8,
        "batch_size": 64,
        "learning_rate": 3e-3,
        "augmentation": ("flip", "crop"),
        "value_range": (0, 255),
        "dtype": "bfloat16",
    },
    "cifar10": {
        "steps": 500,
        "epochs": 12,
        "batch_size": 64,
        "learning_rate": 3e-3,
        "augmentation": ("flip", "crop"),
        "value_range": (0, 255),
        "dtype": "bfloat16",
    },
}


def linear_student():
    """Return the linear classifier by which distilled sets are judged.

    Returns
    -------
    student : sklearn.pipeline.Pipeline
        A logistic regression on features of zero mean and unit variance, not fitted. It takes flat
        rows and images.

    Examples
    --------
    >>> from skdistill.datasets import load_digits_split
    >>> from skdistill.protocols import linear_student
    >>> X_train, X_test, y_train, y_test = load_digits_split()
    >>> student = linear_student().fit(X_train, y_train)
    >>> student.score(X_test, y_test) > 0.95
    True
    """
    # Whatever the caller's configuration: it makes arrays of arrays.
    to_rows = FunctionTransformer(_to_rows).set_output(transform="default")
    return make_pipeline(to_rows, StandardScaler(), LogisticRegression(max_iter=1000))


def judges(protocol=None, **params):
    """Return the students that judge sets of one data set, by its protocol.

    Parameters
    ----------
    protocol : {"digits", "fashion-mnist", "cifar10"} or None, default=None
        The data set. Its settings are those of `PROTOCOLS`; all methods are judged by the same.
        None is for other data: the defaults of each student, and a ConvNet as deep as the images
        allow.

    **params : dict
        What to set besides, such as ``device`` and ``compile``, of
        :class:`~skdistill.students.ConvNetClassifier` and
        :class:`~skdistill.students.ResNetClassifier`.

    Returns
    -------
    students : dict of str to classifier
        Not fitted: a ConvNet, a linear model and, but for digits, ResNet-18 and ResNetAP-10, which
        need images of at least 16 pixels a side.

    Raises
    ------
    ValueError
        If there is no such protocol.

    Examples
    --------
    >>> from skdistill.protocols import judges
    >>> list(judges("cifar10"))
    ['ConvNet-3', 'ResNet-18', 'ResNetAP-10', 'linear']
    >>> list(judges("digits"))
    ['ConvNet-2', 'linear']
    """
    if protocol is not None and not (isinstance(protocol, str) and protocol in PROTOCOLS):
        raise ValueError(
            f"protocol={protocol!r} must be one of {', '.join(map(repr, PROTOCOLS))}, or None."
        )
    settings = PROTOCOLS.get(protocol, {}) | params
    if protocol == "digits":
        return {"ConvNet-2": ConvNetClassifier(2, **settings), "linear": linear_student()}
    name, depth = ("ConvNet", None) if protocol is None else ("ConvNet-3", 3)
    return {
        name: ConvNetClassifier(depth, **settings),
        "ResNet-18": ResNetClassifier(18, **settings),
        "ResNetAP-10": ResNetClassifier(10, pooling=True, **settings),
        "linear": linear_student(),
    }


def _to_rows(X):
    return np.reshape(X, (len(X), -1))
