import json

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris
from sklearn.utils._param_validation import StrOptions

import skdistill
from skdistill import HierarchicalIPC, ManifoldGDDistiller, TangentProjector, load_distilled
from skdistill.cli import _build_parser, main
from skdistill.cli.distiller import HIERARCHY, REFINING, TANGENTS, make_distiller
from skdistill.cli.signatures import defaults_of
from skdistill.cli.values import ANNEALINGS
from skdistill.io import read_manifest
from skdistill.refining import MatchingRefiner

LABELS = np.array(["cat", "dog", "7"])


def distiller_of(*arguments, y=LABELS):
    options = _build_parser().parse_args(["distill", "data", "--out", "run", *arguments])
    return make_distiller(options, y)


def test_every_setting_of_the_distiller_is_an_option():
    options = vars(_build_parser().parse_args(["distill", "data", "--out", "run"]))
    # The student is score's, and verbose is --quiet.
    names = {"random_state": "seed", "projector": "projection", "verbose": "quiet"}
    names["refiner"] = "refining"
    for name in ManifoldGDDistiller().get_params(deep=False).keys() - {"student"}:
        assert names.get(name, name) in options, name


def test_defaults_are_those_of_the_distiller():
    params = distiller_of("--quiet").get_params(deep=False)
    expected = ManifoldGDDistiller(random_state=0, n_jobs=1).get_params(deep=False)
    assert params == expected


def test_choices_are_those_that_the_estimators_take():
    (subparsers,) = (a for a in _build_parser()._actions if isinstance(a.choices, dict))
    options = {action.dest: action for action in subparsers.choices["distill"]._actions}
    taken = {
        name: {choice for part in parts if isinstance(part, StrOptions) for choice in part.options}
        for estimator in (ManifoldGDDistiller, HierarchicalIPC)
        for name, parts in estimator._parameter_constraints.items()
    }
    offered = {name: set(option.choices) for name, option in options.items() if option.choices}
    # What is no estimator's parameter by that name.
    del offered["clusterer"]
    assert len(offered) > 5
    assert offered == {name: taken[name] for name in offered}
    assert set(ANNEALINGS) == taken["annealing"]


@pytest.mark.parametrize("name", ["ManifoldGDDistiller", "HierarchicalIPC", "TangentProjector"])
def test_defaults_in_a_signature_are_those_of_its_estimator(name):
    estimator = getattr(skdistill, name)
    assert defaults_of(estimator.__module__, name) == estimator().get_params(deep=False)


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (["--ipc", "3"], "ipc", 3),
        (["--ipc", "3", "--ipc", "dog=5"], "ipc", {"7": 3, "cat": 3, "dog": 5}),
        (["--ipc", "dog=5", "--ipc", "cat=1"], "ipc", {"dog": 5, "cat": 1}),
        (["--class-map", "cat=281", "--class-map", "7=a=b"], None, None),
        (
            ["--class-map", "cat=281", "--class-map", "dog=Pug"],
            "class_map",
            {"cat": 281, "dog": "Pug"},
        ),
        (
            ["--class-map", "cat=a photo, f=2", "--class-map", "dog=3"],
            "class_map",
            {"cat": "a photo, f=2", "dog": 3},
        ),
        (["--guidance-interval", "0.1", "0.9"], "guidance_interval", [0.1, 0.9]),
        (["--no-clip-guidance"], "clip_guidance", False),
        (["--annealing", "none"], "annealing", None),
        (["--annealing", "linear"], "annealing", "linear"),
        (["--image-shape", "28x28x3"], "image_shape", (28, 28, 3)),
        (["--value-range", "0", "255"], "value_range", [0.0, 255.0]),
        (["--steps", "7"], "num_inference_steps", 7),
        (["--jobs", "2"], "n_jobs", 2),
        (["--seed", "9"], "random_state", 9),
        (["--no-projection"], "projector", "passthrough"),
        (["--no-refining"], "refiner", "passthrough"),
        (["--local-files-only"], "local_files_only", True),
    ],
)
def test_options_are_settings(arguments, name, value):
    if name is None:
        with pytest.raises(ValueError, match=r"--class-map 7=a=b is for no class of DATA"):
            distiller_of(*arguments, y=LABELS[:2])
    else:
        assert getattr(distiller_of(*arguments), name) == value


def test_parts_of_the_distiller_are_made_of_their_options():
    clusterer = distiller_of("--selection", "leaves", "--prototype", "medoid").clusterer
    expected = HierarchicalIPC(selection="leaves", prototype="medoid")
    assert clusterer.get_params() == expected.get_params()
    assert isinstance(distiller_of("--clusterer", "k-means").clusterer, KMeans)
    projector = distiller_of("--n-components", "2", "--radius", "1.5").projector
    expected = TangentProjector(2, n_neighbors=100, radius=1.5)
    assert projector.get_params() == expected.get_params()


