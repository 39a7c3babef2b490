"""Progress bars of the scripts."""

import contextlib
from collections.abc import Callable, Iterator

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, how much of it is done, and the total (0 where it is not known)."""


@contextlib.contextmanager
def progress_bars() -> Iterator[Progress]:
    """Yield a progress callback that shows one bar per stage."""
    from tqdm import tqdm

    bar: tqdm | None = None
    shown = None

    def show(stage: str, done: int, total: int) -> None:
        nonlocal bar, shown
        if bar is None or stage != shown or done < bar.n:
            if bar is not None:
                bar.close()
            bar, shown = tqdm(desc=stage, total=total or None, unit="frame", disable=None), stage
        bar.update(done - bar.n)

    try:
        yield show
    finally:
        if bar is not None:
            bar.close()
