"""A report on made-up models of every verdict, with pictures."""

from __future__ import annotations

import base64
import io

from PIL import Image

from pytest_backdoor.findings import Finding, ModelReport, Outcome, Problem, ScanReport
from pytest_backdoor.settings import ScanSettings

QUANTILES = {"0": -0.2, "0.05": -0.1, "0.5": 0.6, "0.95": 2.8, "1": 5.7}
SHA256 = "0123456789abcdef" * 4


def png(side: int = 28, level: int = 90) -> str:
    buffer = io.BytesIO()
    image = Image.effect_noise((side, side), level).convert("RGB")
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def reversal(outcome: Outcome = Outcome.FAILED, side: int = 28, classes: int = 10) -> Finding:
    failed = outcome is Outcome.FAILED
    stands_out = [1.0 + number % 3 for number in range(classes)]
    stands_out[3] = 26.1 if failed else 3.0
    return Finding(
        check="reversal",
        outcome=outcome,
        summary="A trigger of 4.0 of 784 pixels turns 100% of 36 held-out clean samples into class 3 (stop).",
        behavioural=True,
        remedy="Do not deploy this model. Get it from another source." if failed else "",
        score=29.1 if failed else 1.0,
        p_value=0.0091 if failed else 0.45,
        seed=0,
        evidence={
            "target_class": 3,
            "target_name": "3 (stop)",
            "family_meaning": "an opaque patch in one place",
            "where": "rows 23 to 27, columns 23 to 27",
            "mask_size": 4.0,
            "image_area": 784,
            "flipped": 1.0,
            "flipped_of": 36,
            "images": "prototypes",
            "families_left_out": ["warp"],
            "component": "reversal-prototypes/patch",
            "names_by_class": [f"{number} (class-{number})" for number in range(classes)],
            "standing_out_by_class": stands_out,
            "anomaly_index": 18.3,
            "trigger_drawing": ["rows 23 to 24, columns 23 to 24", "█░", "▒▓"],
            "example_before": "6",
            "example_after": "3 (stop)",
            "reference": {
                "models": 109,
                "description": "made up",
                "significance": 0.01,
                "quantiles": QUANTILES,
                "threshold": 5.7,
                "components": {"reversal-prototypes/patch": {"quantiles": QUANTILES, "threshold": 7.4}},
            },
            **{f"{name}_png": png(side) for name in ("clean", "mask", "trigger", "triggered")},
            "before_and_after_png": png(3 * side),
        },
    )


def provenance(path: str) -> Finding:
    problems = (
        Problem(
            rule="hash-mismatch", message=f"{path} has another hash than listed.", remedy="Fetch it again.", path=path
        ),
        Problem(
            rule="plain-http",
            message=f"{path} is fetched by http.",
            remedy="Use https.",
            path=path,
            allowed="until 2027-01-01: an old server",
        ),
        Problem(
            rule="no-hash-listed", message=f"Nobody published a hash of {path}.", remedy="Look for one.", path=path
        ),
    )
    files = [{"path": path, "status": "changed", "sha256": SHA256, "expected_sha256": "f" * 64}]
    return Finding(
        check="provenance",
        outcome=Outcome.FAILED,
        summary=f"{path} has another hash than listed. Nobody published a hash of {path}.",
        behavioural=False,
        remedy="Fetch it again. Look for one.",
        evidence={
            "files": files,
            "source": {"type": "url", "url": "http://example.org/m.onnx"},
            "recorded": "signature",
        },
        problems=problems,
    )


def unmade(check: str, outcome: Outcome = Outcome.NOT_ASSESSED) -> Finding:
    return Finding(
        check=check,
        outcome=outcome,
        summary="No detector pack fits images of shape [1, 8, 8] with 4 classes.",
        behavioural=check != "provenance",
        remedy="Build a detector pack for the model's task.",
    )


def model(path: str, *findings: Finding, allow_unverified: bool = False) -> ModelReport:
    return ModelReport(
        path=path,
        sha256=SHA256,
        size=1_125_027,
        format="onnx",
        task={"input_shape": [1, 28, 28], "classes": 10},
        findings=findings,
        settings=ScanSettings(allow_unverified=allow_unverified).to_json(),
        command=f"pytest --backdoor-scan {path}",
    )


def every_kind_of_model() -> ScanReport:
    return ScanReport(
        settings=ScanSettings().to_json(),
        models=(
            model("models/clean.onnx", reversal(Outcome.PASSED), unmade("provenance")),
            model("models/bad.onnx", reversal(), unmade("litmus")),
            model("models/changed.onnx", provenance("models/changed.onnx"), reversal(Outcome.PASSED)),
            model("models/other.onnx", unmade("litmus"), unmade("reversal")),
            model("models/allowed.onnx", unmade("litmus"), allow_unverified=True),
            model("models/broken.onnx", unmade("litmus", Outcome.ERROR), unmade("reversal", Outcome.ERROR)),
            model("models/not-reached.onnx"),
        ),
    )
