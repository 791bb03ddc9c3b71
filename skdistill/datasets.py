"""Data as the studies and the command line use it."""

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

__all__ = ["load_digits_split"]


def load_digits_split():
    """Load the handwritten digits of scikit-learn in the split that the shipped backbone knows.

    The split is fixed: stratified, 70% for training, ``random_state=0``. The shipped backbone
    "digits" has seen the training part only, so the test part may judge what it generates.

    Returns
    -------
    X_train : ndarray of shape (1257, 8, 8), dtype float64
        Training images with values from 0 (background) to 16 (ink).

    X_test : ndarray of shape (540, 8, 8), dtype float64
        Held-out images.

    y_train : ndarray of shape (1257,), dtype int64
        Training labels, 0 to 9.

    y_test : ndarray of shape (540,), dtype int64
        Held-out labels.

    Examples
    --------
    >>> from skdistill.datasets import load_digits_split
    >>> X_train, X_test, y_train, y_test = load_digits_split()
    >>> X_train.shape, X_test.shape
    ((1257, 8, 8), (540, 8, 8))
    """
    digits = load_digits()
    return train_test_split(
        digits.images, digits.target, test_size=0.3, stratify=digits.target, random_state=0
    )
