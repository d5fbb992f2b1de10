"""Ask a person before something is signed."""

import argparse


def add_yes_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--yes", action="store_true", help="sign without asking (what would change is still shown)"
    )


def confirmed(arguments: argparse.Namespace) -> bool:
    """Whether the person says yes; nobody being there is a no."""
    if arguments.yes:
        return True
    try:
        answer = input("Sign this? [y/N] ")
    except EOFError:
        return False
    return answer.strip().lower() in {"y", "yes"}
