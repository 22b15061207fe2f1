"""Batches are a function of (seed, step), whoever loads them; what is bad is found before training."""

from __future__ import annotations

import collections
import gc
import multiprocessing
import os
import signal
import time

import cv2
import numpy as np
import pytest

from kdscfnet.data.batches import BatchPlan, TrainingSamples, batches
from kdscfnet.data.check import scan
from kdscfnet.data.workers import LoaderError
from kdscfnet.errors import BadImageError


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("samples")
    rng = np.random.default_rng(0)
    images, masks = [], []
    for index in range(11):
        image = cv2.resize(
            rng.integers(0, 256, (6, 8, 3), dtype=np.uint8), (48 + index, 40), interpolation=cv2.INTER_CUBIC
        )
        images.append(str(folder / ("%d.jpg" % index)))
        masks.append(str(folder / ("%d.png" % index)))
        cv2.imwrite(images[-1], image)
        cv2.imwrite(masks[-1], (image[..., 0] > 127).astype(np.uint8) * 255)
    return images, masks


def plan_of(count=11, batch=4, epochs=3, **more):
    return BatchPlan(count, batch, (32, 64, 96), epochs, seed=7, **more)


def test_every_epoch_uses_every_image_once():
    plan = plan_of()
    assert (plan.steps_per_epoch, plan.total_steps, len(plan)) == (3, 9, 9)
    by_epoch = collections.defaultdict(list)
    for items in plan:
        for index, epoch, _, step, _ in items:
            assert epoch == step // 3
            by_epoch[epoch].append(index)
    assert all(sorted(v) == list(range(11)) for v in by_epoch.values())
    assert by_epoch[0] != by_epoch[1]
    assert [plan.images_before(step) for step in (0, 1, 2, 3, 4)] == [0, 4, 8, 11, 15]


def test_a_batch_has_one_size_and_all_sizes_come():
    counts = collections.Counter()
    for items in plan_of(count=400, batch=1, epochs=10):
        sizes = {size for _, _, size, _, _ in items}
        assert len(sizes) == 1
        counts.update(sizes)
    assert set(counts) == {(32, 32), (64, 64), (96, 96)}
    assert all(abs(c - 4000 / 3) < 5 * np.sqrt(4000 * 2 / 9) for c in counts.values())


def test_starting_in_the_middle_gives_the_same_rest():
    whole = list(plan_of())
    for step in (1, 4, 8, 9):
        assert list(plan_of(start_step=step)) == whole[step:]


def test_ranks_and_turns_share_one_batch():
    whole = {items[0][3]: items for items in BatchPlan(11, 8, (32, 64), 2, 7)}
    parts = collections.defaultdict(list)
    shares = collections.Counter()
    for rank in (0, 1):
        for items in BatchPlan(11, 2, (32, 64), 2, 7, accumulate=2, rank=rank, world=2):
            step, share = items[0][3:]
            shares[step] += share
            if share:
                parts[step] += items
    for step, items in whole.items():
        assert sorted(i[:4] for i in parts[step]) == sorted(i[:4] for i in items)
        assert shares[step] == pytest.approx(2)  # the mean over two ranks is one


def test_a_rank_without_images_takes_part_with_share_zero():
    turns = [list(BatchPlan(5, 1, (32,), 1, 0, rank=rank, world=4)) for rank in range(4)]
    assert {len(t) for t in turns} == {2}
    assert [t[1][0][4] for t in turns] == [4.0, 0.0, 0.0, 0.0]


def test_workers_change_nothing(files):
    def load(workers, start=0):
        samples = TrainingSamples(*files, seed=3)
        plan = plan_of(start_step=start)
        return [(np.asarray(i), np.asarray(t), step, share) for i, t, step, share in batches(samples, plan, workers)]

    alone, helped, later = load(0), load(2), load(2, start=4)
    assert len(alone) == len(helped) == 9
    for a, b in list(zip(alone, helped)) + list(zip(alone[4:], later)):
        assert a[2:] == b[2:] and (a[0] == b[0]).all() and (a[1] == b[1]).all()
        assert a[0].dtype == a[1].dtype == np.float32 and a[0].shape[2:] == a[1].shape[2:]


