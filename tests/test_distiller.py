import pickle
import subprocess
import sys
import warnings

import diffusers
import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import write_dit_folder
from sklearn.base import clone
from sklearn.cluster import DBSCAN, BisectingKMeans, KMeans
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from skdistill import HierarchicalIPC, ManifoldGDDistiller, TangentProjector
from skdistill.backbones import ClosedFormBackbone, DiTBackbone
from skdistill.datasets import load_digits_split
from skdistill.generate import BatchedCalls


@parametrize_with_checks([ManifoldGDDistiller()])
def test_scikit_learn_contract(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def iris():
    return load_iris(return_X_y=True)


def distil(X, y, **params):
    # What is tested here comes before the refining.
    params = {"refiner": "passthrough", "num_inference_steps": 10, **params}
    params = {"ipc": 3, "random_state": 0, **params}
    distiller = ManifoldGDDistiller(**params)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Images through the closed-form")
        warnings.filterwarnings("ignore", "The VAE of backbone")
        return distiller.fit(X, y)


class TestSample:
    def test_shapes_labels_and_order(self, iris):
        X_syn, y_syn = distil(*iris).sample()
        assert X_syn.shape == (9, 4)
        assert y_syn.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]

    def test_two_calls_give_the_same_set(self, iris):
        distiller = distil(*iris, random_state=None)
        np.testing.assert_array_equal(distiller.sample()[0], distiller.sample()[0])

    def test_a_seed_fixes_the_set_and_another_changes_it(self, iris):
        first, same, other = (distil(*iris, random_state=s).sample()[0] for s in (1, 1, 2))
        np.testing.assert_array_equal(first, same)
        assert not np.allclose(first, other)

    @pytest.mark.parametrize("tangents", ["prepared", "posterior"])
    @pytest.mark.parametrize("batch_size", [1, 7, 100])
    def test_the_set_does_not_depend_on_the_batch_size(self, iris, batch_size, tangents):
        options = {"tangents": tangents, "strength": 0.5}
        expected, _ = distil(*iris, **options).sample()
        actual, _ = distil(*iris, batch_size=batch_size, **options).sample()
        np.testing.assert_allclose(actual, expected, rtol=1e-4)

    @pytest.mark.parametrize("batch_size", [1, 7])
    def test_nor_do_refined_rows_of_float32(self, batch_size):
        X, y = load_breast_cancer(return_X_y=True)
        data = X.astype(np.float32), y
        expected, _ = distil(*data, refiner=None).sample()
        actual, _ = distil(*data, refiner=None, batch_size=batch_size).sample()
        np.testing.assert_allclose(
            actual / X.std(axis=0), expected / X.std(axis=0), rtol=1e-4, atol=1e-4
        )

    @pytest.mark.parametrize("batch_size", [1, 7, 100])
    def test_nor_do_images_of_a_network(self, dit_folder, small_images, batch_size):
        X, y = small_images[0].astype(np.float32), small_images[1]
        expected, _ = distil(X, y, backbone=dit_folder).sample()
        actual, _ = distil(X, y, backbone=dit_folder, batch_size=batch_size).sample()
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4 * 255)

    def test_the_set_does_not_depend_on_the_number_of_jobs(self, dit_folder, small_images):
        X, y = small_images[0].astype(np.float32), small_images[1]
        options = {"backbone": dit_folder, "batch_size": 4}
        expected, _ = distil(X, y, n_jobs=1, **options).sample()
        actual, _ = distil(X, y, n_jobs=2, **options).sample()
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4 * 255)

    def test_a_smaller_budget_is_the_beginning_of_a_larger_one(self, iris):
        distiller = distil(*iris)
        X_3, y_3 = distiller.sample()
        X_2, y_2 = distiller.sample(ipc=2)
        for k in range(3):
            np.testing.assert_allclose(X_2[y_2 == k], X_3[y_3 == k][:2])

    def test_a_larger_budget_grows_the_tree_that_a_larger_fit_would_have(self, iris):
        small, large = distil(*iris, ipc=2), distil(*iris, ipc=8)
        centers = small.cluster_centers_.copy()
        np.testing.assert_allclose(small.sample(ipc=8)[0], large.sample()[0])
        np.testing.assert_array_equal(small.cluster_centers_, centers)

    def test_other_clusterers_are_used_again_from_the_first(self, iris):
        distiller = distil(*iris, ipc=2, clusterer=KMeans())
        plan = distiller._plan(5)
        assert plan.assigned[:5].tolist() == [0, 1, 0, 1, 0]
        X_syn, _ = distiller.sample(ipc=5)
        assert len(np.unique(X_syn, axis=0)) == 15

    def test_budgets_may_differ_by_class(self, iris):
        distiller = distil(*iris, ipc={0: 1, 1: 4, 2: 2})
        assert np.bincount(distiller.sample()[1]).tolist() == [1, 4, 2]
        assert np.bincount(distiller.sample({0: 2, 1: 2, 2: 1})[1]).tolist() == [2, 2, 1]

    def test_classes_with_fewer_rows_than_their_budget(self):
        X = np.random.default_rng(0).normal(size=(33, 3))
        X[31:] = X[30]
        y = np.array([0] * 30 + [1] * 3)
        X_syn, y_syn = distil(X, y, ipc=5).sample()
        assert np.bincount(y_syn).tolist() == [5, 5]
        assert np.isfinite(X_syn).all()

    def test_strength_brings_samples_to_their_centroids(self, iris):
        distances = []
        for strength in (0.0, 0.3, 1.0):
            distiller = distil(
                *iris,
                ipc=10,
                strength=strength,
                projector="passthrough",
                guidance_interval=(0.0, 0.9),
            )
            z = distiller.backbone_.encode(distiller.sample()[0])
            distances.append(np.linalg.norm(z - distiller.cluster_centers_, axis=1).mean())
        assert distances[0] > distances[1] > distances[2]

    def test_the_defaults_leave_samples_of_tables_nearer_to_their_centroids_than_chance(self, iris):
        """Where guidance ends, noise must not be so large that all of it is forgotten."""
        distances = []
        for strength in (0.0, 1.0):
            distiller = ManifoldGDDistiller(5, strength=strength, random_state=0).fit(*iris)
            z = distiller.backbone_.encode(distiller.sample()[0])
            distances.append(np.linalg.norm(z - distiller.cluster_centers_, axis=1).mean())
        assert distances[1] < 0.5 * distances[0]

    def test_zero_strength_is_unguided_whatever_else_is_set(self, iris):
        plain, _ = distil(*iris, strength=0).sample()
        other, _ = distil(
            *iris, strength=0, kernel="imq", annealing=None, clusterer=KMeans(), bandwidth=3.0
        ).sample()
        np.testing.assert_array_equal(plain, other)

    def test_each_setting_of_guidance_changes_the_set(self, iris):
        # Of four features, the distiller's own tangent spaces leave nothing out.
        common = {"strength": 0.5, "projector": TangentProjector()}
        plain, _ = distil(*iris, **common).sample()
        for settings in (
            {"kernel": "laplace"},
            {"kernel": "imq"},
            {"kernel": "imq", "bandwidth": 0.3},
            {"normal_strength": 0.5},
            {"guidance_interval": (0.0, 0.9)},
            {"guidance_form": "paper"},
            {"tangents": "posterior"},
            {"annealing": None},
            {"annealing": "linear", "warm_steps": 2},
            {"max_radius": 5.0},
            {"projector": TangentProjector(n_components=1)},
            {"projector": "passthrough"},
            {"clusterer": HierarchicalIPC()},
            {"clusterer": BisectingKMeans()},
            {"init_noise": 0.9},
            {"scheduler": "DDIMScheduler"},
            {"scheduler": diffusers.DDIMScheduler(num_train_timesteps=500)},
            {"guidance_scale": 2.0},
        ):
            other, _ = distil(*iris, **common | settings).sample()
            assert not np.allclose(plain, other), settings


