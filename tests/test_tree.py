import gzip
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.cluster.hierarchy import dendrogram, is_valid_linkage
from scipy.stats import ortho_group
from sklearn.cluster import BisectingKMeans
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits

from skdistill.tree import (
    _GramMatrix,
    _Points,
    _two_means,
    first_equal_row,
    grow_tree,
    single_leaf,
)


# Small whole numbers give duplicates, constant features and ties; floats give everything else.
# Magnitudes stay where squares neither overflow nor vanish.
@st.composite
def matrices(draw, min_rows=1):
    shape = draw(st.tuples(st.integers(min_rows, 30), st.integers(1, 40)))
    magnitude = draw(st.sampled_from([1e-3, 1.0, 1e4]))
    elements = draw(
        st.sampled_from([st.integers(-2, 2).map(float), st.floats(-1, 1, allow_subnormal=False)])
    )
    X = draw(hnp.arrays(np.float64, shape, elements=elements))
    X[np.abs(X) < 1e-6] = 0.0
    return X * magnitude


def quick(test):
    return settings(max_examples=40, deadline=None)(test)


def n_distinct(X):
    return len(np.unique(X + 0.0, axis=0))


def nested_blobs(n_features=5, n_per_blob=6, scale=1000.0):
    """Eight blobs in four pairs in two groups, so that every split has one clear answer."""
    rng = np.random.default_rng(0)
    axes = np.eye(3, n_features) * np.array([[scale], [scale / 5], [scale / 25]])
    signs = np.array([[a, b, c] for a in (-1, 1.3) for b in (-1, 1.3) for c in (-1, 1.3)])
    centers = np.repeat(signs @ axes, n_per_blob, axis=0)
    return centers + rng.normal(size=centers.shape)


def node_sets(tree):
    return {frozenset(tree.members(node).tolist()): node for node in range(len(tree.size))}


def leaf_sets(tree):
    return {frozenset(tree.members(leaf).tolist()) for leaf in tree.leaves}


