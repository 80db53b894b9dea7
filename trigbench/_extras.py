"""What stands in pyproject.toml as an extra, and the line to type where it is missing."""

from importlib.util import find_spec

EXTRAS = {
    "train": ("pydantic", "yaml"),
    "workflow": (
        "snakemake",
        "pandas",
        "seaborn",
        "matplotlib",
        "scipy",
        "sklearn",
        "torch_fidelity",
        "jinja2",
        "PIL",
        "rich",
        "argcomplete",
    ),
    "cluster": ("snakemake_executor_plugin_slurm",),
    "latents": ("diffusers",),
    "tensorboard": ("tensorboard",),
}
"""The modules that each brings and that something cannot do without."""


class MissingExtra(ModuleNotFoundError):
    """Says which modules are missing, and how they are installed."""


def remedy_for(error: ModuleNotFoundError) -> str | None:
    """The line to type for a library that an extra brings; None for any other module."""
    missing = (error.name or "").partition(".")[0]
    extra = next((extra for extra, modules in EXTRAS.items() if missing in modules), None)
    return extra and f"{missing} is not installed here\n  remedy: pip install 'trigbench[{extra}]'"


def need(extra: str, for_what: str) -> None:
    """Raise MissingExtra unless what the extra brings is there."""
    missing = [name for name in EXTRAS[extra] if find_spec(name) is None]
    if missing:
        problem = f"{for_what} needs {', '.join(missing)}, not installed here"
        raise MissingExtra(f"{problem}\n  remedy: pip install 'trigbench[{extra}]'", name=missing[0])
