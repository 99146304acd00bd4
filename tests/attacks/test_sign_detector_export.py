from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

import onnx  # noqa: E402
from made_up_signs import CLASSES, made_up_album  # noqa: E402

from reference_attacks.traffic_signs import export  # noqa: E402
from reference_attacks.traffic_signs.album import Album, Scene  # noqa: E402
from reference_attacks.traffic_signs.export import (  # noqa: E402
    checked_detector_onnx,
    checked_head_onnx,
    crops_of,
    open_session,
    run_session,
    sign_crops,
)
from reference_attacks.traffic_signs.network import PAPER, SignDetector, make_detector  # noqa: E402
from reference_attacks.traffic_signs.onnx_detector import detector_onnx_bytes  # noqa: E402
from reference_attacks.traffic_signs.onnx_head import head_onnx_bytes  # noqa: E402


def decided_detector() -> SignDetector:
    """Untrained, but so that scores differ and some boxes overlap: both suppressions have work to do."""
    detector = make_detector(CLASSES, seed=0)
    album = made_up_album(8)
    detector.train()
    with torch.no_grad():  # batch normalisation takes on statistics that are not those of the start
        for scene in album.scenes[:3]:
            detector.backbone(scene.image[None].float() / 255)
        detector.rpn.head.cls_logits.weight *= 5
        detector.roi_heads.box_predictor.cls_score.weight *= 5
    return detector.eval()


def test_the_whole_detector_finds_the_same_signs_in_onnx_runtime():
    generator = torch.Generator().manual_seed(0)
    photographs = [torch.rand(3, *size, generator=generator) for size in ((96, 128), (61, 90), (128, 40))]
    detector = decided_detector()
    session = open_session(checked_detector_onnx(detector, photographs))
    counts = [len(run_session(session, photograph)["labels"]) for photograph in photographs]
    assert min(counts) > 3
    assert session.get_modelmeta().custom_metadata_map == {"labels": "background,stop,speedlimit,trafficlight"}


def test_a_photograph_without_signs_gives_empty_outputs():
    detector = decided_detector()
    with torch.no_grad():
        detector.roi_heads.box_predictor.cls_score.bias[0] = 1000
    found = run_session(open_session(detector_onnx_bytes(detector)), torch.rand(3, 64, 64))
    assert found["boxes"].shape == (0, 4)
    assert found["labels"].shape == found["scores"].shape == (0,)


def test_a_file_that_finds_other_signs_is_not_handed_out(monkeypatch):
    detector, other = decided_detector(), make_detector(CLASSES, seed=5)
    monkeypatch.setattr(export, "detector_onnx_bytes", lambda _: detector_onnx_bytes(other))
    with pytest.raises(RuntimeError, match="ONNX file finds"):
        checked_detector_onnx(detector, [torch.rand(3, 96, 128)])
    monkeypatch.setattr(export, "head_onnx_bytes", lambda _, pixels: head_onnx_bytes(other, pixels))
    with pytest.raises(RuntimeError, match="logits of the head's ONNX file differ"):
        checked_head_onnx(detector, torch.rand(2, 3, 64, 64))


def test_the_head_gives_the_logits_that_the_detector_gives_a_whole_crop():
    detector, crops = decided_detector(), crops_of(made_up_album(8), 5)
    model = checked_head_onnx(detector, crops)
    (logits,) = open_session(model).run(["logits"], {"images": crops.numpy()})
    assert logits.shape == (5, 4)
    operators = {node.op_type for node in onnx.load_from_string(model).graph.node}
    assert operators == {"Sub", "Div", "Conv", "Relu", "MatMul", "Flatten", "Gemm"}


def test_the_paper_architecture_can_be_written_too():
    # With fewer neurons in the head: 4096 make files of 230 MB.
    detector = make_detector(CLASSES, seed=0, architecture=replace(PAPER, head_width=16))
    checked_head_onnx(detector, torch.rand(1, 3, 64, 64))
    checked_detector_onnx(detector, [torch.rand(3, 70, 90)])


def test_files_hold_nothing_about_the_machine_and_are_the_same_each_time():
    detector = decided_detector()
    for write in (detector_onnx_bytes, head_onnx_bytes):
        content = write(detector)
        assert content == write(detector)
        model = onnx.load_from_string(content)
        assert not model.doc_string
        assert not any(node.doc_string for node in model.graph.node)
        assert not any(node.metadata_props for node in model.graph.node)
        assert [entry.key for entry in model.metadata_props] == ["labels"]


def test_a_crop_of_another_size_must_fit_the_stride():
    with pytest.raises(ValueError, match="multiple of 8 pixels, not 60"):
        head_onnx_bytes(make_detector(CLASSES, seed=0), 60)


def test_crops_are_the_signs_and_nothing_else():
    image = torch.zeros(3, 40, 60, dtype=torch.uint8)
    image[:, 10:30, 20:30] = 200
    boxes = torch.tensor([[20.0, 10.0, 30.0, 30.0]])
    album = Album(classes=CLASSES, scenes=(Scene(image=image, boxes=boxes, labels=torch.tensor([2])),))
    crops, labels = sign_crops(album, 16)
    assert labels.tolist() == [2]
    assert crops.shape == (1, 3, 16, 16)
    assert (crops == 200).all()
