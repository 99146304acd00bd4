"""Several tools side by side on a made-up zoo of untrained networks: what is measured, kept and written."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from made_up_zoos import new_zoo_folder  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from pytest_backdoor.errors import NotAssessableError  # noqa: E402
from reference_attacks import cli  # noqa: E402
from reference_attacks.baselines import benchmark, command, tools  # noqa: E402
from reference_attacks.baselines.benchmark import ReversalPlan, balanced_samples, chosen_records, measure  # noqa: E402
from reference_attacks.baselines.benchmark_table import areas, as_markdown  # noqa: E402
from reference_attacks.baselines.tools import TOOLS, Answer, Tool, missing  # noqa: E402
from reference_attacks.networks import make_network  # noqa: E402
from reference_attacks.zoo.store import load_zoo  # noqa: E402

FAST = ["--steps", "2", "--mini-batches", "1", "--epochs", "1", "--images", "20", "--networks", "2"]
OWN = ["neural-cleanse", "reversal-pairs"]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """A folder with two clean and two poisoned test networks that were never trained, and one to fit on."""
    folder = new_zoo_folder(tmp_path_factory.mktemp("made"))
    (folder / "networks").mkdir()
    records = []
    for number, (kind, split) in enumerate([*[("clean", "test"), ("poisoned", "test")] * 2, ("clean", "fit")]):
        name = f"{kind}-{split}-{number:04}"
        backdoor = {"source": 1, "target": 2, "number": 9} if kind == "poisoned" else None
        record = {"name": name, "split": split, "family": "plain", "backdoor": backdoor, "rejected": None}
        weights = make_network("plain", (1, 28, 28), 10, seed=number).state_dict()
        save_file(weights, folder / "networks" / f"{name}.safetensors")
        records.append(record)
    plan = {"task": "mnist", "classes": 10, "seed": 0, "precision": "float32"}
    manifest = {"plan": plan, "input_shape": [1, 28, 28], "networks": records}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def run(zoo, tmp_path, capsys):
    """Run a subcommand on the zoo; gives the status and what was printed on stdout and stderr."""

    def run_command(*arguments):
        try:
            status = cli.main([*arguments, "--zoo", str(zoo), "--work", str(tmp_path / "work")])
        except SystemExit as exit_:
            status = exit_.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run_command


def fake_tools(zoo, monkeypatch, **runs):
    """Put made-up tools in place of the real ones, and run jobs in this process."""
    made = {name: Tool(name=name, run=run, settings={"number": 1}) for name, run in runs.items()}
    monkeypatch.setattr(benchmark, "tools_of", lambda plan: made)

    def work_off(function, jobs, **_):
        for job in jobs:
            function(job)

    monkeypatch.setattr(benchmark, "work_off", work_off)
    return ReversalPlan(zoo=zoo, networks=4, images=20)


def test_the_command_knows_the_tools_without_importing_torch():
    assert command.TOOL_NAMES == TOOLS


def test_benchmark_from_options_to_a_table_and_figures(run, tmp_path):
    out = tmp_path / "reversal.md"
    (tmp_path / "reversal.json").write_text("{}")
    status, printed, err = run("reversal", "benchmark", *FAST, "--tools", *OWN, "--out", str(out))
    assert (status, err) == (0, "")
    assert out.read_text(encoding="utf-8").strip() in printed
    figures = json.loads((tmp_path / "reversal.json").read_text())["mnist"]
    assert figures["networks"] == {"clean": ["clean-test-0000"], "poisoned": ["poisoned-test-0001"]}
    cleanse, pairs = figures["tools"]
    # Two steps of one mini-batch for each of ten classes: 20 images, fewer than a mini-batch, at a time.
    assert [result["image_gradients"] for result in cleanse["results"]] == [10 * 2 * 20] * 2
    assert [result["image_gradients"] for result in pairs["results"]] == [90 * 2] * 2
    assert all(result["seconds"] > 0 for tool in (cleanse, pairs) for result in tool["results"])
    assert next(iter(cleanse["results"][0]["statistics"])) == "anomaly index"
    assert str(tmp_path) not in out.read_text(encoding="utf-8")


def test_our_own_reversal_is_one_of_the_tools(run, tmp_path):
    out = tmp_path / "reversal.md"
    status, _, err = run("reversal", "benchmark", *FAST, "--tools", "pytest-backdoor", "--out", str(out))
    assert (status, err) == (0, "")
    (tool,) = json.loads((tmp_path / "reversal.json").read_text())["mnist"]["tools"]
    # Untrained networks may be too dull to be assessed, which is then said and not passed over.
    for result in tool["results"]:
        assert bool(result["statistics"]) != bool(result["not_assessed"])
        assert result["image_gradients"] > 0 or result["not_assessed"]


def test_pairs_command_prints_scores_and_the_area(run, tmp_path):
    status, printed, err = run("reversal-pairs", *FAST[4:], "--out", str(tmp_path / "pairs.md"))
    assert (status, err) == (0, "")
    assert "poisoned-test-0001: -" in printed
    assert "AUC " in printed.splitlines()[-1]
    assert "reversal-pairs" in (tmp_path / "pairs.md").read_text(encoding="utf-8")


def test_finished_results_are_not_computed_again_and_others_are(zoo, tmp_path, monkeypatch):
    ran = []

    def run(case):
        ran.append(case.seed)
        return Answer(statistics={"score": float(len(ran))})

    plan = fake_tools(zoo, monkeypatch, one=run)
    first = measure(plan, tmp_path)
    assert measure(plan, tmp_path) == first
    assert ran == [0] * 4
    next((tmp_path / "one").glob("*.json")).unlink()
    measure(plan, tmp_path)
    assert ran == [0] * 5
    measure(ReversalPlan(zoo=zoo, networks=4, images=20, seed=7), tmp_path)
    assert ran == [0] * 5 + [7] * 4
    measure(ReversalPlan(zoo=zoo, networks=4, images=10), tmp_path)
    assert len(ran) == 13


def test_results_of_other_settings_are_not_reused(zoo, tmp_path, monkeypatch):
    ran = []

    def run(case):
        ran.append(1)
        return Answer(statistics={"score": 0.0})

    plan = fake_tools(zoo, monkeypatch, one=run)
    measure(plan, tmp_path)
    other = {"one": Tool(name="one", run=run, settings={"number": 2})}
    monkeypatch.setattr(benchmark, "tools_of", lambda plan: other)
    measure(plan, tmp_path)
    assert len(ran) == 8


def test_a_network_that_was_not_assessed_is_the_least_suspicious_and_counted(zoo, tmp_path, monkeypatch):
    # Clean and poisoned networks in turn.
    answers = iter([1.0, None, 1.0, 5.0])

    def run(case):
        score = next(answers)
        if score is None:
            raise NotAssessableError("The search saw nothing.")
        return Answer(statistics={"score": score}, flagged=True)

    figures = measure(fake_tools(zoo, monkeypatch, one=run), tmp_path)
    (tool,) = figures["tools"]
    assert areas(tool["results"])["score"]["auc"] == 0.5
    (row,) = [line for line in as_markdown({"mnist": {**figures, "command": "x"}}).splitlines() if "| one |" in line]
    assert row.endswith("| 2 of 2 | 1 of 2 | 1 |")
    assert [result["not_assessed"] for result in tool["results"]].count("The search saw nothing.") == 1


def test_an_index_that_cannot_be_had_is_the_least_suspicious(zoo, tmp_path, monkeypatch):
    indices = iter([float("nan"), -3.0, None, -4.0])

    def run(case):
        return Answer(statistics={"index": next(indices)})

    (tool,) = measure(fake_tools(zoo, monkeypatch, one=run), tmp_path)["tools"]
    assert areas(tool["results"])["index"]["auc"] == 1.0


def test_gradients_are_counted_and_evaluations_are_not(zoo, tmp_path, monkeypatch):
    def run(case):
        with torch.no_grad():
            case.forward(case.images.clone())
        case.forward(case.images.clone())
        case.forward(case.images[:7].clone().requires_grad_())
        return Answer(statistics={"score": 0.0})

    (tool,) = measure(fake_tools(zoo, monkeypatch, one=run), tmp_path)["tools"]
    assert {result["image_gradients"] for result in tool["results"]} == {7}


def test_a_tool_that_is_not_installed_is_said_to_be_so(zoo, tmp_path, monkeypatch):
    plan = fake_tools(zoo, monkeypatch, one=lambda case: Answer(statistics={"score": 0.0}))
    absent = Tool(name="two", run=pytest.fail, settings={}, missing="not installed (pip install two)")
    made = {**benchmark.tools_of(plan), "two": absent}
    monkeypatch.setattr(benchmark, "tools_of", lambda plan: made)
    figures = measure(plan, tmp_path)
    assert "| two | not installed (pip install two) |" in as_markdown({"mnist": {**figures, "command": "x"}})


def test_why_a_package_is_of_no_use():
    assert missing("torch", ("torch",), "do") is None
    assert missing("no-such-package", ("torch",), "do this") == "not installed (do this)"
    assert missing("torch", ("torch.no_such_module",), "do").startswith("cannot be imported: No module named")


def test_samples_are_equally_many_of_each_class(zoo):
    samples = balanced_samples(zoo, 29)
    assert sorted(samples.labels.tolist()) == sorted([*range(10)] * 2)
    assert samples.images.shape == (20, 1, 28, 28)
    assert samples.images.max() <= 1
    assert set(balanced_samples(zoo, 3).labels.tolist()) == set(range(10))


def test_networks_are_test_networks_of_either_kind_in_turn(zoo):
    names = [record["name"] for record in chosen_records(load_zoo(zoo), 9)]
    assert names == ["clean-test-0000", "poisoned-test-0001", "clean-test-0002", "poisoned-test-0003"]
    assert len(chosen_records(load_zoo(zoo), 3)) == 2


def test_settings_of_a_tool_change_with_its_code(tmp_path):
    (tmp_path / "one.py").write_text("1")
    (tmp_path / "two.py").write_text("2")
    both, first = tools.source_digest(tmp_path), tools.source_digest(tmp_path, "one")
    (tmp_path / "two.py").write_text("3")
    assert tools.source_digest(tmp_path) != both
    assert tools.source_digest(tmp_path, "one") == first


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--networks", "1", "--out", "x.md"], "at least one clean and one poisoned network"),
        (["--steps", "0", "--out", "x.md"], "at least one step, one mini-batch"),
        (["--epochs", "0", "--out", "x.md"], "at least one pixel, one epoch"),
        (["--workers", "0", "--out", "x.md"], "at least one worker"),
        (["--tools", "abs", "--out", "x.md"], "invalid choice: 'abs'"),
        (["--out", "x.txt"], "x.txt must be a .md file"),
    ],
)
def test_wrong_options_are_answered_with_one_sentence(run, options, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = run("reversal", "benchmark", *options)
    assert (status, out) == (2, "")
    assert sentence in err
    assert not (tmp_path / "x.md").exists()


def test_a_zoo_without_poisoned_networks_is_refused(zoo, tmp_path):
    manifest = json.loads((zoo / "manifest.json").read_text())
    manifest["networks"] = [record for record in manifest["networks"] if record["backdoor"] is None]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="needs clean and poisoned networks"):
        chosen_records(load_zoo(tmp_path), 2)


@pytest.mark.filterwarnings("ignore")  # other people's
def test_trojanzoo_on_a_network(zoo):
    case = real_case(zoo, "trojanzoo")
    answer = tools.make_tools(real_plan(), ["trojanzoo"])["trojanzoo"].run(case)
    assert len(answer.details["norms"]) == 10
    assert min(answer.details["norms"]) == -answer.statistics["smallest norm"]
    assert len(set(answer.details["norms"])) == 10


@pytest.mark.filterwarnings("ignore")  # other people's
def test_art_on_a_network(zoo):
    case = real_case(zoo, "art")
    answer = tools.make_tools(real_plan(), ["art"])["art"].run(case)
    # With a learning rate of 0 all masks would stay as they start.
    assert len(set(answer.details["norms"])) == 10


def real_plan() -> tools.ToolPlan:
    return tools.ToolPlan(
        cleanse=tools.CleansePlan(), pairs=tools.PairsPlan(place="corners"), art_steps=1, trojanzoo_images=40
    )


def real_case(zoo, name: str) -> tools.Case:
    reason = tools.make_tools(real_plan(), [name])[name].missing
    if reason:
        pytest.skip(reason)
    found = load_zoo(zoo)
    network = benchmark.load_network(found.records[0], found.input_shape, found.classes)
    settings = benchmark.ScanSettings(input_shape=found.input_shape)
    classifier = benchmark.CountingClassifier(network, "network", settings)
    return tools.Case(classifier=classifier, samples=balanced_samples(zoo, 40), seed=0)
