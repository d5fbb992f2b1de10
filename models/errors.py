"""What can go wrong in a recipe.

::

    RecipeError
    ├── ReleaseFolderError       a folder is not (yet) what the command needs
    │   └── MissingEvidenceError what approvers must read is missing or belongs to other files
    ├── DriftReferenceError      a drift reference can't be made
    │   ├── DeclarationError     the declaration of its signals is wrong
    │   └── DatasetError         its data can't be read, or is not what was declared
    └── UnsupportedGraphError    a model file has not the form that a recipe can change
"""


class RecipeError(Exception):
    """A recipe can't do what it was asked; the text says what, where and what to do."""


class ReleaseFolderError(RecipeError):
    """A release folder lacks a file, or holds one that can't be read."""


class MissingEvidenceError(ReleaseFolderError):
    """A release is not packaged without the evidence that approvers read."""


class DriftReferenceError(RecipeError):
    """A drift reference can't be made from this declaration, this data and this model."""


class DeclarationError(DriftReferenceError):
    """The declaration of signals says something that is not allowed, or contradicts itself."""


class DatasetError(DriftReferenceError):
    """Reference data can't be read, or is not what was declared."""


class UnsupportedGraphError(RecipeError):
    """A model file has not the layers that were looked for."""
