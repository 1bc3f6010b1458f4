"""Settings files: each line is read or rejected with its number, and error messages show no values."""

from __future__ import annotations

from pathlib import Path

import pytest

from storekeep.server.runtime.settings_files import UnreadableSettings, read_settings_file

PREFIX = "STOREKEEP_"


def read(tmp_path: Path, content: str | bytes, name: str = "a.env") -> dict[str, object]:
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_settings_file(file, prefix=PREFIX).values


def problems(tmp_path: Path, content: str | bytes, name: str = "a.env") -> list[str]:
    with pytest.raises(UnreadableSettings) as refused:
        read(tmp_path, content, name)
    return refused.value.problems


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("STOREKEEP_A=b", "b"),
        ("export STOREKEEP_A=b", "b"),
        ("  STOREKEEP_A = b  ", "b"),
        ("storekeep_a=b", "b"),
        ("STOREKEEP_A=b # why", "b"),
        ("STOREKEEP_A=b#c", "b#c"),
        ("STOREKEEP_A=b=c", "b=c"),
        ("STOREKEEP_A='b # c' # why", "b # c"),
        ("STOREKEEP_A='$HOME \\n'", "$HOME \\n"),
        ('STOREKEEP_A="b \\"c\\" \\\\ \\n"', 'b "c" \\ \n'),
        ("STOREKEEP_A=p$5", "p$5"),
        ("STOREKEEP_A=ä", "ä"),
    ],
)
@pytest.mark.parametrize("ending", ["\n", "\r\n", ""])
def test_line_is_read(tmp_path, line, value, ending):
    assert read(tmp_path, f"# first{ending or chr(10)}{line}{ending}") == {"a": value}


@pytest.mark.parametrize("value", ["", "''", '""', " # why"])
def test_empty_value_is_the_default(tmp_path, value):
    assert read(tmp_path, f"STOREKEEP_A={value}\n") == {}


def test_byte_order_mark_is_no_part_of_a_name(tmp_path):
    mark = b"\xef\xbb\xbf"
    assert read(tmp_path, mark + b"STOREKEEP_A=b\r\n") == {"a": "b"}
    assert read(tmp_path, mark + b'a = "b"\r\n', "a.toml") == {"a": "b"}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("STOREKEEP_A", "not of the form"),
        ("STOREKEEP_A: hunter2", "not of the form"),
        ("STOREKEEP-A=hunter2", "not of the form"),
        ("hunter2", "not of the form"),
        ("set STOREKEEP_A=hunter2", "not of the form"),
        ("= hunter2", "not of the form"),
        ("; hunter2", "not of the form"),
        ("A=hunter2", "A does not begin with STOREKEEP_"),
        ("STOREKEEP_A='hunter2", "the quote is not closed"),
        ("STOREKEEP_A=\"hunter2' # c", "the quote is not closed"),
        ("STOREKEEP_A='hunter2' 3", "text follows it"),
        ("STOREKEEP_A=${hunter2}", "variables are not expanded"),
        ('STOREKEEP_A="$(hunter2)"', "variables are not expanded"),
        ("STOREKEEP_A=hunter2\x00", "a control character"),
        ("STOREKEEP_A=hunter2\rSTOREKEEP_B=c", "a control character"),
        ("STOREKEEP_ONE=hunter2", "STOREKEEP_ONE is already set in line 1"),
        ("export storekeep_one=hunter2", "STOREKEEP_ONE is already set in line 1"),
    ],
)
def test_line_that_does_not_parse_is_refused_by_its_number(tmp_path, line, told):
    (problem,) = problems(tmp_path, f"STOREKEEP_ONE=1\n\n{line}\nSTOREKEEP_LAST=1\n")
    assert problem.startswith(f"{tmp_path / 'a.env'}:3: ")
    assert told in problem
    assert "hunter2" not in problem


def test_every_wrong_line_is_told(tmp_path):
    assert [problem.split(": ")[0] for problem in problems(tmp_path, "a\nSTOREKEEP_A=1\nb\n")] == [
        f"{tmp_path / 'a.env'}:1",
        f"{tmp_path / 'a.env'}:3",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a = 1\nb\n", "line 2"),
        ("a = 1\na = 2\n", "line 2"),
        ("a = 1\nb = hunter2\n", "line 2"),
    ],
)
def test_toml_that_does_not_parse_is_refused_by_its_line(tmp_path, text, told):
    (problem,) = problems(tmp_path, text, "a.toml")
    assert told in problem
    assert "hunter2" not in problem


@pytest.mark.parametrize("name", ["a.env", "a.toml"])
def test_file_that_is_not_utf_8_is_refused_by_its_line(tmp_path, name):
    (problem,) = problems(tmp_path, b"# a\n# \xff\n", name)
    assert problem == f"{tmp_path / name}:2: not UTF-8"


@pytest.mark.parametrize("name", ["a.env", "a.toml"])
def test_file_that_is_too_large_is_not_read(tmp_path, name):
    (problem,) = problems(tmp_path, b"#" * (1024 * 1024 + 1), name)
    assert "larger than" in problem


def test_directory_is_refused(tmp_path):
    with pytest.raises(UnreadableSettings, match="directory"):
        read_settings_file(tmp_path, prefix=PREFIX)
