"""What of a module's source computes, and what it imports: read from its syntax, without importing it.

Left out is what no number can depend on: comments, docstrings and layout, the texts of messages (of exceptions,
print, warnings), annotations of functions and variables, and what is imported for these. In doubt a thing counts.
"""

import ast
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from trigbench.workflow.errors import BenchError

PROJECT = frozenset({"trigbench"})
"""The package whose names are known to mean what these tables say; of one's own code they may be anything."""
SHOWN = frozenset({"print", "warn", "BenchError"})
"""Calls, beside exceptions that are raised, whose texts are messages."""
REMEDIES = {"read_json": 1, "read_arrays": 1, "read_tensors": 1, "names_of_arrays": 1, "read_training": 1}
"""Readers of files, and the place of the remedy that they put into their message."""
HARMLESS = frozenset({"len", "str", "repr", "round", "sum", "min", "max", "sorted", "list", "map", "type", "join"})
"""Calls that a message may make to be put together."""
FOR_ANNOTATIONS = frozenset(
    {
        "collections.abc",
        "jaxtyping",
        "pathlib",
        "torch",
        "types",
        "typing",
        "trigbench.workflow.study.schema",
        "trigbench.workflow.study.study",
    }
)
"""Modules whose import does nothing, so that an unused name of them is nothing."""
PLAIN = frozenset({"property", "staticmethod", "classmethod", "cache", "contextmanager", "cached_property"})
"""Decorators that do not look at annotations; others may, as singledispatch and torch.jit.script do."""
Functions = ast.FunctionDef | ast.AsyncFunctionDef
MAY_SAY = ast.Raise, ast.Expr, ast.Call
"""Nodes at which a call makes a message, see _messages."""


@dataclass(frozen=True)
class Syntax:
    """A module's syntax tree, written the same by every Python, without what computes nothing; what it may import."""

    text: str
    imported: tuple[str, ...]


def read_syntax(path: Path, module: str) -> Syntax:
    """Of a file that is imported by that name. Raises BenchError where it is no Python."""
    try:
        tree = ast.parse(path.read_bytes(), str(path))  # bytes: the file says its encoding, whatever the locale
    except (SyntaxError, ValueError, OSError) as error:
        raise BenchError(f"cannot read the source: {error}", file=path, remedy="mend it at that line") from error
    return syntax_of(tree, module, path.name == "__init__.py")


def syntax_of(tree: ast.Module, module: str, is_package: bool = False) -> Syntax:
    """The same of a syntax tree, which is changed."""
    tree.body = [line for line in tree.body if not _is_checked_alone(line)]
    ours = module.partition(".")[0] in PROJECT
    nodes = _walked(tree)  # once: every process that makes a run reads some fifty modules
    blocks = _blocks(nodes)
    imported = tuple(_imported(nodes, module if is_package else module.rpartition(".")[0]))
    _without_annotations(nodes, blocks)
    _without_bare_strings(blocks)
    _without_messages(nodes, ours)
    if ours and not is_package:  # whose names are for others
        _without_unused_imports(tree)
    return Syntax(_written(tree), imported)


def _written(node: object) -> str:
    """Kinds of nodes and what their fields hold; what is empty is left out, as newer Pythons have more fields."""
    if isinstance(node, ast.AST):
        said = []
        for name in node._fields:
            value = getattr(node, name, None)
            if value is not None and value != [] and name != "kind":  # u"" is ""
                said.append(f"{name}={_written(value)}")
        return f"{type(node).__name__}({', '.join(said)})"
    return f"[{', '.join([_written(part) for part in node])}]" if isinstance(node, list) else ascii(node)


# --- imports -----------------------------------------------------------------------------------------


