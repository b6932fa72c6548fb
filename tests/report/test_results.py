"""What is read from a study's folder when a file in it is not what was written."""

import json

import pytest

from kanbatsu.files.disk import DamagedFile
from kanbatsu.files.tables import to_dict
from kanbatsu.report.page import write_report
from kanbatsu.report.results import read_study
from kanbatsu.study.rule import DecisionRule


def test_a_damaged_run_is_named_and_the_others_are_read(make_study, tmp_path):
    folder = make_study(tmp_path)
    run = folder.run_folder("sparse-256-dmc-walker-walk-2")
    (run.path / "metrics.jsonl").write_text('{"kind": "evaluation"}\n')
    study = read_study(tmp_path)
    broken = [each for each in study.runs if each.final_return is None]
    assert [(each.run_id, each.state) for each in broken] == [(run.path.name, "failed")]
    assert "metrics.jsonl is not what was written" in broken[0].error
    assert len(study.runs) == 15
    assert "is not what was written" in write_report(tmp_path).read_text()


def spoiled(record, change):
    record.pop("checksum", None)
    change(record)
    return record


CHANGES = {
    "rule without a key": lambda it: it["decision"].pop("seeds"),
    "rule of another type": lambda it: it["decision"].update(confidence="0.95"),
    "control that is no arm": lambda it: it["decision"].update(control="dens"),
    "seed that is no number": lambda it: it["arms"]["dense-64"]["runs"].update(t={"x": "a"}),
    "no arms": lambda it: it.update(arms={}),
    "arm without runs": lambda it: it["arms"]["dense-64"].pop("runs"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_other_json_in_a_study_is_named_with_what_to_do(make_study, tmp_path, change):
    make_study(tmp_path, decision=to_dict(DecisionRule()))
    path = tmp_path / "study.json"
    path.write_text(json.dumps(spoiled(json.loads(path.read_text()), change)))
    with pytest.raises(DamagedFile, match=r"study\.json is not what was written .*delete it"):
        read_study(tmp_path)


def test_names_cannot_turn_the_text_around_them(make_study, tmp_path):
    name = "dense\u202e9\u2066x"
    make_study(tmp_path, tasks=(name,), note=f"about {name}", seeds=(0, 1))
    page = write_report(tmp_path).read_text()
    assert "dense[U+202E]9[U+2066]x" in page
    assert not {"\u202e", "\u2066"} & set(page)
