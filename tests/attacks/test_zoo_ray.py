"""Zoos on a local Ray cluster: the same files as from local processes, also when a worker is lost."""

from __future__ import annotations

import os
import signal
import sys

import pytest

pytest.importorskip("torch")
pytest.importorskip("torchvision")
pytest.importorskip("ray", reason="Ray is not installed: pip install 'pytest-backdoor[ray]'")

import ray
from made_up_zoos import finished_files, make_plan, new_zoo_folder

from reference_attacks.zoo import ray_executor
from reference_attacks.zoo.build import build_zoo
from reference_attacks.zoo.executors import LocalExecutor
from reference_attacks.zoo.ray_executor import RayExecutor

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="Ray's Windows support is a beta"),
]

PLAN = make_plan(clean_fit=1, clean_calibration=1, clean_test=0, poisoned_fit=2, poisoned_test=0)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The manifest and the files of the same zoo, built by one local process."""
    folder = new_zoo_folder(tmp_path_factory.mktemp("local"))
    manifest = build_zoo(PLAN, folder, executor=LocalExecutor(workers=1), group_size=2)
    return manifest, finished_files(folder)


def test_a_ray_cluster_trains_the_same_networks_bit_for_bit_and_is_shut_down(tmp_path, expected):
    folder = new_zoo_folder(tmp_path)
    manifest = build_zoo(PLAN, folder, executor=RayExecutor(workers=2), group_size=2)
    assert (manifest, finished_files(folder)) == expected
    assert not ray.is_initialized()


def test_a_group_whose_worker_is_killed_is_trained_again(tmp_path, monkeypatch, expected):
    marker, work = tmp_path / "killed", ray_executor.work

    def killed_once(*job):
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return work(*job)

    monkeypatch.setattr(ray_executor, "work", killed_once)
    folder = new_zoo_folder(tmp_path)
    manifest = build_zoo(PLAN, folder, executor=RayExecutor(workers=1), group_size=2)
    assert marker.exists()
    assert (manifest, finished_files(folder)) == expected


def test_a_cluster_that_was_there_before_is_used_and_left_open(tmp_path, expected):
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        folder = new_zoo_folder(tmp_path)
        build_zoo(PLAN, folder, executor=RayExecutor(workers=1), group_size=2)
        assert ray.is_initialized()
    finally:
        ray.shutdown()
    assert finished_files(folder) == expected[1]


@pytest.mark.parametrize("address", ["127.0.0.1:1", "auto"])
def test_a_cluster_that_does_not_answer_is_named(tmp_path, address, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with pytest.raises(ConnectionError, match=rf"^No Ray cluster answers at {address} .* leave out --ray-address\.$"):
        build_zoo(PLAN, new_zoo_folder(tmp_path), executor=RayExecutor(workers=1, address=address))
    assert not ray.is_initialized()


def test_a_missing_ray_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setattr(ray_executor, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'pytest-backdoor\[ray\]'"):
        RayExecutor(workers=1)


def test_an_error_in_a_task_reaches_the_user_as_it_was_and_ray_is_shut_down(tmp_path, monkeypatch):
    def failing(*job):
        raise ValueError("This group cannot be trained.")

    monkeypatch.setattr(ray_executor, "work", failing)
    with pytest.raises(ValueError, match=r"^This group cannot be trained\.$"):
        build_zoo(PLAN, new_zoo_folder(tmp_path), executor=RayExecutor(workers=1))
    assert not ray.is_initialized()
