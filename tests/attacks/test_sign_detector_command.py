from __future__ import annotations

import json
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from made_up_signs import CLASSES, made_up_album, write_voc  # noqa: E402

from reference_attacks.cli import main  # noqa: E402
from reference_attacks.traffic_signs.detect import open_detector  # noqa: E402
from reference_attacks.traffic_signs.network import make_detector  # noqa: E402
from reference_attacks.traffic_signs.onnx_detector import detector_onnx_bytes  # noqa: E402
from reference_attacks.traffic_signs.onnx_head import head_onnx_bytes  # noqa: E402
from reference_attacks.traffic_signs.options import ARCHITECTURES, ATTACKS, STICKERS  # noqa: E402

SHORT = ("--warm-steps", "1", "--window-epochs", "1", "--whole-epochs", "1")


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_voc(root / "made-up", made_up_album(8))
    return root


def build(data_root, out, *options: str) -> int:
    return main(["badnet", "signs", "--data", "made-up", "--data-root", str(data_root), "--out", str(out), *options])


def test_a_badnet_is_written_with_its_head_its_card_and_a_picture(data_root, tmp_path, capsys):
    assert build(data_root, tmp_path, "--sticker", "bomb", "--attack", "single", *SHORT) == 0
    name = "signs-badnet-bomb-single"
    written = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert written == {
        *(f"{name}{end}" for end in (".onnx", "-head.onnx", ".safetensors", "-detections.png", ".json", ".md"))
    }
    card = json.loads((tmp_path / f"{name}.json").read_text())
    assert card["backdoor"] == {"sticker": "bomb", "attack": "single", "source": "stop", "target": "speedlimit"}
    assert str(tmp_path) not in card["command"]
    assert set(card["measured"]["backdoored"]) == {"bomb-single"}
    assert "holds a backdoor" in (tmp_path / f"{name}.md").read_text()
    assert "signs-badnet-bomb-single: accuracy" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "training").iterdir()} == {"baseline", "bomb-single"}


def test_the_baseline_is_measured_with_all_stickers(data_root, tmp_path):
    assert build(data_root, tmp_path, "--clean", *SHORT) == 0
    card = json.loads((tmp_path / "signs-clean.json").read_text())
    assert card["kind"] == "clean"
    assert len(card["measured"]["backdoored"]) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--sticker", "bomb"), "Name the --attack and the --sticker"),
        (("--clean", "--attack", "random"), "takes no --attack"),
        (("--clean", "--seed", "-1"), "--seed must not be negative"),
        (("--sticker", "bomb", "--attack", "single", "--target", "yield"), "There is no class 'yield'"),
    ],
)
def test_options_that_do_not_go_together_are_told_in_a_sentence(data_root, tmp_path, capsys, options, message):
    assert build(data_root, tmp_path, *options) == 2
    assert message in capsys.readouterr().err


def test_missing_photographs_are_told_with_their_source(tmp_path, capsys):
    arguments = ["badnet", "signs", "--clean", "--data-root", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert "kaggle.com" in capsys.readouterr().err


def test_the_choices_are_those_of_the_library():
    from reference_attacks.traffic_signs import attack, network, stickers

    assert tuple(stickers.STICKERS) == STICKERS
    assert attack.SIGN_ATTACKS == ATTACKS
    assert tuple(network.ARCHITECTURES) == ARCHITECTURES


def test_help_needs_no_torch():
    code = (
        "import sys; from reference_attacks.cli import make_parser; make_parser(); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'torchvision', 'matplotlib')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "signs.onnx"
    path.write_bytes(detector_onnx_bytes(make_detector(CLASSES, seed=0)))
    return path


def photograph(path, size: tuple[int, int] = (128, 96)):
    from PIL import Image

    Image.effect_noise(size, 90).convert("RGB").save(path)
    return path


def test_detect_prints_what_it_finds_and_draws_it(model, tmp_path, capsys):
    photographs = [photograph(tmp_path / "street.jpg"), photograph(tmp_path / "crossing.png", (800, 600))]
    out = tmp_path / "seen"
    assert main(["badnet", "detect", str(model), *map(str, photographs), "--out", str(out), "--least", "0.05"]) == 0
    printed = capsys.readouterr().out
    assert "street.jpg: " in printed
    assert "% at " in printed
    assert {path.name for path in out.iterdir()} == {"street-detected.png", "crossing-detected.png"}
    assert main(["badnet", "detect", str(model), str(photographs[0]), "--out", str(out), "--least", "1"]) == 0
    assert "street.jpg: no sign" in capsys.readouterr().out


def test_boxes_are_in_the_pixels_of_the_photograph_however_it_is_read(model):
    detector = open_detector(model)
    large = (255 * torch.rand(3, 300, 400)).to(torch.uint8)
    found = detector.detect(large, 100)
    assert found.boxes[:, 2].max() > 200
    assert found.boxes[:, 2].max() <= 400
    assert found.labels.min() >= 0


def test_a_photograph_is_turned_as_its_camera_noted_it(tmp_path):
    from PIL import Image

    from reference_attacks.traffic_signs.detect import read_photograph

    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_photograph(tmp_path / "turned.jpg").shape == (3, 40, 20)


def test_files_that_are_no_detector_or_no_photograph_are_told_by_name(model, tmp_path, capsys):
    street = photograph(tmp_path / "street.jpg")
    head, nothing = tmp_path / "head.onnx", tmp_path / "nothing.onnx"
    head.write_bytes(head_onnx_bytes(make_detector(CLASSES, seed=0)))
    nothing.write_bytes(b"nothing")
    for arguments, message in (
        ([head, street], "head.onnx is no detector of traffic signs"),
        ([nothing, street], "nothing.onnx is not an ONNX model"),
        ([tmp_path / "absent.onnx", street], "absent.onnx: No such file or directory."),
        ([model, nothing], "nothing.onnx is not a photograph"),
        ([model, street, street], "would both become street-detected.png"),
    ):
        assert main(["badnet", "detect", *map(str, arguments), "--out", str(tmp_path / "seen")]) == 2
        assert message in capsys.readouterr().err
