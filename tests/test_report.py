import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from browser import CHROMIUM, Browser
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits, load_iris

from skdistill import HierarchicalIPC, ManifoldGDDistiller, load_distilled
from skdistill.cli import main
from skdistill.metrics import copying
from skdistill.refining import MatchingRefiner
from skdistill.report import write_report
from skdistill.report.again import import_lines, python_line
from skdistill.report.charts import accuracy_axis, histogram, lay_out_tree
from skdistill.report.pictures import pictures_of_rows
from skdistill.report.run import read_run

NAMES = [
    "<script>document.title = 'run'</script><img src=x onerror=alert(1)>",
    "\"two\" & 'lines'\n{{ 7 * 7 }} --> ]]>",
    "ünï \u202egnol 日本語 " + "very" * 40,
]


class Page(HTMLParser):
    """What a test asks of a page."""

    VOID = {"meta", "img", "br", "rect", "path", "circle", "image"}

    def __init__(self, path):
        super().__init__()
        self.html = path.read_text(encoding="utf-8")
        self.tags, self.headings, self.tables, self.text, self._open = [], [], [], "", []
        self.feed(self.html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)
        if tag in ("h1", "h2", "h3"):
            self.headings.append([int(tag[1]), ""])
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self._open.pop() == tag

    def handle_data(self, data):
        if {"script", "style"} & set(self._open):
            return
        self.text += data
        if self._open and self._open[-1] in ("h1", "h2", "h3", "bdi") and self.headings:
            self.headings[-1][1] += data
        if {"td", "th"} & set(self._open):
            self.tables[-1][-1][-1] += data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def named_run(tmp_path_factory, small_images):
    """A run of images, judged, whose classes have names that are markup, lines and scripts."""
    folder = tmp_path_factory.mktemp("named")
    X, y = small_images
    np.savez(folder / "data.npz", X=X, y=np.array(NAMES)[y])
    data, run = [str(folder / "data.npz"), "--test", "0.3"], str(folder / "<b>run & co")
    options = ["--ipc", "3", "--steps", "2", "--no-scores", "--quiet", "--out", run]
    assert main(["distill", *data, *options]) == 0
    options = ["--students", "linear", "--seeds", "2", "--rivals", "random real", "--quiet"]
    assert main(["evaluate", run, *data, *options]) == 0
    assert main(["report", run, *data, "--quiet"]) == 0
    return folder / "<b>run & co"


@pytest.fixture(scope="module")
def named_page(named_run):
    return Page(named_run / "report.html")


@pytest.fixture(scope="module")
def iris_run(tmp_path_factory):
    run = tmp_path_factory.mktemp("iris") / "iris"
    X, y = load_iris(return_X_y=True)
    distiller = ManifoldGDDistiller(ipc=3, num_inference_steps=4, random_state=0).fit(X, y)
    distiller.sample(out_dir=run)
    write_report(run, X=X, y=y)
    return run


@pytest.fixture(scope="module")
def iris_page(iris_run):
    return Page(iris_run / "report.html")


def pixels(uri):
    kind, data = uri.removeprefix("data:image/").split(";base64,")
    assert kind in ("png", "jpeg")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