def assert_same_tree(one, other):
    for name in ("children", "parent", "depth", "size", "sse", "centers", "start", "order"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def grow(X, n_leaves, *, criterion="sse", n_init=2, seed=0, tree=None):
    first = first_equal_row(X)
    return grow_tree(
        single_leaf(X, np.arange(len(X))) if tree is None else tree,
        X,
        first,
        min(n_leaves, len(np.unique(first))),
        criterion=criterion,
        n_init=n_init,
        max_iter=300,
        tol=1e-4,
        seed=(seed,),
    )


@given(matrices(), st.integers(1, 12), st.sampled_from(["sse", "variance"]))
@quick
def test_tree_is_a_nested_partition_with_falling_sse(X, n_leaves, criterion):
    tree = grow(X, n_leaves, criterion=criterion)
    assert len(tree.leaves) == min(n_leaves, n_distinct(X))
    assert tree.parent[0] == -1
    assert tree.depth[0] == 0
    scale = np.square(X).sum() + 1e-300
    for node in range(len(tree.size)):
        members = tree.members(node)
        assert len(members) == tree.size[node] > 0
        center = X[members].mean(axis=0)
        np.testing.assert_allclose(tree.centers[node], center, atol=1e-12 * np.abs(X).max())
        sse = np.square(X[members] - center).sum()
        np.testing.assert_allclose(tree.sse[node], sse, rtol=1e-9, atol=1e-14 * scale)
        if tree.children[node, 0] != -1:
            left, right = tree.children[node]
            both = np.concatenate([tree.members(left), tree.members(right)])
            np.testing.assert_array_equal(np.sort(both), members)
            assert tree.parent[left] == tree.parent[right] == node
            assert tree.depth[left] == tree.depth[right] == tree.depth[node] + 1
            assert tree.sse[left] + tree.sse[right] <= tree.sse[node] * (1 + 1e-9) + 1e-14 * scale


@given(matrices(), st.integers(1, 12))
@quick
def test_leaves_partition_the_rows_at_every_size_and_keep_equal_rows_together(X, largest):
    tree = grow(X, largest)
    for n_leaves in range(1, len(tree.leaves) + 1):
        smaller = tree.truncated(n_leaves)
        assert len(smaller.leaves) == n_leaves
        leaf_of_row = np.full(len(X), -1)
        for leaf in smaller.leaves:
            assert (leaf_of_row[smaller.members(leaf)] == -1).all()
            leaf_of_row[smaller.members(leaf)] = leaf
        assert (leaf_of_row >= 0).all()
        _, group = np.unique(X + 0.0, axis=0, return_inverse=True)
        assert len(np.unique(np.column_stack([group, leaf_of_row]), axis=0)) == n_distinct(X)


@given(matrices(min_rows=2), st.integers(2, 12))
@quick
def test_linkage_is_valid(X, n_leaves):
    tree = grow(X, n_leaves)
    linkage = tree.linkage()
    assert linkage.shape == (len(tree.leaves) - 1, 4)
    if len(linkage):
        assert is_valid_linkage(linkage, throw=True)
        assert (np.diff(linkage[:, 2]) >= 0).all()
        assert linkage[-1, 3] == len(tree.leaves)
        drawn = dendrogram(linkage, no_plot=True)
        assert sorted(drawn["leaves"]) == list(range(len(tree.leaves)))


def test_linkage_merges_the_children_of_each_node():
    tree = grow(nested_blobs(), 8)
    rows = [frozenset(tree.members(leaf).tolist()) for leaf in tree.leaves]
    for left, right, height, count in tree.linkage():
        merged = rows[int(left)] | rows[int(right)]
        node = node_sets(tree)[merged]
        assert height == tree.sse[node]
        assert count == sum(leaf <= merged for leaf in rows[: len(tree.leaves)])
        rows.append(merged)


@given(st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_permuting_rows_permutes_the_tree(seed):
    X = nested_blobs()
    order = np.random.default_rng(seed).permutation(len(X))
    tree, permuted = (grow(Z, 8, n_init=10) for Z in (X, X[order]))
    moved = {frozenset(order[list(rows)].tolist()) for rows in node_sets(permuted)}
    assert moved == set(node_sets(tree))


@pytest.mark.parametrize("n_features", [5, 60])
@given(st.integers(0, 10_000), st.floats(0.01, 100), st.floats(-1e3, 1e3))
@settings(max_examples=10, deadline=None)
def test_moving_the_space_moves_the_tree(n_features, seed, factor, shift):
    X = nested_blobs(n_features)
    rotation = ortho_group.rvs(n_features, random_state=seed)
    tree = grow(X, 8, n_init=10)
    moved_tree = grow(factor * X @ rotation + shift, 8, n_init=10)
    nodes = node_sets(moved_tree)
    assert nodes.keys() == node_sets(tree).keys()
    for rows, node in node_sets(tree).items():
        np.testing.assert_allclose(
            moved_tree.centers[nodes[rows]],
            factor * tree.centers[node] @ rotation + shift,
            rtol=1e-9,
            atol=1e-8 * (1 + factor),
        )
        np.testing.assert_allclose(moved_tree.sse[nodes[rows]], factor**2 * tree.sse[node])


@pytest.mark.parametrize("n_features", [5, 60])
@pytest.mark.parametrize("factor", [1e-100, 1e100])
def test_units_do_not_matter(n_features, factor):
    X = nested_blobs(n_features)
    tree, scaled = grow(X, 8), grow(X * factor, 8)
    np.testing.assert_array_equal(scaled.order, tree.order)
    np.testing.assert_allclose(scaled.sse, tree.sse * factor**2)


@pytest.mark.parametrize("n_features", [5, 60])
def test_a_huge_offset_costs_no_more_than_its_own_rounding(n_features):
    X = nested_blobs(n_features)
    far = X + 1e9
    tree, moved = grow(X, 8), grow(far, 8)
    np.testing.assert_array_equal(moved.order, tree.order)
    np.testing.assert_allclose(moved.sse, tree.sse, rtol=1e-6)
    np.testing.assert_allclose(moved.centers - 1e9, tree.centers, atol=1e-6)


@pytest.mark.parametrize("n_features", [5, 60])
def test_rows_beside_a_far_one_are_told_apart(n_features):
    X = nested_blobs(n_features)
    with_far_row = np.vstack([X, np.full(n_features, 1e10)])
    assert leaf_sets(grow(with_far_row, 9)) == leaf_sets(grow(X, 8)) | {frozenset([len(X)])}


def test_centres_and_sse_of_deep_nodes_are_those_of_their_rows():
    X = load_digits().data
    tree = grow(X, 300)
    for node in range(len(tree.size)):
        members = X[tree.members(node)]
        center = members.mean(axis=0)
        np.testing.assert_allclose(tree.centers[node], center, atol=1e-12)
        np.testing.assert_allclose(tree.sse[node], np.square(members - center).sum(), rtol=1e-10)


def test_span_and_feature_space_give_the_same_tree():
    X = nested_blobs(5)
    wide = np.hstack([X, np.zeros((len(X), 100))])
    narrow_tree, wide_tree = grow(X, 8), grow(wide, 8)
    np.testing.assert_array_equal(narrow_tree.order, wide_tree.order)
    np.testing.assert_array_equal(narrow_tree.children, wide_tree.children)
    np.testing.assert_allclose(narrow_tree.sse, wide_tree.sse)


@pytest.mark.parametrize("n_features", [3, 50])
@pytest.mark.parametrize("gram", [False, True])
def test_two_means_on_torch_equals_numpy(n_features, gram):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, n_features))
    X[20:] += 2
    X -= X.mean(axis=0)
    weights, uniforms = np.ones(len(X)), rng.random((3, 4))

    def split(convert):
        points = _GramMatrix(convert(X @ X.T)) if gram else _Points(convert(X))
        return _two_means(points, convert(weights), convert(uniforms), 300, 1e-8)

    side, n_iter = split(np.asarray)
    torch_side, torch_n_iter = split(torch.asarray)
    assert isinstance(torch_side, torch.Tensor)
    np.testing.assert_array_equal(side, torch_side.numpy())
    assert n_iter == torch_n_iter > 1


