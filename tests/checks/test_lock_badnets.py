"""The three failures of model zoos that Gu et al. (BadNets, section VI) found, each as one project."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from corpus.locks import MODEL, OTHER, SHA1, SHA256

from pytest_backdoor.cli import DIFFERENT, OK, WRONG, main

CAFFE = "---\nname: Network in Network\ncaffemodel: nin.safetensors\ncaffemodel_url: http://h.example/nin\n{}---\n"


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch) -> Path:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "nin.safetensors").write_bytes(MODEL)
    return tmp_path


def test_badnets_vi_no_hash_is_listed(project, capsys):
    """20 of 27 gists of the Caffe Model Zoo listed no SHA-1."""
    (project / "readme.md").write_text(CAFFE.format(""))
    assert main(["lock", "import", "readme.md"]) == WRONG
    assert "Nobody published a hash of nin.safetensors" in capsys.readouterr().err
    assert main(["lock", "import", "readme.md", "--trust-on-first-use"]) == OK
    capsys.readouterr()
    assert main(["lock", "check"]) == DIFFERENT  # the weights are fetched by plain http too
    output = capsys.readouterr().out
    assert "note: nin.safetensors was trusted on first use" in output
    assert "plain-http" in output


def test_badnets_vi_the_listed_hash_does_not_match(project, capsys):
    """The popular Network in Network model had a SHA-1 in its README that was not the file's."""
    (project / "readme.md").write_text(CAFFE.format(f"sha1: {SHA1}\n"))
    (project / "nin.safetensors").write_bytes(OTHER)
    assert main(["lock", "import", "readme.md"]) == WRONG
    assert "does not have the sha1" in capsys.readouterr().err
    assert not (project / "models.lock").exists()
    # Exchanged only after the entry was reviewed, and the entry with it: what was published still differs.
    (project / "nin.safetensors").write_bytes(MODEL)
    assert main(["lock", "import", "readme.md"]) == OK
    (project / "nin.safetensors").write_bytes(OTHER)
    lock = project / "models.lock"
    assert main(["lock", "update", "nin.safetensors"]) == WRONG
    lock.write_text(lock.read_text().replace(SHA256, hashlib.sha256(OTHER).hexdigest()))
    capsys.readouterr()
    assert main(["lock", "check"]) == DIFFERENT
    assert "hash-mismatch: nin.safetensors does not have the published sha1" in capsys.readouterr().out


def test_badnets_vi_the_loader_ignores_the_hash(project, capsys):
    """Keras' ``get_file`` did not compare the hash it was given; loaders of today can be called so, too."""
    main(["lock", "add", "nin.safetensors"])
    (project / "load.py").write_text(
        "from keras.utils import get_file\n"
        "from torch.hub import load_state_dict_from_url\n"
        'get_file("m.h5", "https://h.example/m.h5")\n'
        'load_state_dict_from_url("https://h.example/m.pth", check_hash=True)\n'
    )
    capsys.readouterr()
    assert main(["lock", "check"]) == DIFFERENT
    output = capsys.readouterr().out
    assert "load.py:3: utils.get_file compares no hash" in output
    assert "load.py:4: hub.load_state_dict_from_url compares no hash although check_hash is set" in output