class TestContents:
    def test_nothing_is_loaded(self, named_page):
        for tag, attrs in named_page.tags:
            for name in ("src", "href"):
                if name in attrs and tag != "a":
                    assert attrs[name].startswith("data:image/")
        assert {a["href"][0] for a in named_page.all("a")} == {"#", "h"}
        assert not named_page.all("link")
        assert "@import" not in named_page.html
        assert "url(" not in named_page.html

    def test_names_are_text(self, named_page):
        assert len(named_page.all("script")) == 1
        assert not [attrs for _, attrs in named_page.tags if "onerror" in attrs]
        for name in NAMES:
            assert name in named_page.text
        assert "<b>run & co" in named_page.text
        assert "49" not in next(table for table in named_page.tables if table[0][0] == "class")

    def test_halves_of_surrogate_pairs_are_replaced(self, tmp_path, small_images):
        X, y = small_images
        names = np.array(["caf\udce9", "b", "c"])[y]
        distiller = ManifoldGDDistiller(ipc=1, num_inference_steps=2, random_state=0)
        with pytest.warns(UserWarning, match="blurred"):
            distiller.fit(X, names).sample(out_dir=tmp_path / "run")
        assert "caf" in Page(write_report(tmp_path / "run", X=X, y=names)).text

    def test_headings_and_links_lead_through_the_page(self, named_page):
        levels = [level for level, _ in named_page.headings]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert max(np.diff(levels)) == 1
        ids = [attrs["id"] for _, attrs in named_page.tags if "id" in attrs]
        links = [a["href"][1:] for a in named_page.all("a") if a["href"][0] == "#"]
        assert sorted(ids) == sorted(links)
        assert named_page.all("html") == [{"lang": "en"}]

    def test_every_sample_is_shown(self, named_run, named_page):
        X, _ = load_distilled(named_run)
        shown = [
            img for img in named_page.all("img") if re.match("Synthetic image [123] ", img["alt"])
        ]
        assert len(shown) == len(X) == 9
        for i, img in enumerate(shown):
            assert img["alt"] == f"Synthetic image {i % 3 + 1} of class {sorted(NAMES)[i // 3]}"
            np.testing.assert_array_equal(pixels(img["src"]), X[i])
            assert (img["width"], img["height"], img["class"]) == ("48", "48", "enlarged")

    def test_every_picture_has_words(self, named_page):
        assert all(img["alt"].strip() for img in named_page.all("img"))
        for svg in named_page.all("svg"):
            assert svg["role"] == "img"
            assert svg["aria-label"]

    def test_accuracies_are_those_that_were_measured(self, named_run, named_page):
        measured = json.loads((named_run / "evaluation.json").read_text())
        table = next(table for table in named_page.tables if table[0][0] == "trained on")
        assert [row[0] for row in table[1:]] == ["this set", "random real", "all training data"]
        sizes = [9, 9, measured["n_training"]["all training data"]]
        for row, n, scores in zip(table[1:], sizes, measured["scores"].values(), strict=True):
            values = 100 * np.array(scores["linear"])
            assert row[1] == str(n)
            assert row[2].strip() == f"{values.mean():.1f} ± {values.std(ddof=1):.1f}"

    def test_error_bars_are_one_deviation_to_either_side(self, named_run, named_page):
        measured = json.loads((named_run / "evaluation.json").read_text())
        values = 100 * np.array(measured["scores"]["random real"]["linear"])
        row = re.search(r'<tr class="rival">.*?</tr>', named_page.html, re.DOTALL)[0]
        ticks = re.search(r'ticks" aria-hidden="true">(.*?)</span>', named_page.html)[1]
        low, *_, high = map(float, re.findall(r">([\d.]+)</i>", ticks))
        left, width = map(float, re.search(r'error" style="left:(.*?)%;width:(.*?)%', row).groups())
        ends = low + (high - low) * np.array([left, left + width]) / 100
        spread = values.std(ddof=1) * np.array([-1, 1])
        np.testing.assert_allclose(ends, np.clip(values.mean() + spread, low, high))
        mean = float(re.search(r'mean" style="left:(.*?)%', row)[1])
        assert low + (high - low) * mean / 100 == pytest.approx(values.mean())

    def test_figures_are_those_that_were_measured(self, named_run, named_page):
        figures = json.loads((named_run / "evaluation.json").read_text())["figures"]
        by_set = next(table for table in named_page.tables if table[0][0] == "set")
        by_class = next(table for table in named_page.tables if table[0][0] == "class")
        for row, name in zip(by_set[1:], ("SET", "random real"), strict=True):
            for cell, value in zip(row[1:], figures[name]["overall"].values(), strict=True):
                assert cell == ("-" if value is None else f"{value:.3g}")
        assert [row[0] for row in by_class[1:]] == sorted(NAMES)

    def test_nearest_pairs_are_the_nearest(self, iris_run, iris_page):
        X, _ = load_iris(return_X_y=True)
        X_syn, y_syn = load_distilled(iris_run)
        check = copying(X, X_syn, random_state=0)
        table = next(table for table in iris_page.tables if "real row" in table[0])
        unit = np.median(check.real_distances)
        for row, i in zip(table[1:], np.argsort(check.distances), strict=True):
            assert row[:3] == [
                str(y_syn[i]), str(check.indices[i]), f"{check.distances[i] / unit:.3g}"
            ]  # fmt: skip
            pairs = zip(X_syn[i], X[check.indices[i]], strict=True)
            assert row[3:] == [f"{a:.3g}{b:.3g}" for a, b in pairs]
        assert f"{check.ratio:.3g} times as far" in iris_page.text
        assert f"{100 * check.copied_share:.0f} % of the samples" in iris_page.text

    def test_the_picture_beside_a_sample_is_the_nearest_real_one(self, named_run, named_page):
        # The held-out share is gone from the rows, so that their places are others.
        images = np.load(named_run.parent / "data.npz")["X"]
        pairs = [img for img in named_page.all("img") if "Nearest real" in img["alt"]]
        assert len(pairs) == 9
        for img in pairs:
            assert (images == pixels(img["src"])).all(axis=(1, 2)).any()

    def test_trees_show_samples_at_centroids_and_real_images_elsewhere(self, named_run, named_page):
        X, _ = load_distilled(named_run)
        images = [pixels(attrs["href"]) for attrs in named_page.all("image")]
        trees = json.loads((named_run / "trees.json").read_text())
        real = np.load(named_run.parent / "data.npz")["X"]
        places = [(k, node) for k in range(3) for node in range(len(trees[k]["size"]))]
        assert len(images) == len(places)
        for image, (k, node) in zip(images, places, strict=True):
            if node in trees[k]["centroids"]:
                place = 3 * k + trees[k]["centroids"].index(node)
                np.testing.assert_array_equal(image, X[place])
            else:
                assert (real == image).all(axis=(1, 2)).any()

    def test_a_table_has_rows_in_place_of_pictures(self, iris_run, iris_page):
        X, y = load_distilled(iris_run)
        assert not iris_page.all("img")
        table = iris_page.tables[0]
        assert table[0] == ["class", "x0", "x1", "x2", "x3"]
        assert table[1:] == [
            [str(label), *(f"{value:.3g}" for value in row)]
            for row, label in zip(X, y, strict=True)
        ]
        assert len(iris_page.all("circle")) == 3 * 5

    def test_features_have_their_names(self, tmp_path):
        X, y = load_iris(return_X_y=True, as_frame=True)
        ManifoldGDDistiller(ipc=1, random_state=0).fit(X, y).sample(out_dir=tmp_path / "run")
        page = Page(write_report(tmp_path / "run", X=X, y=y))
        assert page.tables[0][0][1:] == list(X.columns)

    def test_what_is_not_there_is_said_with_how_to_get_it(self, iris_run, tmp_path):
        page = Page(write_report(iris_run, tmp_path / "out" / "bare.html"))
        assert "skdistill evaluate RUN_DIR DATA" in page.text
        assert "skdistill report RUN_DIR DATA" in page.text
        assert "The nearest pairs" not in page.text

    def test_a_clusterer_without_trees(self, tmp_path):
        distiller = ManifoldGDDistiller(ipc=2, clusterer=KMeans(), random_state=0)
        distiller.fit(*load_iris(return_X_y=True)).sample(out_dir=tmp_path / "run")
        assert "KMeans(), grows no tree" in Page(write_report(tmp_path / "run")).text

    def test_settings_that_were_changed_come_first(self, named_page):
        table = next(table for table in named_page.tables if table[0] == ["setting", "value"])
        assert table[1] == ["num_inference_steps", "2 · not the default"]
        assert not any("not the default" in row[1] for row in table[2:])

    def test_duplicates_leave_distances_without_a_unit(self, tmp_path):
        X, y = np.repeat([[0.0], [1.0], [2.0], [3.0]], 3, axis=0), np.repeat([0, 0, 1, 1], 3)
        distiller = ManifoldGDDistiller(ipc=1, random_state=0).fit(X, y)
        distiller.sample(out_dir=tmp_path / "run")
        page = Page(write_report(tmp_path / "run", X=X, y=y))
        assert "median sample lies" not in page.text
        assert "nan" not in page.text


