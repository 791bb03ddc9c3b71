import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import get_tags

from skdistill import ManifoldGDDistiller
from skdistill.backbones import LatentEncoder
from skdistill.datasets import load_digits_split
from skdistill.subsets import HierarchySubset

X, X_TEST, Y, _ = load_digits_split()


def test_latents_are_those_that_the_distiller_clusters():
    latents = LatentEncoder("digits").fit(X).transform(X)
    assert latents.shape == (len(X), 64)
    assert latents.dtype == np.float32
    distiller = ManifoldGDDistiller(1, "digits", random_state=0).fit(X, Y)
    means = [latents[label == Y].mean(axis=0) for label in range(10)]
    assert_allclose(distiller.cluster_centers_, means, atol=1e-4)


def test_real_images_are_picked_by_their_latents():
    latents = LatentEncoder("digits").fit(X).transform(X)
    picked = HierarchySubset(3, random_state=0).fit(latents, Y).select()
    assert_array_equal(Y[picked], np.repeat(range(10), 3))


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_batch_size_does_not_matter(batch_size):
    expected = LatentEncoder("digits").fit(X).transform(X_TEST[:20])
    encoder = LatentEncoder("digits", batch_size=batch_size).fit(X)
    assert_allclose(encoder.transform(X_TEST[:20]), expected, atol=1e-5)


def test_columns_of_frames_are_remembered_and_dtypes_are_what_the_tags_say():
    frame = pd.DataFrame(X[:20].reshape(20, -1)).add_prefix("pixel")
    encoder = LatentEncoder("digits", image_shape=(8, 8)).fit(frame)
    assert encoder.feature_names_in_.tolist() == frame.columns.tolist()
    with pytest.raises(ValueError, match="feature names"):
        encoder.transform(frame[frame.columns[::-1]])
    assert encoder.transform(frame.astype(np.float64)).dtype == np.float32
    assert get_tags(encoder).transformer_tags.preserves_dtype == []


def test_flat_rows_and_other_units_are_the_same_images():
    expected = LatentEncoder("digits").fit(X).transform(X_TEST[:20])
    flat = LatentEncoder("digits", image_shape=(8, 8)).fit(X.reshape(len(X), 64))
    assert_allclose(flat.transform(X_TEST[:20].reshape(20, 64)), expected, atol=1e-6)
    unit = LatentEncoder("digits").fit(X / 16)
    assert_allclose(unit.transform(X_TEST[:20] / 16), expected, atol=1e-5)
    large = LatentEncoder("digits", resize="nearest").fit(X.repeat(2, axis=1).repeat(2, axis=2))
    twice = X_TEST[:20].repeat(2, axis=1).repeat(2, axis=2)
    assert_allclose(large.transform(twice), expected, atol=1e-5)


def test_it_is_a_scikit_learn_transformer():
    encoder = clone(LatentEncoder("digits", batch_size=9)).fit(X)
    copy = pickle.loads(pickle.dumps(encoder))
    assert_allclose(copy.transform(X_TEST[:5]), encoder.transform(X_TEST[:5]), atol=1e-6)
    assert encoder.get_feature_names_out()[:2].tolist() == ["latentencoder0", "latentencoder1"]
    assert encoder.n_features_in_ == 64


def test_bad_input_is_refused():
    with pytest.raises(NotFittedError):
        LatentEncoder("digits").transform(X)
    with pytest.raises(ValueError, match="backbone='unheard-of' is neither"):
        LatentEncoder("unheard-of").fit(X)
    with pytest.raises(ValueError, match="takes images of 8 x 8 pixels"):
        LatentEncoder("digits").fit(X[:, :6])
    with pytest.raises(ValueError, match=r"X has the shape \(\d+, 8, 8, 1, 1\); it must be"):
        LatentEncoder("digits").fit(X[..., None, None])
    with pytest.raises(ValueError, match="X contains NaN"):
        LatentEncoder("digits").fit(np.full_like(X, np.nan))
    with pytest.raises(ValueError, match=r"shape \(4, 4\), but fit saw \(8, 8\)"):
        LatentEncoder("digits").fit(X).transform(X[:, :4, :4])
