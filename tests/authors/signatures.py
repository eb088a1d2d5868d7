"""Prints the signatures and fields of the modules in a folder, one a line: those of wit_world and its types. Of stubs
and of what componentize-py generates it prints the same, if they are the same."""

import ast
import pathlib
import sys


def annotation(node):
    """As newer Python writes it: `list[str]`, `str | None`."""
    if node is None:
        return "None"
    if isinstance(node, ast.Subscript):
        name, inner = ast.unparse(node.value), node.slice
        items = inner.elts if isinstance(inner, ast.Tuple) else [inner]
        if name == "Optional":
            return f"{annotation(inner)} | None"
        if name == "Union":
            return " | ".join(annotation(item) for item in items)
        return f"{name.replace('List', 'list')}[{', '.join(annotation(item) for item in items)}]"
    return ast.unparse(node)


def lines(module, body, place):
    for node in body:
        if isinstance(node, ast.ClassDef):
            bases = ", ".join(annotation(base) for base in node.bases)
            marks = " ".join(f"@{ast.unparse(mark)}" for mark in node.decorator_list)
            yield f"{place} class {node.name}({bases}) {marks}"
            yield from lines(module, node.body, f"{place}.{node.name}")
        elif isinstance(node, ast.FunctionDef):
            arguments = [f"{argument.arg}: {annotation(argument.annotation)}" for argument in node.args.args]
            yield f"{place} def {node.name}({', '.join(arguments)}) -> {annotation(node.returns)}"
        elif isinstance(node, ast.AnnAssign):
            yield f"{place} {ast.unparse(node.target)}: {annotation(node.annotation)}"
        elif isinstance(node, (ast.Assign)) and ast.unparse(node.targets[0])[0].isupper():
            yield f"{place} {ast.unparse(node.targets[0])} = {annotation(node.value)}"


folder, end = pathlib.Path(sys.argv[1]), sys.argv[2]
found = []
for name in ["componentize_py_types", "wit_world/imports/encode", "wit_world/exports/__init__", "wit_world/exports/plugin"]:
    text = (folder / f"{name}{end}").read_text("utf-8")
    # componentize-py gives every module the variables of types that few use.
    found += lines(name, ast.parse(text).body, name)
print("\n".join(sorted(line.replace("TypeVar('", 'TypeVar("').replace("')", '")') for line in found)))
