from __future__ import annotations

import pytest

NAME = "hf://owner/repo@v1/folder/model.onnx"
HUB = """
import huggingface_hub
from pathlib import Path

def download(repo, file, *, revision):
    with Path("downloads.txt").open("a") as stream:
        print(repo, revision, file, file=stream)
    if repo == "owner/missing":
        raise OSError("404 Client Error\\nEntry not found")
    return str(Path({cache!r}) / "model.onnx")

huggingface_hub.hf_hub_download = download
"""


@pytest.fixture
def hub(project, tmp_path_factory, made, monkeypatch):
    """Replaces the hub's client; gives a function that reads what was downloaded."""
    import huggingface_hub

    # The runs happen in this process: what their conftest.py replaces is put back afterwards.
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", huggingface_hub.hf_hub_download)
    cache = tmp_path_factory.mktemp("cache")
    (cache / "model.onnx").write_bytes((made / "bad.onnx").read_bytes())
    project.write("conftest.py", HUB.format(cache=str(cache)))
    return lambda: (project.path / "downloads.txt").read_text().splitlines()


def test_model_is_named_as_typed(project, hub):
    result = project.scan(NAME, "-v", "--backdoor-report=report.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert project.outcomes() == {NAME: {"provenance": "failed", "litmus": "failed"}}
    assert project.findings()[f"{NAME}::provenance"]["problems"][0]["rule"] == "unpinned-revision"
    assert hub() == ["owner/repo v1 folder/model.onnx"]
    result.stdout.fnmatch_lines(
        [
            f"{NAME}::litmus FAILED*",
            f"  model *{NAME}",
            f"  again *pytest --backdoor-scan {NAME}::litmus *",
            f"suspicious  {NAME}  *",
            f"FAILED {NAME}::litmus*",
        ]
    )


def test_one_check_of_the_main_revision(project, hub):
    name = "hf://owner/repo/model.onnx"
    result = project.scan(f"{name}::litmus")
    result.assert_outcomes(failed=1)
    assert hub() == ["owner/repo main model.onnx"]


def test_listed_model_with_its_settings(project, hub):
    project.configure(models=f"[[tool.pytest-backdoor.models]]\npath = '{NAME}'\nchecks = ['provenance']")
    result = project.run("--backdoor-scan", "--collect-only", "-q")
    assert f"{NAME}::provenance" in result.outlines
    assert f"{NAME}::litmus" not in result.outlines


@pytest.mark.parametrize("distributed", [(), ("-n1",)], ids=["alone", "xdist"])
def test_failed_download(project, hub, distributed):
    project.add()
    result = project.scan("model.onnx", "hf://owner/missing@v1/model.onnx", *distributed)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: hf://owner/missing@v1/model.onnx could not be downloaded: 404 Client Error"])


def test_mark(project, hub):
    project.write(
        "test_own.py", f"import pytest\n@pytest.mark.backdoor_scan('{NAME}', checks='litmus')\ndef test_own(): pass"
    )
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"{NAME} is suspicious."])