class TestErrors:
    def test_no_run_or_half_of_one(self, tmp_path):
        with pytest.raises(ValueError, match="is no run"):
            write_report(tmp_path)
        (tmp_path / "manifest.json").write_text("{}")
        with pytest.raises(ValueError, match="is not complete"):
            write_report(tmp_path)

    @pytest.fixture
    def run(self, tmp_path, small_images):
        distiller = ManifoldGDDistiller(
            ipc=1, projector="passthrough", num_inference_steps=1, random_state=0
        )
        with pytest.warns(UserWarning, match="blurred"):
            distiller.fit(*small_images).sample(out_dir=tmp_path / "run")
        return tmp_path / "run"

    def test_damaged_files_are_named(self, run):
        manifest = (run / "manifest.json").read_text()
        for content, message in (
            ("{", r"manifest.json' cannot be read as JSON"),
            ("[]", r"manifest.json' must hold a dict, not \[\]"),
            ('{"settings": {}}', r"manifest.json' does not say 'classes'"),
        ):
            (run / "manifest.json").write_text(content)
            with pytest.raises(ValueError, match=message):
                write_report(run)
        no_settings = json.dumps(json.loads(manifest) | {"settings": 3})
        (run / "manifest.json").write_text(manifest)
        for name, content, message in (
            ("manifest", manifest.replace('"centroids"', '"centres"'), "not say 'centroids'"),
            ("manifest", no_settings, "holds 3 in place of"),
            ("trees", "[]", "has 0 trees, not one for each of"),
            ("scores", "{}", "does not say 'command'"),
            ("evaluation", '{"command": ""}', "does not say 'n_test'"),
        ):
            path = run / f"{name}.json"
            whole = path.read_text() if path.exists() else None
            path.write_text(content)
            with pytest.raises(ValueError, match=rf"{name}.json' .*{message}"):
                write_report(run)
            path.unlink() if whole is None else path.write_text(whole)
        picture = run / "images" / "0" / "0000.png"
        for content in (picture.read_bytes()[:50], b"no image"):
            picture.write_bytes(content)
            with pytest.raises(ValueError, match=r"0000.png' is lost or no image"):
                write_report(run)
        (run / "images" / "metadata.jsonl").write_text("{}\n")
        with pytest.raises(ValueError, match=r"metadata.jsonl' cannot be read: KeyError"):
            write_report(run)
        assert not (run / "report.html").exists()

    def test_pictures_come_from_the_run_only(self, run):
        lines = (run / "images" / "metadata.jsonl").read_text()
        (run / "images" / "metadata.jsonl").write_text(lines.replace("0/0000.png", "../grid.png"))
        with pytest.raises(ValueError, match="which is outside of the run"):
            write_report(run)

    @pytest.mark.parametrize("dtype", [object, str])
    def test_labels_may_be_strings_of_python_or_numpy(self, tmp_path, dtype):
        X, y = load_iris(return_X_y=True)
        y = np.array(["setosa", "versicolor", "virginica"], dtype=dtype)[y]
        ManifoldGDDistiller(2, random_state=0).fit(X, y).sample(out_dir=tmp_path)
        html = write_report(tmp_path, X=X, y=y).read_text(encoding="utf-8")
        assert "versicolor" in html

    def test_other_data_are_refused(self, run, small_images):
        X, y = small_images
        with pytest.raises(ValueError, match="their fingerprint differs"):
            write_report(run, X=X[1:], y=y[1:])
        with pytest.raises(ValueError, match="X and y, 0 rows, are not"):
            write_report(run, X=X[:0], y=y[:0])


