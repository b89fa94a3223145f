"""May this tool be called with these arguments?

Rules: the rules of the tool's own name, else those of `*`; of the rules whose constraints the
arguments meet the strictest decides (deny, ask, allow), so their order means nothing; none of them
met is a deny. Paths are compared as text here and looked at again by the tool that opens them.
Pure.
Source: architecture "Policy, one engine"; contract 1.8.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workers import policy_roots
from workers.policy_sections import ArgumentRule, ToolAnswer, ToolRule
from workers.policy_verdict import Side, Verdict

_STRICTEST_FIRST: tuple[ToolAnswer, ...] = ("deny", "ask", "allow")


def judge(side: Side, tool: str, args: Mapping[str, Any]) -> Verdict:
    """Return what one side says to a call of `tool`."""
    tools = side.sections.tools
    name = tool if tool in tools else "*"
    if name not in tools:
        if not side.says("tools"):
            return side.allow(f"{side.name} does not narrow the tools", "tools")
        return side.refuse(f"no rule allows the tool {tool}; write one below tools", "tools")
    rules = tools[name]
    key = f"tools.{name}"
    if isinstance(rules, str):
        return _answer(side, tool, rules, key)
    met = [(rule.rule, f"{key}[{i}]") for i, rule in enumerate(rules) if _applies(rule, args)]
    for answer in _STRICTEST_FIRST:
        for rule, where in met:
            if rule == answer:
                return _answer(side, tool, answer, where)
    return side.refuse(f"no rule allows the tool {tool} with these arguments", key)


def _answer(side: Side, tool: str, answer: ToolAnswer, key: str) -> Verdict:
    match answer:
        case "deny":
            return side.refuse(f"{side.name} denies the tool {tool}", key)
        case "ask":
            return side.ask(f"{side.name} asks before the tool {tool}", key)
        case "allow":
            return side.allow(f"{side.name} allows the tool {tool}", key)


def _applies(rule: ToolRule, args: Mapping[str, Any]) -> bool:
    return all(name in args and _meets(args[name], wanted) for name, wanted in rule.args.items())


def _meets(value: Any, wanted: ArgumentRule) -> bool:
    if wanted.one_of is not None and not any(_equal(value, each) for each in wanted.one_of):
        return False
    if wanted.under is not None and not _lies_under(value, wanted.under):
        return False
    if wanted.maximum is not None:
        return _is_number(value) and value <= wanted.maximum
    return True


def _equal(one: Any, other: Any) -> bool:
    """True is not 1 here."""
    return isinstance(one, bool) is isinstance(other, bool) and bool(one == other)


def _lies_under(value: Any, roots: list[str]) -> bool:
    if not isinstance(value, str) or policy_roots.unfit(value) is not None:
        return False
    return any(policy_roots.is_under(value, root) for root in roots)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
