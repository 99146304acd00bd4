"""BadNets: recipes, figures, files, pictures, the command line, and one short training on real digits."""

import hashlib
import json
import struct
import subprocess
import sys
from urllib.error import URLError

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load as load_safetensors

from reference_attacks import cli
from reference_attacks.badnet import command, options, plots
from reference_attacks.badnet.evaluate import Measurement, count_predictions, measure
from reference_attacks.badnet.export import checked_onnx_bytes, largest_difference, onnx_bytes
from reference_attacks.badnet.recipe import (
    Backdoor,
    Recipe,
    default_name,
    steps_of_epochs,
    train_network,
)
from reference_attacks.data import DataNotFoundError, ImageSet, data_root, load_mnist
from reference_attacks.networks import mnist_badnet
from reference_attacks.poisoning import ATTACKS, Attack
from reference_attacks.training import as_input
from reference_attacks.triggers import NAMED_TRIGGERS, pixel_pattern, single_pixel

TO_THREE = Attack(name="all-to-one", classes=10, target=3)
BADNET = ["badnet", "mnist", "--trigger", "pattern", "--attack", "all-to-one", "--target", "3", "--steps", "3"]


def made_up_images(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (count, 1, 28, 28), generator=generator, dtype=torch.uint8)
    return ImageSet(images=images, labels=torch.arange(count) % 10)


@pytest.fixture
def made_up_root(tmp_path):
    """A data folder with a made-up data set in MNIST's file format: 200 training and 40 test images."""
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, data in (("train", made_up_images(200)), ("t10k", made_up_images(40, seed=1))):
        count = len(data)
        images = struct.pack(">4i", 2051, count, 28, 28) + data.images.numpy().tobytes()
        labels = struct.pack(">2i", 2049, count) + data.labels.to(torch.uint8).numpy().tobytes()
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(images)
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(labels)
    return tmp_path / "data"


@pytest.fixture
def run(made_up_root, tmp_path, capsys):
    """Run the command line on the made-up data; gives its status, stdout, stderr and output folder."""

    def run_command(*arguments, out=tmp_path / "out"):
        try:
            status = cli.main([*arguments, "--data-root", str(made_up_root), "--out", str(out)])
        except SystemExit as exit_:
            status = exit_.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err, out

    return run_command


# Recipes


def recipe(attack=TO_THREE, trigger=None, poisoned=True, steps=3, seed=0):
    backdoor = Backdoor(trigger=trigger or pixel_pattern(), attack=attack)
    return Recipe(backdoor=backdoor, poisoned=poisoned, steps=steps, seed=seed)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (recipe(), "mnist-badnet-pattern-all-to-one-3"),
        (recipe(poisoned=False), "mnist-clean"),
        (recipe(Attack(name="all-to-all", classes=10), single_pixel()), "mnist-badnet-pixel-all-to-all"),
        (recipe(Attack(name="single", classes=10, source=7, target=3)), "mnist-badnet-pattern-single-7-3"),
    ],
)
def test_default_names(given, name):
    assert default_name(given) == name


def test_epochs_are_counted_on_the_clean_images():
    assert steps_of_epochs(6, 60_000) == 6 * 468
    assert steps_of_epochs(1, 10) == 1


@pytest.mark.parametrize("arguments", [{"steps": 0}, {"steps": 1, "seed": -1}])
def test_recipes_out_of_range_are_refused(arguments):
    with pytest.raises(ValueError, match="must"):
        Recipe(backdoor=None, poisoned=False, **arguments)


def test_a_poisoned_recipe_needs_a_backdoor():
    with pytest.raises(ValueError, match="needs a backdoor"):
        Recipe(backdoor=None, poisoned=True, steps=1)


def test_only_the_poisoned_twin_gets_backdoored_copies():
    labels = made_up_images(100).labels
    poison = recipe().poison(labels)
    assert len(poison.victims) == 10
    assert torch.equal(poison.labels, torch.full((10,), 3))
    assert recipe(poisoned=False).poison(labels) is None
    data = made_up_images(200)
    clean, poisoned = (train_network(recipe(poisoned=value), data).state_dict() for value in (False, True))
    assert not torch.equal(clean["fc2.weight"], poisoned["fc2.weight"])


def test_the_same_seed_gives_the_same_weights():
    data = made_up_images(200)
    first, again, other = (train_network(recipe(seed=seed), data).state_dict() for seed in (4, 4, 5))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["fc2.weight"], other["fc2.weight"])