def _imported(nodes: Iterable[ast.AST], package: str) -> Iterator[str]:
    """Modules by their whole names, relative ones too; a name out of a module may be one."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
            if any(alias.name.startswith("trigbench.") and not alias.asname for alias in node.names):
                yield "trigbench"  # which it binds
        elif isinstance(node, ast.ImportFrom):
            base = _absolute("." * node.level + (node.module or ""), package)
            names = [alias.name for alias in node.names]
            if base != "trigbench" or "*" in names:  # a name of the public face says by itself where it is from
                yield base
            yield from (f"{base}.{name}" for name in names if name != "*")
        elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__") and node.args:
            name, *around = [a.value if isinstance(a, ast.Constant) else None for a in node.args[:2]]
            if isinstance(name, str):
                yield _absolute(name, around[0] if around and isinstance(around[0], str) else package)


def _absolute(name: str, package: str) -> str:
    """`..parts` in `a.b` -> `a.parts`."""
    level = len(name) - len(name.lstrip("."))
    if level == 0:
        return name
    around = package.split(".")[: max(0, len(package.split(".")) - (level - 1))]
    return ".".join(part for part in (*around, name[level:]) if part)


def _is_checked_alone(node: ast.AST) -> bool:
    """`if TYPE_CHECKING:`, whose body no run executes, and `if __name__ == "__main__":`, whose body starts one."""
    if not isinstance(node, ast.If) or node.orelse:
        return False
    return ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING", "__name__ == '__main__'")


def _without_unused_imports(tree: ast.Module) -> None:
    nodes = _walked(tree)
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and not node.level and node.module in FOR_ANNOTATIONS:
            node.names = [alias for alias in node.names if (alias.asname or alias.name) in used | {"*"}]
        elif isinstance(node, ast.Import):
            node.names = [a for a in node.names if a.asname or a.name not in FOR_ANNOTATIONS or a.name in used]
    _keep(_blocks(nodes), lambda line: not isinstance(line, ast.Import | ast.ImportFrom) or bool(line.names))


# --- docstrings and annotations ----------------------------------------------------------------------


def _without_bare_strings(blocks: Iterable[ast.AST]) -> None:
    """A string that stands alone does nothing: a docstring, or one under an attribute."""
    _keep(blocks, lambda line: not (isinstance(line, ast.Expr) and _is_text(line.value)))


def _without_annotations(nodes: Iterable[ast.AST], blocks: Iterable[ast.AST]) -> None:
    """Those of functions and of variables; the fields of a class are made of theirs."""
    for node in nodes:
        if isinstance(node, Functions) and all(_called(decorator) in PLAIN for decorator in node.decorator_list):
            node.returns = None
            given = node.args
            for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg):
                if argument is not None and not _decides(argument):
                    argument.annotation = None
    for node in blocks:
        if isinstance(node, ast.ClassDef):
            continue
        for number, lines in enumerate(_bodies(node)):
            if any(isinstance(line, ast.AnnAssign) for line in lines):
                kept = [made for line in lines if (made := _plain_assignment(line)) is not None]
                lines[:] = kept or ([ast.Pass()] if number == 0 else [])


def _decides(argument: ast.arg) -> bool:
    """Whether its annotation decides something: what an objective is told, or that a network takes a Condition."""
    return argument.annotation is not None and (
        argument.arg == "settings" or "Condition" in ast.dump(argument.annotation)
    )


def _plain_assignment(line: ast.stmt) -> ast.stmt | None:
    if not isinstance(line, ast.AnnAssign):
        return line
    return None if line.value is None else ast.Assign([line.target], line.value, lineno=line.lineno)


# --- messages ----------------------------------------------------------------------------------------


def _without_messages(nodes: Iterable[ast.AST], ours: bool) -> None:
    """Texts in messages become empty, also those of a function's names that nothing but messages reads."""
    for node in nodes:
        if isinstance(node, Functions):
            for line in _only_shown(node, ours):
                line.value = _Emptied().visit(line.value)
    for node in nodes:
        if not isinstance(node, MAY_SAY):
            continue
        for call, places in _messages(node, ours):
            call.args = [_Emptied().visit(a) if places is None or i in places else a for i, a in enumerate(call.args)]
            for keyword in call.keywords:
                if places is None:
                    keyword.value = _Emptied().visit(keyword.value)


