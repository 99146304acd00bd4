"""Networks of a zoo as ONNX files."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from made_up_zoos import make_images, make_plan, new_zoo_folder  # noqa: E402
from test_zoo_build import in_this_process  # noqa: E402

from pytest_backdoor.models import Subject  # noqa: E402
from pytest_backdoor.settings import ScanSettings  # noqa: E402
from reference_attacks.cli import main  # noqa: E402
from reference_attacks.networks import FAMILIES, make_network  # noqa: E402
from reference_attacks.zoo import export  # noqa: E402
from reference_attacks.zoo.build import build_zoo  # noqa: E402
from reference_attacks.zoo.export import onnx_bytes  # noqa: E402
from reference_attacks.zoo.store import load_network, load_zoo  # noqa: E402

NAMES = ["poisoned-test-0000", "clean-fit-0001"]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """A zoo whose networks are all kept, as if they had learnt."""
    folder = new_zoo_folder(tmp_path_factory.mktemp("export"))
    manifest = build_zoo(make_plan(), folder, executor=in_this_process)
    for record in manifest["networks"]:
        record["rejected"] = None
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def export_to(out, zoo, *names):
    return main(["zoo", "export", "--zoo", str(zoo), "--out", str(out), *names])


def test_a_scan_sees_the_network_that_was_trained(zoo, tmp_path, capsys):
    assert export_to(tmp_path, zoo, *NAMES) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / f"{name}.onnx") for name in NAMES]
    images = make_images().images.float() / 255
    for name in NAMES:
        (record,) = [entry for entry in load_zoo(zoo).records if entry["name"] == name]
        opened = Subject(name, ScanSettings(), path=tmp_path / f"{name}.onnx").classifier
        with torch.no_grad():
            expected = load_network(record, (1, 28, 28), 10)(images).numpy()
        expected -= expected.mean(1, keepdims=True)
        np.testing.assert_allclose(opened.logits(images.numpy()), expected, rtol=1e-3, atol=1e-4)
        told = json.loads((tmp_path / f"{name}.json").read_text())
        assert told["backdoor"] == record["backdoor"]
        assert str(zoo) not in json.dumps(told)


def test_an_unknown_network_is_refused_before_anything_is_written(zoo, tmp_path, capsys):
    assert export_to(tmp_path, zoo, NAMES[0], "poisoned-test-9999") == 2
    assert "keeps no network poisoned-test-9999" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_file_with_other_logits_is_not_written(zoo, tmp_path, monkeypatch):
    other = make_network("plain", (1, 28, 28), 10, seed=99)
    monkeypatch.setattr(export, "onnx_bytes", lambda network, shape: onnx_bytes(other, shape))
    with pytest.raises(RuntimeError, match="poisoned-test-0000 gives other logits in ONNX Runtime"):
        export_to(tmp_path, zoo, NAMES[0])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_any_number_of_images_and_no_trace_of_the_machine(family):
    shape = (3, 32, 32)
    network = make_network(family, shape, 7).eval()
    content = onnx_bytes(network, shape)
    assert export.__file__.rsplit("/", 3)[0].encode() not in content
    assert b".py" not in content
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for count in (1, 5):
        images = torch.rand(count, *shape, generator=torch.Generator().manual_seed(count))
        (found,) = session.run(["logits"], {"images": images.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(found, network(images).numpy(), rtol=1e-3, atol=1e-4)
