import inspect
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris

from skdistill import ManifoldGDDistiller
from skdistill.baselines import ClusterMeans, rivals
from skdistill.datasets import load_digits_split

X, _, Y, _ = load_digits_split()


def test_cluster_means_are_rounded_not_truncated():
    rows = np.array([[0], [3], [3]], dtype=np.int16)
    X_syn, _ = ClusterMeans(ipc=1).fit(rows, ["a"] * 3).sample()
    assert_array_equal(X_syn, [[2]])
    rows = np.array([[0], [2], [3]], dtype=np.int16)
    assert_array_equal(ClusterMeans(ipc=1).fit(rows, ["a"] * 3).sample()[0], [[2]])


def test_cluster_means_of_booleans_are_the_majority():
    rows = np.array([[True, False, True]] * 3 + [[False, False, True]] * 2)
    X_syn, _ = ClusterMeans(ipc=1).fit(rows, np.zeros(5)).sample()
    assert X_syn.dtype == bool
    assert_array_equal(X_syn, [[True, False, True]])
    mirrored, _ = ClusterMeans(ipc=1).fit(~rows, np.zeros(5)).sample()
    assert_array_equal(mirrored, ~X_syn)


def test_one_cluster_is_the_class_mean():
    X_syn, _ = ClusterMeans(ipc=1, n_init=1).fit(X, Y).sample()
    assert_allclose(X_syn, [X[label == Y].mean(axis=0) for label in range(10)], atol=1e-10)


@pytest.fixture(scope="module")
def fitted():
    made = rivals(15, random_state=0, num_inference_steps=20, strength=0.3)
    return {name: rival.fit(*load_iris(return_X_y=True)) for name, rival in made.items()}


class TestRivals:
    IRIS = load_iris(return_X_y=True)

    def distance_to_centroids(self, distiller):
        z = distiller.backbone_.encode(distiller.sample()[0])
        return np.linalg.norm(z - distiller.cluster_centers_, axis=1).mean()

    def test_all_make_sets_of_the_same_kind(self, fitted):
        sets = [rival.sample() for rival in fitted.values()]
        assert len(sets) == 11
        for X_syn, y_syn in sets:
            assert X_syn.shape == (45, 4)
            assert X_syn.dtype == np.float64
            assert_array_equal(y_syn, np.repeat([0, 1, 2], 15))
            assert np.isfinite(X_syn).all()
        assert len({X_syn.tobytes() for X_syn, _ in sets}) == 11
        for name, rival in fitted.items():
            assert len(rival.sample({0: 1, 1: 2, 2: 3})[0]) == 6, name

    def test_those_without_a_diffusion_model_come_first_and_may_be_all(self):
        plain, made = rivals(3, random_state=5, diffusion=False), rivals(3, random_state=5)
        assert list(plain) == list(made)[:6]
        for name, rival in made.items():
            assert (name in plain) != isinstance(rival, ManifoldGDDistiller)
        for name, rival in plain.items():
            assert type(rival) is type(made[name])
            assert rival.get_params() == made[name].get_params()

    def test_a_seed_fixes_all_of_them(self, fitted):
        again = rivals(15, random_state=0, num_inference_steps=20, strength=0.3)
        for name, rival in again.items():
            assert_array_equal(rival.fit(*self.IRIS).sample()[0], fitted[name].sample()[0])

    def test_images_stay_images_and_bytes_bytes(self, small_images):
        images, labels = small_images
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Images through the closed-form")
            for rival in rivals(2, random_state=0, num_inference_steps=5).values():
                X_syn, y_syn = rival.fit(images, labels).sample()
                assert X_syn.shape == (6, 8, 8)
                assert X_syn.dtype == np.uint8
                assert_array_equal(y_syn, [0, 0, 1, 1, 2, 2])

    def test_decoded_centroids_are_those_of_k_means_on_the_latents(self, fitted):
        features, labels = self.IRIS
        X_syn, y_syn = fitted["decoded centroids"].sample()
        z = (features - features.mean(axis=0)) / features.std(axis=0)
        seed = fitted["decoded centroids"].seed_
        for label in range(3):
            centres = KMeans(15, random_state=seed).fit(z[labels == label]).cluster_centers_
            expected = centres * features.std(axis=0) + features.mean(axis=0)
            assert_allclose(X_syn[y_syn == label], expected, rtol=1e-6)

    def test_d4m_starts_from_the_decoded_centroids_and_goes_its_way(self, fitted):
        decoded, d4m, unguided = (fitted[name] for name in ("decoded centroids", "D4M", "unguided"))
        assert_array_equal(d4m.cluster_centers_, decoded.cluster_centers_)
        assert clone(d4m).set_params(init_noise=0).fit(*self.IRIS).sample()[0].tolist() == (
            decoded.sample()[0].tolist()
        )
        far = clone(unguided).set_params(clusterer=KMeans()).fit(*self.IRIS)
        assert_array_equal(far.cluster_centers_, d4m.cluster_centers_)
        assert 0 < self.distance_to_centroids(d4m) < self.distance_to_centroids(far)

    def test_unguided_is_the_model_alone(self, fitted):
        params = {"strength": 0, "refiner": "passthrough", "num_inference_steps": 20}
        plain = ManifoldGDDistiller(15, random_state=0, **params)
        expected, _ = plain.fit(*self.IRIS).sample()
        assert_array_equal(fitted["unguided"].sample()[0], expected)

    def test_mode_guidance_pulls_to_the_centres_of_k_means(self, fitted):
        mgd = fitted["MGD"]
        assert_array_equal(mgd.cluster_centers_, fitted["D4M"].cluster_centers_)
        free = clone(mgd).set_params(strength=0).fit(*self.IRIS)
        assert self.distance_to_centroids(mgd) < self.distance_to_centroids(free)

    def test_the_last_one_is_the_distiller_itself(self):
        made = rivals(7, "digits", value_range=(0, 16), strength=0.1)["ManifoldGD"]
        expected = ManifoldGDDistiller(7, "digits", value_range=(0, 16), strength=0.1)
        assert made.get_params() == expected.get_params()

    def test_parameters_reach_all_distillers_but_leave_rivals_what_they_are(self):
        params = {
            "device": "cpu",
            "resize": "bilinear",
            "strength": 0.9,
            "normal_strength": 0.2,
            "init_noise": 0.3,
            "scheduler": "EulerDiscreteScheduler",
        }
        made = rivals(**params)
        distillers = {k: r for k, r in made.items() if isinstance(r, ManifoldGDDistiller)}
        assert len(distillers) == 5
        for distiller in distillers.values():
            assert distiller.device == "cpu"
            assert distiller.resize == "bilinear"
        assert made["ManifoldGD"].get_params().items() >= params.items()
        settings = {
            name: (r.strength, r.normal_strength, r.init_noise, r.scheduler)
            for name, r in distillers.items()
            if name != "ManifoldGD"
        }
        assert settings == {
            "decoded centroids": (0, 0, 0, "EulerDiscreteScheduler"),
            "D4M": (0, 0, 0.7, "EulerDiscreteScheduler"),
            "unguided": (0, 0, 1, "EulerDiscreteScheduler"),
            "MGD": (0.1, 0, 1, "DDPMScheduler"),
        }

    def test_budget_and_seed_reach_all(self):
        for name, rival in rivals(ipc=4, random_state=5).items():
            assert rival.ipc == 4
            if "random_state" in inspect.signature(type(rival)).parameters:
                assert rival.random_state == 5, name

    def test_unknown_parameters_are_refused(self):
        with pytest.raises(TypeError, match="n_steps"):
            rivals(n_steps=3)
