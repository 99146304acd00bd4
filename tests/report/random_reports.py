"""Strategies for scan reports of any content: what checks write, what third parties may write, and hostile texts."""

from __future__ import annotations

import base64
import io

from hypothesis import strategies as st
from PIL import Image

from pytest_backdoor.findings import Finding, ModelReport, Outcome, Problem, ScanReport
from pytest_backdoor.rules import RULES
from pytest_backdoor.settings import ScanSettings

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "--><svg/onload=alert(1)>",
    "]]></style><script>",
    "{{ 7 * 7 }}{% raw %}{# #}",
    "javascript:alert(1)",
    "\x1b[31mred\x1b[0m\x07\x00",
    "\u202egnp.ledom\u2066",
    "a|b||c",
    "```\n# heading\n~~~",
    "[a link](https://example.org) ![](https://example.org/x.png) www.example.org",
    "*bold* _thin_ ~gone~ `code` \\",
    "@everyone #1 &lt;b&gt; &#60;",
    "\udcff\ud800",
    "{0} {1} [x](1)",
    "\r\n::error::nothing happened\n::stop-commands::x",
    "- item\n1. item\n> quote\n===\n<details>",
)
CHECKS = ("provenance", "litmus", "margin", "reversal", "training-data", "odd<b>|check")

texts = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=40), st.sampled_from(("3", "3 (stop)", "a sentence.")))
words = texts.filter(str.strip)
numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False), st.integers(-10, 10), st.just(0.0), st.just(10**400)
)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def png() -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (200, 30, 30)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


pictures = st.one_of(st.just(png()), texts, st.just("iVBORw0KGgo\n" * 3), st.just("<script>"))
floats = st.floats(-1e6, 1e6)
quantiles = st.fixed_dictionaries(dict.fromkeys(("0", "0.05", "0.5", "0.95", "1"), floats))
reference = st.fixed_dictionaries(
    {"models": st.integers(0, 200), "significance": st.floats(1e-6, 1), "quantiles": quantiles, "description": texts},
    optional={
        "threshold": st.none() | floats,
        "components": st.fixed_dictionaries(
            {"one": st.fixed_dictionaries({"quantiles": quantiles, "threshold": st.none() | floats})}
        ),
    },
)
KNOWN = {
    "reference": reference,
    "component": st.just("one"),
    "target_class": st.none() | st.integers(0, 9),
    "target_name": st.none() | texts,
    "family_meaning": texts,
    "where": texts,
    "place": texts,
    "mask_size": numbers,
    "image_area": numbers,
    "flipped": st.floats(0, 1),
    "flipped_of": st.integers(0, 99),
    "images": st.sampled_from(("samples", "prototypes")),
    "standing_out_by_class": st.lists(st.none() | numbers, max_size=40),
    "deviations_by_class": st.lists(numbers, max_size=40),
    "names_by_class": st.lists(texts, max_size=40),
    "classes_searched": st.lists(st.integers(0, 9), max_size=40),
    "source_name": st.none() | texts,
    "detections": st.fixed_dictionaries({"objects": numbers, "turned": numbers, "lost": numbers}),
    "anomaly_index": st.none() | numbers,
    "families_left_out": st.lists(texts, max_size=3),
    "trigger_drawing": st.lists(texts, max_size=5),
    "predicted_before": st.lists(numbers, max_size=6),
    "predicted_after": st.lists(numbers, max_size=6),
    "example_before": texts,
    "example_after": texts,
    "recorded": texts,
    "source": st.dictionaries(texts, texts, max_size=2),
    "files": st.lists(
        st.fixed_dictionaries({"path": texts, "status": texts, "sha256": texts, "expected_sha256": texts}), max_size=2
    ),
    "most_suspicious": st.lists(st.fixed_dictionaries({"image": texts, "label": texts, "nearest": texts}), max_size=3),
    **{f"{name}_png": pictures for name in ("clean", "mask", "trigger", "triggered", "patch", "before_and_after", "x")},
}
evidence = st.one_of(
    st.fixed_dictionaries({}, optional=KNOWN),
    st.dictionaries(st.sampled_from(list(KNOWN)), json_values, max_size=6),
    st.dictionaries(texts, json_values, max_size=3),
)
problems = st.builds(
    Problem,
    rule=st.sampled_from(sorted(RULES)),
    message=words,
    remedy=texts,
    path=words,
    fails=st.booleans(),
    allowed=st.none() | words,
)


@st.composite
def findings(draw, check):
    outcome = draw(st.sampled_from(Outcome))
    return Finding(
        check=check,
        outcome=outcome,
        summary=draw(words),
        behavioural=draw(st.booleans()),
        remedy=draw(texts),
        score=draw(st.none() | st.floats(allow_nan=False, allow_infinity=False)),
        p_value=draw(st.none() | st.floats(1e-300, 1)),
        evidence=draw(evidence),
        seconds=draw(st.floats(0, 1e4)),
        seed=draw(st.none() | st.integers(0, 2**32)),
        problems=tuple(draw(st.lists(problems, max_size=3))),
        accepted=draw(st.none() | words) if outcome is Outcome.FAILED else None,
    )


preprocessing = st.fixed_dictionaries(
    {
        "origin": st.sampled_from(("declared", "graph", "inferred", "assumed")),
        "layout": st.just("NCHW"),
        "channel_order": st.sampled_from(("RGB", "BGR")),
        "input_range": st.just([0.0, 255.0]),
        "mean": st.just([0.5, 0.5, 0.5]),
        "std": st.just([1.0]),
        "samples": st.integers(1, 200),
        "accuracy": st.floats(0, 1),
        "equally_good": st.lists(texts, max_size=2),
        "note": texts,
    }
)
isolation = st.fixed_dictionaries(
    {"process": st.just("forked"), "network": st.just("not denied"), "not_set": st.sampled_from(([], ["memory"]))}
)
settings = st.builds(
    lambda allow, classes, source: ScanSettings(
        allow_unverified=allow, classes=None if classes is None else tuple(classes), source=source
    ).to_json(),
    st.booleans(),
    st.none() | st.lists(words, min_size=2, max_size=3),
    st.none() | words,
)


@st.composite
def models(draw, path):
    checks = draw(st.lists(st.sampled_from(CHECKS), unique=True, max_size=4))
    return ModelReport(
        path=path,
        sha256=draw(st.none() | st.just("0123456789abcdef" * 4)),
        size=draw(st.none() | st.integers(0, 2**40)),
        format=draw(st.none() | texts),
        task=draw(st.none() | st.just({"input_shape": [1, 28, 28], "classes": 10})),
        preprocessing=draw(st.none() | preprocessing),
        isolation=draw(st.none() | isolation),
        findings=tuple(draw(findings(check)) for check in checks),
        settings=draw(st.none() | settings),
        command=draw(st.none() | words),
    )


@st.composite
def scan_reports(draw):
    paths = draw(st.lists(words, unique=True, max_size=4))
    return ScanReport(models=tuple(draw(models(path)) for path in paths), settings=draw(settings))