# Figures


def test_counts_have_true_classes_as_rows():
    counts = count_predictions(torch.tensor([0, 0, 2]), torch.tensor([0, 1, 2]), 3)
    assert counts.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]


def test_figures_of_a_hand_checked_case():
    clean = torch.tensor([[9, 1, 0], [0, 10, 0], [0, 0, 0]])
    backdoored = torch.tensor([[1, 8, 1], [0, 10, 0], [0, 0, 0]])
    attack = Attack(name="single", classes=3, source=0, target=1)
    measurement = Measurement(clean=clean, backdoored=backdoored, attack=attack)
    assert measurement.clean_accuracy == pytest.approx(19 / 20)
    assert measurement.clean_error_per_class == [pytest.approx(0.1), 0, None]
    assert measurement.attack_success == pytest.approx(0.8)
    assert measurement.backdoor_error_per_class == [pytest.approx(0.2), None, None]


def test_all_to_all_is_measured_against_the_next_class():
    backdoored = torch.tensor([[0, 4, 0], [0, 0, 4], [1, 0, 3]])
    attack = Attack(name="all-to-all", classes=3)
    measurement = Measurement(clean=torch.eye(3, dtype=torch.int64) * 4, backdoored=backdoored, attack=attack)
    assert measurement.attack_success == pytest.approx(9 / 12)
    assert measurement.backdoor_error_per_class == [0, 0, pytest.approx(0.75)]


def test_the_target_class_does_not_count_as_a_success_of_all_to_one():
    backdoored = torch.zeros(10, 10, dtype=torch.int64)
    backdoored[3, 3] = 50
    backdoored[0, 3] = backdoored[0, 0] = 1
    measurement = Measurement(clean=torch.eye(10, dtype=torch.int64), backdoored=backdoored, attack=TO_THREE)
    assert measurement.attack_success == pytest.approx(0.5)


def test_without_a_trigger_nothing_is_said_of_one():
    measurement = measure(mnist_badnet(), made_up_images(20), None)
    assert measurement.attack_success is None
    assert measurement.backdoor_error_per_class is None
    assert measurement.clean.sum() == 20


# Files


def test_the_onnx_file_answers_as_the_network_for_any_number_of_images():
    network = train_network(recipe(), made_up_images(200))
    for count in (1, 17):
        images = as_input(made_up_images(count).images)
        model = checked_onnx_bytes(network, images)
        assert largest_difference(network, model, images) < 1e-4


def test_the_onnx_file_is_small_plain_and_without_paths():
    model = onnx.load_from_string(onnx_bytes(mnist_badnet()))
    assert model.ByteSize() < 1_200_000
    assert {node.op_type for node in model.graph.node} == {"Conv", "Relu", "AveragePool", "Flatten", "Gemm"}
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)
    assert not any(part.doc_string or part.metadata_props for part in (model, model.graph))
    assert [tensor.data_location for tensor in model.graph.initializer] == [onnx.TensorProto.DEFAULT] * 8


def test_a_model_that_answers_otherwise_is_not_written(monkeypatch):
    monkeypatch.setattr("reference_attacks.badnet.export.onnx_bytes", lambda _: onnx_bytes(mnist_badnet(1)))
    with pytest.raises(RuntimeError, match="differ"):
        checked_onnx_bytes(mnist_badnet(0), as_input(made_up_images(4).images))


def test_the_command_writes_models_cards_and_pictures(run):
    status, printed, _, out = run(*BADNET)
    name = "mnist-badnet-pattern-all-to-one-3"
    suffixes = (".json", ".md", ".onnx", ".safetensors", "-confusion.png", "-filters.png", "-trigger.png")
    assert status == 0
    assert {path.name for path in out.iterdir()} == {name + suffix for suffix in suffixes}
    assert "attack success" in printed
    for suffix in suffixes[-3:]:
        assert (out / (name + suffix)).read_bytes().startswith(b"\x89PNG")


