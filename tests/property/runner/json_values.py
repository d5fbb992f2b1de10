"""JSON values as a client may write them: of every kind, escaped in every way, huge; and what only looks like one."""

import json
from typing import Any

from hypothesis import strategies as st

_plain: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=80)
    | st.text(alphabet="\x00\x1b\n=\u202e\u2028a", max_size=80)
)
_nested = st.recursive(
    _plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)

json_values: st.SearchStrategy[bytes] = (
    st.builds(
        lambda value, ascii_only: json.dumps(value, ensure_ascii=ascii_only).encode(),
        _nested | st.just("x" * 100_000),
        st.booleans(),
    )
    | st.builds(lambda inner: b'"' + inner + b'"', st.binary(max_size=80))
    | st.sampled_from([b"1e999", b"-1e400", b'"\\udfff"'])
)