def test_parts_that_nobody_asks_for_are_the_distillers():
    distiller = ManifoldGDDistiller(2).fit(*load_iris(return_X_y=True))
    options = vars(_build_parser().parse_args(["distill", "digits", "--out", "run"]))
    for unasked, names in (
        (distiller.clusterers_[0], HIERARCHY),
        (distiller.projectors_[0], TANGENTS),
        (MatchingRefiner(), REFINING),
    ):
        params = unasked.get_params()
        assert {name: options[name] for name in names} == {name: params[name] for name in names}
    made = distiller_of("--selection", distiller.clusterers_[0].selection)
    assert made.clusterer is made.projector is made.refiner is None
    assert distiller_of("--selection", "levelwise").clusterer.selection == "levelwise"


@pytest.mark.parametrize(
    ("data", "backbone"),
    [("digits", "digits"), ("fashion-mnist", "fashion"), ("cifar10", "cifar10")],
)
def test_data_known_by_name_are_drawn_by_the_backbone_that_saw_them(data, backbone):
    options = _build_parser().parse_args(["distill", data, "--out", "run"])
    assert make_distiller(options, LABELS).backbone == backbone
    options = _build_parser().parse_args(["distill", data, "--out", "run", "--backbone", "mine"])
    assert make_distiller(options, LABELS).backbone == "mine"


def test_labels_may_be_numbers():
    ipc = distiller_of("--ipc", "1", "--ipc", "2=4", y=np.arange(3)).ipc
    assert ipc == {0: 1, 1: 1, 2: 4}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ipc", "bird=2"], "--ipc bird=2 is for no class of DATA, which has '7', 'cat', 'dog'."),
        (["--clusterer", "k-means", "--start-level", "1"], "--start-level needs --clusterer hiera"),
        (["--no-refining", "--refiner-steps", "3"], "--refiner-steps cannot be given with --no-r"),
        (["--backbone", "closed-form", "--refiner-steps", "3"], "are for pretrained backbones"),
        (["--no-projection", "--n-components", "2"], "--n-components cannot be given with --no-pr"),
    ],
)
def test_options_that_contradict_each_other_or_the_data_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        distiller_of(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ipc", "cat=many"], "'cat=many' is neither N nor CLASS=N"),
        (["--class-map", "cat"], "'cat' is not CLASS=NAME"),
        (["--image-shape", "28"], "'28' is neither HxW nor HxWxC"),
        (["--steps", "0"], "argument --steps: '0' is no whole number of at least 1"),
        (["--seed", "-1"], "argument --seed: '-1' is no whole number of at least 0"),
        (["--batch-size", "1.5"], "'1.5' is no whole number of at least 1"),
        (["--annealing", "slow"], "'slow' is none of exponential, linear, cosine and none"),
    ],
)
def test_values_that_cannot_be_read_are_wrong_usage(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        distiller_of(*arguments)
    assert message in capsys.readouterr().err


def files(folder, pattern):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob(pattern))}


SETTINGS = [
    *("--ipc", "1", "--ipc", "3=2", "--steps", "4", "--strength", "0.8", "--kernel", "imq"),
    *("--start-level", "1", "--n-components", "2", "--guidance-interval", "0", "0.75"),
    *("--annealing", "none", "--scheduler", "DDPMScheduler", "--seed", "3"),
    *("--refiner-steps", "5"),
]


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "run"
    arguments = [*SETTINGS, "--no-scores", "--quiet", "--out", str(run)]
    assert main(["distill", "digits", *arguments]) == 0
    return run


def like(run, out, *arguments, data="digits"):
    options = ["--like", str(run), "--no-scores", "--quiet", "--out", str(out)]
    return main(["distill", data, *options, *arguments])


def test_a_run_given_back_makes_the_same_set_byte_for_byte(digits_run, tmp_path, capsys):
    assert like(digits_run, tmp_path / "again") == 0
    assert capsys.readouterr().err == ""
    for pattern in ("*.png", "*.npz", "*.jsonl", "manifest.json"):
        assert files(digits_run, pattern)
        assert files(tmp_path / "again", pattern) == files(digits_run, pattern)


def test_options_that_are_given_win_over_the_run(digits_run, tmp_path, capsys):
    assert like(digits_run, tmp_path / "more", "--ipc", "2", "--strength", "0", "--seed", "4") == 0
    assert capsys.readouterr().err == ""
    ours, theirs = read_manifest(tmp_path / "more"), read_manifest(digits_run)
    changed = {k for k, v in ours["settings"].items() if v != theirs["settings"][k]}
    assert changed == {"strength", "ipc", "centroids", "seed"}
    assert ours["settings"]["ipc"] == dict.fromkeys(map(str, range(10)), 2)
    assert ours["random_state"] == 4


