"""Building a zoo: it goes on after any interruption, grows, refuses another plan, and outlives lost processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("torchvision")

from made_up_zoos import finished_files, make_plan, new_zoo_folder

from reference_attacks.zoo import build
from reference_attacks.zoo.build import build_zoo
from reference_attacks.zoo.executors import LocalExecutor
from reference_attacks.zoo.images import prepare_images, read_images
from reference_attacks.zoo.recipe import grouped
from reference_attacks.zoo.work import train_members

PLAN = make_plan()
NAMES = [member.name for member in PLAN.members()]


def in_this_process(plan, groups, folder):
    for group in groups:
        yield train_members(plan, group, read_images(folder), "cpu")


def forbidden(plan, groups, folder):
    raise AssertionError("nothing is missing")


def build_here(plan, folder, **options):
    return build_zoo(plan, folder, executor=in_this_process, **options)


@pytest.fixture
def folder(tmp_path):
    return new_zoo_folder(tmp_path)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The manifest and the files of an undisturbed build."""
    folder = new_zoo_folder(tmp_path_factory.mktemp("undisturbed"))
    manifest = build_here(PLAN, folder, group_size=2)
    return manifest, finished_files(folder)


def test_a_zoo_has_a_manifest_and_two_files_for_each_member(expected):
    manifest, files = expected
    assert [record["name"] for record in manifest["networks"]] == NAMES
    assert set(files) == {f"{name}.{kind}" for name in NAMES for kind in ("json", "safetensors")}
    assert manifest["input_shape"] == [1, 28, 28]
    assert manifest["rejected"] == sum(record["rejected"] is not None for record in manifest["networks"])
    # Three steps on random images teach no attack.
    assert all(record["rejected"] for record in manifest["networks"] if record["backdoor"])


def test_the_manifest_on_disk_is_the_one_returned(folder):
    manifest = build_here(PLAN, folder)
    assert json.loads((folder / "manifest.json").read_text()) == json.loads(json.dumps(manifest))


def test_a_finished_zoo_is_not_trained_again(folder, expected):
    build_here(PLAN, folder, group_size=2)
    assert build_zoo(PLAN, folder, executor=forbidden, group_size=2) == expected[0]


@pytest.mark.parametrize("lost", ["json", "both", "half a file"])
def test_what_is_missing_is_trained_again(folder, expected, lost):
    build_here(PLAN, folder, group_size=2)
    record = folder / "networks" / f"{NAMES[1]}.json"
    weights = record.with_suffix(".safetensors")
    record.unlink()
    if lost == "both":
        weights.unlink()
    if lost == "half a file":
        weights.write_bytes(weights.read_bytes()[:1000])
    assert build_here(PLAN, folder, group_size=2) == expected[0]
    assert finished_files(folder) == expected[1]


@pytest.mark.parametrize("writes", range(2 * len(NAMES) + 2))
def test_an_interruption_between_any_two_writes_changes_nothing(folder, expected, writes, monkeypatch):
    write, left = build.write_atomically, [writes]

    def interrupted(path, content):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        write(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(build, "write_atomically", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build_here(PLAN, folder, group_size=2)
    assert build_here(PLAN, folder, group_size=2) == expected[0]
    assert finished_files(folder) == expected[1]


def test_a_zoo_may_grow_and_keeps_what_it_has(folder, expected):
    build_here(PLAN, folder, group_size=1)
    before = finished_files(folder)
    larger = make_plan(clean_fit=3, poisoned_test=2)
    manifest = build_here(larger, folder, group_size=1)
    assert [record["name"] for record in manifest["networks"]] == [member.name for member in larger.members()]
    after = finished_files(folder)
    assert before.items() <= after.items()
    assert len(after) == len(before) + 4
    assert json.loads((folder / "plan.json").read_text())["clean_fit"] == 3


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 4}, "seed"),
        ({"steps": (2,), "triggers": ("pixel",)}, "steps, triggers"),
        ({"precision": "bfloat16"}, "precision"),
    ],
)
def test_another_plan_is_refused_and_the_difference_named(folder, changes, named):
    build_here(make_plan(clean_calibration=0, clean_test=0, poisoned_fit=0, poisoned_test=0), folder)
    kept = (folder / "plan.json").read_bytes()
    with pytest.raises(
        ValueError, match=rf"plan\.json describes another zoo \({named} differ\); choose an empty folder"
    ):
        build_zoo(make_plan(**changes), folder, executor=forbidden)
    assert (folder / "plan.json").read_bytes() == kept