class TestInitNoise:
    """Samples that start from their noised centroids."""

    SCHEDULERS = (
        "DDIMScheduler",
        "DDPMScheduler",
        "EulerDiscreteScheduler",
        "DPMSolverMultistepScheduler",
        "HeunDiscreteScheduler",
        "PNDMScheduler",
        "UniPCMultistepScheduler",
    )

    @pytest.mark.parametrize("strength", [0.0, 0.5])
    def test_without_noise_the_one_centroid_of_a_class_is_its_mean(self, iris, strength):
        X, y = iris
        options = {"ipc": 1, "init_noise": 0.0, "strength": strength}
        X_syn, _ = distil(X, y, clusterer=KMeans(), **options).sample()
        np.testing.assert_allclose(X_syn, [X[y == k].mean(axis=0) for k in range(3)], rtol=1e-6)

    @pytest.mark.parametrize("scheduler", [None, *SCHEDULERS])
    def test_without_noise_samples_are_the_decoded_centroids(
        self, dit_folder, small_images, scheduler
    ):
        X, y = small_images[0] / 255.0, small_images[1]
        distiller = distil(X, y, backbone=dit_folder, init_noise=0.0, scheduler=scheduler)
        latents = torch.from_numpy(distiller.cluster_centers_).reshape(9, 4, 4, 4)
        decoded = distiller.backbone_.decode(latents, BatchedCalls(9))
        expected = np.clip((decoded[:, 0] + 1) / 2, 0, 1)
        np.testing.assert_allclose(distiller.sample()[0], expected, atol=1e-6)

    @pytest.mark.parametrize("scheduler", SCHEDULERS)
    def test_samples_leave_their_centroids_the_more_noise_they_get(self, iris, scheduler):
        distiller = distil(
            *iris, ipc=15, clusterer=KMeans(), strength=0.0, scheduler=scheduler
        ).set_params(num_inference_steps=50)
        distances = []
        for init_noise in (0.02, 0.2, 0.5, 0.9):
            z = distiller.backbone_.encode(distiller.set_params(init_noise=init_noise).sample()[0])
            distances.append(np.linalg.norm(z - distiller.cluster_centers_, axis=1).mean())
        assert distances == sorted(distances)
        assert 0 < distances[0] < 0.3 * distances[-1]

    @pytest.mark.parametrize(
        "scheduler", ["DDPMScheduler", "PNDMScheduler", "LMSDiscreteScheduler"]
    )
    @pytest.mark.parametrize("settings", [{"batch_size": 1}, {"batch_size": 4, "n_jobs": 2}])
    def test_the_set_depends_on_neither_batches_nor_jobs(
        self, dit_folder, small_images, scheduler, settings
    ):
        X, y = small_images[0].astype(np.float32), small_images[1]
        options = {"backbone": dit_folder, "init_noise": 0.6, "scheduler": scheduler}
        expected, _ = distil(X, y, **options).sample()
        actual, _ = distil(X, y, **options, **settings).sample()
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4 * 255)

    def test_the_guided_interval_is_that_of_the_whole_run(self, iris):
        def sample(init_noise, **settings):
            options = {"num_inference_steps": 20, "init_noise": init_noise, **settings}
            return distil(*iris, **options).sample()[0]

        late, early = {"strength": 1.0, "guidance_interval": (0.0, 0.5)}, {"strength": 0.0}
        with pytest.warns(
            UserWarning, match=r"No step .* guidance_interval=\(0.0, 0.5\).* 0.599 to "
        ):
            unguided = sample(0.45, **late)
        np.testing.assert_array_equal(unguided, sample(0.45, **early))
        assert not np.allclose(sample(0.7, **late), sample(0.7, **early))

    def test_the_papers_form_pulls_what_starts_in_the_middle(self, iris):
        def distance(strength):
            distiller = distil(
                *iris,
                ipc=10,
                strength=strength,
                guidance_form="paper",
                guidance_interval=(0.0, 0.9),
                projector="passthrough",
                init_noise=0.8,
            )
            z = distiller.backbone_.encode(distiller.sample()[0])
            return np.linalg.norm(z - distiller.cluster_centers_, axis=1).mean()

        assert distance(0.5) < 0.8 * distance(0.0)

    @pytest.mark.parametrize("init_noise", [0.0, 0.35, 1.0])
    @pytest.mark.parametrize("scheduler", SCHEDULERS)
    def test_the_progress_bar_ends_at_its_total(self, iris, monkeypatch, scheduler, init_noise):
        bars = []

        class Bar:
            def __init__(self, iterable, *, total, **options):
                self.total, self.n = total, 0
                bars.append(self)

            def update(self, n=1):
                self.n += n

            def __enter__(self):
                return self

            def __exit__(self, *error):
                pass

        distiller = distil(*iris, scheduler=scheduler, init_noise=init_noise, batch_size=4)
        monkeypatch.setattr("skdistill.distiller.progress_bar", Bar)
        distiller.sample()
        assert bars[0].n == bars[0].total
        assert (bars[0].total == 0) == (init_noise == 0.0)

    @pytest.mark.parametrize("init_noise", [-0.1, 1.5, np.nan, "all", None])
    def test_what_is_no_share_is_refused(self, iris, init_noise):
        with pytest.raises(
            ValueError, match=r"'init_noise' parameter .* in the range \[0.0, 1.0\]"
        ):
            distil(*iris, init_noise=init_noise)