@given(matrices(min_rows=2), st.integers(0, 100), st.booleans())
@quick
def test_two_means_leaves_no_point_nearer_to_the_other_side(X, seed, gram):
    X = X - X.mean(axis=0)
    points = _GramMatrix(X @ X.T) if gram else _Points(X)
    uniforms = np.random.default_rng(seed).random((3, 2))
    side, _ = _two_means(points, np.ones(len(X)), uniforms, 300, 0.0)
    assert 0 < side.sum() < len(X)
    to_right, to_left = (np.square(X - X[s].mean(axis=0)).sum(axis=1) for s in (side, ~side))
    tolerance = 1e-9 * np.square(X).sum()
    assert (to_right[side] <= to_left[side] + tolerance).all()
    assert (to_left[~side] <= to_right[~side] + tolerance).all()


def weighted_points(seed):
    rng = np.random.default_rng(seed)
    X, weights = rng.normal(size=(40, 20)), rng.integers(1, 4, size=40).astype(float)
    return X - weights @ X / weights.sum(), weights, rng.random((3, 1))


def weighted_sse(X, weights, side):
    deviations = X.copy()
    for s in (side, ~side):
        deviations[s] -= weights[s] @ X[s] / weights[s].sum()
    return weights @ np.square(deviations).sum(axis=1)


@pytest.mark.parametrize("seed", range(20))
def test_another_iteration_never_raises_the_sse_and_the_last_is_of_lloyd(seed):
    X, weights, uniforms = weighted_points(seed)
    sides = [_two_means(_Points(X), weights, uniforms, k, 0.0)[0] for k in (*range(1, 12), 300)]
    assert (np.diff([weighted_sse(X, weights, side) for side in sides]) <= 1e-9).all()
    side = sides[-1]
    centers = [weights[s] @ X[s] / weights[s].sum() for s in (~side, side)]
    nearest = np.square(X[:, None] - centers).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(nearest, side)


def test_points_that_had_better_move_alone_are_moved():
    n_final = 0
    for seed in range(50):
        X, weights, uniforms = weighted_points(seed)
        side, _ = _two_means(_Points(X), weights, uniforms, 300, 0.0)
        moved = [weighted_sse(X, weights, side ^ one) for one in np.eye(len(X), dtype=bool)]
        n_final += min(moved) >= weighted_sse(X, weights, side) - 1e-9
    # The others are those that all moves at once made worse. Lloyd's rule alone reaches none.
    assert n_final > 20


def test_two_means_finds_the_best_split_of_a_line():
    x = np.sort(np.random.default_rng(1).normal(size=25))
    x -= x.mean()
    uniforms = np.random.default_rng(0).random((3, 20))
    side, _ = _two_means(_Points(x[:, None]), np.ones(25), uniforms, 300, 0.0)
    costs = [25 * (x[:k].var() * k + x[k:].var() * (25 - k)) for k in range(1, 25)]
    assert 25 * sum(x[s].var() * s.sum() for s in (side, ~side)) == pytest.approx(min(costs))


def test_two_means_counts_weights_as_repeated_points():
    rng = np.random.default_rng(0)
    X, counts = rng.normal(size=(12, 3)), rng.integers(1, 5, size=12)
    centered = X - counts @ X / counts.sum()
    side, _ = _two_means(_Points(centered), counts.astype(float), rng.random((3, 20)), 300, 0.0)
    direct = BisectingKMeans(2, init="k-means++", n_init=20, random_state=0)
    labels = direct.fit(X, sample_weight=counts).labels_
    assert adjusted_rand_score(side, labels) == 1.0


