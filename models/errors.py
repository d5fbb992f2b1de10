"""What can go wrong in a recipe.

::

    RecipeError
    ├── ReleaseFolderError       a folder is not (yet) what the command needs
    │   └── MissingEvidenceError what approvers must read is missing or belongs to other files
    └── UnsupportedGraphError    a model file has not the form that a recipe can change
"""


class RecipeError(Exception):
    """A recipe can't do what it was asked; the text says what, where and what to do."""


class ReleaseFolderError(RecipeError):
    """A release folder lacks a file, or holds one that can't be read."""


class MissingEvidenceError(ReleaseFolderError):
    """A release is not packaged without the evidence that approvers read."""


class UnsupportedGraphError(RecipeError):
    """A model file has not the layers that were looked for."""