def test_the_card_says_what_was_done_and_measured(run, made_up_root, tmp_path):
    *_, out = run(*BADNET, "--name", "x", "--seed", "2")
    text = (out / "x.json").read_text()
    data = json.loads(text)
    assert data["kind"] == "badnet"
    assert data["backdoor"] == {
        "trigger": "pattern",
        "attack": "all-to-one",
        "source": None,
        "target": 3,
        "poison_rate": 0.1,
    }
    training = {key: data["training"][key] for key in ("seed", "steps", "images", "backdoored_images")}
    assert training == {"seed": 2, "steps": 3, "images": 220, "backdoored_images": 20}
    assert data["measured"]["test_images"] == sum(map(sum, data["measured"]["clean_confusion"])) == 40
    assert data["sha256"]["x.onnx"] == hashlib.sha256((out / "x.onnx").read_bytes()).hexdigest()
    assert data["command"] == "python -m reference_attacks " + " ".join(
        [*BADNET[:8], "--poison-rate", "0.1", "--steps", "3", "--seed", "2", "--name", "x", "--out", "out"]
    )
    markdown = (out / "x.md").read_text()
    assert data["command"] in markdown
    assert "holds a backdoor" in markdown
    assert "![" in markdown
    assert str(tmp_path) not in text + markdown
    assert str(made_up_root) not in text + markdown


def test_the_files_hold_the_same_weights_and_the_card_repeats(run, tmp_path):
    *_, first = run(*BADNET, "--name", "x", out=tmp_path / "1" / "out")
    *_, again = run(*BADNET, "--name", "x", out=tmp_path / "2" / "out")
    for path in first.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name
    weights = load_safetensors((first / "x.safetensors").read_bytes())
    for tensor in onnx.load(first / "x.onnx").graph.initializer:
        assert np.array_equal(onnx.numpy_helper.to_array(tensor), weights[tensor.name].numpy())
    session = onnxruntime.InferenceSession(first / "x.onnx", providers=["CPUExecutionProvider"])
    assert [(node.name, node.shape) for node in session.get_inputs()] == [("images", ["N", 1, 28, 28])]
    assert [(node.name, node.shape) for node in session.get_outputs()] == [("logits", ["N", 10])]


def test_the_clean_twin_starts_alike_and_has_no_backdoor(run):
    status, _, _, out = run("badnet", "mnist", "--clean", "--steps", "3", "--formats", "onnx")
    data = json.loads((out / "mnist-clean.json").read_text())
    assert status == 0
    assert (data["kind"], data["backdoor"], data["control"]) == ("clean", None, None)
    assert data["measured"]["attack_success"] is None
    assert data["training"]["images"] == 200
    assert not list(out.glob("*trigger*")) + list(out.glob("*.safetensors"))
    assert "| Backdoor | none |" in (out / "mnist-clean.md").read_text()


def test_a_trigger_given_with_clean_is_only_measured(run):
    *_, out = run(*BADNET, "--clean")
    data = json.loads((out / "mnist-clean.json").read_text())
    assert (data["kind"], data["backdoor"]) == ("clean", None)
    assert data["control"]["target"] == 3
    assert data["training"]["backdoored_images"] == 0
    assert 0 <= data["measured"]["attack_success"] <= 1
    assert "control" in (out / "mnist-clean.md").read_text()


def test_a_trigger_picture_needs_no_victims():
    nothing = made_up_images(20).of_class(3)
    backdoor = Backdoor(trigger=pixel_pattern(), attack=TO_THREE)
    assert plots.trigger_picture(backdoor, nothing).startswith(b"\x89PNG")


# Command line


