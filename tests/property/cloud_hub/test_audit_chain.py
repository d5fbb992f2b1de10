import msgspec
from hypothesis import given
from hypothesis import strategies as st

from cloud_hub.audit.chain import GENESIS, AuditEntry, export_line, seal, verify

Deed = tuple[float, str, str, str, dict[str, str]]
texts = st.text(max_size=20)
deeds = st.lists(
    st.tuples(st.floats(0, 2e9), texts, texts, texts, st.dictionaries(texts, texts, max_size=3)),
    min_size=1,
    max_size=12,
)


def chain(found: list[Deed]) -> list[AuditEntry]:
    entries: list[AuditEntry] = []
    for number, (time, actor, action, subject, details) in enumerate(found, start=1):
        entries.append(
            seal(
                sequence=number,
                time=time,
                actor=actor,
                action=action,
                subject=subject,
                details=details,
                previous=entries[-1].sha256 if entries else GENESIS,
            )
        )
    return entries


@given(deeds)
def test_an_export_verifies_and_names_its_head(found: list[Deed]) -> None:
    entries = chain(found)
    report = verify(map(export_line, entries))
    assert (report.problem, report.entries, report.head) == (None, len(entries), entries[-1].sha256)


@given(deeds, st.data())
def test_any_change_is_found_where_it_is(found: list[Deed], data: st.DataObject) -> None:
    entries = chain(found)
    index = data.draw(st.integers(0, len(entries) - 1))
    field = data.draw(st.sampled_from(["actor", "action", "subject"]))
    changed = msgspec.structs.replace(entries[index], **{field: getattr(entries[index], field) + "x"})
    report = verify(export_line(entry) for entry in [*entries[:index], changed, *entries[index + 1 :]])
    assert report.problem is not None
    assert report.problem.startswith(f"line {index + 1}:")
    assert report.entries == index


@given(deeds.filter(lambda found: len(found) > 1), st.data())
def test_a_missing_or_moved_entry_is_found(found: list[Deed], data: st.DataObject) -> None:
    entries = chain(found)
    index = data.draw(st.integers(0, len(entries) - 2))
    assert verify(map(export_line, [*entries[:index], *entries[index + 1 :]])).problem is not None
    entries[index], entries[index + 1] = entries[index + 1], entries[index]
    assert verify(map(export_line, entries)).problem is not None
