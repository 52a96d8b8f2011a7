"""The sub-command `keras-shift recipes`."""

import argparse

from keras_shift.table import simple_table, to_text
from keras_shift.zoo import recipes


def run(arguments: argparse.Namespace) -> None:
    """Lists recipes.

    Args:
        arguments: Arguments of the command line.

    Raises:
        ValueError: If there are no recipes of this name.
    """
    names = recipes.list_recipes(arguments.pattern)
    if not names:
        raise ValueError(
            "No recipe has a name like this; `keras-shift recipes` shows all of "
            f"them. Received: pattern={arguments.pattern!r}"
        )
    table = simple_table(("Name",), numbers=("Length", "Batch"))
    table.add_column("Source", overflow="fold")
    for recipe in map(recipes.get_recipe, names):
        length = f"{recipe.epochs} epochs"
        if recipe.epochs is None:
            length = f"{recipe.steps:,} steps"
        table.add_row(recipe.name, length, str(recipe.batch_size), recipe.source)
    print(to_text(table))