@given(matrices())
@quick
def test_equal_rows_are_found(X):
    first = first_equal_row(X)
    equal = (X[:, None] == X).all(axis=2)
    np.testing.assert_array_equal(first, equal.argmax(axis=1))


@given(matrices(), st.integers(1, 12), st.integers(1, 12))
@quick
def test_growing_in_steps_or_taking_splits_back_gives_the_same_tree(X, n_leaves, more):
    small = grow(X, n_leaves)
    before = pickle.dumps(small)
    large = grow(X, n_leaves + more)
    assert_same_tree(grow(X, n_leaves + more, tree=small), large)
    assert_same_tree(large.truncated(len(small.leaves)), small)
    assert pickle.dumps(small) == before


def test_nodes_name_the_rows_of_the_training_data():
    X, rows = nested_blobs(), np.arange(48) * 3 + 7
    first = first_equal_row(X)
    settings = {"criterion": "sse", "n_init": 2, "max_iter": 300, "tol": 1e-4, "seed": (0,)}
    elsewhere = grow_tree(single_leaf(X, rows), X, first, 8, **settings)
    for node, members in enumerate(map(grow(X, 8).members, range(15))):
        np.testing.assert_array_equal(elsewhere.members(node), rows[members])


def test_variance_prefers_small_spread_out_leaves():
    # Left: many rows of small variance and large SSE; right: few rows of large variance.
    left = np.tile([[-1.0], [1.0]], (500, 1)) + np.linspace(0, 0.1, 1000)[:, None]
    X = np.concatenate([left, [[95.0], [105.0]]])
    for criterion, chosen in (("sse", 1000), ("variance", 2)):
        tree = grow(X, 3, criterion=criterion)
        second = [node for node in tree.children[0] if tree.children[node, 0] != -1]
        assert tree.size[second].tolist() == [chosen]


def leaf_labels(tree):
    labels = np.empty(len(tree.order), dtype=int)
    for leaf in tree.leaves:
        labels[tree.members(leaf)] = leaf
    return labels


def bisecting(n_clusters, **params):
    return BisectingKMeans(n_clusters, init="k-means++", **params)


@pytest.mark.parametrize("n_features", [5, 60])
def test_same_splits_as_bisecting_kmeans_on_separated_data(n_features):
    X = nested_blobs(n_features)
    for n_leaves in (2, 4, 8):
        theirs = bisecting(n_leaves, n_init=10, random_state=0).fit(X)
        ours = grow(X, n_leaves, n_init=10)
        assert adjusted_rand_score(leaf_labels(ours), theirs.labels_) == 1.0


def assert_sse_not_above_bisecting_kmeans(X, n_leaves, n_init, share=1.002):
    theirs, ours = [], []
    # The splits are too small to gain from threads, which wait for one another on busy machines.
    with threadpool_limits(1):
        for seed in range(5):
            theirs.append(bisecting(n_leaves, n_init=n_init, random_state=seed).fit(X).inertia_)
            tree = grow(X, n_leaves, n_init=n_init, seed=seed)
            ours.append(tree.sse[tree.leaves].sum())
    assert np.mean(ours) <= share * np.mean(theirs)


@pytest.mark.parametrize("n_init", [1, 5])
def test_sse_not_above_bisecting_kmeans_on_digits(n_init):
    assert_sse_not_above_bisecting_kmeans(load_digits().data, 30, n_init)


def test_sse_below_bisecting_kmeans_with_few_rows_in_many_dimensions():
    # Where each row pulls its own centre far, Lloyd's rule stops early: measured 0.94.
    X, y = load_digits(return_X_y=True)
    assert_sse_not_above_bisecting_kmeans(X[y == 8], 50, n_init=1, share=0.97)


@pytest.mark.parametrize("label", [0, 5, 9])
def test_sse_not_above_bisecting_kmeans_on_fashion_mnist(label, studied_data):
    images, labels = (
        gzip.decompress((studied_data / f"train-{name}-ubyte.gz").read_bytes())
        for name in ("images-idx3", "labels-idx1")
    )
    X = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 784)
    y = np.frombuffer(labels, np.uint8, offset=8)
    assert_sse_not_above_bisecting_kmeans(X[y == label][:1500] / 255.0, 20, n_init=2)
