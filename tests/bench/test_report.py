import io

from rich.console import Console

from opusagent.bench.report import host_note, host_watched


def test_what_the_host_kept_is_told_with_its_share() -> None:
    assert host_note(0.69, 13.0).startswith(
        "the host of this machine kept 0.7 s of processor time from it, 5.3 % of a core"
    )


def test_a_host_that_kept_next_to_nothing_is_not_worth_a_line() -> None:
    assert host_note(0.0, 10.0) == host_note(0.1, 10.0) == ""


def test_what_was_kept_before_the_block_does_not_count() -> None:
    console = Console(record=True, file=io.StringIO())
    with host_watched(console, stolen_s=iter([5.0, 7.0]).__next__, clock=iter([0.0, 10]).__next__):
        pass
    assert "kept 2.0 s" in console.export_text()