def _messages(node: ast.AST, ours: bool) -> Iterator[tuple[ast.Call, set[int] | None]]:
    """The calls at a node that make a message: (call, the places of texts in it, None for all).

    In code of one's own these are exceptions that are raised, and print and warnings.warn that stand alone.
    """
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        name = _called(node.exc)
        if name.endswith(("Error", "Exception", "Warning")):
            yield node.exc, None
    elif not ours and isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        if ast.unparse(node.value.func) in ("print", "warnings.warn"):
            yield node.value, None
    elif ours and isinstance(node, ast.Call):
        name = _called(node)
        if name in SHOWN:
            yield node, None
        elif name in REMEDIES:
            yield node, {REMEDIES[name]}


def _only_shown(function: ast.AST, ours: bool) -> list[ast.Assign]:
    """What gives a text to a name of a function that is read in messages alone, or for such names."""
    nodes = _walked(function)
    texts = [n for n in nodes if isinstance(n, ast.Assign) and _target(n) and any(map(_is_any_text, _walked(n.value)))]
    if not texts:
        return []
    elsewhere = {name for n in nodes if isinstance(n, ast.Global | ast.Nonlocal) for name in n.names}
    shown = {
        id(name)
        for node in nodes
        for call, places in _messages(node, ours)
        for argument in _arguments(call, places)
        for name in _walked(argument)
    }
    found: list[ast.Assign] = []
    while True:
        within = shown | {id(part) for line in found for part in _walked(line.value)}
        read = {n.id for n in nodes if isinstance(n, ast.Name) and _is_read(n) and id(n) not in within}
        more = [line for line in texts if _target(line) not in read | elsewhere]
        if more == found:
            return found
        found = more


def _arguments(call: ast.Call, places: set[int] | None) -> list[ast.expr]:
    if places is None:
        return [*call.args, *(keyword.value for keyword in call.keywords)]
    return [argument for place, argument in enumerate(call.args) if place in places]


def _target(line: ast.Assign) -> str | None:
    return line.targets[0].id if len(line.targets) == 1 and isinstance(line.targets[0], ast.Name) else None


def _is_read(name: ast.Name) -> bool:
    return not isinstance(name.ctx, ast.Store)


class _Emptied(ast.NodeTransformer):
    """Texts become empty; so do formatted ones, if what they show changes nothing by being looked at."""

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant("") if isinstance(node.value, str) else node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        if all(_is_inert(part) for part in node.values):
            return ast.Constant("")
        node.values = [part for part in node.values if not isinstance(part, ast.Constant)]
        return node


def _is_inert(node: ast.AST) -> bool:
    def acts(part: ast.AST) -> bool:
        if isinstance(part, ast.Call):
            return _called(part) not in HARMLESS
        return isinstance(part, ast.NamedExpr | ast.Await | ast.Yield | ast.YieldFrom)

    return not any(acts(part) for part in _walked(node))


# --- of trees ----------------------------------------------------------------------------------------


def _walked(node: ast.AST) -> list[ast.AST]:
    """The nodes of ast.walk in its order, but for whether a name is read or set; in a third of its time."""
    found = [node]
    for one in found:  # which grows
        fields = one.__dict__
        for name in one._fields:
            value = fields.get(name)
            if value is None or name == "ctx":
                continue
            if isinstance(value, list):
                found += [part for part in value if isinstance(part, ast.AST)]
            elif isinstance(value, ast.AST):
                found.append(value)
    return found


def _called(node: ast.AST) -> str:
    """The last part of what is called: `warnings.warn(...)` -> `warn`."""
    if isinstance(node, ast.Call):
        node = node.func
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _is_any_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or _is_text(node)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _blocks(nodes: Iterable[ast.AST]) -> list[ast.AST]:
    """Those of them that have lines: a tenth."""
    return [node for node in nodes if isinstance(getattr(node, "body", None), list)]


def _bodies(node: ast.AST) -> Iterator[list[ast.stmt]]:
    for name in ("body", "orelse", "finalbody"):
        lines = getattr(node, name, None)
        if isinstance(lines, list):
            yield lines


def _keep(blocks: Iterable[ast.AST], wanted: Callable[[ast.stmt], bool]) -> None:
    """Of every body the lines that are wanted; one that would be empty passes."""
    for node in blocks:
        for number, lines in enumerate(_bodies(node)):
            if not all(map(wanted, lines)):
                lines[:] = [line for line in lines if wanted(line)] or ([ast.Pass()] if number == 0 else [])
