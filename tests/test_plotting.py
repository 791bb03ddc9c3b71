import itertools
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import dendrogram
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError

from skdistill import HierarchicalIPC, ManifoldGDDistiller, TangentProjector
from skdistill.datasets import load_digits_split
from skdistill.guidance import Guidance, PreparedTangents, Targets
from skdistill.plotting import (
    DistilledGrid,
    GuidanceDisplay,
    HierarchyDisplay,
    LatentDisplay,
    RecordingGuidance,
    record_run,
)
from skdistill.refining import MatchingRefiner

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

DISPLAYS = (DistilledGrid, GuidanceDisplay, HierarchyDisplay, LatentDisplay)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def distil(X, y, *args, **params):
    params = {"ipc": 4, "random_state": 0, "num_inference_steps": 10, **params}
    if params.get("backbone") == "digits":
        params = {"refiner": MatchingRefiner(5, width=16), **params}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Images through the closed-form")
        return ManifoldGDDistiller(*args, **params).fit(X, y)


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True, as_frame=True)
    return X, np.array(["setosa", "versicolor", "virginica"])[y]


@pytest.fixture(scope="module")
def iris_distiller(iris):
    # Of four features, the distiller's own tangent spaces would leave nothing to remove.
    return distil(*iris, strength=0.5, projector=TangentProjector())


@pytest.fixture(scope="module")
def digits():
    X, _, y, _ = load_digits_split()
    kept = np.isin(y, [3, 8])
    return X[kept], y[kept]


@pytest.fixture(scope="module")
def digits_distiller(digits):
    return distil(*digits, backbone="digits")


@pytest.fixture(scope="module")
def colours(digits):
    X, y = digits
    return np.stack([X, 16 - X, X / 2], axis=-1)[::4], y[::4]


@pytest.fixture(scope="module")
def colours_distiller(colours):
    return distil(*colours)


def as_bytes(X):
    """Bytes of images whose black is 0 and whose white is 16."""
    return np.rint(np.asarray(X, dtype=np.float32) / 16 * 255).astype(np.uint8)


def assert_same_pictures(actual, expected):
    # Halves may be rounded either way.
    difference = np.abs(np.stack(actual).astype(int) - np.stack(expected))
    assert difference.max() <= 1


def drawn(images):
    return [np.asarray(image.get_array()) for image in images]


def encoded(distiller, X):
    """Latents of images of the digits' values, in float32."""
    x = np.asarray(X, dtype=np.float32)[:, None] / 8 - 1
    with torch.no_grad():
        return distiller.backbone_.encode(x, lambda f, z: f(z)).reshape(len(X), -1)


def nearest(points, references):
    return np.linalg.norm(points[:, None] - references, axis=2).argmin(axis=1)