def test_other_data_are_warned_of(tmp_path, capsys):
    X, y = load_iris(return_X_y=True)
    np.savez(tmp_path / "iris.npz", X=X, y=y)
    options = ["--ipc", "1", "--steps", "2", "--clusterer", "k-means", "--no-projection"]
    arguments = [str(tmp_path / "iris.npz"), *options, "--no-scores", "--quiet"]
    assert main(["distill", *arguments, "--out", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    iris = str(tmp_path / "iris.npz")
    assert like(tmp_path / "run", tmp_path / "other", "--test", "0.5", data=iris) == 0
    assert "warning: Not the set of" in (error := capsys.readouterr().err)
    assert "DATA has other rows or labels" in error
    assert like(tmp_path / "run", tmp_path / "same", data=iris) == 0
    assert capsys.readouterr().err == ""
    for X_syn, expected in zip(
        load_distilled(tmp_path / "same"), load_distilled(tmp_path / "run"), strict=True
    ):
        np.testing.assert_array_equal(X_syn, expected)


@pytest.mark.parametrize("selection", ["levelwise", "leaves"])
def test_a_run_from_python_is_given_back(tmp_path, small_images, selection):
    distiller = ManifoldGDDistiller(
        3,
        "digits",
        clusterer=HierarchicalIPC(4, selection=selection, prototype="medoid"),
        projector=TangentProjector(2, n_neighbors=6),
        refiner=MatchingRefiner(2, learning_rate=0.2),
        class_map={0: 2, 1: "1", 2: 0},
        num_inference_steps=2,
        value_range=(0, 255),
        random_state=np.int64(5),
    )
    X, y = small_images
    np.savez(tmp_path / "images.npz", X=X, y=y)
    X_syn, _ = distiller.fit(X, y).sample(out_dir=tmp_path / "run")
    assert like(tmp_path / "run", tmp_path / "again", data=str(tmp_path / "images.npz")) == 0
    np.testing.assert_array_equal(load_distilled(tmp_path / "again")[0], X_syn)


def test_a_set_that_was_grown_after_its_fit_is_not_promised(tmp_path, capsys):
    X, y = load_iris(return_X_y=True)
    np.savez(tmp_path / "iris.npz", X=X, y=y)
    distiller = ManifoldGDDistiller(2, num_inference_steps=2, random_state=0).fit(X, y)
    distiller.sample(3, out_dir=tmp_path / "grown")
    distiller.set_params(clusterer=KMeans()).fit(X, y)
    distiller.sample(3, out_dir=tmp_path / "repeated")
    iris = str(tmp_path / "iris.npz")
    assert like(tmp_path / "grown", tmp_path / "like grown", data=iris) == 0
    assert capsys.readouterr().err == ""
    assert like(tmp_path / "repeated", tmp_path / "like repeated", data=iris) == 0
    assert "it was sampled with another ipc than it was fitted to" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("random_state", None, "was made without an integer seed: give --seed"),
        ("clusterer", "Birch()", "has clusterer=Birch, for which there is no option"),
        ("clusterer", "KMeans(n_init=2)", "has clusterer=KMeans(n_init=2), for which there is no"),
        ("clusterer", "<object>", "has clusterer=<object>, for which there is no option"),
        ("projector", "TangentProjector(ridge=0.1)", "has projector=TangentProjector(ridge=0.1)"),
        ("scheduler", "DDIMScheduler {\n}", "has a scheduler of its own, for which"),
        ("value_range", "array([0, 1])", "has value_range=array([0, 1]), for which"),
        ("class_map", "{0: ", "for which there is no option"),
        ("unheard_of", 1, "has unheard_of=1, for which there is no option"),
        ("ipc", ..., "its manifest lacks 'ipc'"),
    ],
)
def test_what_no_option_gives_back_is_named(digits_run, tmp_path, capsys, setting, value, message):
    manifest = json.loads((digits_run / "manifest.json").read_text())
    part = manifest if setting == "random_state" else manifest["settings"]
    if value is ...:
        del part[setting]
    else:
        part[setting] = value
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(manifest))
    assert like(tmp_path / "run", tmp_path / "again") == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "again").exists()


def test_like_needs_a_run(tmp_path, capsys):
    assert like(tmp_path, tmp_path / "again") == 2
    assert f"run_dir='{tmp_path}' is no run: there is no manifest.json in it." in (
        capsys.readouterr().err
    )
