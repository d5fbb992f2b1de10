"""Settings of a TOML file, for device and hub: one way to refuse a wrong one, and the page that documents them.

A settings file is a tree of structs; the docstring below a field is its meaning. Pure: source text is an argument.
"""

import ast
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin

import msgspec
from msgspec import Struct, inspect
from msgspec.structs import FieldInfo, fields

Path = tuple[str, ...]


def wrong_setting(raw: object, kind: type[Struct]) -> str:
    """Name the first wrong setting in ``raw`` (decoded TOML), its value and what is allowed; "" where all is right."""
    return next(_problems(raw, kind, ()), "")


def settings_page(kind: type[Struct], source: str) -> str:
    """Markdown: a table for each section of ``kind``, the meanings taken from its module's ``source`` text.

    Raises:
        ValueError: a setting has no docstring below it.
    """
    meanings = _meanings(ast.parse(source))
    return "\n".join(_sections(kind, (), meanings))


def allowed_words(kind: Any) -> str:
    """What values of a field's type may be, in words."""
    return _allowed(kind)


# --- Refusing ----------------------------------------------------------------------------------------------------


def _problems(raw: object, kind: Any, path: Path) -> Iterator[str]:
    struct, where = _struct(kind), ".".join(path)
    if struct is not None and (isinstance(raw, dict) or kind is struct):
        yield from _table_problems(raw, struct, path)
    elif get_origin(kind) is dict and isinstance(raw, dict):
        key_kind, value_kind = get_args(kind)
        for key, value in raw.items():
            if _fails(key, key_kind):
                yield f"{where}: {key!r} is not a name for an entry; allowed: {_allowed(key_kind)}"
            yield from _problems(value, value_kind, (*path, key))
    elif _fails(raw, kind):
        yield f"{where} = {raw!r}: allowed: {_allowed(kind)}"


def _table_problems(raw: object, kind: type[Struct], path: Path) -> Iterator[str]:
    where = ".".join(path)
    if not isinstance(raw, dict):
        yield f"{where} = {raw!r}: allowed: a table, [{where}]"
        return
    known = {field.name: field for field in fields(kind)}
    for name in raw:
        if name not in known:
            shown = ".".join((*path, name))
            yield f"{shown} = {raw[name]!r}: there is no such setting; allowed here: {', '.join(known)}"
    for name, field in known.items():
        here = (*path, name)
        if name in raw:
            yield from _problems(raw[name], field.type, here)
        elif field.required and _struct(field.type) is not None:
            yield from _problems({}, field.type, here)
        elif field.required:
            yield f"{'.'.join(here)}: is missing and has no default; allowed: {_allowed(field.type)}"


def _fails(raw: object, kind: Any) -> bool:
    try:
        msgspec.convert(raw, kind)
    except msgspec.ValidationError:
        return True
    return False


def _entry(kind: Any) -> type[Struct] | None:
    """The table that each entry of ``kind`` is, where it is a table of tables."""
    return _struct(get_args(kind)[1]) if get_origin(kind) is dict else None


def _struct(kind: Any) -> type[Struct] | None:
    """The table that ``kind`` is, or may be (``Table | None``)."""
    arms = (kind, *get_args(kind)) if get_origin(kind) is not dict else (kind,)
    return next((arm for arm in arms if isinstance(arm, type) and issubclass(arm, Struct)), None)


# --- What is allowed, in words -----------------------------------------------------------------------------------


def _allowed(kind: Any) -> str:
    return _words(inspect.type_info(kind))


def _words(info: inspect.Type) -> str:
    words = type(info).__name__.removesuffix("Type").lower()
    match info:
        case inspect.Metadata(type=inner, extra_json_schema=schema):
            words = str((schema or {}).get("description") or _words(inner))
        case inspect.LiteralType(values=values):
            words = ", ".join(f'"{value}"' for value in values)
        case inspect.BoolType():
            words = "true, false"
        case inspect.IntType() | inspect.FloatType():
            words = _number(info)
        case inspect.StrType(min_length=shortest, max_length=longest):
            words = "text" if longest is None else f"text of {shortest or 0}-{longest} characters"
        case inspect.VarTupleType(item_type=item):
            words = f"a list of: {_words(item)}"
        case inspect.DictType(key_type=key, value_type=value):
            words = f"a table: {_words(key)} → {_words(value)}"
        case inspect.UnionType(types=types):
            words = ", or ".join(_words(arm) for arm in types if not isinstance(arm, inspect.NoneType))
        case inspect.StructType():
            words = "a table"
    return words


def _number(info: inspect.IntType | inspect.FloatType) -> str:
    noun = "a whole number" if isinstance(info, inspect.IntType) else "a number"
    bounds = (("≥", info.ge), (">", info.gt), ("≤", info.le), ("<", info.lt))
    stated = ", ".join(f"{sign} {bound:.0f}" for sign, bound in bounds if bound is not None)
    return f"{noun} {stated}".strip()


# --- The page ----------------------------------------------------------------------------------------------------


def _sections(kind: type[Struct], path: Path, meanings: Mapping[tuple[str, str], str]) -> Iterator[str]:
    tables = [field for field in fields(kind) if _struct(field.type) is not None]
    plain = [field for field in fields(kind) if _struct(field.type) is None]
    if path:
        yield f"## `[{'.'.join(path)}]`\n"
        meaning = _flat(meanings[kind.__name__, ""]).removeprefix(f"`[{'.'.join(path)}]`: ")
        yield f"{meaning[:1].upper()}{meaning[1:]}\n"
    if plain:
        yield "| setting | default | allowed | meaning |\n|---|---|---|---|"
        yield from (_row(kind, field, meanings) for field in plain)
        yield ""
    for field in tables:
        inner = _struct(field.type)
        if inner is not None:
            yield from _sections(inner, (*path, field.name), meanings)
    for field in plain:
        entry = _entry(field.type)
        if entry is not None:
            yield from _sections(entry, (*path, field.name, "<name>"), meanings)


def _row(kind: type[Struct], field: FieldInfo, meanings: Mapping[tuple[str, str], str]) -> str:
    meaning = meanings.get((kind.__name__, field.name))
    if meaning is None:
        raise ValueError(f"{kind.__name__}.{field.name} has no docstring below it")
    cells = (f"`{field.name}`", _default(field), _allowed(field.type), _flat(meaning))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _default(field: FieldInfo) -> str:
    default = field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default
    match default:
        case msgspec.NODEFAULT | None:
            return "none: must be set" if field.required else "not set"
        case dict() | ():
            return "empty"
        case _:
            return f"`{msgspec.json.encode(default).decode()}`"


def _meanings(module: ast.Module) -> dict[tuple[str, str], str]:
    """(class, field) → the string that stands below the field; (class, "") → the class's own docstring."""
    found: dict[tuple[str, str], str] = {}
    for node in module.body:
        if not isinstance(node, ast.ClassDef):
            continue
        found[node.name, ""] = ast.get_docstring(node) or ""
        for before, after in zip(node.body, node.body[1:], strict=False):
            match before, after:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[node.name, name] = text
    return found


def _flat(text: str) -> str:
    return " ".join(text.replace("``", "`").split())
