"""What the commands share: where they speak, and how they fail."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
import typer
from rich.console import Console
from rich.table import Table

from molre_edge.cli.shell import Speaker, UsageError, command
from molre_edge.errors import BundleError, ParityFailedError
from molre_edge.progress import Progress


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BundleError("the bundle is altered"), 1),
        (UsageError("no such path"), 2),
        (ParityFailedError("max_abs_dp"), 3),
        (KeyboardInterrupt(), 130),
        (OSError(28, "No space left on device", "file"), 1),
    ],
)
def test_what_a_user_can_mend_is_a_message_and_an_exit_code(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    @command
    def fail() -> None:
        raise error

    with pytest.raises(typer.Exit) as left:
        fail()
    assert left.value.exit_code == code
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ")
    assert str(error.strerror if isinstance(error, OSError) else error) in err


def test_a_bug_keeps_its_trace() -> None:
    @command
    def fail() -> None:
        raise IndexError("ours")

    with pytest.raises(IndexError, match="ours"):
        fail()


def test_json_alone_goes_to_stdout_and_everything_else_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    speaker = Speaker(as_json=True)
    table = Table("heading")
    table.add_row("cell")
    speaker.show(table)
    speaker.say("a result")
    speaker.tell("progress")
    speaker.warn("a warning")
    speaker.result({"a": 1})
    out, err = capsys.readouterr()
    assert json.loads(out) == {"a": 1}
    assert all(text in err for text in ("cell", "a result", "progress", "warning: a warning"))


def test_without_json_results_go_to_stdout_and_progress_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    speaker = Speaker()
    speaker.say("a result")
    speaker.tell("progress")
    speaker.result({"a": 1})
    assert capsys.readouterr() == ("a result\n", "progress\n")


def test_quiet_leaves_warnings_and_errors(capsys: pytest.CaptureFixture[str]) -> None:
    speaker = Speaker(quiet=True)
    speaker.say("a result")
    speaker.tell("progress")
    speaker.show(Table("heading"))
    with speaker.steps() as step:
        step("a step")
    speaker.warn("a warning")
    speaker.complain("an error")
    assert capsys.readouterr() == ("", "warning: a warning\nerror: an error\n")


@pytest.mark.parametrize("text", ["[bold]x[/bold]", "[/nonsense]", ":warning: sign", "[red", "a" * 300])
def test_texts_are_shown_as_they_are(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    speaker = Speaker()
    speaker.say(text)
    speaker.tell(text)
    speaker.warn(text)
    speaker.complain(text)
    out, err = capsys.readouterr()
    assert out == f"{text}\n"
    assert err == f"{text}\nwarning: {text}\nerror: {text}\n"


def test_table_cells_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("heading")
    table.add_row("expected [1, 0] or [/x]")
    Speaker().show(table)
    assert "expected [1, 0] or [/x]" in capsys.readouterr().out


def test_in_a_log_a_table_keeps_long_names_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    names = ["small_vessel_ischemic_disease", "aneurysmal_subarachnoid_hemorrhage", "ventricular_shunt_or_drain"]
    table = Table(*names, "what else there is to say")
    table.add_row(*names, "sentence " * 5)
    Speaker().show(table)
    assert capsys.readouterr().out.count(names[1]) == 2


def test_steps_are_a_line_each_where_nobody_looks_on(capsys: pytest.CaptureFixture[str]) -> None:
    with Speaker().steps() as step:
        step("one [of two]")
        step("two")
    assert capsys.readouterr() == ("", "- one [of two]\n- two\n")


def test_a_result_that_is_no_json_is_a_bug(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        Speaker(as_json=True).result({"a": float("nan")})


def report(progress: Progress) -> None:
    progress.step("looking [for scans]")
    progress.info("4 scans")
    progress.count(1, 4, "scans")
    progress.count(2, 4, "scans")
    progress.warn("one is odd")
    progress.step("results")


def test_progress_is_a_line_a_step_a_fact_and_a_warning_where_nobody_looks_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Speaker().progress() as progress:
        report(progress)
    assert capsys.readouterr() == ("", "- looking [for scans]\n4 scans\nwarning: one is odd\n- results\n")


def test_quiet_progress_leaves_the_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    with Speaker(quiet=True).progress() as progress:
        report(progress)
    assert capsys.readouterr() == ("", "warning: one is odd\n")


def test_on_a_terminal_steps_have_a_spinner_and_counts_a_bar_and_facts_stay_above() -> None:
    speaker, screen = Speaker(), io.StringIO()
    speaker.err = Console(file=screen, force_terminal=True, width=100, markup=False, highlight=False)
    with speaker.progress() as progress:
        report(progress)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert "looking [for scans]" in text and "results" in text
    assert "scans" in text and "2/4" in text
    assert "4 scans\n" in text and "warning: one is odd\n" in text
    assert screen.getvalue().endswith("\x1b[?25h") or "\x1b[?25h" in screen.getvalue()  # the cursor is back


def test_an_error_amid_progress_leaves_the_terminal_as_it_was() -> None:
    speaker, screen = Speaker(), io.StringIO()
    speaker.err = Console(file=screen, force_terminal=True, width=100)
    with pytest.raises(BundleError), speaker.progress() as progress:
        progress.count(1, 4, "scans")
        raise BundleError("the bundle is altered")
    assert screen.getvalue().count("\x1b[?25l") == screen.getvalue().count("\x1b[?25h") == 1