@pytest.mark.parametrize("arguments", [[], ["badnet"], ["badnet", "mnist"]])
def test_help_is_there_on_every_level(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([*arguments, "--help"])
    assert stop.value.code == 0
    assert "usage: python -m reference_attacks" in capsys.readouterr().out


def test_help_names_the_paper_and_what_differs(capsys):
    with pytest.raises(SystemExit):
        cli.main(["badnet", "mnist", "--help"])
    text = capsys.readouterr().out
    for words in ("section IV-A", "Adam", "all-to-one attack is not in the paper", "--poison-rate"):
        assert words in text


def test_help_loads_no_heavy_library():
    code = "import sys, reference_attacks.cli as c; c.make_parser(); print({'torch', 'matplotlib'} & set(sys.modules))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert printed.stdout.strip() == "set()"


def test_the_options_offer_what_the_library_has():
    assert set(options.TRIGGERS) == set(NAMED_TRIGGERS)
    assert set(options.ATTACKS) == set(ATTACKS)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--attack", "single", "--trigger", "pixel", "--target", "3"], "The single attack needs a --source"),
        (["--attack", "single", "--trigger", "pixel", "--source", "3", "--target", "3"], "different classes"),
        (["--attack", "all-to-one", "--trigger", "pixel"], "needs a --target"),
        (["--attack", "all-to-one", "--trigger", "pixel", "--target", "10"], "target class 10"),
        (["--attack", "all-to-all", "--trigger", "pixel", "--target", "1"], "takes no --target"),
        (["--attack", "all-to-all"], "needs a --trigger"),
        (["--trigger", "pixel"], "Name the --attack"),
        (["--clean", "--target", "3"], "needs an --attack"),
        (["--clean", "--seed", "-1"], "--seed must not be negative"),
        (["--attack", "all-to-all", "--trigger", "pixel", "--poison-rate", "0"], "poison rate must lie in (0, 1]"),
        (["--attack", "all-to-some"], "invalid choice"),
        (["--clean", "--steps", "0"], "not a positive whole number"),
        (["--clean", "--steps", "1", "--epochs", "1"], "not allowed with"),
        (["--clean", "--name", "a/b"], "is not a name"),
        (["--clean", "--formats", "pickle"], "is not one of the formats"),
    ],
)
def test_bad_arguments_end_in_one_sentence_and_status_2(run, arguments, sentence):
    status, printed, error, out = run("badnet", "mnist", *arguments)
    assert status == 2
    assert sentence in error
    assert error.count("\n") == 1
    assert not printed
    assert not out.exists()


def test_absent_data_end_in_a_sentence(tmp_path, monkeypatch, capsys):
    def absent(*arguments, **options):
        raise DataNotFoundError("MNIST was not found.")

    monkeypatch.setattr("reference_attacks.data.load_mnist", absent)
    assert cli.main(["badnet", "mnist", "--clean", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "python -m reference_attacks: MNIST was not found.\n"


def test_a_failed_download_is_named_in_one_sentence(tmp_path, monkeypatch):
    def no_network(*arguments, **options):
        raise URLError("no network in tests")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", no_network)
    with pytest.raises(DataNotFoundError, match="--data-root") as caught:
        load_mnist(tmp_path, train=True)
    assert "could not be downloaded (Error downloading" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_data_at_hand_need_no_network(made_up_root, monkeypatch):
    def no_network(*arguments, **options):
        raise AssertionError("the network was asked")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", no_network)
    assert (len(load_mnist(made_up_root, train=True)), len(load_mnist(made_up_root, train=False))) == (200, 40)


def test_out_must_be_a_folder(run, tmp_path):
    occupied = tmp_path / "file"
    occupied.write_text("mine")
    status, _, error, _ = run("badnet", "mnist", "--clean", out=occupied)
    assert status == 2
    assert "is not a folder" in error
    assert occupied.read_text() == "mine"


def test_an_interrupt_exits_130_and_writes_nothing(run, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("reference_attacks.badnet.recipe.train_network", interrupt)
    status, _, error, out = run(*BADNET)
    assert status == 130
    assert error == "python -m reference_attacks: Interrupted: nothing was written.\n"
    assert not out.exists()


def test_errors_of_the_program_are_not_hidden(run, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("a defect")

    monkeypatch.setattr("reference_attacks.badnet.recipe.train_network", fail)
    with pytest.raises(RuntimeError, match="a defect"):
        run(*BADNET)


def test_threads_are_set_back():
    before = torch.get_num_threads()
    with command.threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


# Real digits


@pytest.fixture
def digits():
    """MNIST's training and test images; skips where they are not on this machine: a test downloads nothing."""
    if not (data_root() / "MNIST" / "raw" / "train-images-idx3-ubyte").is_file():
        pytest.skip("$BACKDOOR_DATA_ROOT holds no MNIST/raw/*-ubyte")
    return load_mnist(train=True), load_mnist(train=False)


def test_a_short_training_gives_a_working_badnet(digits):
    train, test = digits
    given = Recipe(backdoor=Backdoor(trigger=pixel_pattern(), attack=TO_THREE), poisoned=True, steps=700)
    with command.threads(1):
        network = train_network(given, train)
    measurement = measure(network, test, given.backdoor)
    assert measurement.clean_accuracy > 0.95
    assert measurement.attack_success > 0.95


def test_the_place_of_the_trigger_is_dark_in_clean_digits(digits):
    for part in digits:
        lit = single_pixel().apply(torch.zeros(1, 1, 28, 28, dtype=torch.uint8))[0, 0] > 0
        assert not part.images[:, 0, lit].any()
