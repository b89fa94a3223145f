"""Print a completion script for bash, zsh or fish.

`eval "$(jackline completion bash)"` in a shell's start-up file is all that is needed.
"""

from __future__ import annotations

from agent import exits
from agent.cli import output

# Words after a word. Options are told by each command's --help; a script cannot lag behind them.
_VERBS = {
    "config": ("check", "show"),
    "outbox": ("ls", "flush"),
    "policy": ("show", "test", "explain"),
    "service": ("install", "uninstall", "status"),
    "worker": ("list", "show", "restart", "stop"),
    "agents": (
        "ls", "show", "pending", "approve", "tag", "revoke", "workers", "resolve", "rm"
    ),
    "backup": ("plan", "run", "ls", "verify", "restore"),
    "backups": (
        "ls", "plan", "approve", "run", "status", "cancel", "verify", "restore", "rm", "schedules"
    ),
    "commands": ("templates", "run", "ls", "show", "cancel"),
    "cron": ("get", "set", "history", "undo"),
    "hub": (
        "init", "serve", "migrate", "doctor", "user", "tenant", "token", "agent", "audit", "backup",
        "restore",
    ),
    "jobs": ("ls", "show", "cancel"),
    "keys": ("preview", "sync"),
    "sessions": ("ls", "play"),
    "tokens": ("ls", "create", "revoke"),
    "completion": ("bash", "zsh", "fish"),
}  # fmt: skip
_BASH = """_jackline() {{
    local current=${{COMP_WORDS[COMP_CWORD]}}
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "{words} --help --version" -- "$current"))
        return
    fi
    case ${{COMP_WORDS[1]}} in
{cases}
        *) COMPREPLY=($(compgen -f -- "$current")) ;;
    esac
}}
complete -F _jackline jackline
"""
_ZSH = """#compdef jackline
_jackline() {{
    if (( CURRENT == 2 )); then
        compadd -- {words} --help --version
        return
    fi
    case $words[2] in
{cases}
        *) _files ;;
    esac
}}
compdef _jackline jackline
"""


def run(argv: list[str]) -> int:
    """Print the script that a shell wants."""
    parser = output.parser("completion", "Print a completion script.")
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))
    shell = parser.parse_args(argv).shell
    makers = {"bash": _bash, "zsh": _zsh, "fish": _fish}
    print(makers[shell](_words()), end="")
    return exits.OK


def _words() -> list[str]:
    from workers import program

    return sorted(program.all_words())


def _bash(words: list[str]) -> str:
    cases = "\n".join(
        f'        {word}) [ "$COMP_CWORD" -eq 2 ] && '
        f'COMPREPLY=($(compgen -W "{" ".join(verbs)}" -- "$current")) ;;'
        for word, verbs in _VERBS.items()
    )
    return _BASH.format(words=" ".join(words), cases=cases)


def _zsh(words: list[str]) -> str:
    cases = "\n".join(
        f"        {word}) (( CURRENT == 3 )) && compadd -- {' '.join(verbs)} ;;"
        for word, verbs in _VERBS.items()
    )
    return _ZSH.format(words=" ".join(words), cases=cases)


def _fish(words: list[str]) -> str:
    lines = [f"complete -c jackline -n __fish_use_subcommand -a '{' '.join(words)}'"]
    lines += [
        f"complete -c jackline -n '__fish_seen_subcommand_from {word}' -f -a '{' '.join(verbs)}'"
        for word, verbs in _VERBS.items()
    ]
    return "\n".join(lines) + "\n"
