"""What a person sees: speeds, returns and the words for them."""

import io

from rich.console import Console

from kanbatsu.engine.progress import (
    SHOWN_RUNS,
    LineDisplay,
    LiveDisplay,
    Pace,
    RunView,
    View,
    describe,
    draw,
    make_display,
)

VIEW = View(
    runs=9,
    finished=3,
    failed=0,
    env_steps=15_000,
    share=0.4,
    env_steps_per_second=1234.0,
    seconds_left=3700.4,
    running=(RunView("dense_s0", 9_200, 212.34), RunView("sparse_s0", 20_000, None)),
)


def console(terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=100)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_study_in_words() -> None:
    assert describe(VIEW) == "3/9 runs done · 1,234 env steps/s · 1:01:40 left"
    assert describe(View(9, 0, 2, 10, 0.0, None, None, ())) == "0/9 runs done · 2 failed"
    seen = View(9, 1, 0, 10, 0.2, None, None, (), stopped=3, waiting=4)
    assert describe(seen) == "1/9 runs done · 3 stopped · 4 waiting"


def test_the_picture_has_a_line_for_every_running_run() -> None:
    out = console()
    out.print(draw(VIEW))
    first, second, last = written(out).splitlines()
    assert first.split() == ["dense_s0", first.split()[1], "9,200", "return", "212.3"]
    assert second.split()[0] == "sparse_s0"
    # Env steps past the end, by action repeat or several environments, are not shown.
    assert second.split()[-1] == "15,000"
    assert last.rstrip().endswith("3/9 runs done · 1,234 env steps/s · 1:01:40 left")


def test_a_cluster_does_not_fill_the_screen_and_warnings_are_shown() -> None:
    out = console()
    many = tuple(RunView(f"r{at}", 1, None) for at in range(SHOWN_RUNS + 5))
    out.print(draw(View(99, 0, 0, 10, 0.0, None, None, many)))
    assert len(written(out).splitlines()) == SHOWN_RUNS + 2
    assert "and 5 more" in written(out)
    out = console()
    sick = RunView("r", 1, None, "critic: 70 % of units dormant")
    out.print(draw(View(1, 0, 0, 10, 0.0, None, None, (sick,))))
    assert "critic: 70 % of units dormant" in written(out)


def test_speed_is_of_the_recent_past() -> None:
    pace = Pace()
    assert pace.measure(0.0, 0) is None
    assert pace.measure(0.5, 100) is None  # too short to tell
    assert pace.measure(100.0, 1_000) == 1_000 / 100.0
    # From here on 0.5 is the newest moment that is at least two minutes past.
    assert pace.measure(200.0, 1_000) == (1_000 - 100) / (200.0 - 0.5)
    assert pace.measure(210.0, 1_200) == (1_200 - 100) / (210.0 - 0.5)
    assert pace.measure(1_000.0, 1_200) is None


def test_a_terminal_gets_bars_and_a_file_gets_lines() -> None:
    assert isinstance(make_display(console(terminal=True)), LiveDisplay)
    assert isinstance(make_display(console()), LineDisplay)


def test_lines_come_now_and_then_and_keep_their_brackets() -> None:
    out = console()
    with LineDisplay(out, every_seconds=3600.0) as rare:
        rare.show(VIEW)
        rare.say("failed: [Errno 28] no space in [/tmp]")
    assert written(out) == "failed: [Errno 28] no space in [/tmp]\n"
    with LineDisplay(out, every_seconds=0.0) as often:
        often.show(VIEW)
    assert written(out).endswith("3/9 runs done · 1,234 env steps/s · 1:01:40 left · 40%\n")


def test_bars_stay_when_the_study_ends() -> None:
    out = console(terminal=True)
    with LiveDisplay(out) as live:
        live.show(VIEW)
        live.say("finished [x]")
    assert "finished [x]" in written(out)
    assert "3/9 runs done" in written(out)