@pytest.mark.parametrize(
    ("params", "budget"),
    [
        ({}, None),
        ({"ipc": 4}, 2),
        ({"ipc": {"setosa": 1, "versicolor": 2, "virginica": 3}}, None),
        ({"clusterer": KMeans(), "projector": "passthrough", "ipc": 2}, 3),
        ({"clusterer": HierarchicalIPC(start_level=1), "guidance_interval": (0.1, 0.4)}, None),
        ({"scheduler": "DDIMScheduler", "annealing": None, "strength": 0.25}, None),
        ({"refiner": "passthrough"}, None),
    ],
)
def test_the_line_of_python_makes_the_set_again(tmp_path, params, budget):
    X, y = load_iris(return_X_y=True)
    y = np.array(["setosa", "versicolor", "virginica"])[y]
    settings = {"ipc": 2, "num_inference_steps": 3, "random_state": 7} | params
    distiller = ManifoldGDDistiller(**settings).fit(X, y)
    X_syn, y_syn = distiller.sample(budget, out_dir=tmp_path / "run")
    line = python_line(read_run(tmp_path / "run"))
    made = {"X": X, "y": y}
    exec("\n".join(import_lines(line)), made)
    again = eval(line, made)
    np.testing.assert_array_equal(again[0], X_syn)
    np.testing.assert_array_equal(again[1], y_syn)