class TestKnownAnswer:
    """Data on a curve in space, whose exact denoiser is nearly known."""

    @staticmethod
    def curve(t):
        return np.column_stack([np.cos(t), np.sin(t), 0.3 * np.sin(2 * t)])

    def measure(self, **params):
        fine = self.curve(np.linspace(0, 2 * np.pi, 3000))
        off_curve, to_centroid = [], []
        for seed in range(4):
            t = np.random.default_rng(seed).uniform(0, 2 * np.pi, 500)
            distiller = distil(
                self.curve(t),
                np.zeros(500, int),
                ipc=15,
                random_state=seed,
                num_inference_steps=50,
                guidance_interval=(0.0, 1.0),
                **params,
            )
            X_syn, _ = distiller.sample()
            centers = distiller.backbone_.decode(torch.from_numpy(distiller.cluster_centers_))
            distances = np.linalg.norm(X_syn[:, None] - fine, axis=2)
            off_curve.append(distances.min(axis=1).mean())
            to_centroid.append(np.linalg.norm(X_syn - centers, axis=1).mean())
        return np.mean(off_curve), np.mean(to_centroid)

    def test_manifold_guidance_stays_nearer_to_the_curve_than_mode_guidance(self):
        unguided = self.measure(strength=0.0)
        mode = self.measure(strength=0.1, projector="passthrough")
        manifold = self.measure(strength=0.1, projector=TangentProjector(n_components=1))
        assert unguided[0] < manifold[0] < 0.6 * mode[0]
        assert mode[1] < manifold[1] < unguided[1]


