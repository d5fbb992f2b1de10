"""Release folders of the digits recipe, made once a test session whichever suites ask for them."""

from pathlib import Path

import pytest

from models.description import DESCRIPTION_FILENAME
from models.digits.student import make_student
from models.digits.teacher import make_teacher


@pytest.fixture(scope="session")
def teacher_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher's folder; read it, never change it."""
    folder = tmp_path_factory.getbasetemp() / "digits-teacher"
    if not (folder / DESCRIPTION_FILENAME).exists():
        make_teacher(folder)
    return folder


@pytest.fixture(scope="session")
def student_folder(teacher_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student's folder; read it, never change it."""
    folder = tmp_path_factory.getbasetemp() / "digits-student"
    if not (folder / DESCRIPTION_FILENAME).exists():
        make_student(teacher_folder, folder)
    return folder