class TestDistilledGrid:
    def test_images_and_the_nearest_in_latent_space(self, digits, digits_distiller):
        X, y = digits
        X_syn, y_syn = digits_distiller.sample()
        display = DistilledGrid.from_estimator(digits_distiller, X, y)
        expected = []
        for label in (3, 8):
            rows = np.flatnonzero(y == label)
            of_class = y_syn == label
            found = nearest(
                encoded(digits_distiller, X_syn[of_class]), encoded(digits_distiller, X[rows])
            )
            np.testing.assert_array_equal(display.nearest_indices[of_class], rows[found])
            expected += [*as_bytes(X_syn[of_class]), *as_bytes(X[rows[found]])]
        assert_same_pictures(drawn(display.images_), expected)

    def test_each_nearest_image_is_under_its_sample(self, digits, digits_distiller):
        display = DistilledGrid.from_estimator(digits_distiller, *digits)
        lefts, rights, bottoms, tops = np.array(
            [image.get_extent() for image in display.images_]
        ).T.reshape(4, 2, 2, 4)
        # Axes: class, sample or nearest, column.
        np.testing.assert_array_equal(lefts, np.broadcast_to(lefts[0, 0], lefts.shape))
        assert (lefts[..., 1:] > rights[..., :-1]).all()
        assert (tops[:, 1] > bottoms[:, 0]).all()
        assert (tops[1, 0] > bottoms[0, 1]).all()
        assert (tops[:, 1] - bottoms[:, 0] < tops[1, 0] - bottoms[0, 1]).all()
        assert [t.get_text() for t in display.ax_.get_yticklabels()] == [
            "3",
            "nearest real",
            "8",
            "nearest real",
        ]
        np.testing.assert_allclose(display.ax_.get_yticks(), ((tops + bottoms) / 2)[..., 0].ravel())
        assert display.ax_.get_aspect() == 1.0

    def test_samples_alone_and_no_more_than_asked_for(self, digits_distiller):
        samples = digits_distiller.sample()
        display = DistilledGrid.from_estimator(digits_distiller, samples=samples, max_per_class=3)
        assert display.nearest is None
        expected = as_bytes(samples[0])[[0, 1, 2, 4, 5, 6]]
        assert_same_pictures(drawn(display.images_), expected)

    def test_colour(self, colours, colours_distiller):
        display = DistilledGrid.from_estimator(colours_distiller, *colours)
        X_syn, _ = colours_distiller.sample()
        assert_same_pictures(drawn(display.images_)[:4], as_bytes(X_syn[:4]))
        assert display.images_[0].get_array().shape == (8, 8, 3)

    def test_arrays_and_the_nearest_in_pixels(self, digits):
        X, y = digits
        rng = np.random.default_rng(0)
        rows = np.array([5, 6, 7, 8])
        X_syn = X[rows] + rng.uniform(0, 0.5, X[rows].shape)
        display = DistilledGrid.from_arrays(X_syn, y[rows], X, y, value_range=(0, 16))
        np.testing.assert_array_equal(display.nearest_indices, rows)

    def test_flat_arrays_are_images_of_the_shape_that_is_given(self, digits):
        X, y = digits
        flat = X[:6].reshape(6, -1)
        display = DistilledGrid.from_arrays(flat, y[:6], image_shape=(8, 8))
        order = np.argsort(y[:6], kind="stable")
        assert_same_pictures(drawn(display.images_), as_bytes(X[:6][order]))

    def test_table_of_standardised_features(self, iris, iris_distiller):
        X, y = np.asarray(iris[0]), iris[1]
        X_syn, y_syn = iris_distiller.sample()
        display = DistilledGrid.from_estimator(iris_distiller, iris[0], y)
        Z, Z_syn = ((A - X.mean(axis=0)) / X.std(axis=0) for A in (X, X_syn))
        found = np.concatenate(
            [
                np.flatnonzero(y == label)[nearest(Z_syn[y_syn == label], Z[y == label])]
                for label in np.unique(y)
            ]
        )
        np.testing.assert_array_equal(display.nearest_indices, found)
        synthetic, real = drawn(display.images_)
        np.testing.assert_allclose(synthetic, Z_syn)
        np.testing.assert_allclose(real, Z[found])
        assert display.images_[0].get_extent()[1] < display.images_[1].get_extent()[0]
        low, high = display.images_[0].get_clim()
        assert -low == high == min(3, max(np.abs(Z_syn).max(), np.abs(Z[found]).max()))
        assert display.images_[1].get_clim() == (low, high)

    def test_names_on_a_table(self, iris, iris_distiller):
        display = DistilledGrid.from_estimator(iris_distiller, iris[0], iris[1])
        names = [label.get_text() for label in display.ax_.get_xticklabels()]
        assert names == [*iris[0].columns] * 2
        left = display.images_[1].get_extent()[0]
        np.testing.assert_allclose(display.ax_.get_xticks()[4:], left + np.arange(4) + 0.5)
        names = [label.get_text() for label in display.ax_.get_yticklabels()]
        assert names == ["setosa", "versicolor", "virginica"]
        assert display.ax_.get_yticks().tolist() == [2, 6, 10]

    def test_rows_of_a_table_are_grouped_by_class(self):
        X = np.array([[3.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
        display = DistilledGrid.from_arrays(X, ["b", "a", "b"])
        expected = (X[[1, 0, 2], 0] - 2) / X[:, 0].std()
        np.testing.assert_allclose(drawn(display.images_)[0], np.c_[expected, np.zeros(3)])

    def test_rows_that_do_not_belong_together_are_refused(self, digits, digits_distiller):
        X, y = digits
        with pytest.raises(ValueError, match=r"y has \d+ rows of the class 3, fit saw \d+"):
            DistilledGrid.from_estimator(digits_distiller, X[1:], y[1:])
        with pytest.raises(ValueError, match="3 is the label of a sample"):
            DistilledGrid.from_arrays(X, y, X[y == 8], y[y == 8])
        with pytest.raises(ValueError, match=r"must be that of a row of X_syn, \(8, 8\)"):
            DistilledGrid.from_arrays(X, y, X[:, :4], y)
        with pytest.raises(ValueError, match="one label a row"):
            DistilledGrid.from_arrays(X, y[1:])
        with pytest.raises(ValueError, match="max_per_class=0 must be at least 1"):
            DistilledGrid.from_arrays(X, y, max_per_class=0)
        with pytest.raises(ValueError, match="2 channels"):
            DistilledGrid.from_arrays(np.zeros((2, 4, 4, 2)), [0, 1])
        with pytest.raises(ValueError, match="fitted to rows of 64 values"):
            DistilledGrid.from_estimator(digits_distiller, samples=(X[:, :4], y))


def brackets(display):
    return np.array([path.vertices for path in display.links_.get_paths()])


class TestHierarchyDisplay:
    def test_brackets_are_those_of_scipy(self, iris):
        hierarchy = HierarchicalIPC(ipc=9, random_state=0).fit(iris[0], iris[1])
        display = HierarchyDisplay.from_estimator(hierarchy, iris[0], label="virginica")
        expected = np.array(dendrogram(hierarchy.linkage_[2], no_plot=True)["dcoord"])
        actual = brackets(display)[:, :, 1]
        for heights in (expected, actual):
            heights[:, [0, 3]] = np.sort(heights[:, [0, 3]], axis=1)
        np.testing.assert_allclose(
            actual[np.argsort(actual[:, 1])], expected[np.argsort(expected[:, 1])]
        )

    def test_each_bracket_joins_two_children(self, iris):
        hierarchy = HierarchicalIPC(ipc=9, random_state=0).fit(*iris)
        display = HierarchyDisplay.from_estimator(hierarchy, iris[0], label="versicolor")
        tree, places = hierarchy.trees_[1], display.positions_
        inner = np.setdiff1d(np.arange(len(tree.sse)), tree.leaves)
        for node, bracket in zip(inner, brackets(display), strict=True):
            np.testing.assert_array_equal(bracket[[0, 3]], places[tree.children[node]])
            assert bracket[1:3, 0].mean() == places[node, 0]
            assert bracket[1, 1] == bracket[2, 1] == tree.sse[node]
            # The leaves under it stand side by side, so that no bracket crosses another.
            rows = tree.members(node)
            under = [leaf for leaf in tree.leaves if np.isin(tree.members(leaf), rows).all()]
            assert np.ptp(places[under, 0]) == len(under) - 1
        assert sorted(places[tree.leaves, 0]) == [*range(9)]

    def test_prototypes_are_marked_with_their_levels(self, digits, digits_distiller):
        display = HierarchyDisplay.from_estimator(digits_distiller, *digits, label=3)
        clusterer = digits_distiller.clusterers_[0]
        places = display.positions_[clusterer.prototype_nodes_]
        np.testing.assert_array_equal(display.marks_.get_offsets(), places)
        np.testing.assert_array_equal(display.marks_.get_array(), clusterer.prototype_levels_)
        texts = [(*text.get_position(), text.get_text()) for text in display.ax_.texts]
        levels = map(str, clusterer.prototype_levels_)
        assert texts == [(*place, level) for place, level in zip(places, levels, strict=True)]
        leaves = display.tree.leaves
        framed = leaves[np.isin(leaves, clusterer.prototype_nodes_)]
        centers = [p.get_x() + p.get_width() / 2 for p in display.strip_ax_.patches]
        np.testing.assert_allclose(centers, display.positions_[framed, 0])

    @pytest.mark.parametrize("picture", ["centroid", "nearest"])
    def test_pictures_of_the_leaves(self, digits, digits_distiller, picture):
        X, y = digits
        display = HierarchyDisplay.from_estimator(digits_distiller, X, y, label=8, picture=picture)
        X = X[y == 8]
        Z = encoded(digits_distiller, X)
        expected = []
        for leaf in display.tree.leaves:
            members = display.tree.members(leaf)
            mean = Z[members].mean(axis=0)
            if picture == "nearest":
                found = members[np.linalg.norm(Z[members] - mean, axis=1).argmin()]
                expected.append(as_bytes(X[found]))
            else:
                z = torch.from_numpy(mean).reshape(1, *digits_distiller.backbone_.latent_shape)
                x = digits_distiller.backbone_.decode(z, lambda f, z: f(z))[0, 0]
                expected.append(as_bytes(np.clip(x, -1, 1) * 8 + 8))
        assert_same_pictures(drawn(display.images_), expected)
        self.check_under_the_leaves(display)

    def check_under_the_leaves(self, display):
        """Pictures are square, side by side below the axes, each below its own leaf."""
        display.figure_.canvas.draw()
        boxes = [image.get_window_extent() for image in display.images_]
        floor = display.ax_.get_window_extent().y0
        x, _ = display.ax_.transData.transform(display.positions_[display.tree.leaves]).T
        for box, place in zip(boxes, x, strict=True):
            assert box.width == pytest.approx(box.height, rel=1e-3)
            assert box.y1 == pytest.approx(floor, abs=0.5)
            assert (box.x0 + box.x1) / 2 == pytest.approx(place, abs=0.5)
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
        counts = {text.get_text() for text in display.strip_ax_.texts}
        assert counts == {"rows", *map(str, display.tree.size[display.tree.leaves])}

    @pytest.mark.parametrize("picture", ["centroid", "nearest"])
    def test_images_beside_a_hierarchy(self, digits, picture):
        X, y = digits
        flat = X.reshape(len(X), -1)
        hierarchy = HierarchicalIPC(ipc=3, random_state=0).fit(flat, y)
        display = HierarchyDisplay.from_estimator(
            hierarchy, flat, label=8, images=X, picture=picture
        )
        expected = []
        for leaf in display.tree.leaves:
            members = display.tree.members(leaf)
            assert set(y[members]) == {8}
            mean = X[members].mean(axis=0)
            distances = np.linalg.norm(flat[members] - mean.ravel(), axis=1)
            chosen = X[members[distances.argmin()]] if picture == "nearest" else mean
            expected.append(as_bytes(chosen))
        assert_same_pictures(drawn(display.images_), expected)

    def test_colour(self, colours, colours_distiller):
        display = HierarchyDisplay.from_estimator(colours_distiller, *colours)
        X = colours[0][colours[1] == 3]
        means = [X[display.tree.members(leaf)].mean(axis=0) for leaf in display.tree.leaves]
        assert_same_pictures(drawn(display.images_), as_bytes(means))

    def test_tables_have_counts_and_no_pictures(self, iris, iris_distiller):
        display = HierarchyDisplay.from_estimator(iris_distiller, *iris, label="versicolor")
        assert display.images_ == []
        assert len(display.strip_ax_.patches) == 0
        counts = [text.get_text() for text in display.strip_ax_.texts[:-1]]
        assert counts == [str(n) for n in display.tree.size[display.tree.leaves]]
        assert sum(map(int, counts)) == 50

    def test_a_long_title_is_cut_beside_the_legend(self, iris):
        names = np.array(["a", "b", "Iris virginica, the southern blue flag"])[
            np.unique(iris[1], return_inverse=True)[1]
        ]
        hierarchy = HierarchicalIPC(ipc=3, random_state=0).fit(iris[0], names)
        display = HierarchyDisplay.from_estimator(hierarchy, iris[0], label=names[-1])
        display.ax_.figure.canvas.draw()
        title = display.ax_.get_title(loc="left")
        assert title == "class Iris virginica, the s..."
        box = display.ax_._left_title.get_window_extent()
        assert box.x1 < display.ax_.get_legend().get_window_extent().x0

    def test_a_tree_of_one_leaf(self, digits):
        distiller = distil(*digits, backbone="digits", ipc=1)
        display = HierarchyDisplay.from_estimator(distiller, *digits)
        assert display.positions_.tolist() == [[0, 0]]
        assert display.marks_.get_array().tolist() == [0]
        self.check_under_the_leaves(display)

    def test_errors(self, iris, iris_distiller, digits, digits_distiller):
        hierarchy = HierarchicalIPC(ipc=2).fit(*iris)
        with pytest.raises(ValueError, match="picture='mean' must be 'centroid' or 'nearest'"):
            HierarchyDisplay.from_estimator(hierarchy, iris[0], picture="mean")
        with pytest.raises(ValueError, match=r"label='rose' must be one of .*'setosa'"):
            HierarchyDisplay.from_estimator(hierarchy, iris[0], label="rose")
        with pytest.raises(ValueError, match="X has 10 rows.* 150 rows"):
            HierarchyDisplay.from_estimator(hierarchy, iris[0][:10])
        with pytest.raises(ValueError, match="images has 10 rows"):
            HierarchyDisplay.from_estimator(hierarchy, iris[0], images=np.zeros((10, 8, 8)))
        with pytest.raises(ValueError, match="y=None"):
            HierarchyDisplay.from_estimator(iris_distiller, iris[0])
        with pytest.raises(ValueError, match="images is for a HierarchicalIPC"):
            HierarchyDisplay.from_estimator(digits_distiller, *digits, images=digits[0])
        flat = distil(*iris, clusterer=KMeans())
        with pytest.raises(ValueError, match=r"clusterer=KMeans.* grows no tree; HierarchicalIPC"):
            HierarchyDisplay.from_estimator(flat, *iris)


class TestRecordRun:
    @pytest.mark.parametrize(
        "params",
        [
            {},
            {"backbone": "digits"},
            {"backbone": "digits", "refiner": "passthrough"},
            {"backbone": "digits", "init_noise": 0.6, "scheduler": "HeunDiscreteScheduler"},
            {"tangents": "posterior", "normal_strength": 0.5, "kernel": "laplace"},
            {"clusterer": KMeans(), "projector": "passthrough", "bandwidth": 2.0},
            {"guidance_form": "paper", "clip_guidance": False, "strength": 0.1},
            {"annealing": None, "guidance_interval": (0.3, 0.9), "guidance_scale": 2.0},
            {"strength": 0},
            {"init_noise": 0.0},
            {"backbone": "digits", "class_map": {3: "8", 8: "3"}},
        ],
    )
    def test_it_is_the_run_that_sample_makes(self, digits, params):
        X, y = digits
        # Fractions, so that samples are not rounded to whole numbers.
        distiller = distil(X[::3] / 16, y[::3], **params)
        X_syn, y_syn = distiller.sample()
        run = record_run(distiller, 8)
        backbone = distiller.backbone_
        z = torch.from_numpy(run.latents).reshape(-1, *backbone.latent_shape)
        x = backbone.decode(z, lambda f, z: f(z)).reshape(-1, 8, 8)
        np.testing.assert_allclose(np.clip((x + 1) / 2, 0, 1), X_syn[y_syn == 8], atol=1e-4)

    def test_samples_from_the_first_on(self, iris_distiller):
        run, all_of_them = record_run(iris_distiller, n_samples=2), record_run(iris_distiller)
        assert run.latents.shape == (2, 4)
        np.testing.assert_allclose(run.latents, all_of_them.latents[:2])
        for n in (0, 5):
            with pytest.raises(ValueError, match=f"n_samples={n} must be from 1 to 4"):
                record_run(iris_distiller, n_samples=n)

    def test_the_first_ones_are_refined_as_in_the_whole_class(self, digits):
        distiller = distil(digits[0][::3], digits[1][::3], backbone="digits")
        first, all_of_them = record_run(distiller, n_samples=1), record_run(distiller)
        np.testing.assert_array_equal(first.latents, all_of_them.latents[:1])
        np.testing.assert_array_equal(first.predictions, all_of_them.predictions[:, :1])

    def test_more_samples_than_centroids_use_them_again(self):
        X = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [5.0, 5.0], [6.0, 5.0], [5.0, 6.0]])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            distiller = distil(np.repeat(X, 3, axis=0), np.repeat([0, 1], 9), ipc=5)
        run = record_run(distiller, 1)
        np.testing.assert_array_equal(run.centroids[3:], run.centroids[:2])

    def test_pulls_and_radii(self, iris):
        projector = TangentProjector(n_components=2, n_neighbors=7, radius=1.5)
        distiller = distil(*iris, strength=0.8, bandwidth=1.25, projector=projector, warm_steps=3)
        run = record_run(distiller, "versicolor")
        assert run.guided.tolist() == [True] * 5 + [False] * 5
        Z = distiller.projectors_[1].reference_
        distances = np.linalg.norm(run.centroids[:, None] - Z, axis=2)
        unit = np.sort(distances, axis=1)[:, 6]
        for step, multiple in enumerate([2, 2 ** (2 / 3), 2 ** (1 / 3), 1, 1]):
            radius = 1.5 * multiple * unit
            np.testing.assert_allclose(run.radius[step], radius)
            weight = 0.8 / 1.25**2
            pull = weight * (run.centroids - run.predictions[step])
            np.testing.assert_allclose(run.mode_pull[step], np.linalg.norm(pull, axis=1))
            for i in range(len(pull)):
                # The principal directions of what is within the radius.
                inside = Z[distances[i] <= radius[i] * (1 + 1e-12)]
                basis = PCA(2).fit(inside).components_
                along = pull[i] @ basis.T @ basis
                assert run.tangential_pull[step, i] == pytest.approx(np.linalg.norm(along))
                removed = np.linalg.norm(pull[i] - along)
                assert run.removed_pull[step, i] == pytest.approx(removed)
                np.testing.assert_allclose(
                    run.corrected[step, i], run.predictions[step, i] + along, atol=1e-12
                )
        assert np.isnan(run.radius[5:]).all()
        assert not run.mode_pull[5:].any()
        np.testing.assert_array_equal(run.corrected[5:], run.predictions[5:])

    def test_the_pull_to_the_plane_is_told_apart(self):
        basis = torch.tensor([[[1.0, 0.0]]])
        tangent = PreparedTangents(torch.zeros(1, 1, 2), basis[None])
        targets = Targets(torch.tensor([[4.0, 4.0]]), torch.ones(1), tangent)
        guidance = RecordingGuidance(Guidance(strength=0.5, normal_strength=1.0))
        assert guidance.covers(0.2)
        x0 = torch.tensor([[0.0, 100.0]])
        corrected = guidance.correct(x0, x0, 0.5, 3, targets)
        torch.testing.assert_close(corrected, torch.tensor([[2.0, 0.0]]))
        (step,) = guidance.steps
        assert step.number == 3
        np.testing.assert_allclose(step.mode, [[2.0, -48.0]])
        np.testing.assert_allclose(step.tangential, [[2.0, 0.0]])
        assert guidance.covers(0.7)
        torch.testing.assert_close(guidance.correct(x0, x0, 0.5, 4, targets), x0)
        assert guidance.steps[1].number is None


class TestLatentDisplay:
    @pytest.fixture
    def run(self, iris_distiller):
        return record_run(iris_distiller, "virginica")

    @pytest.fixture
    def display(self, iris_distiller, run):
        return LatentDisplay.from_estimator(iris_distiller, run=run)

    @pytest.fixture
    def plane(self, iris_distiller, display):
        """The principal plane, with the signs that the display happened to draw."""
        Z = iris_distiller.projectors_[2].reference_
        pca = PCA(2).fit(Z)
        pca.components_ *= np.sign(np.sum(display.real * pca.transform(Z), axis=0))[:, None]
        return pca

    def test_points_are_in_the_principal_plane(self, iris_distiller, run, display, plane):
        for artist, latents in (
            (display.real_, iris_distiller.projectors_[2].reference_),
            (display.centroids_, iris_distiller.cluster_centers_[8:]),
            (display.synthetic_, run.latents),
        ):
            np.testing.assert_allclose(artist.get_offsets(), plane.transform(latents), atol=1e-9)
        share = f"{plane.explained_variance_ratio_[0]:.0%}"
        assert share in display.ax_.get_xlabel()
        assert display.ax_.get_aspect() == 1.0
        for tie, ends in zip(
            display.ties_.get_segments(), zip(run.centroids, run.latents, strict=True), strict=True
        ):
            np.testing.assert_allclose(tie, plane.transform(ends), atol=1e-9)

    def test_regions_are_the_leaves(self, iris_distiller, display):
        tree = iris_distiller.clusterers_[2].trees_[0]
        colors = display.real_.get_facecolors()
        large = [leaf for leaf in tree.leaves if tree.size[leaf] >= 3]
        assert len(display.hulls_) == len(large)
        hulls = [matplotlib.path.Path(hull.get_xy()) for hull in display.hulls_]
        for leaf in large:
            members = tree.members(leaf)
            assert len(np.unique(colors[members], axis=0)) == 1
            points = display.real[members]
            (hull,) = [
                hull
                for hull in hulls
                if len(hull.vertices) - 1 <= len(points)
                and all(np.isclose(points, v).all(axis=1).any() for v in hull.vertices)
            ]
            centre = points.mean(axis=0)
            assert hull.contains_points(centre + 0.999 * (points - centre)).all()

    def test_trajectories_lead_to_the_samples(self, run, display, plane):
        assert len(display.trajectories_) == 2 * len(run.latents)
        guided, unguided = display.trajectories_[2:4]
        corrected = plane.transform(run.corrected[:, 1])
        np.testing.assert_allclose(guided.get_xydata(), corrected[:5], atol=1e-9)
        np.testing.assert_allclose(unguided.get_xydata()[:-1], corrected[4:], atol=1e-9)
        np.testing.assert_allclose(unguided.get_xydata()[-1], display.synthetic[1])
        assert (guided.get_linestyle(), unguided.get_linestyle()) == ("-", ":")

    def test_each_stretch_of_the_run_has_its_style(self, iris):
        distiller = distil(*iris, guidance_interval=(0.3, 0.6), ipc=1)
        display = LatentDisplay.from_estimator(distiller)
        styles = [line.get_linestyle() for line in display.trajectories_]
        assert styles == [":", "-", ":"]
        guided = np.flatnonzero(display.guided)
        lengths = [len(line.get_xdata()) for line in display.trajectories_]
        assert lengths == [guided[0], len(guided) + 1, len(display.guided) - guided[-1] + 1]

    def test_trajectories_can_be_left_away(self, iris_distiller, run):
        display = LatentDisplay.from_estimator(iris_distiller, run=run, trajectories=False)
        assert display.trajectories_ == []
        assert "guided prediction" not in legend(display.ax_)

    @pytest.mark.parametrize("layout", ["constrained", "tight"])
    def test_a_layout_keeps_the_legend_off_the_neighbour(self, iris_distiller, run, layout):
        figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout=layout)
        for ax in axes:
            LatentDisplay.from_estimator(iris_distiller, run=run, ax=ax)
        figure.canvas.draw()
        box = axes[0].get_legend().get_window_extent()
        assert box.x1 < axes[1].get_window_extent().x0
        assert all(figure.bbox.contains(x, y) for x, y in box.get_points())

    def test_digits(self, digits):
        plain = distil(*digits, backbone="digits", refiner="passthrough")
        display = LatentDisplay.from_estimator(plain, label=8)
        assert len(display.synthetic) == len(display.centroids) == 4
        assert display.ax_.get_title("left") == "class 8"
        # To the last step's prediction there is hardly any noise left to take away.
        last = [line.get_xydata()[-2:] for line in display.trajectories_[1::2]]
        assert np.abs(np.diff(last, axis=1)).max() < 0.05 * np.ptp(display.real)

    def test_clusters_of_another_clusterer(self, iris):
        distiller = distil(*iris, clusterer=KMeans())
        display = LatentDisplay.from_estimator(distiller)
        np.testing.assert_array_equal(display.regions, distiller.clusterers_[0].labels_)

    def test_fewer_than_two_directions(self):
        X, y = np.array([[0.0], [1.0], [2.0], [9.0]]), np.array([0, 0, 0, 1])
        distiller = distil(X, y, ipc=1)
        line = LatentDisplay.from_estimator(distiller, label=0)
        np.testing.assert_array_equal(line.explained, [1, 0])
        assert not line.real[:, 1].any()
        assert line.hulls_ == []
        point = LatentDisplay.from_estimator(distiller, label=1)
        np.testing.assert_array_equal(point.real, [[0, 0]])

    def test_a_run_of_another_class(self, iris_distiller, run):
        with pytest.raises(ValueError, match="label='setosa' must be .* 'virginica', or None"):
            LatentDisplay.from_estimator(iris_distiller, label="setosa", run=run)


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