class TestData:
    @pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32, np.float64])
    def test_images_come_back_in_their_own_terms(self, small_images, dtype):
        X, y = small_images
        X = X.astype(dtype)
        X_syn, _ = distil(X, y).sample()
        assert X_syn.shape == (9, 8, 8)
        assert X_syn.dtype == dtype
        assert X_syn.min() >= X.min()
        assert X_syn.max() <= 255
        # Digits have ink in the middle and none at the left edge.
        assert X_syn[:, 2:6, 3:5].mean() > 60 > 20 > X_syn[:, :, 0].mean()

    def test_colour_images(self, small_images):
        X, y = small_images
        X_syn, _ = distil(np.stack([X, X // 2, 0 * X], axis=-1), y).sample()
        assert X_syn.shape == (9, 8, 8, 3)
        assert X_syn[..., 0].mean() > X_syn[..., 1].mean() > X_syn[..., 2].mean()

    def test_flat_rows_are_the_images_they_flatten(self, dit_folder, small_images):
        X, y = small_images
        images, _ = distil(X, y, backbone=dit_folder).sample()
        rows, _ = distil(X.reshape(40, 64), y, backbone=dit_folder, image_shape=(8, 8)).sample()
        np.testing.assert_array_equal(rows, images.reshape(9, 64))

    def test_floats_within_the_unit_interval_stay_there(self, small_images):
        X, y = small_images[0] / 255.0, small_images[1]
        X_syn, _ = distil(X, y).sample()
        assert X_syn.min() >= 0.0
        assert X_syn.max() <= 1.0

    def test_value_range_may_be_given(self, small_images):
        X, y = small_images[0] / 500.0, small_images[1]
        distiller = distil(X, y, value_range=(0, 0.51))
        assert distiller.value_range_ == (0.0, 0.51)

    @pytest.mark.parametrize("dtype", [">f8", np.longdouble])
    def test_doubles_of_any_kind_are_computed_as_such(self, iris, dtype):
        X, y = iris
        # In single precision all rows would be the same.
        X = 1e9 + X
        expected = distil(X, y).sample()[0]
        samples = distil(X.astype(dtype), y).sample()[0]
        assert samples.dtype == np.dtype(dtype).newbyteorder("=")
        np.testing.assert_array_equal(samples, expected)
        assert len(np.unique(samples, axis=0)) == len(samples)

    def test_tables_of_integers_are_rounded_within_what_was_seen(self):
        rng = np.random.default_rng(0)
        X = np.column_stack([rng.poisson(3, 60), rng.integers(0, 2, 60)])
        X_syn, _ = distil(X, np.arange(60) % 2).sample()
        assert X_syn.dtype == X.dtype
        assert (X_syn >= X.min(axis=0)).all()
        assert (X_syn <= X.max(axis=0)).all()

    def test_labels_may_be_strings(self, iris):
        names = np.array(["setosa", "versicolor", "virginica"])
        X_syn, y_syn = distil(iris[0], names[iris[1]]).sample()
        assert y_syn[::3].tolist() == names.tolist()
        np.testing.assert_array_equal(X_syn, distil(*iris).sample()[0])

    def test_frames_keep_their_columns(self):
        X, y = load_iris(return_X_y=True, as_frame=True)
        distiller = distil(X, y).set_output(transform="pandas")
        assert distiller.feature_names_in_.tolist() == X.columns.tolist()
        frame = distiller.transform(X[:5])
        assert isinstance(frame, pd.DataFrame)
        assert frame.columns.tolist() == X.columns.tolist()
        assert frame.index.equals(X.index[:5])

    def test_samples_come_in_the_container_that_is_asked_for(self, tmp_path):
        X, y = load_iris(return_X_y=True, as_frame=True)
        distiller = distil(X, y)
        expected, _ = distiller.sample(out_dir=tmp_path / "run")
        assert isinstance(expected, np.ndarray)
        distiller.set_output(transform="pandas")
        # Sampled, read back from a complete run, and by transform without rows.
        for frame in (
            distiller.sample()[0],
            distiller.sample(out_dir=tmp_path / "run")[0],
            distiller.transform(),
        ):
            assert frame.columns.tolist() == X.columns.tolist()
            np.testing.assert_array_equal(frame, expected)
        # Without names, and so that what was there before cannot be meant.
        unnamed = distil(X.to_numpy(), y).set_output(transform="pandas")
        assert unnamed.sample()[0].columns.tolist() == ["x0", "x1", "x2", "x3"]

    def test_a_student_may_pick_columns_by_name(self):
        X, y = load_iris(return_X_y=True, as_frame=True)
        petals = make_column_transformer(("passthrough", ["petal width (cm)"]))
        student = make_pipeline(petals, KNeighborsClassifier(1))
        distiller = distil(X, y, student=student).set_output(transform="pandas")
        X_syn, y_syn = distiller.sample()
        assert distiller.score(X, y) == clone(student).fit(X_syn, y_syn).score(X, y) > 0.8

    def test_images_ignore_the_output_container(self, dit_folder, small_images):
        X, y = small_images
        distiller = distil(X, y, backbone=dit_folder).set_output(transform="pandas")
        assert distiller.transform(X[:3]).shape == (3, 8, 8)
        assert isinstance(distiller.sample()[0], np.ndarray)

    def test_a_backbone_knows_values_that_the_images_lack(self):
        X_train, _, y_train, _ = load_digits_split()
        distiller = distil(np.minimum(X_train, 12.0), y_train, backbone="digits", ipc=1)
        assert distiller.value_range_ == (0.0, 16.0)

    def test_resizing_goes_there_and_back(self, tmp_path, small_images):
        X, y = small_images
        folder = write_dit_folder(tmp_path / "dit", image_size=16, channels=3)
        X_syn, _ = distil(X, y, backbone=folder, resize="bilinear").sample()
        assert X_syn.shape == (9, 8, 8)
        assert X_syn.dtype == np.uint8


class TestEstimator:
    def test_score_is_that_of_a_student_on_the_sample(self, iris):
        X, y = iris
        distiller = distil(X, y, ipc=10, student=KNeighborsClassifier(1))
        expected = KNeighborsClassifier(1).fit(*distiller.sample()).score(X, y)
        assert distiller.score(X, y) == expected > 0.8

    def test_score_gives_images_to_students_that_take_them(self, small_images):
        from skdistill.students import ConvNetClassifier

        X, y = small_images
        student = ConvNetClassifier(width=8, steps=5, random_state=0)
        assert 0.0 <= distil(X, y, student=student).score(X, y) <= 1.0

    def test_grid_search_over_guidance(self, iris):
        search = GridSearchCV(
            ManifoldGDDistiller(ipc=3, num_inference_steps=10, random_state=0),
            {"strength": [0.0, 0.3], "projector__n_components": [1, 2]},
            # The distiller is no classifier, so a number would mean folds without shuffling.
            cv=StratifiedKFold(2),
        ).set_params(estimator__projector=TangentProjector())
        search.fit(*iris)
        assert search.best_score_ > 0.7
        assert search.best_estimator_.projectors_[0].n_components in (1, 2)

    def test_pipeline_step(self, iris):
        pipeline = make_pipeline(
            StandardScaler(),
            ManifoldGDDistiller(num_inference_steps=10, random_state=0),
            LogisticRegression(),
        )
        assert pipeline.fit(*iris).score(*iris) > 0.8

    def test_transform_treats_rows_alone(self, iris):
        X, y = iris
        distiller = distil(X, y)
        together = distiller.transform(X[:6])
        alone = np.concatenate([distiller.transform(row[None]) for row in X[:6]])
        np.testing.assert_allclose(together, alone, rtol=1e-6)

    def test_transform_moves_rows_towards_their_centroids(self, iris):
        X, y = iris
        distiller = distil(
            X, y, strength=1.0, guidance_interval=(0.2, 1.0), projector="passthrough"
        )

        def distance(rows):
            z = distiller.backbone_.encode(rows)
            return np.linalg.norm(z[:, None] - distiller.cluster_centers_, axis=2).min(axis=1)

        assert distance(distiller.transform(X)).mean() < 0.1 * distance(X).mean()

    def test_transform_guides_in_the_clean_form(self, iris):
        X, y = iris
        clean, paper = (
            distil(X, y, guidance_form=form).transform(X[:5]) for form in ("clean", "paper")
        )
        np.testing.assert_array_equal(clean, paper)

    def test_transform_takes_each_row_to_its_own_nearest_centroid(self, iris):
        X, y = iris
        distiller = distil(
            X, y, ipc=2, strength=1.0, guidance_interval=(0.2, 1.0), projector="passthrough"
        )
        z = distiller.backbone_.encode(X)
        nearest = np.linalg.norm(z[:, None] - distiller.cluster_centers_, axis=2).argmin(axis=1)
        arrived = distiller.backbone_.encode(distiller.transform(X))
        expected = distiller.cluster_centers_[nearest]
        assert np.abs(arrived - expected).max() < 0.2
        assert len(np.unique(nearest)) == 6

    def test_the_networks_dtype_is_that_which_was_asked_for(self, dit_folder, small_images):
        distiller = distil(*small_images, backbone=dit_folder, dtype="bfloat16")
        assert distiller.backbone_.denoiser.dtype == torch.bfloat16
        assert distiller.cluster_centers_.dtype == np.float32

    def test_a_hub_id_is_asked_for_as_the_caller_says(self, dit_folder, small_images, monkeypatch):
        asked = {}

        def download(name, **options):
            asked.update(options, name=name)
            return str(dit_folder)

        monkeypatch.setattr("skdistill.backbones.folder.snapshot_download", download)
        distiller = distil(
            *small_images, backbone="someone/digits", revision="v2", local_files_only=True
        )
        assert (asked["name"], asked["revision"]) == ("someone/digits", "v2")
        assert asked["local_files_only"]
        assert distiller.backbone_.name == "someone/digits"

    def test_transform_without_rows_is_the_sample(self, iris):
        distiller = distil(*iris)
        np.testing.assert_array_equal(distiller.transform(), distiller.sample()[0])

    def test_transform_of_images_keeps_their_shape(self, dit_folder, small_images):
        X, y = small_images
        guided = distil(X, y, backbone=dit_folder).transform(X[:5])
        assert guided.shape == (5, 8, 8)
        assert guided.dtype == np.uint8

    def test_clone_keeps_parts_and_forgets_the_fit(self, iris):
        distiller = distil(*iris, clusterer=KMeans(), projector=TangentProjector(2))
        copied = clone(distiller)
        assert not hasattr(copied, "clusterers_")
        assert copied.projector.n_components == 2
        assert copied.projector is not distiller.projector
        np.testing.assert_array_equal(copied.fit(*iris).sample()[0], distiller.sample()[0])

    def test_a_backbone_object_is_used_but_not_fitted(self, iris):
        backbone = ClosedFormBackbone(random_state=3)
        distil(*iris, backbone=backbone)
        assert not hasattr(backbone, "mixtures")

    def test_a_loaded_backbone_may_be_given(self, dit_folder, small_images):
        expected, _ = distil(*small_images, backbone=dit_folder).sample()
        actual, _ = distil(*small_images, backbone=DiTBackbone(dit_folder)).sample()
        np.testing.assert_array_equal(actual, expected)

    @pytest.mark.parametrize("kind", ["closed-form", "dit"])
    def test_a_pickle_samples_the_same_in_another_process(
        self, tmp_path, dit_folder, small_images, kind
    ):
        backbone = dit_folder if kind == "dit" else kind
        distiller = distil(*small_images, backbone=backbone)
        joblib.dump(distiller, tmp_path / "distiller.joblib")
        script = (
            "import joblib, numpy as np, sys\n"
            "X, y = joblib.load(sys.argv[1]).sample()\n"
            "np.savez(sys.argv[2], X=X, y=y)\n"
        )
        out = tmp_path / "out.npz"
        command = [sys.executable, "-c", script, tmp_path / "distiller.joblib", out]
        subprocess.run(command, check=True)
        expected, _ = distiller.sample()
        with np.load(out) as arrays:
            # Bytes may round to either side of a half.
            np.testing.assert_allclose(arrays["X"].astype(int), expected, atol=1)
        again, _ = pickle.loads(pickle.dumps(distiller)).sample()
        np.testing.assert_array_equal(again, expected)

    def test_memory_that_runs_out_is_met_with_smaller_batches(self, dit_folder, small_images):
        class Small(DiTBackbone):
            def predict(self, x_t, *conditions):
                if len(x_t) > 2:
                    raise torch.OutOfMemoryError("more than two")
                return super().predict(x_t, *conditions)

        X, y = small_images[0].astype(np.float32), small_images[1]
        expected, _ = distil(X, y, backbone=dit_folder).sample()
        actual, _ = distil(X, y, backbone=Small(dit_folder)).sample()
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4 * 255)


class TestBadInput:
    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_nan_and_infinity(self, iris, value):
        X = iris[0].copy()
        X[3, 1] = value
        with pytest.raises(ValueError, match="NaN|infinity"):
            distil(X, iris[1])
        images = np.zeros((4, 3, 3))
        images[0, 0, 0] = value
        with pytest.raises(ValueError, match="NaN|infinity"):
            distil(images, [0, 0, 1, 1])

    def test_lengths_that_differ(self, iris):
        with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[150, 149\]"):
            distil(iris[0], iris[1][:-1])

    def test_one_dimension(self):
        with pytest.raises(ValueError, match="Expected 2D array, got 1D array"):
            distil(np.arange(10.0), np.arange(10) % 2)

    def test_five_dimensions(self):
        with pytest.raises(ValueError, match=r"X has the shape \(2, 2, 2, 2, 2\); it must be"):
            distil(np.zeros((2, 2, 2, 2, 2)), [0, 1])

    def test_continuous_labels(self, iris):
        with pytest.raises(ValueError, match="Unknown label type: continuous"):
            distil(iris[0], iris[0][:, 0] + 0.01)

    @pytest.mark.parametrize("bandwidth", [0.0, 1e-200, 1e200])
    def test_a_bandwidth_whose_square_is_no_number(self, iris, bandwidth):
        with pytest.raises(ValueError, match="'bandwidth' parameter"):
            distil(*iris, bandwidth=bandwidth)

    @pytest.mark.parametrize("ipc", [0, -1])
    def test_a_budget_below_one(self, iris, ipc):
        with pytest.raises(ValueError, match="'ipc' parameter .* must be an int in the range"):
            distil(*iris, ipc=ipc)
        with pytest.raises(ValueError, match="ipc must be an integer of at least 1 a class"):
            distil(*iris, ipc={0: 1, 1: ipc, 2: 1})
        with pytest.raises(ValueError, match="ipc must be an integer of at least 1 a class"):
            distil(*iris).sample(ipc=ipc)

    @pytest.mark.parametrize("ipc", [{0: 1, 1: 1}, {0: 1, 1: 1, 2: 1, 3: 1}])
    def test_a_budget_for_other_classes(self, iris, ipc):
        with pytest.raises(ValueError, match="must name each class of y and no other"):
            distil(*iris, ipc=ipc)

    def test_a_class_the_map_does_not_know(self, dit_folder, small_images):
        with pytest.raises(ValueError, match="class_map says nothing of the class 2"):
            distil(*small_images, backbone=dit_folder, class_map={0: 0, 1: 1})

    def test_images_of_another_size(self, tmp_path, small_images):
        folder = write_dit_folder(tmp_path / "dit", image_size=16)
        match = r"takes images of 16 x 16 pixels and 1 channel\(s\), but those of X have 8 x 8"
        with pytest.raises(ValueError, match=match + r".*resize='bilinear'"):
            distil(*small_images, backbone=folder)

    def test_images_with_other_channels(self, tmp_path, dit_folder, small_images):
        X, y = small_images
        folder = write_dit_folder(tmp_path / "colour", channels=3)
        with pytest.raises(ValueError, match=r"3 channel\(s\), but .* 1 channel\(s\); give resize"):
            distil(X, y, backbone=folder)
        with pytest.raises(ValueError, match=r"X have .* 3 channel\(s\); make them grey"):
            distil(np.stack([X] * 3, axis=-1), y, backbone=dit_folder, resize="bilinear")
        with pytest.raises(ValueError, match=r"if their channels come first, np\.moveaxis"):
            distil(np.stack([X] * 3, axis=1), y, backbone=folder)

    @pytest.mark.parametrize("dtype", ["M8[D]", "m8[D]"])
    def test_dates_are_no_numbers(self, iris, dtype):
        with pytest.raises(ValueError, match=r"X has the dtype .*\[D\]; it must be of real"):
            distil(iris[0].astype(dtype), iris[1])

    def test_a_table_for_images(self, iris, dit_folder):
        with pytest.raises(ValueError, match="X is a table of 4 features; give image_shape"):
            distil(*iris, backbone=dit_folder)

    @pytest.mark.parametrize(
        "image_shape", [(3, 3), (4,), (2, 2, 1, 1), (1.5, 2), (-2, -2), ("2", "2"), [[2, 2]]]
    )
    def test_an_image_shape_that_does_not_fit(self, iris, image_shape):
        with pytest.raises(ValueError, match="image_shape="):
            distil(*iris, image_shape=image_shape)

    @pytest.mark.parametrize("value_range", [(1, 0), (0, np.nan), (1,), ("a", "b")])
    def test_a_value_range_that_is_none(self, iris, value_range):
        with pytest.raises(ValueError, match="value_range must be"):
            distil(*iris, value_range=value_range)

    @pytest.mark.parametrize("interval", [(0.5, 0.2), (-0.1, 0.5), (0.0, 1.5), (0.1,), ("a", "b")])
    def test_an_interval_outside_the_run(self, iris, interval):
        with pytest.raises(ValueError, match="guidance_interval must be"):
            distil(*iris, guidance_interval=interval)

    @pytest.mark.parametrize("name", ["strength", "normal_strength"])
    def test_a_strength_above_one(self, iris, name):
        with pytest.raises(ValueError, match=rf"{name}=1.5 must be in \[0, 1\]"):
            distil(*iris, **{name: 1.5})
        distil(*iris, **{name: 1.5}, guidance_form="paper")

    def test_the_paper_form_needs_ddpm(self, iris):
        with pytest.raises(ValueError, match="guidance_form='paper' needs .*DDPMScheduler"):
            distil(*iris, guidance_form="paper", scheduler="DDIMScheduler")

    def test_a_plane_to_pull_to_needs_a_projector(self, iris):
        with pytest.raises(ValueError, match="normal_strength=0.1 needs a projector"):
            distil(*iris, normal_strength=0.1, projector="passthrough")

    def test_a_projector_for_noisy_points(self, iris):
        with pytest.raises(ValueError, match="must have alpha_bar=None"):
            distil(*iris, projector=TangentProjector(alpha_bar=0.5))

    def test_a_class_map_for_the_closed_form(self, iris):
        with pytest.raises(ValueError, match="class_map=.* is for pretrained backbones"):
            distil(*iris, class_map={0: 0, 1: 1, 2: 2})

    @pytest.mark.parametrize("backbone", ["closed-form", ClosedFormBackbone(0)])
    def test_a_revision_of_what_is_not_loaded_by_name_or_compiling_it(self, iris, backbone):
        with pytest.raises(ValueError, match=r"revision='v2' is for a hub id 'owner/name', but"):
            distil(*iris, backbone=backbone, revision="v2")
        with pytest.raises(
            ValueError, match="compile=True is for a pretrained backbone that is gi"
        ):
            distil(*iris, backbone=backbone, compile=True)

    def test_more_steps_than_the_schedule_has(self, iris):
        for scheduler in (None, "DEISMultistepScheduler", "EulerDiscreteScheduler"):
            with pytest.raises(
                ValueError, match=r"num_inference_steps=2000 must be in \[1, 1000\]"
            ):
                distil(*iris, num_inference_steps=2000, scheduler=scheduler)

    def test_fewer_steps_than_the_scheduler_needs(self, iris):
        with pytest.raises(ValueError, match=r"num_inference_steps=3 must be in \[4, 1000\] with"):
            distil(*iris, num_inference_steps=3, scheduler="PNDMScheduler")
        settings = {"num_inference_steps": 4, "scheduler": "PNDMScheduler"}
        assert np.isfinite(distil(*iris, **settings).sample()[0]).all()

    def test_what_a_scheduler_makes_no_numbers_of(self, iris):
        X, y = iris
        # Its solver divides by the distance of noise levels, two of which are then the same.
        settings = {"num_inference_steps": 1000, "scheduler": "DEISMultistepScheduler"}
        with pytest.raises(ValueError, match="not finite, with scheduler=DEISM.*Fewer steps"):
            distil(X[:100], y[:100], ipc=1, **settings).sample()

    def test_noise_levels_the_network_does_not_know(self, dit_folder, small_images):
        scheduler = diffusers.DDIMScheduler(beta_end=0.01)
        with pytest.raises(ValueError, match="other noise levels than the backbone was trained on"):
            distil(*small_images, backbone=dit_folder, scheduler=scheduler)

    def test_labels_that_fit_has_not_seen_are_pointed_out(self, iris):
        X, y = iris
        with pytest.warns(UserWarning, match="such as .*2.*StratifiedKFold"):
            distil(X[:100], y[:100]).score(X, y)

    def test_a_clusterer_without_centers(self, iris):
        with pytest.raises(ValueError, match="has no cluster_centers_ after fit"):
            distil(*iris, clusterer=DBSCAN())

    def test_an_unknown_device(self, iris):
        with pytest.raises(ValueError, match="device='gpu' is not there"):
            distil(*iris, device="gpu")

    @pytest.mark.parametrize("method", ["sample", "transform"])
    def test_use_before_fit(self, method):
        from sklearn.exceptions import NotFittedError

        with pytest.raises(NotFittedError, match="not fitted yet"):
            getattr(ManifoldGDDistiller(), method)()

    def test_rows_of_another_shape_later(self, small_images):
        distiller = distil(*small_images)
        with pytest.raises(ValueError, match="features"):
            distiller.transform(np.zeros((2, 9, 9)))
        with pytest.raises(ValueError, match=r"shape \(4, 16\), but fit saw \(8, 8\)"):
            distiller.transform(np.zeros((2, 4, 16)))

    def test_images_through_the_closed_form_get_a_warning(self, small_images):
        with pytest.warns(UserWarning, match="blurred.*'digits'.*pretrain"):
            ManifoldGDDistiller().fit(*small_images)

    def test_poor_reconstructions_get_a_warning_with_the_figure(self, dit_folder, small_images):
        with pytest.warns(UserWarning, match=r"loses \d+% of the variance"):
            ManifoldGDDistiller(backbone=str(dit_folder)).fit(*small_images)

    def test_images_that_fill_little_of_their_range_are_told_of_value_range(self):
        """Bytes from 0 to 16 stand for 0 to 255 unless it is said."""
        X, _, y, _ = load_digits_split()
        with pytest.warns(UserWarning, match=r"fill 6% of the range .* with value_range"):
            ManifoldGDDistiller(1, "digits").fit(X.astype(np.uint8), y)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ManifoldGDDistiller(1, "digits", value_range=(0, 16)).fit(X.astype(np.uint8), y)


def test_memory_keeps_what_a_backbone_has_encoded(small_images, dit_folder, tmp_path, monkeypatch):
    X, y = small_images
    encoded = []
    encode = DiTBackbone.encode

    def count(self, x, calls):
        encoded.append(len(x))
        return encode(self, x, calls)

    monkeypatch.setattr(DiTBackbone, "encode", count)
    settings = {"ipc": 2, "num_inference_steps": 2, "refiner": "passthrough", "random_state": 0}
    expected = ManifoldGDDistiller(backbone=dit_folder, **settings).fit(X, y).sample()[0]
    assert encoded == [len(X)]
    settings["memory"] = str(tmp_path / "memory")
    for strength in (1.0, 0.2):
        distiller = ManifoldGDDistiller(backbone=dit_folder, strength=strength, **settings)
        made = distiller.fit(X, y).sample()[0]
        if strength == 1.0:
            np.testing.assert_array_equal(made, expected)
    assert encoded == [len(X)] * 2
    # Other rows, and other weights, are encoded.
    ManifoldGDDistiller(backbone=dit_folder, **settings).fit(X[::-1], y[::-1])
    assert encoded == [len(X)] * 3
    other = write_dit_folder(tmp_path / "other", names=["0", "1", "2"])
    backbone = DiTBackbone(other)
    with torch.no_grad():
        backbone.vae.quant_conv.bias += 1
    backbone.vae.save_pretrained(other / "vae")
    ManifoldGDDistiller(backbone=other, **settings).fit(X, y)
    assert encoded == [len(X)] * 4


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"kernel": "cubic"}, "'kernel' parameter"),
        ({"strength": -3.0}, "'strength' parameter"),
        ({"guidance_interval": (0.9, 0.1)}, "guidance_interval must be"),
        ({"batch_size": 0}, "'batch_size' parameter"),
        ({"projector": TangentProjector(1)}, r"projector=.* was set after fit, which used None"),
        ({"value_range": (0.0, 1.0)}, r"value_range=\(0.0, 1.0\) was set after fit"),
    ],
    ids=str,
)
def test_parameters_that_were_set_after_fit_are_used_or_refused(params, message):
    X, y = load_iris(return_X_y=True)
    distiller = ManifoldGDDistiller(2, num_inference_steps=3, random_state=0).fit(X, y)
    distiller.set_params(**params)
    with pytest.raises(ValueError, match=message):
        distiller.sample()
    with pytest.raises(ValueError, match=message):
        distiller.transform(X[:3])