def test_images_of_another_task_are_refused(folder):
    with pytest.raises(ValueError, match=r"holds the images of mnist, not of gtsrb; choose an empty folder\."):
        prepare_images("gtsrb", None, folder)


def test_prepared_images_are_not_read_from_the_data_root_again(folder):
    prepared = prepare_images("mnist", "/nowhere", folder)
    assert prepared.input_shape == (1, 28, 28)
    assert (prepared.classes, len(prepared.train), len(prepared.test)) == (10, 40, 40)


# Processes


def test_local_processes_train_the_same_as_one(tmp_path):
    plan = make_plan(clean_test=0, poisoned_test=0)
    folders = [new_zoo_folder(tmp_path / name) for name in ("one", "two")]
    one, two = (
        build_zoo(plan, folder, executor=LocalExecutor(workers=workers), group_size=2)
        for workers, folder in enumerate(folders, 1)
    )
    assert one == two
    assert finished_files(folders[0]) == finished_files(folders[1])


def kill_first_child():
    """Kill a process that this one starts, as the system does where memory runs out."""
    while not (children := multiprocessing.active_children()):
        time.sleep(0.01)
    children[0].kill()


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_lost_process_is_told_to_the_user(folder):
    killer = threading.Thread(target=kill_first_child)
    killer.start()
    with pytest.raises(ChildProcessError, match=r"was ended from outside, .*; run the same command again"):
        build_zoo(PLAN, folder, executor=LocalExecutor(workers=1))
    killer.join()
    assert not multiprocessing.active_children()


def test_whoever_stops_early_leaves_no_process_behind(folder):
    results = LocalExecutor(workers=1)(PLAN, grouped(PLAN.members(), 1), folder)
    assert len(next(results)) == 1
    results.close()
    assert not multiprocessing.active_children()


PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from made_up_zoos import make_plan
from reference_attacks.zoo.build import build_zoo
from reference_attacks.zoo.executors import LocalExecutor

if __name__ == "__main__":
    plan = make_plan(clean_fit=6, poisoned_fit=6)
    build_zoo(plan, Path(sys.argv[1]), executor=LocalExecutor(workers=1))
"""


@pytest.fixture
def start_build(tmp_path):
    """A function that starts a build of fifteen networks in a process group of its own."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(tests=str(Path(__file__).parent)))
    started = []

    def start(folder):
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        process = subprocess.Popen(
            [sys.executable, str(program), str(folder)],
            env=environment,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def count_records(folder):
    return len(list((folder / "networks").glob("*.json")))


@pytest.mark.skipif(sys.platform == "win32", reason="needs process groups")
def test_a_killed_build_goes_on_and_ends_in_the_same_zoo(tmp_path, start_build):
    calm, disturbed = new_zoo_folder(tmp_path / "calm"), new_zoo_folder(tmp_path / "disturbed")
    undisturbed = start_build(calm)
    moments, progress = random.Random(0), [0]
    while len(progress) <= 3:
        process = start_build(disturbed)
        while process.poll() is None and count_records(disturbed) <= progress[-1]:
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.03))
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        progress.append(count_records(disturbed))
    assert progress == sorted(set(progress))
    assert progress[1] < 15
    assert [undisturbed.wait(), start_build(disturbed).wait()] == [0, 0]
    assert (disturbed / "manifest.json").read_bytes() == (calm / "manifest.json").read_bytes()
    assert finished_files(disturbed) == finished_files(calm)
    assert len(finished_files(calm)) == 2 * 15
