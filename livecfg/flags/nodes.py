"""Nodes of Python's syntax tree that have a place, which `compile` asks each of them for: one for all, since there is no text.

Telling each node its place takes as long as compiling it.
"""

from __future__ import annotations

import ast
from typing import TypeVar

N = TypeVar("N", bound=ast.AST)


def _placed(kind: type[N]) -> type[N]:
    return type(kind.__name__, (kind,), {"lineno": 1, "col_offset": 1})


Assign = _placed(ast.Assign)
Attribute = _placed(ast.Attribute)
BinOp = _placed(ast.BinOp)
BoolOp = _placed(ast.BoolOp)
Call = _placed(ast.Call)
Compare = _placed(ast.Compare)
Constant = _placed(ast.Constant)
ExceptHandler = _placed(ast.ExceptHandler)
FunctionDef = _placed(ast.FunctionDef)
If = _placed(ast.If)
IfExp = _placed(ast.IfExp)
Lambda = _placed(ast.Lambda)
List = _placed(ast.List)
Name = _placed(ast.Name)
NamedExpr = _placed(ast.NamedExpr)
Return = _placed(ast.Return)
Slice = _placed(ast.Slice)
Subscript = _placed(ast.Subscript)
Try = _placed(ast.Try)
Tuple = _placed(ast.Tuple)
UnaryOp = _placed(ast.UnaryOp)
arg = _placed(ast.arg)