def test_parts_that_were_changed_in_place_after_fit_are_noticed():
    X, y = load_iris(return_X_y=True)
    settings = {"projector": TangentProjector(2), "clusterer": HierarchicalIPC()}
    distiller = ManifoldGDDistiller(2, num_inference_steps=3, **settings).fit(X, y)
    for name, value in {"projector__n_neighbors": 5, "clusterer__start_level": 1}.items():
        before = distiller.get_params()[name]
        distiller.set_params(**{name: value})
        with pytest.raises(ValueError, match=f"{name}={value} was set after fit, which used"):
            distiller.sample()
        distiller.set_params(**{name: before}).sample()


@pytest.mark.parametrize(
    "refused",
    [
        {"guidance_interval": (1.0, 0.0)},
        {"num_inference_steps": 5000},
        {"class_map": {1: 0}},
        # The last thing that fit does.
        {"clusterer": DBSCAN()},
    ],
)
def test_a_fit_that_is_refused_leaves_the_former_one(refused):
    X, y = load_iris(return_X_y=True)
    distiller = ManifoldGDDistiller(2, num_inference_steps=3, random_state=0).fit(X, y)
    before = distiller.sample()[0]
    distiller.set_params(**refused)
    with pytest.raises(ValueError, match=next(iter(refused))):
        distiller.fit(pd.DataFrame(X[:, :2], columns=["a", "b"]), y + 1)
    distiller.set_params(
        guidance_interval=(0, 0.5), num_inference_steps=3, class_map=None, clusterer=None
    )
    np.testing.assert_array_equal(distiller.sample()[0], before)
    assert distiller.n_features_in_ == 4
    assert not hasattr(distiller, "feature_names_in_")


