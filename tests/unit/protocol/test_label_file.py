"""Labels as CSV: what is taken, and what is said of what is not."""

import pytest

from agent.protocol.errors import MalformedMessageError
from agent.protocol.label_file import read_labels
from agent.protocol.labels import Label


def read(text: str) -> list[Label]:
    return list(read_labels(text.splitlines(keepends=True), "system", "labels.csv"))


def test_columns_may_come_in_any_order_and_what_is_empty_is_not_given() -> None:
    found = read('time,label,request,origin\n1700000000.5,"a, b",r-1,person\n,c,r-2,\n\n')
    assert found == [
        Label(request="r-1", label="a, b", origin="person", time=1_700_000_000.5),
        Label(request="r-2", label="c", origin="system"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "",
            "labels.csv, line 1: expected the columns' names, request,label and if you like origin,time; got ''",
        ),
        ("request,class\n", "labels.csv, line 1: expected"),
        ("request,label,label\n", "labels.csv, line 1: expected"),
        ("request\nr-1\n", "labels.csv, line 1: expected"),
        ("request,label\nr-1\n", "labels.csv, line 2: 1 values for 2 columns"),
        ("request,label\nr-1,a\nr-2,\n", "labels.csv, line 3: Object missing required field `label`"),
        ("request,label,origin\nr-1,a,god\n", "labels.csv, line 2: Invalid enum value 'god' - at `$.origin`"),
        ("request,label,time\nr-1,a,soon\n", "labels.csv, line 2: Expected `float | null`, got `str`"),
        ("request,label\nr-1,a\x1b[2J\n", "labels.csv, line 2: Expected `str` matching regex"),
        (f"request,label\nr-1,{'a' * 200_000}\n", "labels.csv, line 2: field larger than field limit"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, said: str) -> None:
    with pytest.raises(MalformedMessageError) as caught:
        read(text)
    assert str(caught.value).startswith(said)