def test_the_line_of_python_names_the_refiner(tmp_path):
    X, y = load_digits(n_class=2, return_X_y=True)
    distiller = ManifoldGDDistiller(
        1,
        "digits",
        refiner=MatchingRefiner(3, learning_rate=0.2),
        num_inference_steps=2,
        random_state=1,
    ).fit(X.reshape(-1, 8, 8), y)
    distiller.sample(out_dir=tmp_path / "run")
    line = python_line(read_run(tmp_path / "run"))
    assert "refiner=MatchingRefiner(learning_rate=0.2, steps=3)" in line
    assert import_lines(line)[1] == "from skdistill.refining import MatchingRefiner"
    page = Page(write_report(tmp_path / "run"))
    assert "from skdistill import ManifoldGDDistiller, from skdistill.refining import" in page.text
    assert "skdistill distill DATA --like" in page.text


def test_no_command_is_shown_where_none_makes_the_set_again(tmp_path):
    distiller = ManifoldGDDistiller(1, clusterer=KMeans(n_init=3), num_inference_steps=2)
    distiller.fit(*load_iris(return_X_y=True)).sample(out_dir=tmp_path / "run")
    page = Page(write_report(tmp_path / "run"))
    assert "No command does the same" in page.text
    assert "clusterer=KMeans(n_init=3), for which there is no option" in page.text
    assert "skdistill distill" not in page.text


def test_a_run_without_a_random_state_cannot_be_made_again(tmp_path):
    distiller = ManifoldGDDistiller(ipc=1, num_inference_steps=2)
    distiller.fit(*load_iris(return_X_y=True)).sample(out_dir=tmp_path / "run")
    page = Page(write_report(tmp_path / "run"))
    assert "these lines make another set" in page.text
    assert "random_state=" not in page.text


class TestCharts:
    @given(st.lists(st.floats(0, 100), min_size=1, max_size=8))
    def test_an_axis_holds_its_values(self, values):
        axis = accuracy_axis(values)
        assert axis.low <= min(values) + 1e-9
        assert axis.high >= max(values) - 1e-9
        assert (axis.ticks[0], axis.ticks[-1]) == (axis.low, axis.high)
        assert 2 <= len(axis.ticks) <= 6
        assert axis.place(axis.low) == 0
        assert axis.place(axis.high) == pytest.approx(100)

    @given(st.lists(st.floats(0, 1e6), min_size=1), st.lists(st.floats(0, 1e6), min_size=1))
    def test_histograms_have_shares_of_the_whole(self, one, other):
        shares, end = histogram(np.array(one), np.array(other))
        assert end > 0
        for share in shares:
            assert sum(share) == pytest.approx(1.0)

    @pytest.mark.parametrize("ipc", [1, 2, 12])
    def test_trees_are_drawn_without_crossings(self, ipc):
        rng = np.random.default_rng(0)
        (tree,) = HierarchicalIPC(ipc=ipc, random_state=0).fit(rng.normal(size=(60, 2))).trees_
        layout = lay_out_tree(
            {"children": tree.children.tolist(), "size": tree.size.tolist(), "centroids": [0]}
        )
        assert [node.size for node in layout.nodes] == tree.size.tolist()
        assert [node.centroid for node in layout.nodes] == [0] + [None] * (2 * ipc - 2)
        assert [layout.levels.index(node.y) for node in layout.nodes] == tree.depth.tolist()
        assert len(layout.links) == 2 * ipc - 2
        x = np.array([node.x for node in layout.nodes])
        assert np.diff(np.sort(x[tree.leaves])).tolist() == [46.0] * (ipc - 1)
        for a, b in tree.children[tree.children[:, 0] != -1]:
            assert x[a] < x[b]
        for level in set(tree.depth):
            assert len(set(x[tree.depth == level])) == (tree.depth == level).sum()
        assert all(
            0 < node.x < layout.width and 0 < node.y < layout.height for node in layout.nodes
        )


def test_large_images_are_made_small():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (1, 300, 150, 3), dtype=np.uint8)
    (picture,) = pictures_of_rows(X, (300, 150, 3), (0.0, 255.0))
    assert pixels(picture.uri).shape == (96, 48, 3)
    assert (picture.width, picture.height, picture.enlarged) == (48, 96, False)
    (picture,) = pictures_of_rows(X[:, :20, :10].reshape(1, -1), (20, 10, 3), (0.0, 255.0))
    np.testing.assert_array_equal(pixels(picture.uri), X[0, :20, :10])
    assert (picture.width, picture.height, picture.enlarged) == (30, 60, True)
    (picture,) = pictures_of_rows(np.array([[0.0, 1.0]]), (1, 2, 1), (0.0, 1.0))
    assert pixels(picture.uri).tolist() == [[0, 255]]


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    with Browser() as browser:
        yield browser