def test_a_memory_that_keeps_nothing_does_for_rows_on_disk(tmp_path):
    X, y = load_iris(return_X_y=True)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    settings = {"num_inference_steps": 3, "random_state": 0}
    kept = ManifoldGDDistiller(2, memory=joblib.Memory(None, verbose=0), **settings).fit(mapped, y)
    np.testing.assert_array_equal(
        kept.sample()[0], ManifoldGDDistiller(2, **settings).fit(mapped, y).sample()[0]
    )


@pytest.mark.filterwarnings("ignore:Images through the closed-form")
def test_data_frames_are_made_of_tables_alone_whichever_method_is_asked():
    X, y = load_iris(return_X_y=True)
    settings = {"num_inference_steps": 3, "random_state": 0}
    distiller = ManifoldGDDistiller(2, **settings).set_output(transform="pandas")
    frame = distiller.fit_transform(X, y)
    pd.testing.assert_frame_equal(frame, distiller.fit(X, y).transform(X))
    images = X[:, :, None].repeat(4, axis=2)
    made = distiller.fit_transform(images, y)
    np.testing.assert_array_equal(made, distiller.fit(images, y).transform(images))
    assert type(made) is np.ndarray


@pytest.mark.parametrize("spread", [3e-16, 1e-15, 1e-14])
def test_more_samples_of_rows_that_differ_by_rounding_alone(spread):
    rng = np.random.default_rng(0)
    X = np.append(1 + spread * rng.normal(size=(30, 2)), 5 + rng.normal(size=(30, 2)), axis=0)
    distiller = ManifoldGDDistiller(3, num_inference_steps=3, random_state=0)
    assert distiller.fit(X, np.arange(60) // 30).sample(10)[0].shape == (20, 2)