class TestGuidanceDisplay:
    @pytest.mark.parametrize("which", ["iris_distiller", "digits_distiller", "colours_distiller"])
    def test_curves(self, which, request):
        distiller = request.getfixturevalue(which)
        run = record_run(distiller)
        display = GuidanceDisplay.from_estimator(distiller, run=run)
        centroids = distiller.cluster_centers_[:4]
        expected = {
            "mode_pull": run.mode_pull,
            "tangential_pull": run.tangential_pull,
            "removed_pull": run.removed_pull,
            "distance_before": np.linalg.norm(run.predictions - centroids, axis=2),
            "distance_after": np.linalg.norm(run.corrected - centroids, axis=2),
            "radius": run.radius,
        }
        assert display.lines_.keys() == expected.keys()
        for name, values in expected.items():
            steps, line = display.lines_[name].get_data()
            np.testing.assert_array_equal(steps, np.arange(10))
            if not name.startswith("distance"):
                assert np.isnan(line[5:]).all()
                values, line = values[:5], line[:5]
            np.testing.assert_allclose(line, np.median(values, axis=1), rtol=1e-5)
            band = display.bands_[name].get_paths()[0].vertices[:, 1]
            assert band.max() == pytest.approx(np.quantile(values, 0.75, axis=1).max(), rel=1e-5)
            assert band.min() == pytest.approx(np.quantile(values, 0.25, axis=1).min(), rel=1e-5)

    def test_the_pull_lies_between_the_distances(self, iris_distiller):
        # With a kernel of constant rate 1 and strength 0.5, half of the way.
        display = GuidanceDisplay.from_estimator(iris_distiller, label="setosa")
        curves = display.curves_
        np.testing.assert_allclose(curves["mode_pull"][:5], curves["distance_before"][:5] / 2)
        squares = curves["tangential_pull"] ** 2 + curves["removed_pull"] ** 2
        np.testing.assert_allclose(squares, curves["mode_pull"] ** 2)

    def test_the_stop_is_marked(self, iris_distiller):
        display = GuidanceDisplay.from_estimator(iris_distiller)
        assert display.stop_step_ == 5
        for ax in display.axes_:
            (shade,) = ax.patches
            assert (shade.get_x(), shade.get_x() + shade.get_width()) == (-0.5, 4.5)
            assert any(np.array_equal(line.get_xdata(), [4.5, 4.5]) for line in ax.lines)
        (text,) = display.axes_[0].texts
        assert text.get_text() == "guidance stops\nat step 5"

    def test_guidance_to_the_end_has_no_stop(self, iris):
        distiller = distil(*iris, guidance_interval=(0.5, 1.0))
        display = GuidanceDisplay.from_estimator(distiller)
        assert display.stop_step_ is None
        assert len(display.axes_[0].texts) == 0
        assert display.axes_[0].patches[0].get_x() == 4.5

    def test_without_guidance_nothing_is_shaded(self, iris):
        display = GuidanceDisplay.from_estimator(distil(*iris, strength=0))
        assert display.stop_step_ is None
        assert not any(len(ax.patches) for ax in display.axes_)
        assert "radius" not in display.lines_
        assert np.isnan(display.lines_["mode_pull"].get_ydata()).all()

    def test_without_a_projection_nothing_is_removed_and_there_is_no_radius(self, iris):
        display = GuidanceDisplay.from_estimator(distil(*iris, projector="passthrough"))
        assert "radius" not in display.lines_
        assert not display.curves_["removed_pull"][:5].any()

    def test_steps_are_whole_numbers(self, iris):
        display = GuidanceDisplay.from_estimator(distil(*iris, num_inference_steps=20))
        for ax in display.axes_:
            np.testing.assert_array_equal(ax.get_xticks() % 1, 0)

    def test_one_sample(self, iris):
        display = GuidanceDisplay.from_estimator(distil(*iris, ipc=1))
        assert display.curves_["mode_pull"].shape == (10, 1)

    def test_two_axes_or_one_in_their_place(self, iris_distiller):
        run = record_run(iris_distiller)
        figure, axes = plt.subplots(2)
        display = GuidanceDisplay.from_estimator(iris_distiller, run=run, ax=axes)
        assert list(display.axes_) == list(axes)
        assert display.figure_ is figure
        assert [ax.get_xlim() for ax in axes] == [(-0.5, 9.5)] * 2
        figure, ax = plt.subplots()
        display = GuidanceDisplay.from_estimator(iris_distiller, run=run, ax=ax)
        figure.canvas.draw()
        upper, lower = (inner.get_window_extent() for inner in display.axes_)
        outer = ax.get_window_extent()
        assert lower.y0 == pytest.approx(outer.y0)
        assert lower.y1 < upper.y0
        assert upper.y1 == pytest.approx(outer.y1)
        _, axes = plt.subplots(3)
        with pytest.raises(ValueError, match="ax holds 3 axes; it must be one or two"):
            display.plot(axes)

    def test_a_run_without_steps(self, iris):
        with pytest.raises(ValueError, match="init_noise must leave some"):
            GuidanceDisplay.from_estimator(distil(*iris, init_noise=0.0))