def test_epoch_and_seed_change_the_augmentation(files):
    samples = TrainingSamples(*files, seed=3)
    first, again = samples[(0, 0, (32, 32))], samples[(0, 0, (32, 32))]
    assert (first[0] == again[0]).all() and (first[1] == again[1]).all()
    assert (samples[(0, 1, (32, 32))][0] != first[0]).any()
    assert (TrainingSamples(*files, seed=4)[(0, 0, (32, 32))][0] != first[0]).any()


def test_without_targets(files):
    for workers in (0, 2):
        for images, targets, _, _ in batches(TrainingSamples(files[0], None, 0), plan_of(epochs=1), workers):
            assert targets is None and images.shape[1] == 3


def test_a_file_that_breaks_while_training_is_named(files, tmp_path):
    broken = tmp_path / "gone.jpg"
    images = [str(broken)] * 11
    from kdscfnet.errors import UserError

    for workers in (0, 2):
        with pytest.raises(UserError, match="gone.jpg"):
            list(batches(TrainingSamples(images, None, 0), plan_of(epochs=1), workers))


class Reader:
    """Stands for the reader of a loader that ended, caught in a cycle; `log` gets the process that destroys it."""

    def __init__(self, log):
        self.log, self.itself = log, self

    def __del__(self):
        with open(self.log, "a") as file:
            file.write("%d\n" % os.getpid())


class CollectingSamples(TrainingSamples):
    def __getitem__(self, item):
        assert gc.isenabled()
        gc.collect()
        return super().__getitem__(item)


def test_workers_collect_none_of_the_parents_garbage(files, tmp_path):
    list(batches(TrainingSamples(*files, seed=0), plan_of(epochs=1), workers=2))  # loads what is loaded once
    reader = Reader(str(tmp_path / "log"))
    gc.collect()  # old now, so that it stays for a while
    del reader
    assert len(list(batches(CollectingSamples(*files, seed=0), plan_of(epochs=1), workers=2))) == 3
    assert gc.isenabled() and (tmp_path / "log").read_text() == "%d\n" % os.getpid()


def test_dead_workers_are_said_by_the_loader_alone(files):
    # Paddle raises out of a signal handler, once for each of them: in the loop's body, or in the tidying up after
    before = set(multiprocessing.active_children())
    loader = batches(TrainingSamples(*files, seed=0), plan_of(epochs=200), workers=2)
    next(loader)
    workers = set(multiprocessing.active_children()) - before
    assert len(workers) == 2
    for worker in workers:
        os.kill(worker.pid, signal.SIGKILL)
        for _ in range(100):
            time.sleep(0.005)  # here
    with pytest.raises(LoaderError, match="a worker of the loader died"):
        for _ in loader:
            pass
    assert len(list(batches(TrainingSamples(*files, seed=0), plan_of(epochs=1), workers=2))) == 3


def test_scan_finds_what_is_bad(files, tmp_path):
    images, masks = list(files[0]), list(files[1])
    data = open(images[2], "rb").read()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.jpg").write_bytes(b"no image at all")
    (tmp_path / "empty.jpg").write_bytes(b"")
    small = np.zeros((10, 12), np.uint8)
    cv2.imwrite(str(tmp_path / "small.png"), small)
    images[2], images[4], images[6] = (str(tmp_path / n) for n in ("cut.jpg", "text.jpg", "empty.jpg"))
    masks[8] = str(tmp_path / "small.png")
    problems = scan(images, masks, skip_bad=True)
    names = {number: error.path.rsplit("/")[-1] for number, error in problems.items()}
    assert names == {2: "cut.jpg", 4: "text.jpg", 6: "empty.jpg", 8: "small.png"}
    assert "12×10" in str(problems[8]) and "56×40" in str(problems[8])
    with pytest.raises(BadImageError, match="cut.jpg.*cut short.*--skip-bad"):
        scan(images, masks)
    assert scan(files[0], (), title="x") == {}