COLUMN = """[...document.querySelectorAll("#how table:last-of-type tbody tr")]
    .map((row) => row.cells[{}].textContent)"""
HEAD = "#how table:last-of-type thead th:nth-child({})"
CONTRAST = """(() => {
  const rgb = (text) => text.match(/[\\d.]+/g).slice(0, 3).map((c) => {
    const v = c / 255;
    return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  });
  const light = ([r, g, b]) => 0.2126 * r + 0.7152 * g + 0.0722 * b;
  const paper = light(rgb(getComputedStyle(document.body).backgroundColor));
  const ratio = (element, property) => {
    const ink = light(rgb(getComputedStyle(element)[property]));
    return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
  };
  const texts = [...document.querySelectorAll("main *, header *")]
    .filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()));
  return {
    paper,
    texts: Math.min(...texts.map((e) => ratio(e, e.closest("svg") ? "fill" : "color"))),
    marks: Math.min(...[...document.querySelectorAll(".mean, .error")].map(
      (e) => ratio(e, e.className === "mean" ? "borderTopColor" : "backgroundColor"))),
  };
})()"""


class TestInABrowser:
    def test_it_loads_and_runs_without_complaint(self, browser, named_run):
        browser.open(named_run / "report.html")
        assert browser.complaints == []
        loaded = [url for url in browser.requests if not url.startswith("data:")]
        assert loaded == [(named_run / "report.html").resolve().as_uri()]
        assert browser.evaluate("document.images.length") == 9 + 2 * 9
        assert browser.evaluate("[...document.images].every((i) => i.naturalWidth > 0)")
        assert browser.evaluate("document.title") == "<b>run & co · a distilled set"
        names = browser.evaluate(
            "[...document.querySelectorAll('.class .name')].map((e) => e.textContent)"
        )
        assert names == sorted(NAMES)

    def test_tables_sort_by_mouse_and_by_keyboard(self, browser, iris_run, tmp_path):
        manifest = json.loads((iris_run / "manifest.json").read_text())
        manifest["real_rows"] = [50, 7, 120]
        copy = tmp_path / "copy"
        copy.mkdir()
        (copy / "manifest.json").write_text(json.dumps(manifest))
        (copy / "distilled.npz").write_bytes((iris_run / "distilled.npz").read_bytes())
        browser.open(write_report(copy), width=360)
        browser.click(HEAD.format(4) + " button")
        assert browser.evaluate(COLUMN.format(3)) == ["7", "50", "120"]
        assert browser.evaluate(COLUMN.format(0)) == ["1", "0", "2"]
        head = f"document.querySelector('{HEAD.format(4)}')"
        assert browser.evaluate(f"{head}.ariaSort") == "ascending"
        browser.press_enter()
        assert browser.evaluate(COLUMN.format(3)) == ["120", "50", "7"]
        assert browser.evaluate(f"{head}.ariaSort") == "descending"
        browser.click(HEAD.format(1) + " button")
        assert browser.evaluate(COLUMN.format(0)) == ["0", "1", "2"]
        assert browser.evaluate(f"{head}.ariaSort") is None
        assert browser.complaints == []

    @pytest.mark.parametrize("which", ["named_run", "iris_run"])
    @pytest.mark.parametrize(("width", "media"), [(360, ""), (800, ""), (680, "print")])
    def test_nothing_is_wider_than_the_page(self, browser, which, width, media, request):
        run = request.getfixturevalue(which)
        browser.open(run / "report.html", width=width, media=media)
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        # What scrolls by itself on a screen cannot do so on paper.
        if media == "print":
            widest = (
                "Math.max(...[...document.querySelectorAll('.scroll')].map(e => e.scrollWidth))"
            )
            assert browser.evaluate(widest) <= width

    @pytest.mark.parametrize("dark", [False, True])
    def test_all_is_legible_by_day_and_by_night(self, browser, named_run, dark):
        browser.open(named_run / "report.html", dark=dark)
        contrast = browser.evaluate(CONTRAST)
        assert (contrast["paper"] < 0.05) == dark
        assert contrast["texts"] >= 4.5
        assert contrast["marks"] >= 3.0

    def test_it_prints(self, browser, named_run):
        browser.open(named_run / "report.html", dark=True)
        pdf = browser.print_to_pdf()
        assert pdf.startswith(b"%PDF-")
        browser.open(named_run / "report.html", dark=True, media="print")
        assert browser.evaluate(CONTRAST)["paper"] > 0.9
