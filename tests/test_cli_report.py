import json

import pytest

from skdistill.cli import main


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "digits"
    options = ["--ipc", "1", "--steps", "2", "--refiner-steps", "5", "--no-scores", "--quiet"]
    assert main(["distill", "digits", *options, "--out", str(run)]) == 0
    return run


def test_the_report_is_in_the_run_directory_or_where_it_is_asked_for(digits_run, tmp_path, capsys):
    assert main(["report", str(digits_run)]) == 0
    assert capsys.readouterr().out == f"The report is in {digits_run / 'report.html'}\n"
    assert "skdistill distill DATA --like" in (digits_run / "report.html").read_text("utf-8")
    out = tmp_path / "pages" / "digits.html"
    assert main(["report", str(digits_run), "digits", "--quiet", "--out", str(out)]) == 0
    assert capsys.readouterr().out == ""
    page = out.read_text(encoding="utf-8")
    assert f"skdistill distill digits --like {digits_run} --out {digits_run}-again" in page
    assert "The nearest pairs" in page


def test_what_distill_measured_is_shown(digits_run, tmp_path, capsys):
    # As the command writes it, with one seed.
    scores = {"ManifoldGD": {"linear": [0.5]}, "herding": {"linear": [0.75]}}
    measured = {"command": "skdistill distill a&b", "n_test": 540, "scores": scores}
    measured["n_training"] = {"ManifoldGD": 10, "herding": 10}
    path = digits_run / "scores.json"
    path.write_text(json.dumps(measured))
    assert main(["report", str(digits_run), "--quiet", "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "skdistill distill a&amp;b" in page
    assert "one seed, so no deviation" in page
    assert '<span class="value">75.0</span>' in page
    assert 'class="error"' not in page
    path.unlink()


def test_what_evaluate_measured_is_shown_with_the_default_as_a_rival(digits_run, tmp_path, capsys):
    scores = {"SET": {"linear": [0.5]}, "ManifoldGD": {"linear": [0.75]}}
    measured = {"command": "skdistill evaluate", "n_test": 540, "scores": scores}
    figures = {name: {"overall": {"fid": 1.0}, "by_class": {}} for name in scores}
    measured |= {"n_training": {"SET": 10}, "features": "values", "figures": figures}
    path = digits_run / "evaluation.json"
    path.write_text(json.dumps(measured))
    assert main(["report", str(digits_run), "--quiet", "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    own, rival = (page.index(f'<span class="value">{value}</span>') for value in ("50.0", "75.0"))
    assert page.rindex("this set", 0, own) < own
    assert page.rindex("ManifoldGD", 0, rival) > page.rindex("this set", 0, rival)
    path.unlink()


def test_errors_name_the_cause(digits_run, tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert "is no run" in capsys.readouterr().err
    assert main(["report", str(digits_run), str(tmp_path / "nothing")]) == 2
    assert "/nothing' is neither 'digits'" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert main(["report", str(digits_run), "--out", str(tmp_path / "file" / "x.html")]) == 1
    assert "x.html" in capsys.readouterr().err