def words(figure):
    """The texts that are on the canvas; ticks beyond the limits have some that are not."""
    hidden = []
    for ax in figure.findobj(matplotlib.axes.Axes):
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in axis.findobj(matplotlib.axis.Tick):
                if not (ax.axison and low <= tick.get_loc() <= high):
                    hidden += [tick.label1, tick.label2]
    return [
        text
        for text in figure.findobj(matplotlib.text.Text)
        if text.get_visible() and text.get_text().strip() and text not in hidden
    ]


def show(kind, distiller, X, y, **options):
    needs_rows = kind in (DistilledGrid, HierarchyDisplay)
    return kind.from_estimator(distiller, *((X, y) if needs_rows else ()), **options)


@pytest.mark.parametrize("kind", DISPLAYS)
class TestAll:
    @pytest.mark.parametrize("ipc", [1, 10])
    @pytest.mark.parametrize("which", ["iris", "digits", "colours"])
    def test_words_are_apart_and_inside_the_figure(self, kind, which, ipc, request):
        X, y = request.getfixturevalue(which)
        backbone = "digits" if which == "digits" else "closed-form"
        display = show(kind, distil(X, y, backbone=backbone, ipc=ipc), X, y)
        figure = display.figure_
        assert figure.get_dpi() == 100
        figure.canvas.draw()
        texts = words(figure)
        inside = figure.bbox.padded(1)
        boxes = {text: text.get_window_extent() for text in texts}
        for text, box in boxes.items():
            assert inside.contains(box.x0, box.y0), text
            assert inside.contains(box.x1, box.y1), text
            assert text.get_fontsize() >= 8
        for one, other in itertools.combinations(texts, 2):
            if one.get_rotation() % 90 == other.get_rotation() % 90 == 0:
                assert not boxes[one].padded(-1).overlaps(boxes[other].padded(-1)), (one, other)

    def test_dollars_are_text(self, kind, iris):
        X, y = iris
        X = X.set_axis(["$_$", "d $1$", "e", "f"], axis=1)
        y = np.char.add("$_$", y)
        display = show(kind, distil(X, y), X, y)
        # An odd number of dollars is none to matplotlib, an even one mathematics.
        display.figure_.canvas.draw()
        texts = [text.get_text() for text in words(display.figure_)]
        assert any(r"\$_\$setosa" in text for text in texts)
        assert not any("$" in text.replace(r"\$", "") for text in texts)

    def test_axes_in_axes_out(self, kind, iris, iris_distiller):
        figure, ax = plt.subplots()
        display = show(kind, iris_distiller, *iris, ax=ax)
        assert display.figure_ is figure
        assert plt.get_fignums() == [figure.number]
        if kind is not GuidanceDisplay:
            assert display.ax_ is ax

    def test_plotting_again(self, kind, iris, iris_distiller):
        display = show(kind, iris_distiller, *iris)
        first = display.figure_
        assert display.plot() is display
        assert display.figure_ is not first

    def test_without_matplotlib(self, kind, iris, iris_distiller, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        with pytest.raises(ImportError, match=rf"{kind.__name__} needs .*'skdistill\[plot\]'"):
            show(kind, iris_distiller, *iris)

    def test_what_is_no_fitted_distiller(self, kind, iris):
        with pytest.raises(NotFittedError):
            show(kind, ManifoldGDDistiller(), *iris)
        with pytest.raises(TypeError, match="must be a fitted ManifoldGDDistiller"):
            show(kind, KMeans(2).fit(iris[0]), *iris)


def test_importing_the_displays_does_not_import_matplotlib():
    code = "import sys, skdistill.plotting; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_hierarchy_without_classes_has_no_title(iris):
    X, y = iris
    display = HierarchyDisplay.from_estimator(HierarchicalIPC(5).fit(X), X)
    assert display.ax_.get_title("left") == ""
    display = HierarchyDisplay.from_estimator(HierarchicalIPC(5).fit(X, y), X, y, label="setosa")
    assert display.ax_.get_title("left") == "class setosa"
