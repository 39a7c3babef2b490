"""Jobs of a video end with its first error, and with the processes."""

import threading
import time

import pytest
from helpers.pool_jobs import die, double, fail, fill_disk

from utils.data_processing.jobs import AbortRunError, Jobs
from utils.executors import local_executor


def test_results_errors_and_full_disks(tmp_path):
    shown = []
    with local_executor(2) as executor:
        jobs = Jobs(executor, "NAME", shown.append)
        jobs.step = "crop_face"
        assert jobs.run(double, [(1,), (2,), (3,)]) == [2, 4, 6]
        assert shown[-1] == "NAME: crop_face, part 3 of 3"
        assert jobs.seconds > 0
        with pytest.raises(ValueError, match="the first"):
            jobs.run(fail, [(number, str(tmp_path)) for number in range(40)])
        written = len(list(tmp_path.iterdir()))
        time.sleep(0.3)
        assert len(list(tmp_path.iterdir())) == written < 39  # none is left running
        with pytest.raises(AbortRunError, match=r"^NAME: not written; correct this and run again"):
            jobs.call(fill_disk)
        with pytest.raises(AbortRunError, match="a worker process died"):
            jobs.run(die, [()] * 9)


def test_threads_that_wait_for_jobs_end_with_the_processes():
    ended = []

    def wait_for_jobs(jobs: Jobs) -> None:
        try:
            jobs.run(time.sleep, [(60,)] * 20)
        except AbortRunError as error:
            ended.append(str(error))

    with pytest.raises(KeyError), local_executor(1) as executor:
        thread = threading.Thread(target=wait_for_jobs, args=(Jobs(executor, "NAME"),), daemon=True)
        thread.start()
        time.sleep(1)
        raise KeyError
    thread.join(20)
    assert ended and not thread.is_alive()
