"""``edgeward-hub``: says so plainly where the hub's packages are not installed (a device has no need of them)."""

import sys


def main() -> int:
    """Run the command line."""
    try:
        from cloud_hub.cli import main as run  # noqa: PLC0415 - it imports the hub's packages
    except ModuleNotFoundError as error:
        print(
            f"edgeward-hub: {error.name} is not installed; the hub needs: pip install 'edgeward[hub]'",
            file=sys.stderr,
        )
        return 1
    return run()


if __name__ == "__main__":
    sys.exit(main())
