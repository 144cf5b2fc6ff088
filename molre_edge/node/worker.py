"""Answers studies that are due, one after the other, in the thread of the engine. The next is read meanwhile."""

from __future__ import annotations

import shutil
import sqlite3
import time
from pathlib import Path
from typing import Protocol

from molre_edge.errors import MolreEdgeError, RunError, ScanError
from molre_edge.node.configuration import NodeConfig
from molre_edge.node.entries import Ahead, Conclusion, Job
from molre_edge.node.journal import Journal, place_of
from molre_edge.node.results import answered_digest, write_report
from molre_edge.node.store import Store
from molre_edge.runs.ahead import BegunStudy
from molre_edge.runs.loaded import Prediction
from molre_edge.scans.workers.pool import CRASHED, TOO_SLOW

__all__ = ["Model", "Worker"]

_TRIES = 3
"""Before a study is refused for what may have been an accident: a reader that somebody ended, a disk's error."""
_ACCIDENTS = (CRASHED, TOO_SLOW, "unreadable")


class Model(Protocol):
    """What a worker asks: :class:`molre_edge.runs.loaded.LoadedModel`."""

    def begin(self, path: Path) -> BegunStudy:
        """Let the study in a folder be read in the background."""

    def predict(self, path: BegunStudy) -> Prediction:
        """Answer it."""


class Worker:
    """Takes due studies from the store, and concludes each."""

    def __init__(self, config: NodeConfig, store: Store, journal: Journal, model: Model) -> None:
        """Nothing is answered yet."""
        self._config, self._store, self._journal, self._model = config, store, journal, model
        self._ahead: tuple[Ahead, BegunStudy] | None = None

    def step(self) -> bool:
        """Answer one study, and let the next one be read meanwhile; False if none is due."""
        ahead, study = self._ahead or (None, None)
        try:
            job = self._store.next_job(self._config.study.quiet_seconds, self._config.study.longest_seconds, ahead)
        except (OSError, sqlite3.Error) as error:
            self._journal.warn("no_job", error=place_of(error))
            job = None
        if job is None:
            self.drop_ahead()
            return False
        if ahead is not None and study is not None and ahead.study == job.study:
            self._ahead = None  # its folder is the job's now
            if ahead.images != job.images:  # an image came since: the report is of what was read
                study.drop()
                study = None
        else:
            study = None
        try:
            study = study or self._model.begin(job.folder)
            self._look_ahead(job)
            self._answer(job, study)
        except (MolreEdgeError, OSError, sqlite3.Error) as error:  # the engine's or the disk's, not the study's
            self._put_off(job, type(error).__name__, place_of(error))
        except Exception as error:  # a bug of ours: the other studies go on
            self._journal.count("bugs")
            self._put_off(job, "bug", place_of(error))
        return True

    def drop_ahead(self) -> None:
        """Give up what is read ahead. It stays due."""
        if self._ahead is not None:
            ahead, study = self._ahead
            self._ahead = None
            study.drop()
            self._store.drop(ahead)

    def _look_ahead(self, job: Job) -> None:
        """Begin to read the study that is due after this one, if it is not being read already."""
        kept, study = self._ahead or (None, None)
        times = self._config.study
        try:
            ahead = self._store.look_ahead(times.quiet_seconds, times.longest_seconds, job, kept)
        except (OSError, sqlite3.Error):  # it is read when its turn comes, or its own job fails
            self.drop_ahead()
            return
        if ahead is None or ahead is not kept:
            if study is not None:
                study.drop()
            self._ahead = None if ahead is None else (ahead, self._model.begin(ahead.folder))

    def _answer(self, job: Job, study: BegunStudy) -> None:
        begun = time.perf_counter()
        try:
            prediction = self._model.predict(study)
        except ScanError as error:
            if error.code in _ACCIDENTS and job.attempts < _TRIES:
                raise
            self._conclude(job, Conclusion(outcome="refused", code=error.code))
            return
        except RunError:  # no study, or several; or the process that looks for scans ended
            if job.attempts < _TRIES:
                raise
            self._conclude(job, Conclusion(outcome="refused", code="no_single_study"))
            return
        predicted = time.perf_counter()
        digest, earlier = answered_digest(prediction), self._store.answered_before(job)
        if earlier is not None and earlier[0] == digest:
            self._conclude(job, Conclusion(outcome="unchanged", answered=digest))
            return
        before = None if earlier is None else earlier[1]
        partial = self._store.report_partial(job)
        try:
            write_report(prediction, job, self._config.results, partial, before)
        except MolreEdgeError as error:
            shutil.rmtree(partial, ignore_errors=True)
            if (code := getattr(error, "code", "")) in ("", "source_unreadable"):  # the disk's, not the study's
                raise
            if code == "result_failed" and job.attempts < _TRIES:  # a moment without memory looks like this
                raise
            self._conclude(job, Conclusion(outcome="refused", code=code))
            return
        self._conclude(
            job,
            Conclusion(outcome="answered", answered=digest, report=partial),
            positive=len(prediction.positive),
            answer_s=predicted - begun,
            report_s=time.perf_counter() - predicted,
        )

    def _conclude(self, job: Job, end: Conclusion, **values: object) -> None:
        names = [each.name for each in self._config.destinations]
        self._store.conclude(job, end, names, self._config.results.objects)
        waited = time.time() - job.last
        self._journal.count("reports", f'outcome="{end.outcome}"')
        if end.outcome == "answered":
            self._journal.count("report_seconds_sum", by=waited)
            self._journal.count("report_seconds_count")
        tell = self._journal.warn if end.outcome == "refused" else self._journal.tell
        tell(
            end.outcome, study=job.number, version=job.version, images=len(job.images), code=end.code or None,
            after_last_image_s=waited, **values,
        )  # fmt: skip

    def _put_off(self, job: Job, problem: str, place: str) -> None:
        self._journal.warn("put_off", study=job.number, version=job.version, attempt=job.attempts, error=place)
        try:
            self._store.put_off(job, problem)
        except (OSError, sqlite3.Error) as error:  # the attempt is noted already
            self._journal.warn("put_off", study=job.number, error=place_of(error))
